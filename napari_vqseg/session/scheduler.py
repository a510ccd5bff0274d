"""What the session needs of a clock and of a thread; :mod:`napari_vqseg.timers` has both from Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

__all__ = ["Debounced", "Scheduler"]


class Debounced(Protocol):
    """A call that waits for quiet."""

    def start(self) -> None:
        """Call in a while; starting again begins the wait anew."""

    def stop(self) -> None:
        """Don't call."""

    @property
    def waiting(self) -> bool:
        """Whether a call is due."""


class Scheduler(Protocol):
    """What the session needs of a clock and of a worker thread."""

    def debounce(self, seconds: float, callback: Callable[[], None]) -> Debounced:
        """A debounced `callback`."""

    def background(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Run `work` in order off the event loop; `done` or `failed` is called on it."""

    def aside(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[BaseException], None]
    ) -> None:
        """As :meth:`background`, for what takes long: only more of its kind waits for it."""

    def in_turns(self, steps: Iterator[None]) -> None:
        """Take steps, each in a turn of the event loop of its own; the next such sequence waits for their end."""

    def close(self) -> None:
        """Stop the timers and answer no more, without waiting; work that was given is still done."""
