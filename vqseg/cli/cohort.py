"""What the verbs for many files share: where the work is done."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vqseg.errors import ConfigError

__all__ = ["add_cluster_flags", "check_cluster", "cluster_of"]

CORES_PER_WORKER = 4


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """``--workers`` for processes here, ``--scheduler`` and its certificates for a cluster elsewhere."""
    group = parser.add_argument_group("for many files")
    group.add_argument("--workers", type=int, metavar="N", help="processes that share them (default: one a GPU, or one "
                       f"for {CORES_PER_WORKER} processor cores)")  # fmt: skip
    group.add_argument("--scheduler", metavar="ADDRESS", help="a running dask.distributed scheduler, whose workers see "
                       "the same paths and have vqseg")  # fmt: skip
    group.add_argument("--tls-ca", type=Path, metavar="FILE", help="certificate authority of the scheduler (PEM)")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="our certificate (PEM)")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="our key (PEM)")


def check_cluster(args: argparse.Namespace) -> None:
    """Raise before any work unless the flags make sense together."""
    files = (args.tls_ca, args.tls_cert, args.tls_key)
    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"--workers is {args.workers}; it must be 1 or more")
    if any(files) and not all(files):
        raise ConfigError("--tls-ca, --tls-cert and --tls-key belong together; give all three")
    if any(files) and args.scheduler is None:
        raise ConfigError("--tls-ca, --tls-cert and --tls-key are for a --scheduler; give its address, too")


def _workers(args: argparse.Namespace, jobs: int, device: str) -> int:
    """Processes to start here."""
    if args.workers is not None:
        return min(int(args.workers), jobs)
    return min(jobs, _gpus(device) or max(1, (os.cpu_count() or 1) // CORES_PER_WORKER))


def _gpus(device: str) -> int:
    if device == "cpu":
        return 0
    import torch

    from vqseg.device import choose_device

    return torch.cuda.device_count() if choose_device(device).type == "cuda" else 0


@contextlib.contextmanager
def cluster_of(args: argparse.Namespace, jobs: int, device: str = "cpu") -> Iterator[Any]:
    """A function ``each(function, jobs)`` that runs on the cluster which the arguments ask for."""
    from vqseg.cluster import Encryption, connect, for_each

    check_cluster(args)
    files = (args.tls_ca, args.tls_cert, args.tls_key)
    workers = 0 if args.scheduler else _workers(args, jobs, device)
    with connect(workers, args.scheduler, Encryption(*files) if all(files) else None) as client:
        yield functools.partial(for_each, client)
