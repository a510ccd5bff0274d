"""Data: the volumes of the project, opening and adding them, and what is on show."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QMenu

from napari_vqseg.cases import Source
from napari_vqseg.panels.parts import Panel, button, menu_button, note, row
from napari_vqseg.panels.series import SeriesDialog
from napari_vqseg.panels.tasks import TaskList

if TYPE_CHECKING:
    from napari_vqseg.session import Found, Session
    from vqseg.io.dicom import SeriesInfo

__all__ = ["DataPanel"]

NOTHING = "Open a CT, or drop some here."
FILES = "Volumes (*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd *.dcm);;All files (*)"


class DataPanel(Panel):
    """Open volumes, add more, go from one to the next; drop files and folders on the window as well."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.tasks = TaskList(session)
        self.file = button("CT files…", "Open NIfTI, NRRD, MetaImage or DICOM files; several at once join one project.",
                           self.ask_files)  # fmt: skip
        self.folder = button(
            "DICOM folder…", "Open a folder with DICOM series, or a project's folder.", self.ask_folder
        )
        self.sample = button("Sample CT", "Open the synthetic thorax.", session.open_sample)
        self.more = menu_button("More", "Other ways to open a volume.")
        self.menu = QMenu(self.more)
        self.menu.addAction("Take over the selected image layer", session.cases.open_layer)
        self.where = self.menu.addAction("Keep annotations in a folder of mine…", self.ask_project)
        self.layers = self.menu.addAction("Show the layers of this case again", session.show_layers)
        self.more.setMenu(self.menu)
        self.take = button("", "Work on this image layer, which is not one of ours yet.", session.cases.open_layer,
                           strong=True)  # fmt: skip
        self.about = note(NOTHING)
        self.apply = button("Predict with the project's network", "Predict this volume with the network that was "
                            "trained on other volumes of the project.", self._apply)  # fmt: skip
        self.column.addWidget(self.tasks)
        self.column.addLayout(row(self.file, self.folder, self.sample, self.more))
        self.column.addWidget(self.take)
        self.column.addWidget(self.about)
        self.column.addWidget(self.apply)
        self._dialog: SeriesDialog | None = None
        self.listen(session.case_changed, self.refresh)
        self.listen(session.busy_changed, self.show_busy)
        self.listen(session.cases.changed, self.tasks.refresh)
        self.listen(session.reviewing.prediction_changed, self._show_apply)
        self.listen(session.view.image.offer_changed, self._show_offer)
        self.refresh()

    def refresh(self) -> None:
        """Say what is open."""
        is_open = self.session.is_open
        self.tasks.setVisible(is_open)
        joins = self.session.cases.joins
        self.file.setText("Add CT files…" if joins else "CT files…")
        self.folder.setText("Add DICOM…" if joins else "DICOM folder…")
        self.sample.setVisible(not is_open)
        if self.layers is not None and self.where is not None:
            self.layers.setVisible(is_open)
            self.where.setVisible(not is_open)
        self.apply.hide()
        self._show_offer()
        if not is_open:
            return
        case = self.session.case
        (depth, height, width), (dz, dy, dx) = case.volume.shape, case.volume.spacing_mm
        self.about.setText(
            f"{case.volume.modality} {width}×{height}×{depth} voxels, {dx:.2f}×{dy:.2f}×{dz:.2f}\u00a0mm".strip()
        )
        self.about.setToolTip(f"Project: {case.project.path}")
        self._show_apply()

    def show_busy(self, what: str) -> None:
        """Say what is being read while there is nothing else to see, and take nothing over meanwhile."""
        self.take.setEnabled(not what)
        if not self.session.is_open:
            self.about.setText(f"{what}…" if what else NOTHING)

    def _show_offer(self) -> None:
        """Offer the layer that came by napari's own door, such as a file dropped on the canvas."""
        name = self.session.view.image.offered
        self.take.setText(f"Work on the layer '{name}'" if len(name) < 30 else f"Work on '{name[:27]}…'")
        self.take.setVisible(bool(name))

    def _show_apply(self) -> None:
        session = self.session
        offered = session.is_open and session.reviewing.prediction is None and session.case.last_run is None
        self.apply.setVisible(offered and session.case.other_run is not None)

    def _apply(self) -> None:
        run_path = self.session.case.other_run
        if run_path is not None:
            self.session.reviewing.go_on_with(run_path)

    # ------------------------------------------------------------ choosing

    def ask_files(self) -> None:
        """Choose files."""
        paths, _ = QFileDialog.getOpenFileNames(self, "Open CTs", "", FILES)
        self.open(*paths)

    def ask_folder(self) -> None:
        """Choose a folder."""
        path = QFileDialog.getExistingDirectory(self, "Open a DICOM folder or a project")
        self.open(*([path] if path else []))

    def ask_project(self) -> None:
        """Choose where annotations are kept."""
        path = QFileDialog.getExistingDirectory(self, "Keep annotations in this folder")
        if path:
            self.session.cases.project_path = Path(path)
            self.about.setText(f"Annotations will be kept in {path}.")

    # ------------------------------------------------------------ opening

    def open(self, *paths: str | Path) -> None:
        """Open files and folders; of several DICOM series in one, ask which."""
        if paths:
            self.session.cases.find(paths, self._choose)

    def _choose(self, found: list[Found], chosen: Sequence[Source] = ()) -> None:
        """Ask for each folder with several series in turn, then open all; a cancel opens nothing."""
        for index, item in enumerate(found):
            if len(item.series) > 1:
                then = partial(self._chosen, item, found[index + 1 :], [*chosen])
                self._dialog = SeriesDialog(item.path.name, item.series, then, self)
                self._dialog.open()
                return
            chosen = [*chosen, Source(item.path)]
        if len(chosen) == 1:
            self.session.cases.open(chosen[0].path, chosen[0].series)
        else:
            self.session.cases.add(chosen)

    def _chosen(self, item: Found, rest: list[Found], chosen: list[Source], series: list[SeriesInfo]) -> None:
        self._choose(rest, [*chosen, *(Source(item.path, one.uid) for one in series)])
