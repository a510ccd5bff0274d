"""The project that an engine has open: its volumes in memory, its annotations as last read, its scratch folder."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vqseg.annotations import Annotations
from vqseg.errors import EngineError
from vqseg.project import Case, Project
from vqseg.protocol import CaseOpened, Message, Notice, OpenCase

if TYPE_CHECKING:
    from vqseg.data import TrainingCase

__all__ = ["Workspace"]


class Workspace:
    """One open project; safe to use from several threads.

    Parameters
    ----------
    send : callable
        Takes notices.
    on_open : callable, optional
        Called with the project when one is opened.
    hide : callable, optional
        Called with the path of every image, so that the log can keep it to itself.

    Attributes
    ----------
    shown : str
        The case that the viewer opened last, "" where there is no viewer.
    """

    def __init__(
        self,
        send: Callable[[Message], None],
        on_open: Callable[[Project], None] | None = None,
        hide: Callable[[str], None] | None = None,
    ) -> None:
        self._send, self._on_open, self._hide = send, on_open, hide
        self._lock = threading.RLock()
        self._project: Project | None = None
        self._cases: dict[str, TrainingCase] = {}
        self._told: set[str] = set()
        self.shown = ""

    @property
    def project(self) -> Project:
        """The open project.

        Raises
        ------
        EngineError
            If there is none.
        """
        if self._project is None:
            raise EngineError("The engine has no project open; open a case first.")
        return self._project

    @property
    def class_names(self) -> dict[int, str]:
        """Class names of the open project, as last read."""
        return self.project.class_names

    def open(self, path: str | Path) -> None:
        """Open a project; the one that was open is left, with its volumes."""
        with self._lock:
            project = Project.open(path)
            if self._project is None or self._project.path != project.path:
                self._cases.clear()
                shutil.rmtree(project.path / "scratch", ignore_errors=True)
                if self._on_open is not None:
                    self._on_open(project)
            self._project = project

    def open_case(self, message: OpenCase) -> CaseOpened:
        """Serve an :class:`OpenCase`."""
        self.open(message.project_path)
        self.case(message.case_id)
        self.reload_annotations(message.case_id)
        return CaseOpened(message.case_id, list(self.case(message.case_id).volume.shape))

    def case(self, case_id: str) -> TrainingCase:
        """A case with its voxels in memory."""
        from vqseg.data import TrainingCase

        with self._lock:
            if case_id not in self._cases:
                case = self.project.case(case_id)
                if self._hide is not None:
                    self._hide(str(case.source))
                volume = case.load_volume().load()
                self._cases[case_id] = TrainingCase(volume, self._annotations(case))
            return self._cases[case_id]

    def reload_annotations(self, case_id: str) -> TrainingCase:
        """Read a case's annotations again."""
        with self._lock:
            case = self.case(case_id)
            case.annotations = self._annotations(self.project.case(case_id))
            return case

    def _annotations(self, case: Case) -> Annotations:
        annotations = case.load_annotations()
        for warning in case.warnings:
            if warning not in self._told:
                self._told.add(warning)
                self._send(Notice(warning, "warning"))
        return annotations

    def scratch(self, name: str) -> Path:
        """A path for a short-lived file that the viewer reads; emptied when the project is opened."""
        folder = self.project.path / "scratch"
        folder.mkdir(exist_ok=True)
        return folder / name

    def close(self) -> None:
        """Remove the short-lived files."""
        if self._project is not None:
            shutil.rmtree(self._project.path / "scratch", ignore_errors=True)
