"""A lock on a folder that dies with the process that holds it.

The operating system holds the lock, so a killed process leaves none behind; the file's text only says who it is.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO, Any

from vqseg.errors import ProjectError
from vqseg.records import now

__all__ = ["FolderLock"]

GLANCE_S = 0.1
"""Who only looks whether a lock is taken holds it for a moment."""

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _take(file: IO[str]) -> None:
        file.seek(1 << 20)  # beyond the text, so that others can read it
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _drop(file: IO[str]) -> None:
        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _drop(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


class FolderLock:
    """An exclusive lock, kept in a small file.

    Parameters
    ----------
    path : Path
        The lock's file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    @property
    def taken(self) -> bool:
        """Whether anyone holds the lock; where that cannot be found out, somebody may."""
        if self.held:
            return True
        if not self.path.exists():
            return False
        probe = FolderLock(self.path)
        try:
            if not probe.try_acquire(leave_name=False):
                return True
        except ProjectError:
            return True
        probe.release()
        return False

    def holder(self) -> dict[str, Any]:
        """What the last holder wrote: pid, host, since; empty where nobody did."""
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}

    def try_acquire(self, *, leave_name: bool = True) -> bool:
        """Take the lock if it is free; a lock whose process is gone counts as free.

        Raises
        ------
        ProjectError
            If the folder cannot be written to.
        """
        if self.held:
            return True
        try:
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise ProjectError(
                f"{self.path.parent.name} cannot be written to ({error.strerror}); copy it to a folder of your own."
            ) from None
        try:
            _take(file)
        except OSError:
            file.close()
            return False
        if leave_name:
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now()}))
            file.flush()
        self._file = file
        return True

    def acquire(self, what: str) -> None:
        """Take the lock.

        Raises
        ------
        ProjectError
            If another process, or another window of this one, holds it, or the folder cannot be written to.
        """
        if not self.try_acquire():
            time.sleep(GLANCE_S)
        if not self.try_acquire():
            holder = self.holder()
            where = f" (process {holder['pid']} on {holder['host']})" if {"pid", "host"} <= holder.keys() else ""
            raise ProjectError(f"{what} is in use by another window{where}; close it there first.")

    def release(self) -> None:
        """Give the lock back; nothing happens where it is not held."""
        if self._file is not None:
            _drop(self._file)
            self._file.close()
            self._file = None
