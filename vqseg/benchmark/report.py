"""How every table is written: JSON for machines, markdown for people, and where the numbers come from."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

import vqseg
from vqseg.io.atomic import atomic_path

__all__ = [
    "markdown_table",
    "mean_and_spread",
    "provenance",
    "provenance_line",
    "read_lines",
    "write_json",
    "write_text",
]


def provenance() -> dict[str, Any]:
    """Command, commit, machine and versions, for the head of a table."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "command": shlex.join(["vqseg", *sys.argv[1:]]),
        "commit": _commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores ({torch.get_num_threads()} threads used), {device}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "vqseg": vqseg.__version__},
    }


def provenance_line(source: dict[str, Any]) -> str:
    """One paragraph of markdown saying where a table comes from."""
    return (
        f"`{source['command']}` · commit {source['commit']} · {source['machine']} · torch {source['versions']['torch']}"
    )


def _commit() -> str:
    """Short hash of the checkout, with "+changes" where it was modified; "unknown" outside of one."""
    folder = Path(vqseg.__file__).parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain", "--", "."], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def mean_and_spread(values: Iterable[float | None], digits: int = 3) -> str:
    """Mean ± standard deviation of the values that are numbers; a dash where none is, no spread for a single one."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; NaN becomes null."""
    write_text(path, json.dumps(_without_nan(value), indent=1) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON lines file; none where there is no file, and not a last line that was cut off."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
