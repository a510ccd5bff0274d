"""Turns at the processor: two threads that compute at once get in each other's way.

The training works by steps. After each step whoever waits has turns for as long as the step took, at least one; a
preview, for which a person waits, has its turn at the next pause in the step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Turns"]

NEXT_WITHIN_S = 0.005
"""Who has more to do asks again within this time."""


def _never() -> bool:
    return False


class Turns:
    """Shared by one thread that trains and one that answers.

    Parameters
    ----------
    clock : callable
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._step_s = self._answered_s = 0.0
        self._changed = threading.Condition()
        self._training = self._about_to_train = False
        self._asking = self._granted = False
        self._is_urgent: Callable[[], bool] = _never
        self._answering = 0

    @contextmanager
    def train(self) -> Iterator[None]:
        """Take a step, after the turns that are due since the last one."""
        with self._changed:
            self._about_to_train = True
            self._changed.wait_for(self._is_free)
            while 0 < self._answered_s < self._step_s and self._changed.wait_for(lambda: self._asking, NEXT_WITHIN_S):
                self._grant()
            self._about_to_train, self._training = False, True
            self._answered_s = 0.0
        start = self._clock()
        try:
            yield
        finally:
            with self._changed:
                self._training = False
                self._step_s, self._answered_s = self._clock() - start - self._answered_s, 0.0
                self._granted = self._asking
                self._changed.notify_all()

    def pause(self) -> None:
        """In the middle of a step: let an urgent turn pass."""
        with self._changed:
            if self._asking and self._is_urgent():
                self._grant()

    @contextmanager
    def answer(self, *, urgent: Callable[[], bool] = _never) -> Iterator[None]:
        """Have a turn; waits for the end of the step, or only for its next pause at which it is `urgent`.

        A turn within a turn is part of it.
        """
        with self._changed:
            self._asking, self._is_urgent = True, urgent
            self._changed.wait_for(self._may_answer)
            self._asking = self._granted = False
            self._answering += 1
        start = self._clock()
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                if not self._answering:
                    self._answered_s += self._clock() - start
                self._changed.notify_all()

    def _grant(self) -> None:
        """Give a turn to whoever asks, and wait for its end."""
        self._granted = True
        self._changed.notify_all()
        self._changed.wait_for(self._is_free)

    def _is_free(self) -> bool:
        return not (self._granted or self._answering)

    def _may_answer(self) -> bool:
        return self._granted or self._answering > 0 or not (self._training or self._about_to_train)
