"""The same work on many files: a few processes here, or a dask.distributed cluster elsewhere.

Processes here speak over the loopback interface only, encrypted with a key that lives as long as they do; there is no
dashboard, and dask's HTTP servers, which cannot be left out, have nothing to tell. What leaves the machine must be
encrypted, too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import dask

from vqseg.errors import ConfigError, DeviceError, VQSegError
from vqseg.memory import is_out_of_memory

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Encryption", "connect", "for_each", "worker_index"]

Job = TypeVar("Job")
Answer = TypeVar("Answer")

CONNECT_WITHIN_S = 30


@dataclass(frozen=True)
class Encryption:
    """Files (PEM) by which we and a scheduler elsewhere know one another.

    Parameters
    ----------
    ca : Path
        Certificate of the authority that signed both sides'.
    certificate, key : Path
        Our own.
    """

    ca: Path
    certificate: Path
    key: Path


@contextlib.contextmanager
def connect(workers: int, scheduler: str | None = None, encryption: Encryption | None = None) -> Iterator[Client]:
    """A cluster for as long as the context lasts.

    Parameters
    ----------
    workers : int
        Processes to start here, which share the processor cores.
    scheduler : str, optional
        Address of a running scheduler to use instead of processes here, such as ``tls://host:8786``.
    encryption : Encryption, optional
        Needed unless the scheduler is on this machine.

    Raises
    ------
    ConfigError
        If the scheduler is on another machine and the way there is not encrypted.
    DeviceError
        If it cannot be reached.
    """
    with _here(workers) if scheduler is None else _elsewhere(scheduler, encryption) as client:
        yield client


@contextlib.contextmanager
def _here(workers: int) -> Iterator[Client]:
    from distributed import Client, LocalCluster, Security

    settings = {
        "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": max(1, (os.cpu_count() or 1) // workers)},
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.scheduler.allowed-failures": 1,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", protocol="tls",
            security=Security.temporary(), dashboard_address=None, memory_limit=None, silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


@contextlib.contextmanager
def _elsewhere(scheduler: str, encryption: Encryption | None) -> Iterator[Client]:
    from distributed import Client, Security

    _check_address(scheduler, encryption)
    security = None if encryption is None else Security(
        tls_ca_file=str(encryption.ca), tls_client_cert=str(encryption.certificate),
        tls_client_key=str(encryption.key), require_encryption=True,
    )  # fmt: skip
    try:
        client = Client(scheduler, security=security, timeout=CONNECT_WITHIN_S, set_as_default=False)
        client.wait_for_workers(1, timeout=CONNECT_WITHIN_S)
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"The scheduler {scheduler} cannot be reached ({type(error).__name__}); "
            "check that it runs, has workers, and what it is called."
        ) from None
    with client:
        yield client


def _check_address(scheduler: str, encryption: Encryption | None) -> None:
    address = urlsplit(scheduler)
    if not address.hostname or address.scheme not in ("tcp", "tls"):
        raise ConfigError(f"{scheduler!r} is not the address of a scheduler; write it as in tls://host:8786.")
    if address.scheme == "tls" and encryption is None:
        raise ConfigError("A tls:// scheduler needs --tls-ca, --tls-cert and --tls-key.")
    if address.scheme == "tcp" and not _is_here(address.hostname):
        raise ConfigError(f"{scheduler} is on another machine and not encrypted; use tls:// with --tls-ca, "
                          "--tls-cert and --tls-key.")  # fmt: skip


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def for_each(
    client: Client, function: Callable[[Job], Answer], jobs: Sequence[Job]
) -> Iterator[tuple[Job, Answer | str]]:
    """Answers in the order in which they come; what fails answers with a sentence, and the others go on.

    Parameters
    ----------
    client : Client
        From :func:`connect`.
    function : callable
        A module's function, so that the workers can import it.
    jobs : sequence
        One argument each; they can be pickled.
    """
    from distributed import as_completed

    waiting = iter(jobs)
    running: dict[Any, Job] = {}
    done = as_completed(loop=client.loop)

    def start() -> None:
        """Give each worker one job and no more: one that takes its process along can be blamed alone."""
        for job in itertools.islice(waiting, max(1, sum(client.nthreads().values())) - len(running)):
            future = client.submit(_safely, function, job, pure=False)
            running[future] = job
            done.add(future)

    start()
    for future in done:
        job = running.pop(future)
        try:
            answer: Answer | str = future.result()
        except Exception as error:
            answer = (
                f"its process failed ({type(error).__name__}); its memory may be full, or vqseg not installed there"
            )
        yield job, answer
        start()


def _safely(function: Callable[[Job], Answer], job: Job) -> Answer | str:
    """What the function answers, or why it could not."""
    try:
        return function(job)
    except Exception as error:
        return sentence(error)


def sentence(error: Exception) -> str:
    """Why something failed, without what a library may have put into its message."""
    if isinstance(error, VQSegError):
        return " ".join(str(error).split())
    if is_out_of_memory(error):
        return "the memory is full; use fewer workers"
    return f"unexpected {type(error).__name__}"


def worker_index() -> int:
    """Number of this worker process among those started here, from 0; 0 outside of one."""
    from distributed import get_worker

    try:
        name: Any = get_worker().name
    except ValueError:
        return 0
    return name if isinstance(name, int) else 0
