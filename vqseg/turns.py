"""Turns at the processor: two threads that compute at once get in each other's way.

The training works by steps. After each step whoever waits has one turn; a preview, for which a person waits, has its
turn in the middle of a step as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Turns"]


class Turns:
    """Shared by one thread that trains and one that answers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._training = self._about_to_train = False
        self._asking = self._urgent = self._granted = False
        self._answering = 0

    @contextmanager
    def train(self) -> Iterator[None]:
        """Take a step, after the turn that is under way; whoever waits at its end has a turn before the next."""
        with self._changed:
            self._about_to_train = True
            self._changed.wait_for(self._is_free)
            self._about_to_train, self._training = False, True
        try:
            yield
        finally:
            with self._changed:
                self._training = False
                self._granted = self._asking
                self._changed.notify_all()

    def pause(self) -> None:
        """In the middle of a step: let an urgent turn pass."""
        with self._changed:
            if self._asking and self._urgent:
                self._granted = True
                self._changed.notify_all()
                self._changed.wait_for(self._is_free)

    @contextmanager
    def answer(self, *, urgent: bool = False) -> Iterator[None]:
        """Have a turn; waits for the end of the step, or only for its next pause where it is urgent.

        A turn within a turn is part of it.
        """
        with self._changed:
            self._asking, self._urgent = True, urgent
            self._changed.wait_for(self._may_answer)
            self._asking = self._granted = False
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self._changed.notify_all()

    def _is_free(self) -> bool:
        return not (self._granted or self._answering)

    def _may_answer(self) -> bool:
        return self._granted or self._answering > 0 or not (self._training or self._about_to_train)
