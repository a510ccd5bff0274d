"""Files that are either whole or as they were before: written beside, flushed to disk, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomic_path"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    The temporary file has the same suffixes, so that readers and writers that look at them work on it. It is
    flushed to disk before the rename; after an error it is removed and the old file stays as it was.

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
    temporary = target.with_name(f".{secrets.token_hex(4)}.tmp-{target.name}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    with suppress(OSError):  # not every system can flush a folder
        _flush(target.parent)


def _flush(path: Path) -> None:
    """Wait until what the system holds of a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
