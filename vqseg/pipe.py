"""The engine's two pipes: messages own them, everything else that is printed goes to a log.

The descriptors of the pipes are taken away before any library is loaded, so that no print, C++ warning or child
process can ever write into the protocol.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from vqseg.errors import VQSegError
from vqseg.protocol import Message, decode, encode

__all__ = ["Pipe", "hide_in_log", "log_to"]

LOG_LIMIT_BYTES = 2_000_000
_hidden: set[str] = set()


class Pipe:
    """Messages in from standard input, messages out to what was standard output.

    Making one redirects descriptor 0 to nothing and descriptor 1 to standard error.
    """

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        sys.stdout.flush()
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write one line; it arrives whole, from whichever thread. A closed pipe swallows it."""
        data = memoryview((encode(message) + "\n").encode())
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._out, data) :]
            except OSError:
                return  # nobody listens any more; the end of the input says so too

    def listen(self, deliver: Callable[[Message | VQSegError | None], None]) -> None:
        """Deliver each message from a thread of its own; None at the end of the input, errors as such."""
        threading.Thread(target=self._read, args=(deliver,), name="pipe", daemon=True).start()

    def _read(self, deliver: Callable[[Message | VQSegError | None], None]) -> None:
        rest = b""
        while chunk := _read_some(self._in):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not line.strip():
                    continue
                try:
                    deliver(decode(line.decode("utf-8", "replace")))
                except VQSegError as error:
                    deliver(error)
        deliver(None)


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


# --------------------------------------------------------------------------------------------------- log


class _Discreet(logging.Formatter):
    """A formatter that replaces every hidden text: the log may be passed on, where the images lie may not."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in sorted(_hidden, key=len, reverse=True):
            text = text.replace(secret, "<image>")
        return text


def hide_in_log(text: str) -> None:
    """Keep a text, such as an image's path, out of the log; its last part on its own as well."""
    _hidden.update(part for part in (text, Path(text).name) if len(part) > 3)


def start_log() -> None:
    """Let Python's logging write to standard error, wherever that leads, without any image's path."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Discreet("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    faulthandler.enable()


def log_to(path: Path) -> None:
    """Send everything that is printed from now on, by any library, to the end of a file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        flags |= os.O_TRUNC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        logging.getLogger(__name__).warning("The log cannot be written; messages stay where they were.")
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
