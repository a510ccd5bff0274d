"""The newest copy of a network, handed from the thread that trains it to the thread that answers from it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from vqseg.errors import EngineError
from vqseg.project import Run

if TYPE_CHECKING:
    from vqseg.predict import Predictor

__all__ = ["Weights"]

FIRST_WEIGHTS_WITHIN_S = 60.0


class Weights:
    """The newest copy of the network, handed from the training thread to the desk."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._value: tuple[Predictor, int, Run] | None = None
        self.expected = False
        self.made_at = float("-inf")

    def offer(self, predictor: Predictor, step: int, run: Run) -> None:
        """Put newer weights in place."""
        with self._changed:
            self._value = (predictor, step, run)
            self.made_at = time.monotonic()
            self._changed.notify_all()

    @property
    def has_any(self) -> bool:
        """Whether there are weights already."""
        return self._value is not None

    def expect(self, expected: bool) -> None:
        """Say whether the first weights are on their way."""
        with self._changed:
            self.expected = expected
            self._changed.notify_all()

    def get(self) -> tuple[Predictor, int, Run]:
        """The newest weights; waits for the first where they are on their way.

        Raises
        ------
        EngineError
            If there are none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._value is not None or not self.expected, FIRST_WEIGHTS_WITHIN_S)
            if self._value is None:
                raise EngineError("Nothing is trained yet; start the training or open a trained run.")
            return self._value
