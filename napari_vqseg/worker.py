"""The owner of the engine process: starts it, speaks to it in whole lines, ends it, and tells a crash from a stop."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Sequence

from qtpy.QtCore import QByteArray, QObject, QProcess, QProcessEnvironment, QTimer, Signal

from vqseg.errors import EngineError
from vqseg.protocol import Failed, Message, Ready, Shutdown, decode, encode

__all__ = ["EngineWorker"]

SHUTDOWN_WITHIN_MS = 8000
TERMINATE_WITHIN_MS = 3000
REMEMBERED_OUTPUT = 4000
ENGINE = ("-m", "vqseg.engine")


class EngineWorker(QObject):
    """One engine process at a time.

    Parameters
    ----------
    arguments : sequence of str
        What the interpreter is started with.

    Attributes
    ----------
    message : Signal(object)
        Each message of the engine.
    started : Signal()
        The engine is ready.
    stopped : Signal()
        The engine has left because it was asked to.
    crashed : Signal(str)
        The engine has gone unasked, with a sentence for the person; the next :meth:`send` starts a new one.
    """

    message = Signal(object)
    started = Signal()
    stopped = Signal()
    crashed = Signal(str)

    def __init__(self, arguments: Sequence[str] = ENGINE) -> None:
        super().__init__()
        self._arguments = list(arguments)
        self._process: QProcess | None = None
        self._asked_to_leave = False
        self._closed = False
        self._last_output = ""
        self._ladder = QTimer(self)
        self._ladder.setSingleShot(True)
        self._ladder.timeout.connect(self._insist)

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Process id of the engine, None where there is none."""
        return int(self._process.processId()) or None if self._process is not None else None

    # ---------------------------------------------------------------------------------------------- talking

    def start(self) -> None:
        """Start the engine where it is not running."""
        if self._closed or self._process is not None:
            return
        self._asked_to_leave, self._last_output = False, ""
        self._process = process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        # The engine finds this very package, also where it is run from a checkout.
        environment.insert("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        environment.insert("PYTHONUNBUFFERED", "1")
        process.setProcessEnvironment(environment)
        process.readyReadStandardOutput.connect(self._read)
        process.readyReadStandardError.connect(self._read_errors)
        process.errorOccurred.connect(self._on_error)
        process.finished.connect(self._on_finished)
        process.start(sys.executable, self._arguments)

    def send(self, message: Message) -> None:
        """Send a message; starts the engine where it is not running."""
        self.start()
        if self._process is not None:
            self._process.write(QByteArray((encode(message) + "\n").encode()))

    def _read(self) -> None:
        while self._process is not None and self._process.canReadLine():
            line = bytes(self._process.readLine()).decode("utf-8", "replace").strip()
            if not line:
                continue
            try:
                message = decode(line)
            except EngineError as error:
                message = Failed(str(error))
            if isinstance(message, Ready):
                self.started.emit()
            self.message.emit(message)

    def _read_errors(self) -> None:
        if self._process is not None:
            text = bytes(self._process.readAllStandardError()).decode("utf-8", "replace")
            self._last_output = (self._last_output + text)[-REMEMBERED_OUTPUT:]

    # ---------------------------------------------------------------------------------------------- leaving

    def stop(self) -> None:
        """Ask the engine to bank its work and leave; `stopped` follows. Insists, without blocking, if it does not."""
        if self._process is None or self._asked_to_leave:
            return
        self._asked_to_leave = True
        self._process.write(QByteArray((encode(Shutdown()) + "\n").encode()))
        self._process.closeWriteChannel()
        self._ladder.start(SHUTDOWN_WITHIN_MS)

    def _insist(self) -> None:
        """The next rung: terminate, then kill."""
        if self._process is None:
            return
        if self._ladder.interval() == SHUTDOWN_WITHIN_MS:
            self._process.terminate()
            self._ladder.start(TERMINATE_WITHIN_MS)
        else:
            self._process.kill()

    def close(self) -> None:
        """End the engine for good, without waiting: it banks its work meanwhile, and the program's end waits for it."""
        if self._closed:
            return
        self._closed = True
        if self._process is not None:
            _leaving.add(self)
            self.stop()

    def wait(self) -> None:
        """Wait a bounded time for an engine that was asked to leave: message, terminate, kill."""
        process = self._process
        if process is not None and not process.waitForFinished(SHUTDOWN_WITHIN_MS):
            process.terminate()
            if not process.waitForFinished(TERMINATE_WITHIN_MS):
                process.kill()
                process.waitForFinished(TERMINATE_WITHIN_MS)

    def _drop(self) -> None:
        """Let go of the process and its signals."""
        self._ladder.stop()
        process, self._process = self._process, None
        _leaving.discard(self)
        if process is None:
            return
        process.readyReadStandardOutput.disconnect(self._read)
        process.readyReadStandardError.disconnect(self._read_errors)
        process.errorOccurred.disconnect(self._on_error)
        process.finished.disconnect(self._on_finished)
        process.deleteLater()

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self._drop()
            self.crashed.emit("The engine could not be started; is the Python environment of napari still whole?")

    def _on_finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        self._read_errors()
        asked = self._asked_to_leave
        self._drop()
        if asked:
            self.stopped.emit()
        else:
            self.crashed.emit(_why(code, status == QProcess.ExitStatus.CrashExit, self._last_output))


_leaving: set[EngineWorker] = set()
"""Workers whose window is gone, kept while their engine banks its work."""


@atexit.register
def _wait_for_engines() -> None:
    """At the program's end: Qt would kill the processes."""
    for worker in tuple(_leaving):
        with contextlib.suppress(RuntimeError):  # Qt has taken the process away already
            worker.wait()


def _why(code: int, by_signal: bool, output: str) -> str:
    """Why an engine has gone, in a sentence."""
    if by_signal and code == 9:
        why = "it was killed, most likely because the memory was full (signal 9); close other programs"
    elif by_signal:
        why = f"it crashed (signal {code})"
    else:
        why = f"exit code {code}"
        last = output.strip().splitlines()[-1].strip() if output.strip() else ""
        if last:
            why += f", its last words: {last[:200]}"
    return f"The engine has ended unexpectedly: {why}."
