"""When to predict the volume while it is being trained on: often enough to follow, without eating the time."""

from __future__ import annotations

import time
from collections.abc import Callable

from vqseg.tray import PredictionJob

__all__ = ["Overlays"]

FIRST_AFTER_S = 3.0
EVERY_S = 10.0
LONGEST_S = 60.0
SHARE = 0.15


class Overlays:
    """Predictions while the training runs, in turns with its steps: the first soon, later ones ever more rarely.

    Parameters
    ----------
    case_ids : callable
        Says what to predict.
    offer : callable
        Hands the newest weights to the desk.
    submit : callable
        Queues a job at the desk.
    """

    def __init__(
        self,
        case_ids: Callable[[], list[str]],
        offer: Callable[[], None],
        submit: Callable[[PredictionJob], None],
    ) -> None:
        self._case_ids, self._offer, self._submit = case_ids, offer, submit
        self._due_at = time.monotonic() + FIRST_AFTER_S
        self._every_s = EVERY_S
        self._job: PredictionJob | None = None

    def advance(self) -> None:
        """Start a prediction where one is due."""
        now = time.monotonic()
        if self._job is not None and self._job.done.is_set():
            self._due_at = now + max(self._every_s, self._job.seconds * (1 / SHARE - 1))
            self._every_s = min(1.5 * self._every_s, LONGEST_S)
            self._job = None
        if self._job is None and now >= self._due_at:
            self._offer()
            self._job = PredictionJob(self._case_ids())
            self._submit(self._job)

    def cancel(self) -> None:
        """Give up the prediction under way: a better one follows."""
        if self._job is not None:
            self._job.cancelled.set()
