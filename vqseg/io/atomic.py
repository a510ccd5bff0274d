"""Files that are either whole or as they were before: written beside, flushed to disk, then renamed.

A process that is killed meanwhile leaves what it was writing under a name that only we give; :func:`sweep` removes it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

__all__ = ["atomic_path", "beside", "flush", "sweep"]

LEFTOVER = re.compile(r"\.[0-9a-f]{8}\.(tmp|new)-.")
"""How the names of :func:`beside` begin."""
BLOCKED_BY_READERS = sys.platform == "win32"
"""Whether a file cannot be replaced while somebody has it open."""
REPLACED_WITHIN_S = 5.0


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    The temporary file has the same suffixes, so that readers and writers that look at them work on it. It is
    flushed to disk before the rename, with the old file's permissions; after an error it is removed and the old file
    stays as it was.

    Parameters
    ----------
    path : str or path-like
        The file to write; a link is followed, so that the file behind it is replaced.

    Yields
    ------
    Path
        The temporary path; the block writes the whole file there.

    Raises
    ------
    OSError
        Where the folder is missing or cannot be written to.
    """
    target = Path(os.path.realpath(path))
    temporary = beside(target, "tmp")
    try:
        yield temporary
        flush(temporary)  # before it may become one that cannot be opened to be written
        with suppress(FileNotFoundError):
            shutil.copymode(target, temporary)
        _replace(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    flush(target.parent)


def _replace(temporary: Path, target: Path) -> None:
    """Rename; where a reader is in the way, wait for it a while."""
    until = time.monotonic() + REPLACED_WITHIN_S
    while True:
        try:
            os.replace(temporary, target)
            return
        except PermissionError:
            if not BLOCKED_BY_READERS or time.monotonic() >= until:
                raise
            time.sleep(0.05)


def beside(path: Path, kind: Literal["tmp", "new"]) -> Path:
    """A name beside `path` for what is to take its place; "tmp" for files, "new" for folders."""
    return path.with_name(f".{secrets.token_hex(4)}.{kind}-{path.name}")


def sweep(folder: Path, untouched_s: float = 0.0) -> None:
    """Remove what killed processes were writing in a folder, not below it; the caller knows that nobody writes there.

    Parameters
    ----------
    folder : Path
        Where to look.
    untouched_s : float
        Leave alone what was changed less than so many seconds ago.
    """
    for path in folder.glob(".*"):
        if LEFTOVER.match(path.name):
            with suppress(OSError):
                parts = [path, *path.iterdir()] if path.is_dir() else [path]
                if time.time() - max(part.stat().st_mtime for part in parts) >= untouched_s:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def flush(path: Path) -> None:
    """Wait until what the system holds of a file is on the disk, or of a folder's names where the system can do that.

    Raises
    ------
    OSError
        Where a file cannot be flushed, as on a full disk.
    """
    if path.is_dir():
        with suppress(OSError):
            _synchronise(path, os.O_RDONLY)
    else:
        _synchronise(path, os.O_RDWR)


def _synchronise(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
