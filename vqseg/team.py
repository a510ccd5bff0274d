"""A training run on several devices: this process leads, one follower a further device keeps step with it.

Leader and followers meet in a file and speak over the loopback interface only. The leader does everything that is
written to disk. A follower (``python -m vqseg.team``) leaves as soon as its standard input closes, so that none
outlives its leader. Where the memory of one is full, all are seen off and others start with smaller batches.
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

from vqseg.checkpoint import read_description, restore_settings
from vqseg.config import Config
from vqseg.device import choose_device
from vqseg.errors import ConfigError, DeviceError, VQSegError
from vqseg.memory import is_out_of_memory
from vqseg.project import Project, Run
from vqseg.run_loop import make_trainer
from vqseg.runner import load_cases

__all__ = ["Team", "check_devices", "lead"]

WAIT = timedelta(minutes=5)
"""How long one process waits for the others."""
LEAVE_WITHIN_S = 10.0
ENDS_WITHIN_S = 2.0
READY = b"ready\n"
OUT_OF_MEMORY, SIGKILLED = 3, -9
"""Exit codes of a follower whose memory is full, and of one that the system has killed."""
MEETING, CONFIG = "meeting", "config.json"
FOLLOWER = (sys.executable, "-m", "vqseg.team")
FAILED = "One of the devices failed; the message above says why."
KILLED = "A process was killed, as happens when the memory is full; choose a smaller batch_x, batch_u or size."


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


class Team:
    """The followers of this process.

    Parameters
    ----------
    run : Run
        The run; every process reads its cases.
    devices : int
        Number of processes, this one included.
    """

    def __init__(self, run: Run, devices: int) -> None:
        self.run, self.devices = run, devices
        self._followers: list[subprocess.Popen[bytes]] = []
        self._threads = torch.get_num_threads()
        self._folder = tempfile.TemporaryDirectory(prefix="vqseg-")

    def gather(self, config: Config, *, resume: bool) -> None:
        """See off the followers there are, and join with new ones that train with `config`.

        Parameters
        ----------
        config : Config
            What this process trains with, too.
        resume : bool
            Whether they start from the run's checkpoint, as this process does.

        Raises
        ------
        DeviceError
            If one of them fails before.
        """
        self.part()
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        (folder / CONFIG).write_text(config.to_json(), encoding="utf-8")
        self._followers += [self._start(rank, folder, resume) for rank in range(1, self.devices)]
        for follower in self._followers:
            _await(follower)
        _join(0, self.devices, folder, config)

    def _start(self, rank: int, folder: Path, resume: bool) -> subprocess.Popen[bytes]:
        start = "resume" if resume else "begin"
        arguments = [str(self.run.path), str(rank), str(self.devices), str(folder), start]
        return subprocess.Popen([*FOLLOWER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def cause(self, error: MemoryError | RuntimeError) -> MemoryError | RuntimeError:
        """What is behind an error of this process: its own want of memory, a follower's, or something else."""
        if is_out_of_memory(error) or OUT_OF_MEMORY not in self._exit_codes():
            return error
        return MemoryError("The memory of a follower is full.")

    @property
    def failure(self) -> str:
        """The sentence about a follower that has ended with an error; empty where none has."""
        codes = self._exit_codes()
        return KILLED if SIGKILLED in codes else FAILED if any(codes) else ""

    def _exit_codes(self) -> list[int | None]:
        """How each follower has ended, None of one that goes on; its error may have reached us before its end."""
        codes: list[int | None] = []
        for follower in self._followers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                follower.wait(ENDS_WITHIN_S)
            codes.append(follower.returncode)
        return codes

    def part(self) -> None:
        """Leave the group and see the followers off."""
        for follower in self._followers:
            assert follower.stdin is not None
            assert follower.stdout is not None
            follower.stdin.close()
            follower.stdout.close()
        if dist.is_initialized():
            dist.destroy_process_group()
        deadline = time.monotonic() + LEAVE_WITHIN_S
        for follower in self._followers:
            try:
                follower.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                follower.kill()
                follower.wait()
        self._followers.clear()
        torch.set_num_threads(self._threads)

    def close(self) -> None:
        """See the followers off for good."""
        self.part()
        self._folder.cleanup()


@contextlib.contextmanager
def lead(run: Run, devices: int, *, resume: bool = False) -> Iterator[Team]:
    """Train together with a follower for each further device for as long as the context lasts.

    Parameters
    ----------
    run : Run
        The run; every process reads its cases.
    devices : int
        Number of processes, this one included; at least 2.
    resume : bool
        Whether the followers start from the run's checkpoint, too.

    Raises
    ------
    DeviceError
        If there are fewer devices, or a follower has failed.
    ConfigError
        If a batch cannot be split evenly.
    """
    config = run.config
    if resume and run.has_checkpoint:
        config = restore_settings(read_description(run.checkpoint_path))[0]
    check_devices(config, devices)
    team = Team(run, devices)
    try:
        team.gather(config, resume=resume)
        yield team
    except RuntimeError as error:
        if sentence := team.failure:
            raise DeviceError(sentence) from error
        raise
    finally:
        team.close()


def _await(follower: subprocess.Popen[bytes]) -> None:
    """Wait until a follower is about to join; whatever a library prints before is passed over."""
    assert follower.stdout is not None
    if READY not in iter(follower.stdout.readline, b""):
        raise DeviceError(FAILED)


def _join(rank: int, devices: int, folder: Path, config: Config) -> None:
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
        init_method=(folder / MEETING).as_uri(), rank=rank, world_size=devices, timeout=WAIT,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ the follower


def _follow(run: Run, rank: int, devices: int, folder: Path, resume: bool) -> None:
    """Take the same steps as the leader, on another part of each batch."""
    project = Project.open(run.project_path)
    cases = load_cases(project, run.case_ids)
    checkpoint = run.checkpoint_path if resume and run.has_checkpoint else None
    config = Config.from_json((folder / CONFIG).read_text(encoding="utf-8"))
    _say_ready()
    _join(rank, devices, folder, config)
    trainer = make_trainer(run, config, cases, project.class_names, time.monotonic, checkpoint)
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
    path, rank, devices, folder, start = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the leader
    threading.Thread(target=_leave_with_leader, daemon=True).start()
    try:
        _follow(Run(path), int(rank), int(devices), Path(folder), start == "resume")
    except (VQSegError, MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            os._exit(OUT_OF_MEMORY)  # at once: the others wait for us
        sys.exit(f"vqseg: error: device {rank} of 0...{int(devices) - 1}: {error}")


if __name__ == "__main__":
    main()
