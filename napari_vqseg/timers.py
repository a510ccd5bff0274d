"""Waiting and working off the event loop: the one place of the window that owns timers and threads."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_vqseg.session.scheduler import Debounced

__all__ = ["Paced", "QtScheduler"]


class _QtDebounced:
    def __init__(self, seconds: float, callback: Callable[[], None], parent: QObject) -> None:
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(round(seconds * 1000))
        self._timer.timeout.connect(callback)

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # Qt has taken the timer away already, at the program's end
            self._timer.stop()

    @property
    def waiting(self) -> bool:
        return bool(self._timer.isActive())


class Paced:
    """Asked often, done seldom: what draws progress, so that drawing leaves the event loop its time.

    Parameters
    ----------
    seconds : float
        The least time between two calls.
    callback : callable
        What is done, in a turn of the event loop of its own.
    parent : QObject
        Owner of the timer.
    """

    def __init__(self, seconds: float, callback: Callable[[], None], parent: QObject) -> None:
        self._seconds, self._callback, self._last = seconds, callback, -seconds
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._call)

    def ask(self) -> None:
        """Call soon."""
        if not self._timer.isActive():
            self._timer.start(max(0, round(1000 * (self._last + self._seconds - time.monotonic()))))

    def stop(self) -> None:
        """Forget what was asked."""
        self._timer.stop()

    def _call(self) -> None:
        self._last = time.monotonic()
        self._callback()


class _Answers(QObject):
    """Carries answers from the thread to the event loop."""

    arrived = Signal(object)


class QtScheduler:
    """Timers of Qt and two background threads, each of which keeps the order of what it is given.

    One saves and reads, so that a file is never read before it is written; the other exports, measures and cleans up,
    which takes long and works on copies.
    """

    def __init__(self) -> None:
        self._answers = _Answers()
        self._answers.arrived.connect(self._deliver)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="napari-vqseg")
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="napari-vqseg-aside")
        self._sequences: deque[Iterator[None]] = deque()
        self._turn = QTimer(self._answers)
        self._turn.setSingleShot(True)
        self._turn.timeout.connect(self._on_turn)
        self._drawn = self._closed = False

    def debounce(self, seconds: float, callback: Callable[[], None]) -> Debounced:
        """A debounced `callback` on Qt's event loop."""
        return _QtDebounced(seconds, callback, self._answers)

    def background(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Run `work` in the thread; the answer comes back through the event loop."""
        self._submit(self._thread, work, done, failed)

    def aside(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Run long `work` in the other thread; the answer comes back through the event loop."""
        self._submit(self._aside, work, done, failed)

    def _submit(
        self,
        thread: ThreadPoolExecutor,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        def answer(future: Future[Any]) -> None:
            if self._closed:
                return
            error = future.exception()
            self._answers.arrived.emit((failed, error) if error is not None else (done, future.result()))

        try:
            future = thread.submit(work)
        except RuntimeError:  # the interpreter is leaving and takes no more threads; the last save still counts
            work()
            return
        future.add_done_callback(answer)

    @staticmethod
    def _deliver(answer: tuple[Callable[[Any], None], Any]) -> None:
        callback, value = answer
        callback(value)

    def in_turns(self, steps: Iterator[None]) -> None:
        """Take steps, each in a turn of the event loop of its own; the next such sequence waits for their end.

        What a step has changed is drawn in a turn between it and the next.
        """
        self._sequences.append(steps)
        self._turn.start(0)

    def _on_turn(self) -> None:
        self._drawn = not self._drawn
        if self._drawn:
            self._turn.start(0)
        else:
            self._step()

    def _step(self) -> None:
        steps = self._sequences.popleft()
        try:
            for _ in steps:
                self._sequences.appendleft(steps)
                break
        finally:
            if self._sequences:
                self._turn.start(0)

    def close(self) -> None:
        """Drop timers and answers; the threads finish what they were given, and the program's end waits for them."""
        self._closed = True
        self._thread.shutdown(wait=False)
        self._aside.shutdown(wait=False)
        with contextlib.suppress(RuntimeError):
            self._answers.arrived.disconnect()
            for timer in self._answers.findChildren(QTimer):
                timer.stop()
            self._answers.deleteLater()
