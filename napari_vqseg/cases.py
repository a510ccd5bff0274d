"""Cases as the window opens them: which project a volume belongs to, what is added to it, what was recovered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_vqseg.classes import CLASS_SETS, ClassList
from napari_vqseg.preferences import Preferences
from vqseg.annotations import Annotations
from vqseg.config import WINDOWS
from vqseg.errors import ProjectError, VQSegError
from vqseg.io.image_files import stem
from vqseg.project import Case, Project
from vqseg.tasks import Task, next_open, tasks_of
from vqseg.volume import Volume, Window

__all__ = [
    "AUTO", "CUSTOM", "Added", "Into", "OpenedCase", "Source", "add_sources", "open_case", "open_project",
    "open_sample", "open_volume",
]  # fmt: skip

SAMPLE = "synthetic-thorax"
DEFAULTS = Preferences()
AUTO, CUSTOM = "auto", "custom"
"""Window names besides those of vqseg.config.WINDOWS: quantiles of the shown slice, and one set by hand."""

Into = Project | Path | None
"""The project that is open, a folder to keep annotations in, or neither: then a volume gets a project of its own."""


@dataclass(frozen=True)
class Source:
    """A volume to open: its file or folder, and which series of it."""

    path: Path
    series: str | None = None


@dataclass
class OpenedCase:
    """A case that is open in a window."""

    project: Project
    case: Case
    volume: Volume
    annotations: Annotations
    warnings: list[str] = field(default_factory=list)
    recovered: str = ""
    last_run: Path | None = None
    resumable: Path | None = None
    other_run: Path | None = None
    """The newest run that learnt from other cases of the project only."""
    tasks: list[Task] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What to call the volume."""
        return self.case.title

    @property
    def is_sample(self) -> bool:
        """Whether this is the synthetic thorax; nobody's CT joins its project."""
        return self.project.path.name == SAMPLE

    @property
    def is_kept(self) -> bool:
        """Whether the volume's file lies in the project, since it has no other."""
        return not Path(self.case.info["source"]).is_absolute()

    @property
    def window(self) -> tuple[str, Window | None]:
        """Name of the display window chosen last, and the window itself where it was set by hand.

        The project's CTs share theirs; every volume of another scale has its own.
        """
        in_hu = self.volume.in_hu
        info, otherwise = (self.project.info, "mediastinum") if in_hu else (self.case.info, AUTO)
        name, by_hand = str(info.get("window", otherwise)), info.get("window_hu")
        numbers = isinstance(by_hand, list) and all(isinstance(number, int | float) for number in by_hand)
        if name == CUSTOM and by_hand is not None and numbers and len(by_hand) == 2:
            return name, Window(float(by_hand[0]), float(by_hand[1]))
        name = name if name in WINDOWS or name == AUTO else otherwise
        if name == AUTO and not in_hu:
            low, high = self.volume.value_range
            return AUTO, Window((low + high) / 2, high - low or 1.0)
        return name, None

    @property
    def classes(self) -> ClassList:
        """The classes of the project."""
        return ClassList(self.project)

    @property
    def colours(self) -> dict[int, str]:
        """What each label value is drawn in."""
        return self.classes.colours


@dataclass(frozen=True)
class Added:
    """What became of sources: the first of them opened, cases of the project in all, and what was refused and why."""

    opened: OpenedCase | None
    case_ids: list[str]
    refused: list[str]


# ---------------------------------------------------------------------------------------------------- opening


def open_case(project: Project, case_id: str) -> OpenedCase:
    """Open a case of a project that is open or free.

    Raises
    ------
    ProjectError
        If another window has the project, or the image is gone or another one.
    """
    return _opened(project, project.case(case_id))


def open_project(path: Path, current: Into = None) -> OpenedCase:
    """Open a project's folder: the case that was open last, else the first open task."""
    project = _at(path, current)
    tasks = tasks_of(project)
    if not tasks:
        raise ProjectError(f"The project {project.name!r} has no volume yet; open a CT instead.")
    last, first = project.info.get("case"), next_open(tasks, None) or tasks[0]
    return open_case(project, last if last in [task.case_id for task in tasks] else first.case_id)


def add_sources(
    sources: Sequence[Source], into: Into = None, start: Preferences = DEFAULTS, *, show: bool = True
) -> Added:
    """Add volumes to a project, or find them there, and open the first.

    Parameters
    ----------
    sources : sequence of Source
        Files and folders.
    into : Project or Path, optional
        The open project, or a folder; by default the project in `start.home` that knows one of the sources, or a
        new one.
    start : Preferences
        Where new projects are kept and how they start.
    show : bool
        Open the first of them.

    Raises
    ------
    VQSegError
        If not one of them can be read.
    """
    sources = [Source(source.path.absolute(), source.series) for source in sources]
    place = into if into is not None else _home_of(sources, start.home)
    project = place if isinstance(place, Project) else _at(place) if Project.is_project(place) else None
    found: list[tuple[Case, Volume | None]] = []
    refused: list[VQSegError] = []
    for source in sources:
        try:
            case, volume = (_known(project, source), None) if project is not None else (None, None)
            if case is None:
                volume = _read(source)
                project = project or _create(place, place.name if isinstance(place, Path) else "", start)
                case = _added(project, volume)
            found.append((case, volume))
        except VQSegError as error:
            refused.append(error)
    if not found or project is None:
        raise refused[0]
    opened = _opened(project, *found[0]) if show else None
    if opened is not None and into is not None:
        opened.warnings += [text for source in sources if (text := _elsewhere(source, project, start.home))]
    return Added(opened, [case.id for case, _ in found], [str(error) for error in refused])


