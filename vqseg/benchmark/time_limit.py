"""Tables that are made in slices of time: the same command goes on where the limit came."""

from __future__ import annotations

import argparse
import math
import sys

__all__ = ["UNFINISHED", "add_time_limit", "unfinished"]

UNFINISHED = 75
"""Exit code when the time limit came first."""


def add_time_limit(parser: argparse.ArgumentParser) -> None:
    """``--time-limit``, the same for every table that takes hours."""
    parser.add_argument("--time-limit", type=float, default=math.inf, metavar="S", help="stop after so many seconds; "
                        f"the same command goes on (exit code {UNFINISHED})")  # fmt: skip


def unfinished() -> int:
    """Say that the limit came first; the exit code for it."""
    print("The time limit came first; run the same command again to go on.", file=sys.stderr)  # noqa: T201
    return UNFINISHED
