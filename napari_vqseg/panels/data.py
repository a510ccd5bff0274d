"""Data: open a CT, see what was opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QInputDialog

from napari_vqseg.panels.parts import Panel, button, note, row
from vqseg.errors import VQSegError

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["DataPanel"]

FILES = "Volumes (*.nii *.nii.gz *.nrrd *.nhdr *.dcm);;All files (*)"


class DataPanel(Panel):
    """Open volumes; drop them on the window as well."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.file = button("CT file…", "Open a NIfTI, NRRD or DICOM file.", self.ask_file)
        self.folder = button("DICOM folder…", "Open a folder with DICOM series, or a project folder.", self.ask_folder)
        self.layer = button("Layer", "Work on the image layer selected in the layer list.", session.open_layer)
        self.sample = button("Sample CT", "Open the synthetic thorax.", session.open_sample)
        self.where = button("Project folder…", "Choose where annotations are kept.", self.ask_project)
        self.layers = button("Show layers", "Show the layers of this case again.", session.show_layers)
        self.about = note("Open a CT, or drop one here.")
        self.column.addLayout(row(self.file, self.folder))
        self.column.addLayout(row(self.layer, self.sample, self.where, self.layers))
        self.column.addWidget(self.about)
        self.listen(session.case_changed, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Say what is open."""
        is_open = self.session.is_open
        self.layers.setVisible(is_open)
        self.where.setVisible(not is_open)
        if not is_open:
            return
        case = self.session.case
        (depth, height, width), (dz, dy, dx) = case.volume.shape, case.volume.spacing_mm
        self.about.setText(
            f"<b>{case.name}</b> {case.volume.modality}<br>{width} × {height} × {depth} voxels of "
            f"{dx:.2f} × {dy:.2f} × {dz:.2f} mm"
        )
        self.about.setToolTip(f"Project: {case.project.path}")

    def ask_file(self) -> None:
        """Choose a file."""
        path, _ = QFileDialog.getOpenFileName(self, "Open a CT", "", FILES)
        if path:
            self.open(path)

    def ask_folder(self) -> None:
        """Choose a folder."""
        path = QFileDialog.getExistingDirectory(self, "Open a DICOM folder or a project")
        if path:
            self.open(path)

    def ask_project(self) -> None:
        """Choose where annotations are kept."""
        path = QFileDialog.getExistingDirectory(self, "Keep annotations in this folder")
        if path:
            self.session.project_path = Path(path)
            self.about.setText(f"Annotations will be kept in {path}.")

    def open(self, path: str | Path) -> None:
        """Open a path; of several DICOM series, ask which."""
        path, series = Path(path), None
        if path.is_dir() and not (path / "project.json").exists():
            chosen = self._choose_series(path)
            if chosen is None:
                return
            series = chosen
        self.session.open_volume(path, series or None)

    def _choose_series(self, path: Path) -> str | None:
        """UID of the chosen series, "" where there is no choice, None for a cancel."""
        from vqseg.io import list_series

        try:
            found = list_series(path)
        except VQSegError as error:
            self.session.notified.emit(str(error), "error")
            return None
        if len(found) < 2:
            return ""
        lines = [
            f"{number}. {item.description or 'no description'}: {item.modality}, {item.n_slices} slices, "
            + " × ".join(f"{size:.2f}" for size in reversed(tuple(item.spacing_mm))) + " mm"
            for number, item in enumerate(found, start=1)
        ]  # fmt: skip
        line, accepted = QInputDialog.getItem(self, "Several series", "Which series?", lines, 0, False)
        return str(found[lines.index(line)].uid) if accepted else None