def open_volume(name: str, volume: Volume, into: Into = None, start: Preferences = DEFAULTS) -> OpenedCase:
    """Open a volume that is in memory; without a file of its own it is kept in the project."""
    if volume.source and Path(volume.source).exists():
        opened = add_sources([Source(Path(volume.source), volume.metadata.get("series"))], into, start).opened
        assert opened is not None
        return opened
    for place in _candidates(name, start.home) if into is None else [into]:
        project = place if isinstance(place, Project) else _at(place) if Project.is_project(place) else None
        case = next((case for case in project.cases if case.holds(volume)), None) if project is not None else None
        if case is None and (project is None or into is not None):
            project = project or _create(place, name, start)
            case = _added(project, volume, name)
        if project is not None and case is not None:
            return _opened(project, case, volume)
    raise AssertionError("there is always another name")


def open_sample(current: Into = None, start: Preferences = DEFAULTS) -> OpenedCase:
    """Open the synthetic thorax; the first time it is made."""
    folder = current if isinstance(current, Path) else start.home / SAMPLE
    if Project.is_project(folder) and (cases := (project := _at(folder, current)).cases):
        return _opened(project, cases[0])
    from vqseg.phantom import synthetic_thorax

    volume, reference = synthetic_thorax()
    names = reference.names or dict(enumerate(CLASS_SETS["Thorax"], start=1))
    project = _at(folder, current) if Project.is_project(folder) else _create(folder, SAMPLE, start, names)
    return _opened(project, _added(project, replace(volume, source=""), SAMPLE))


def _opened(project: Project, case: Case, volume: Volume | None = None) -> OpenedCase:
    was_locked = project.locked
    project.lock()
    try:
        volume = volume or case.load_volume()
        annotations = case.load_annotations()
    except BaseException:
        if not was_locked:
            project.unlock()
        raise
    trained = [run.path for run in project.runs if run.has_checkpoint and case.id in run.case_ids]
    if chosen := project.chosen_run(case.id):
        trained.append(chosen.path)
    elsewhere = [run.path for run in project.runs if run.has_checkpoint and case.id not in run.case_ids]
    resumable = [run.path for run in project.interrupted_runs if case.id in run.case_ids]
    problems = [] if was_locked else project.problems
    recovered = ""
    if annotations.records and not was_locked:
        count = len(annotations.records)
        recovered = f"Recovered {count} annotated slice{'s' * (count > 1)} of {case.title} from {project.path}."
        if resumable:
            recovered += " A training was interrupted; Resume goes on with it."
    return OpenedCase(
        project, case, volume, annotations, [*problems, *volume.warnings, *case.warnings], recovered,
        trained[-1] if trained else None, resumable[-1] if resumable else None, elsewhere[-1] if elsewhere else None,
        tasks_of(project),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- projects


def _at(path: Path, current: Into = None) -> Project:
    """The project in a folder; the very one that is open where it is that."""
    folder = path.parent if path.name == "project.json" else path
    if isinstance(current, Project) and current.path == folder.absolute():
        return current
    return Project.open(folder)


def _create(place: Into, name: str, start: Preferences, class_names: dict[int, str] | None = None) -> Project:
    assert isinstance(place, Path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProjectError(
            f"The folder {place.parent} for new projects cannot be made ({error.strerror}); choose another under "
            "File > Preferences > VQ-Seg."
        ) from error
    project = Project.create(place, name, class_names or dict(enumerate(CLASS_SETS[start.class_set], start=1)))
    project.info["window"] = start.window
    project.save()
    return project


def _added(project: Project, volume: Volume, title: str = "") -> Case:
    """Add a volume while nobody else has the project."""
    was_locked = project.locked
    project.lock()
    try:
        return project.add_case(volume, title=title)
    finally:
        if not was_locked:
            project.unlock()


def _read(source: Source) -> Volume:
    from vqseg.io import read_volume

    return read_volume(source.path, series=source.series)


def _known(project: Project, source: Source) -> Case | None:
    """The case of a project that a source is already."""
    for case in project.cases:
        if case.source == source.path and (source.series is None or case.info.get("series") in (None, source.series)):
            return case
    return None


def _home_of(sources: Sequence[Source], home: Path) -> Path:
    """The folder of the project that knows one of the sources, or of a new one."""
    path = sources[0].path
    name = stem(path) if len(sources) == 1 else path.parent.name
    for candidate in _candidates(name, home):
        if not candidate.exists():
            return candidate
        if Project.is_project(candidate):
            project = Project.open(candidate)
            if any(_known(project, source) is not None for source in sources):
                return candidate
    raise AssertionError("there is always another name")


def _elsewhere(source: Source, project: Project, home: Path) -> str:
    """A sentence about annotations that a volume has in a project of its own, "" where it has none."""
    for candidate in _candidates(stem(source.path), home):
        if not candidate.exists():
            return ""
        if Project.is_project(candidate) and candidate.absolute() != project.path:
            try:
                case = _known(Project.open(candidate), source)
                annotated = case is not None and bool(case.load_slice_states())
            except VQSegError as error:
                return f"{stem(source.path)} may have annotations in {candidate}, which cannot be read: {error}"
            if case is not None and annotated:
                return (
                    f"{case.title} has annotations of its own in {candidate}; "
                    "open that project's folder to go on with them."
                )
    return ""


def _candidates(name: str, home: Path) -> Iterable[Path]:
    clean = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "volume"
    return (home / (clean if number == 1 else f"{clean}-{number}") for number in range(1, 1000))
