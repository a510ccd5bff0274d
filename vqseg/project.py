"""A project: a folder that holds everything a person made and everything that was made from it.

``PROJECT/project.json``, ``cases/<id>/{case.json, annotations.npz}``, ``runs/<id>/{config.json, run.json, ...}``.
Every file is whole at any moment; a viewer that writes holds the project's lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vqseg.case import Case
from vqseg.config import Config
from vqseg.errors import DamagedRecordError, ProjectError, VQSegError
from vqseg.io.atomic import sweep
from vqseg.lock import FolderLock
from vqseg.records import checked_id, new_folder, now, read_record, write_record
from vqseg.run import Run, RunState, sweep_runs
from vqseg.volume import Volume

__all__ = ["Case", "Project", "Run", "RunState"]

SCHEMA = 1
COPY = "project.copy.json"
T = TypeVar("T")
PathLike = str | os.PathLike[str]


class Project:
    """A project folder; open one with :meth:`open`, make one with :meth:`create`.

    Attributes
    ----------
    path : Path
        The folder.
    name : str
        Its title.
    class_names : dict of int to str
        Name of each class value, 1..254.
    info : dict
        Everything else in project.json; faces keep their own entries here (colours, locks, ...).
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path).absolute()
        self._restored: list[str] = []
        self.info: dict[str, Any] = self._read()
        self.name = str(self.info.pop("name"))
        self.class_names = {int(value): str(name) for value, name in self.info.pop("class_names").items()}
        self._lock = FolderLock(self.path / "project.lock")

    @classmethod
    def create(cls, path: PathLike, name: str, class_names: Mapping[int, str] | Sequence[str]) -> Project:
        """Make a new project folder.

        Parameters
        ----------
        path : str or path-like
            The folder; it may exist, if it is empty.
        name : str
            Title of the project.
        class_names : mapping of int to str, or sequence of str
            Class names by value; a sequence names the values 1, 2, ...

        Raises
        ------
        ProjectError
            If the folder holds anything already, or a class value is outside 1..254.
        """
        folder = Path(path).absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ProjectError(f"{folder.name} is not empty; choose a new folder, or open the project in it.")
        if folder.exists():
            folder.rmdir()
        with new_folder(folder) as temporary:
            (temporary / "cases").mkdir()
            (temporary / "runs").mkdir()
            values = {"name": name, "class_names": _checked_classes(class_names), "created": now()}
            for file in ("project.json", COPY):
                write_record(temporary / file, "project", SCHEMA, values)
        return cls(folder)

    @classmethod
    def open(cls, path: PathLike) -> Project:
        """Open a project folder, or its project.json.

        Raises
        ------
        ProjectError
            If it is none.
        """
        folder = Path(path)
        return cls(folder.parent if folder.name == "project.json" else folder)

    @staticmethod
    def is_project(path: PathLike) -> bool:
        """Whether a folder, or the project.json in it, is a project."""
        place = Path(path)
        return (place if place.name == "project.json" else place / "project.json").is_file()

    def save(self) -> None:
        """Write project.json: name, classes and the entries of `info`; a copy of it stands in for a damaged one."""
        values = {**self.info, "name": self.name, "class_names": _checked_classes(dict(self.class_names))}
        for name in ("project.json", COPY):
            write_record(self.path / name, "project", SCHEMA, values)

    def _read(self) -> dict[str, Any]:
        if not any((self.path / name).is_file() for name in ("project.json", COPY)):
            raise ProjectError(f"{self.path} is no project; choose the folder that holds a project.json.")
        try:
            return _read_project(self.path / "project.json")
        except DamagedRecordError:
            if not (self.path / COPY).is_file():
                raise
        self._restored.append("project.json is damaged; its copy was read. The annotations are files of their own.")
        return _read_project(self.path / COPY)

    @property
    def problems(self) -> list[str]:
        """What cannot be read, and is left out or taken from an older version, in sentences."""
        return [
            *self._restored,
            *_readable(self.path / "cases", "case.json", Case)[1],
            *_readable(self.path / "runs", "run.json", Run)[1],
        ]

    # ------------------------------------------------------------------------------------------------- lock

    def lock(self) -> None:
        """Claim the project for writing; the claim ends with the process.

        Raises
        ------
        ProjectError
            If another window has it.
        """
        if not self.locked:
            self._lock.acquire(f"The project {self.name!r}")
            self._sweep()

    def unlock(self) -> None:
        """End the claim."""
        self._lock.release()

    @property
    def locked(self) -> bool:
        """Whether this object holds the claim."""
        return self._lock.held

    def _sweep(self) -> None:
        """Remove what was half written when a process was killed; an engine that outlives its window is left alone."""
        for folder in (self.path, self.path / "cases", *self.path.glob("cases/*/")):
            sweep(folder)
        sweep_runs(self.path / "runs")

    # ------------------------------------------------------------------------------------------------ cases

    @property
    def cases(self) -> list[Case]:
        """The cases that can be read, in the order they were added; see :attr:`problems`."""
        found, _ = _readable(self.path / "cases", "case.json", Case)
        return sorted(found, key=lambda case: (case.info["added"], case.id))

    def case(self, case_id: str) -> Case:
        """A case by its id.

        Raises
        ------
        ProjectError
            If there is none.
        """
        folder = self.path / "cases" / checked_id(case_id, "case")
        if not (folder / "case.json").is_file():
            names = ", ".join(case.id for case in self.cases) or "none yet"
            raise ProjectError(f"The project has no case {case_id!r}; its cases: {names}.")
        return Case(folder)

    def add_case(self, volume: Volume, case_id: str | None = None, title: str = "") -> Case:
        """Add a volume; it stays where it is, a volume without a file is stored in the project.

        Parameters
        ----------
        volume : Volume
            As read by :func:`vqseg.io.read_volume`.
        case_id : str, optional
            Name of the case; by default case-001 and on, which names no patient.
        title : str, optional
            What lists call it; by default the name of its file, and the series' description.

        Raises
        ------
        ProjectError
            If the name is taken or cannot be a folder's.
        """
        if case_id is None:
            number = 1
            while (self.path / "cases" / f"case-{number:03d}").exists():
                number += 1
            case_id = f"case-{number:03d}"
        return Case.create(self.path / "cases" / checked_id(case_id, "case"), volume, title)

    # ------------------------------------------------------------------------------------------------- runs

    @property
    def runs(self) -> list[Run]:
        """The runs that can be read, oldest first; see :attr:`problems`."""
        found, _ = _readable(self.path / "runs", "run.json", Run)
        return sorted(found, key=lambda run: (str(run.info.get("created", "")), run.id))  # clocks are set back

    @property
    def interrupted_runs(self) -> list[Run]:
        """Runs that were under way when their engine went, and that have a checkpoint to go on from."""
        return [run for run in self.runs if run.interrupted and run.has_checkpoint]

    def run(self, run_id: str) -> Run:
        """A run by its id.

        Raises
        ------
        ProjectError
            If there is none.
        """
        folder = self.path / "runs" / checked_id(run_id, "run")
        if not (folder / "run.json").is_file():
            names = ", ".join(run.id for run in self.runs) or "none yet"
            raise ProjectError(f"The project has no run {run_id!r}; its runs: {names}.")
        return Run(folder)

    def choose_run(self, case_id: str, run_id: str) -> None:
        """Let a run stand for a case, though it is not the newest, until another has been trained.

        Raises
        ------
        ProjectError
            If the project has no such case.
        """
        self.case(case_id).update(run={"id": run_id, "since": now()})

    def chosen_run(self, case_id: str) -> Run | None:
        """The run that a person has chosen for a case; None where none was, or one has been trained since.

        Raises
        ------
        ProjectError
            If the project has no such case.
        """
        choice = self.case(case_id).info.get("run")
        if not isinstance(choice, dict):
            return None
        runs = self.runs
        trained = [
            str(run.info.get("ended") or run.info.get("started") or "")
            for run in runs if run.has_checkpoint and case_id in run.case_ids
        ]  # fmt: skip
        if any(when > str(choice.get("since", "")) for when in trained):
            return None
        return next((run for run in runs if run.id == choice.get("id") and run.has_checkpoint), None)

    def new_run(self, config: Config, case_ids: Sequence[str]) -> Run:
        """Make a run folder with its settings.

        Raises
        ------
        ProjectError
            If a case is unknown, or there is none.
        """
        if not case_ids:
            raise ProjectError("A run needs at least one case; add a volume to the project.")
        for case_id in case_ids:
            self.case(case_id)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        number = 1
        while True:
            path = self.path / "runs" / f"{stamp}-{number:02d}"
            try:
                return Run.create(path, config, case_ids)
            except ProjectError:
                if not path.exists():  # else the number is taken
                    raise
            number += 1


