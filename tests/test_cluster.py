"""Work on many files: one that fails, one that takes its process along, and who may listen."""

import contextlib
import os
import socket
from http.client import HTTPConnection, HTTPException

import psutil
import pytest

from vqseg.cluster import Encryption, connect, for_each, worker_index
from vqseg.errors import ConfigError, DeviceError, VolumeError


def work(job):
    """What a job may come to."""
    if job == "bad":
        raise VolumeError("It is empty; copy it again.")
    if job == "secret":
        raise ValueError("/data/Doe_Jane.nii")
    if job == "crash":
        os._exit(1)
    return f"{job} {worker_index()} {os.environ['OMP_NUM_THREADS']}"


def assert_nothing_is_told(process):
    """Nothing listens to the network, and who asks on this machine learns nothing."""
    sockets = [socket for one in (process, *process.children(recursive=True)) for socket in one.net_connections("inet")]
    listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3
    for address in listening:
        assert address.ip in ("127.0.0.1", "::1"), address
        request = HTTPConnection(address.ip, address.port, timeout=5)
        with contextlib.closing(request), contextlib.suppress(HTTPException, OSError):
            request.request("GET", "/info/main/workers.html")
            assert request.getresponse().status == 404


def over_the_network(address, security, folder):
    """What a client says that comes with an address and certificates."""
    files = []
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        files.append(folder / name)
        files[-1].write_text(getattr(security, name))
    with connect(0, address, Encryption(*files)) as client:
        return [answer.rsplit(" ", 1)[0] for _, answer in for_each(client, work, ["here"])]


@pytest.mark.slow
def test_what_fails_is_told_and_the_others_go_on(tmp_path):
    with connect(1) as client:
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:"), "only this machine may hear it, and only we understand"
        assert_nothing_is_told(psutil.Process())
        assert over_the_network(address, client.security, tmp_path) == ["here 0"]
        answers = dict(for_each(client, work, ["good", "bad", "secret", "crash", "last"]))
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())  # who sets it means it
    assert answers["good"] == f"good 0 {threads}"
    assert answers["last"] == f"last 0 {threads}"
    assert answers["bad"] == "It is empty; copy it again."
    assert answers["secret"] == "unexpected ValueError", "no path of a patient's file"
    assert "its process failed (KilledWorker)" in answers["crash"]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), timeout=2)


@pytest.mark.parametrize(("scheduler", "words"), [
    ("somewhere", "is not the address of a scheduler"),
    ("http://127.0.0.1:80", "is not the address of a scheduler"),
    ("tcp://10.1.2.3:8786", "not encrypted"),
    ("tcp://cluster.hospital.org:8786", "not encrypted"),
    ("tls://cluster.hospital.org:8786", "needs --tls-ca"),
])  # fmt: skip
def test_what_leaves_the_machine_is_encrypted(scheduler, words):
    with pytest.raises(ConfigError, match=words), connect(1, scheduler):
        pass


def test_a_scheduler_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("vqseg.cluster.CONNECT_WITHIN_S", 0.2)
    with pytest.raises(DeviceError, match="cannot be reached"), connect(1, "tcp://127.0.0.1:9"):
        pass
    files = Encryption(tmp_path / "ca.pem", tmp_path / "me.pem", tmp_path / "me.key")
    with pytest.raises(DeviceError, match="cannot be reached"), connect(1, "tls://127.0.0.1:9", files):
        pass


def test_outside_of_a_cluster_this_is_the_first_process():
    assert worker_index() == 0
