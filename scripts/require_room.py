"""Refuse to install on a disk that is too small, before pip has filled it: ``require_room.py VENV``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

GB = 10**9
WITH_CUDA = (7.0, 4.0)
"""GB that the environment takes, and that pip's downloads take until they are installed; measured: 6.8 and 3.4."""
WITHOUT_CUDA = (3.0, 1.5)
"""The same where torch comes without CUDA's libraries, as on a Mac or from an index for the processor alone."""


def torch_brings_cuda() -> bool:
    """Whether the torch that pip would install here needs CUDA's libraries; taken for so where pip cannot say."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet", "--report", "-", "torch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        [torch] = json.loads(done.stdout)["install"]
    except (KeyError, ValueError):
        return True
    needed = torch["metadata"].get("requires_dist", [])
    return sys.platform == "linux" and any(name.startswith(("nvidia-", "cuda-", "triton")) for name in needed)


def disk_of(folder: Path) -> Path:
    """The folder, or the first of its parents that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def shortage(needs_gb: Mapping[Path, float]) -> str | None:
    """What a person should know where a disk has less room than the folders on it need together; None where all fit."""
    disks: dict[int, list[Path]] = {}
    for folder in needs_gb:
        disks.setdefault(os.stat(disk_of(folder)).st_dev, []).append(folder)
    for folders in disks.values():
        needed, free = sum(needs_gb[folder] for folder in folders), shutil.disk_usage(disk_of(folders[0])).free / GB
        if free < needed:
            return (
                f"There are {free:.1f} GB free on the disk of {' and '.join(map(str, folders))}, and the installation "
                f"needs {needed:g} GB there; make room, or use another disk: TMPDIR=/path make VENV=/path/venv"
            )
    return None


def main(venv: Path) -> int:
    """The exit code: 1, and a line on stderr, where there is too little room."""
    downloads = Path(tempfile.gettempdir())
    problem = shortage(dict(zip((venv, downloads), WITH_CUDA, strict=True)))
    if problem is not None and not torch_brings_cuda():
        problem = shortage(dict(zip((venv, downloads), WITHOUT_CUDA, strict=True)))
    if problem is not None:
        print(problem, file=sys.stderr)
    return int(problem is not None)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