def _read_project(path: Path) -> dict[str, Any]:
    values = read_record(path, "project", SCHEMA, ("name", "class_names"))
    names = values["class_names"]
    if not isinstance(names, dict) or not all(map(str.isdigit, names)):
        raise DamagedRecordError(f"{path.name} is damaged; restore it from a backup of the project folder.")
    return values


def _readable(parent: Path, marker: str, read: Callable[[Path], T]) -> tuple[list[T], list[str]]:
    """What can be read of the folders that hold `marker`, by name, and sentences about those that cannot.

    Unfinished folders start with a dot and are left out.
    """
    found: list[T] = []
    problems: list[str] = []
    for folder in sorted(path.parent for path in parent.glob(f"[!.]*/{marker}")):
        try:
            found.append(read(folder))
        except (VQSegError, OSError) as error:
            reason = f"{error.strerror}." if isinstance(error, OSError) else str(error)
            problems.append(f"{parent.name}/{folder.name} is left out: {reason}")
    return found, problems


def _checked_classes(class_names: Mapping[int, str] | Sequence[str]) -> dict[str, str]:
    if not isinstance(class_names, Mapping):
        class_names = dict(enumerate(class_names, start=1))
    for value, name in class_names.items():
        if not 1 <= int(value) <= 254 or not str(name).strip():
            raise ProjectError(f"Class {value} ({name!r}) cannot be used; give a name to values from 1 to 254.")
    return {str(int(value)): str(name) for value, name in sorted(class_names.items())}
