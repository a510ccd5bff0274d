"""A training run on several devices: this process leads, one follower a further device keeps step with it.

Leader and followers meet in a file and speak over the loopback interface only. The leader does everything that is
written to disk. A follower (``python -m vqseg.team``) leaves as soon as its standard input closes, so that none
outlives its leader.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from vqseg.config import Config
from vqseg.device import choose_device
from vqseg.errors import ConfigError, DeviceError, VQSegError
from vqseg.project import Project, Run
from vqseg.runner import load_cases, make_trainer

__all__ = ["check_devices", "lead"]

WAIT = timedelta(minutes=5)
"""How long one process waits for the others."""
LEAVE_WITHIN_S = 10.0
READY = b"ready\n"
FAILED = "One of the devices failed; the message above says why."


def check_devices(config: Config, devices: int) -> None:
    """Raise unless `devices` devices are there and share the batches evenly.

    Raises
    ------
    DeviceError
        If there are fewer.
    ConfigError
        If a batch cannot be split evenly.
    """
    if devices < 1:
        raise DeviceError(f"{devices} devices were asked for; choose --devices 1 or more.")
    kind = choose_device(config.train.device).type
    there = {"cuda": torch.cuda.device_count, "cpu": lambda: os.cpu_count() or 1}.get(kind, lambda: 1)()
    if devices > there:
        unit = "processor cores" if kind == "cpu" else f"{kind} devices"
        raise DeviceError(f"{devices} devices were asked for, but there are {there} {unit}; choose --devices {there}.")
    for name in ("batch_x", "batch_u"):
        size = getattr(config.data, name)
        if size % devices:
            raise ConfigError(
                f"{name} is {size}, which {devices} devices cannot share evenly; "
                f"choose a multiple of {devices}, as in --set {name}={devices * max(1, round(size / devices))}."
            )


@contextlib.contextmanager
def lead(run: Run, devices: int, *, resume: bool = False) -> Iterator[None]:
    """Train together with a follower for each further device for as long as the context lasts.

    Parameters
    ----------
    run : Run
        The run; every process reads its config and cases.
    devices : int
        Number of processes, this one included; nothing happens for 1.
    resume : bool
        Whether the followers start from the run's checkpoint, too.

    Raises
    ------
    DeviceError
        If there are fewer devices, or a follower has failed.
    ConfigError
        If a batch cannot be split evenly.
    """
    if devices == 1:
        yield
        return
    check_devices(run.config, devices)
    with tempfile.TemporaryDirectory(prefix="vqseg-") as folder:
        meeting = Path(folder, "meeting")
        followers = [_start(run, rank, devices, meeting, resume) for rank in range(1, devices)]
        threads = torch.get_num_threads()
        try:
            for follower in followers:
                _await(follower)
            _join(0, devices, meeting, run.config)
            yield
        except RuntimeError as error:
            if any(_has_failed(follower) for follower in followers):
                raise DeviceError(FAILED) from error
            raise
        finally:
            _part(followers)
            torch.set_num_threads(threads)


def _start(run: Run, rank: int, devices: int, meeting: Path, resume: bool) -> subprocess.Popen[bytes]:
    arguments = [str(run.path), str(rank), str(devices), str(meeting), "resume" if resume else "begin"]
    return subprocess.Popen(
        [sys.executable, "-m", "vqseg.team", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _await(follower: subprocess.Popen[bytes]) -> None:
    """Wait until a follower is about to join; whatever a library prints before is passed over."""
    assert follower.stdout is not None
    if READY not in iter(follower.stdout.readline, b""):
        raise DeviceError(FAILED)


def _has_failed(follower: subprocess.Popen[bytes]) -> bool:
    """Whether a follower has ended with an error, which may have reached us before its end."""
    try:
        return follower.wait(2) != 0
    except subprocess.TimeoutExpired:
        return False


def _part(followers: list[subprocess.Popen[bytes]]) -> None:
    """Leave the group and see the followers off."""
    for follower in followers:
        assert follower.stdin is not None
        assert follower.stdout is not None
        follower.stdin.close()
        follower.stdout.close()
    if dist.is_initialized():
        dist.destroy_process_group()
    deadline = time.monotonic() + LEAVE_WITHIN_S
    for follower in followers:
        try:
            follower.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            follower.kill()
            follower.wait()


def _join(rank: int, devices: int, meeting: Path, config: Config) -> None:
    """Become one of a group of processes on this machine."""
    device = choose_device(config.train.device)
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    for backend in ("GLOO", "NCCL"):  # they listen for one another; not where the network can hear it
        os.environ.setdefault(f"{backend}_SOCKET_IFNAME", loopback)
    if device.type == "cuda":
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // devices))
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=meeting.as_uri(), rank=rank, world_size=devices, timeout=WAIT,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ the follower


def _follow(run: Run, rank: int, devices: int, meeting: Path, resume: bool) -> None:
    """Take the same steps as the leader, on another part of each batch."""
    project = Project.open(run.project_path)
    cases = load_cases(project, run.case_ids)
    checkpoint = run.checkpoint_path if resume and run.has_checkpoint else None
    _say_ready()
    _join(rank, devices, meeting, run.config)
    trainer = make_trainer(run, run.config, cases, project.class_names, time.monotonic, checkpoint)
    while not trainer.finished:
        trainer.step()


def _say_ready() -> None:
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _leave_with_leader() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Follow, until the training or the leader ends."""
    path, rank, devices, meeting, start = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the leader
    threading.Thread(target=_leave_with_leader, daemon=True).start()
    try:
        _follow(Run(path), int(rank), int(devices), Path(meeting), start == "resume")
    except (VQSegError, RuntimeError) as error:
        sys.exit(f"vqseg: error: device {rank} of 0...{int(devices) - 1}: {error}")


if __name__ == "__main__":
    main()
