"""What every concern of a session shares: the open case, the view, the clock, and a voice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psygnal import Signal

from napari_vqseg.cases import OpenedCase
from napari_vqseg.session.scheduler import Scheduler
from vqseg.annotations import Annotations
from vqseg.errors import AnnotationError, VQSegError
from vqseg.tasks import Task
from vqseg.volume import Volume

__all__ = ["Concern", "Context", "in_words"]


class Context:
    """The open case and what it takes to work on it.

    Parameters
    ----------
    view : object
        The layers of a case, as :class:`napari_vqseg.layers.ViewerLayers`.
    scheduler : Scheduler
        Timers and the background thread.

    Attributes
    ----------
    notified : Signal(str, str)
        A sentence for the person, and its level: "info", "hint", "warning" or "error".
    busy_changed : Signal(str)
        What is going on in the background, "" for nothing.
    tasks : list of Task
        The task list of the open project, as the concern `cases` keeps it.
    """

    notified = Signal(str, str)
    busy_changed = Signal(str)

    def __init__(self, view: Any, scheduler: Scheduler) -> None:
        self.view = view
        self.scheduler = scheduler
        self.opened: OpenedCase | None = None
        self.tasks: list[Task] = []

    @property
    def is_open(self) -> bool:
        """Whether a case is open."""
        return self.opened is not None

    @property
    def case(self) -> OpenedCase:
        """The open case.

        Raises
        ------
        AnnotationError
            If none is open.
        """
        if self.opened is None:
            raise AnnotationError("No volume is open; open a CT first.")
        return self.opened

    @property
    def volume(self) -> Volume:
        """The open volume."""
        return self.case.volume

    @property
    def annotations(self) -> Annotations:
        """The annotations of the open volume; the viewer paints into their labels."""
        return self.case.annotations

    @property
    def z(self) -> int:
        """The shown slice."""
        return int(self.view.navigation.z)

    def axial_slice(self) -> int | None:
        """The shown slice, to be changed as a whole; None where another plane was on show, and the axial one is now.

        Nobody is to finish, copy or take over a slice that she does not see.
        """
        if self.view.navigation.show_axial():
            self.notified.emit(f"That is done in the axial plane. Here is slice {self.z}; press again.", "hint")
            return None
        return self.z

    def background(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `work` off the event loop, then `done` with its answer on it; say what went wrong."""
        self.scheduler.background(work, done, self.refused)

    def aside(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """As :meth:`background`, for what takes long: neither a save nor a preview waits behind it."""
        self.scheduler.aside(work, done, self.refused)

    def save_project(self) -> None:
        """Write the project's own file, off the event loop and in order with everything else."""
        self.background(self.case.project.save, lambda _: None)

    def remember(self, **entries: object) -> None:
        """Keep what the window wants to find again in project.json."""
        info = self.case.project.info
        if any(info.get(name) != value for name, value in entries.items()):
            info.update(entries)
            self.save_project()

    def remember_of_case(self, **entries: object) -> None:
        """Keep what the window wants to find again in case.json."""
        case = self.case.case
        if any(case.info.get(name) != value for name, value in entries.items()):
            self.background(lambda: case.update(**entries), lambda _: None)

    def refused(self, error: BaseException) -> None:
        """Say what went wrong in the background."""
        self.busy_changed.emit("")
        self.notified.emit(in_words(error), "error")


def in_words(error: BaseException) -> str:
    """What went wrong, in a sentence for the person."""
    if isinstance(error, VQSegError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"The disk refused that ({error.strerror}); make room, or see to the right to write there, and go on."
    return f"{type(error).__name__}: {error}. Please report this."


class Concern:
    """One concern of a session; it lives as long as the session does, from case to case."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def forget(self) -> None:
        """Drop what belongs to the case before; called before another is opened."""

    def announce(self) -> None:
        """Tell what there is now; called once a case is open and on show."""
