"""What the desk has been asked for and has not done yet; filled by some threads, emptied by one.

Previews go first, and a newer one replaces a waiting one. Everything else keeps its order. Surveys of all slices go
last: a slice at a time, while nobody asks for anything.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from vqseg.protocol import LoadCheckpoint, Message, OpenCase, RequestPreview, UpdateAnnotations
from vqseg.survey import Survey

__all__ = ["PredictionJob", "Request", "Tray"]


@dataclass
class PredictionJob:
    """A prediction of whole cases; `seconds` is how long the network had the processor for it."""

    case_ids: list[str]
    final: bool = False
    request_id: int | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0


Request = Message | PredictionJob | Survey


class Tray:
    """The requests that wait.

    Attributes
    ----------
    last_request_at : float
        When a message was last put in, by ``time.monotonic``.
    leaving : bool
        Whether nothing more is to be done.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._preview: RequestPreview | None = None
        self._waiting: deque[Message | PredictionJob] = deque()
        self._surveys: dict[str, Survey] = {}
        self._looked_at: dict[str, int] = {}
        self.last_request_at = float("-inf")
        self.leaving = False

    def put(self, item: Message | PredictionJob) -> None:
        """Add a request."""
        with self._changed:
            if isinstance(item, RequestPreview):
                self._preview = item
                self._looked_at[item.case_id] = item.z
            else:
                self._waiting.append(item)
            if isinstance(item, Message):
                self.last_request_at = time.monotonic()
            self._changed.notify()

    def begin(self, survey: Survey) -> None:
        """Add a survey, behind the others, in place of one of its kind."""
        with self._changed:
            self.end(type(survey))
            self._surveys[type(survey).__name__] = survey

    def end(self, kind: type[Survey]) -> None:
        """Give up the survey of a kind, where there is one."""
        with self._changed:
            self._surveys.pop(kind.__name__, None)

    def end_surveys(self) -> None:
        """Give up all surveys."""
        with self._changed:
            self._surveys.clear()

    def leave(self) -> None:
        """Let whoever empties the tray leave."""
        with self._changed:
            self.leaving = True
            self._changed.notify()

    def take(self) -> Request | None:
        """The next request, once there is one; None to leave. A survey is to be put back for its next slice."""
        with self._changed:
            self._changed.wait_for(lambda: self.leaving or self._preview or self._waiting or self._surveys)
            if self.leaving:
                return None
            # A preview must not overtake what tells the case, the network or the labels that it is of.
            if self._may_preview(OpenCase, LoadCheckpoint, UpdateAnnotations):
                return self._preview_taken()
            if self._waiting:
                return self._waiting.popleft()
            return self._surveys.pop(next(iter(self._surveys)))

    @property
    def has_preview(self) -> bool:
        """Whether there is something for :meth:`take_preview`."""
        with self._changed:
            return self._may_preview(OpenCase, LoadCheckpoint)

    def take_preview(self) -> RequestPreview | None:
        """The preview that waits, for those in the midst of something longer; not one of another case or network."""
        with self._changed:
            return self._preview_taken() if self._may_preview(OpenCase, LoadCheckpoint) else None

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Wait for such a preview, for :meth:`leave`, or until :meth:`look_up` finds that something is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.leaving or self._may_preview(OpenCase, LoadCheckpoint) or is_over())

    def _may_preview(self, *behind: type[Message]) -> bool:
        return self._preview is not None and not any(isinstance(item, behind) for item in self._waiting)

    def _preview_taken(self) -> RequestPreview | None:
        preview, self._preview = self._preview, None
        return preview

    def look_up(self) -> None:
        """Let whoever waits see whether something is over."""
        with self._changed:
            self._changed.notify()

    def looked_at(self, case_id: str, otherwise: int) -> int:
        """The slice of a case that a preview was last wanted of."""
        return self._looked_at.get(case_id, otherwise)
