"""Cases as the window opens them: which project a volume belongs to, its classes and colours, what was recovered."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_vqseg.classes import CLASS_SETS, ClassList
from vqseg.annotations import Annotations
from vqseg.config import WINDOWS
from vqseg.errors import ProjectError
from vqseg.project import Case, Project
from vqseg.volume import Volume

__all__ = ["OpenedCase", "home", "open_sample", "open_source", "open_volume"]

SAMPLE = "synthetic-thorax"


def home() -> Path:
    """Where projects are kept: NAPARI_VQSEG_HOME, or ~/napari-vqseg."""
    return Path(os.environ.get("NAPARI_VQSEG_HOME") or Path.home() / "napari-vqseg")


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

    @property
    def name(self) -> str:
        """What to call the volume."""
        return self.project.name if self.is_kept else _stem(self.case.source)

    @property
    def is_kept(self) -> bool:
        """Whether the volume's file lies in the project, since it has no other."""
        return not Path(self.case.info["source"]).is_absolute()

    @property
    def window_name(self) -> str:
        """The display window chosen last."""
        name = str(self.project.info.get("window", "mediastinum"))
        return name if name in WINDOWS or name == "auto" else "mediastinum"

    def remember(self, **entries: object) -> None:
        """Keep what the window wants to find again in project.json."""
        if any(self.project.info.get(key) != value for key, value in entries.items()):
            self.project.info.update(entries)
            self.project.save()

    @property
    def classes(self) -> ClassList:
        """The classes of the project."""
        return ClassList(self.project)

    @property
    def colours(self) -> dict[int, str]:
        """What each label value is drawn in."""
        return self.classes.colours


def open_source(path: Path, project_path: Path | None = None, series: str | None = None) -> OpenedCase:
    """Open a volume's file or folder, or a project folder; its annotations come along.

    Parameters
    ----------
    path : Path
        Volume or project.
    project_path : Path, optional
        The project to use; by default one a volume, under :func:`home`.
    series : str, optional
        Series UID in a DICOM folder.
    """
    path = path.absolute()
    if Project.is_project(path):
        project = Project.open(path)
        if not project.cases:
            raise ProjectError(f"The project {project.name!r} has no volume yet; open a CT instead.")
        return _opened(project, project.cases[0])
    if project_path is not None:
        project = _open_or_create(project_path, project_path.name)
        return _opened(project, _case_of(project, path, series) or _add(project, path, series))
    for candidate in _candidates(_stem(path)):
        if not candidate.exists():
            from vqseg.io import read_volume

            volume = read_volume(path, series=series)
            project = _open_or_create(candidate, candidate.name)
            return _opened(project, project.add_case(volume), volume)
        if Project.is_project(candidate):
            project = Project.open(candidate)
            case = _case_of(project, path, series)
            if case is not None:
                return _opened(project, case)
    raise AssertionError("there is always another name")


def open_volume(name: str, volume: Volume, project_path: Path | None = None) -> OpenedCase:
    """Open a volume that is in memory; without a file of its own it is kept in the project."""
    if volume.source and Path(volume.source).exists():
        return open_source(Path(volume.source), project_path, volume.metadata.get("series"))
    for candidate in _candidates(name) if project_path is None else [project_path]:
        project = _open_or_create(candidate, candidate.name)
        for case in project.cases:
            if tuple(case.shape) == volume.shape:
                try:
                    return _opened(project, case)
                except ProjectError:
                    project.unlock()
                    raise
        if not project.cases or project_path is not None:
            return _opened(project, project.add_case(volume))
    raise AssertionError("there is always another name")


def open_sample(project_path: Path | None = None) -> OpenedCase:
    """Open the synthetic thorax; the first time it is made."""
    folder = home() / SAMPLE if project_path is None else project_path
    if Project.is_project(folder) and Project.open(folder).cases:
        project = Project.open(folder)
        return _opened(project, project.cases[0])
    from vqseg.phantom import synthetic_thorax

    volume, reference = synthetic_thorax()
    names = reference.names or dict(enumerate(CLASS_SETS["Thorax"], start=1))
    project = _open_or_create(folder, SAMPLE, names)
    return _opened(project, project.add_case(replace(volume, source="")))


def _opened(project: Project, case: Case, volume: Volume | None = None) -> OpenedCase:
    project.lock()
    try:
        volume = volume or case.load_volume()
        annotations = case.load_annotations()
    except BaseException:
        project.unlock()
        raise
    runs = [run for run in project.runs if case.id in run.case_ids]
    trained = [run.path for run in runs if run.has_checkpoint]
    resumable = [run.path for run in project.interrupted_runs if case.id in run.case_ids]
    recovered = ""
    if annotations.records:
        count = len(annotations.records)
        recovered = f"Recovered {count} annotated slice{'s' * (count > 1)} of {case.id} from {project.path}."
        if resumable:
            recovered += " A training was interrupted; Resume goes on with it."
    return OpenedCase(
        project, case, volume, annotations, [*volume.warnings, *case.warnings], recovered,
        trained[-1] if trained else None, resumable[-1] if resumable else None,
    )  # fmt: skip


def _open_or_create(path: Path, name: str, class_names: dict[int, str] | None = None) -> Project:
    if Project.is_project(path):
        return Project.open(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Project.create(path, name, class_names or dict(enumerate(CLASS_SETS["Lung tumour"], start=1)))


def _case_of(project: Project, path: Path, series: str | None) -> Case | None:
    for case in project.cases:
        if case.source == path and (series is None or case.info.get("series") in (None, series)):
            return case
    return None


def _add(project: Project, path: Path, series: str | None) -> Case:
    from vqseg.io import read_volume

    return project.add_case(read_volume(path, series=series))


def _stem(path: Path) -> str:
    return re.sub(r"\.(nii(\.gz)?|nrrd|nhdr|dcm)$", "", path.name, flags=re.IGNORECASE) or "volume"


def _candidates(name: str) -> list[Path]:
    clean = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "volume"
    return [home() / (clean if number == 1 else f"{clean}-{number}") for number in range(1, 1000)]
