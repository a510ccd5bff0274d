"""The volumes of the project: opening and adding them, going from one to the next, and how far each is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_vqseg.cases import (
    Added,
    Into,
    OpenedCase,
    Source,
    add_sources,
    open_case,
    open_project,
    open_sample,
    open_volume,
)
from napari_vqseg.preferences import Preferences
from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.training import Training
from vqseg.errors import VolumeError, VQSegError
from vqseg.io.image_files import is_image_file
from vqseg.project import Project
from vqseg.tasks import Task, TaskState, decide, next_open, tasks_of

if TYPE_CHECKING:
    from vqseg.io.dicom import SeriesInfo

__all__ = ["Cases", "Found"]


@dataclass(frozen=True)
class Found:
    """What a path holds: series of a DICOM folder to choose from, or nothing to choose."""

    path: Path
    series: tuple[SeriesInfo, ...] = ()


class Cases(Concern):
    """Opens one case at a time and keeps the task list.

    Attributes
    ----------
    opened : Signal(OpenedCase)
        A case has been read and waits to be shown.
    changed : Signal()
        The task list.
    preferences : callable
        Where new projects are kept and how they start, asked whenever one may be made.
    project_path : Path or None
        Folder to keep annotations in, chosen before anything is open.
    """

    opened = Signal(object)
    changed = Signal()

    def __init__(
        self, context: Context, annotating: Annotating, training: Training, preferences: Callable[[], Preferences]
    ) -> None:
        super().__init__(context)
        self._annotating, self._training, self.preferences = annotating, training, preferences
        self.project_path: Path | None = None
        annotating.slices_changed.connect(self._count)

    def announce(self) -> None:
        """Remember which case is open and tell the task list."""
        self.context.remember(case=self.context.case.case.id)
        self._count()

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the open project."""
        return self.context.tasks

    @property
    def joins(self) -> bool:
        """Whether what is opened next joins the open project."""
        return self.context.is_open and not self.context.case.is_sample

    @property
    def _into(self) -> Into:
        return self.context.case.project if self.joins else self.project_path

    @property
    def _current(self) -> Into:
        return self.context.case.project if self.context.is_open else self.project_path

    # ------------------------------------------------------------ opening and adding

    def find(self, paths: Sequence[str | os.PathLike[str]], then: Callable[[list[Found]], None]) -> None:
        """Look into paths, off the event loop; `then` is called with what they hold."""
        places = [Path(path) for path in paths]
        self.context.busy_changed.emit("Looking for volumes")

        def done(found: list[Found]) -> None:
            self.context.busy_changed.emit("")
            then(found)

        self.context.background(lambda: [item for place in places for item in _look_into(place)], done)

    def add(self, sources: Sequence[Source]) -> None:
        """Add volumes to the open project, or to one of their own, and open the first of them.

        While a training is under way they are added and nothing is opened.
        """
        if not sources:
            return
        into, start, show = self._into, self.preferences(), self._training.is_idle
        if not show and not self.context.is_open:
            return
        first, rest = sources[0], sources[1:]
        more = f" and {len(rest)} more" if rest else ""
        self._read(
            f"Reading {first.path.name}{more}", lambda: add_sources(sources, into, start, show=show), self._on_added
        )

    def open(self, path: str | os.PathLike[str], series: str | None = None) -> None:
        """Open a volume, which joins the open project, or a project's folder."""
        place = Path(path)
        if Project.is_project(place):
            current = self._current
            self._open(f"Opening {place.name}", lambda: open_project(place, current))
        else:
            self.add([Source(place, series)])

    def open_sample(self) -> None:
        """Open the synthetic thorax."""
        current, start = self._current, self.preferences()
        self._open("Making the sample CT", lambda: open_sample(current, start))

    def open_layer(self) -> None:
        """Open the image layer that is selected in the viewer."""
        try:
            found = self.context.view.image.selected_volume()
        except VQSegError as error:
            self.context.refused(error)
            return
        if found is None:
            self.context.notified.emit("Select a three-dimensional image layer in the layer list first.", "warning")
            return
        (name, volume), into, start = found, self._into, self.preferences()
        self._open(f"Taking over {name}", lambda: open_volume(name, volume, into, start))

    def _on_added(self, added: Added) -> None:
        for text in added.refused:
            self.context.notified.emit(text, "warning")
        if added.opened is not None:
            self.opened.emit(added.opened)
        else:
            self.context.busy_changed.emit("")
            self.refresh()

    # ------------------------------------------------------------ going from case to case

    def open_case(self, case_id: str) -> None:
        """Open another case of the project; what is on show is saved first."""
        project = self.context.case.project
        if case_id != self.context.case.case.id:
            title = next((task.title for task in self.tasks if task.case_id == case_id), case_id)
            self._open(f"Opening {title}", lambda: open_case(project, case_id))

    def next(self) -> None:
        """Key T: open the next task that is neither done nor flagged."""
        task = next_open(self.tasks, self.context.case.case.id)
        if task is None:
            self.context.notified.emit("No other task is open.", "info")
        else:
            self.open_case(task.case_id)

    def _open(self, what: str, work: Callable[[], OpenedCase]) -> None:
        if self._training.is_idle:
            self._read(what, work, self.opened.emit)
        else:
            self.context.notified.emit("Training is under way; stop it before opening another volume.", "warning")

    def _read(self, what: str, work: Callable[[], Any], done: Callable[[Any], Any]) -> None:
        self._annotating.save()
        self.context.busy_changed.emit(what)
        self.context.background(work, done)

    def relocate(self, case_id: str, path: str | os.PathLike[str]) -> None:
        """Say where the image of a case is now, and open it if it is the image that was annotated."""
        project = self.context.case.project

        def work() -> OpenedCase:
            project.case(case_id).relocate(path)
            return open_case(project, case_id)

        self._open(f"Reading {Path(path).name}", work)

    # ------------------------------------------------------------ tasks

    def task(self, case_id: str) -> Task | None:
        """The task of a case."""
        return next((task for task in self.tasks if task.case_id == case_id), None)

    def decide(self, state: TaskState, case_id: str | None = None) -> None:
        """Call the shown case, or another, done or flag it; the same once more takes that back."""
        opened = self.context.case
        case_id = case_id or opened.case.id
        task = self.task(case_id)
        wanted = TaskState.IN_PROGRESS if task is not None and task.state is state else state
        project = opened.project
        self.context.background(lambda: decide(project.case(case_id), wanted), lambda _: self.refresh())

    def refresh(self) -> None:
        """Read the task list anew, off the event loop."""
        if not self.context.is_open:
            return
        project = self.context.case.project

        def show(tasks: list[Task]) -> None:
            if self.context.opened is not None and self.context.opened.project is project:
                self.context.tasks = tasks
                self._count()

        self.context.background(lambda: tasks_of(project), show)

    def _count(self) -> None:
        """Show the slices of the open case as they are, saved or not."""
        if not self.context.is_open:
            return
        annotations, case_id = self.context.annotations, self.context.case.case.id
        begun = TaskState.IN_PROGRESS if annotations.records else TaskState.NOT_STARTED
        self.context.tasks = [
            replace(
                task, state=begun if task.is_open else task.state, labelled=len(annotations.used),
                drafts=len(annotations.draft), problem="",
            ) if task.case_id == case_id else task
            for task in self.tasks
        ]  # fmt: skip
        self.changed.emit()


def _look_into(place: Path) -> list[Found]:
    """A file as it is, a project or DICOM folder with its series, the volumes in any other folder."""
    if not place.is_dir() or Project.is_project(place):
        return [Found(place)]
    from vqseg.io import list_series

    try:
        return [Found(place, tuple(list_series(place)))]
    except VolumeError:
        files = sorted(path for path in place.iterdir() if is_image_file(path))
        if not files:
            raise
        return [Found(path) for path in files]
