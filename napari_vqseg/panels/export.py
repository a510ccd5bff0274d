"""Export: write and measure the labels as they stand."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QApplication, QComboBox, QFileDialog, QMessageBox

from napari_vqseg.panels.figures import FiguresTable
from napari_vqseg.panels.parts import Panel, button, note, row
from vqseg.export import SUFFIXES, Format
from vqseg.measure import Measurement, as_csv

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["ExportPanel"]

CHOICES = {
    Format.NIFTI: (
        "NIfTI, one file", "labels",
        "The prediction, with your slices as you left them, on the voxels of the image. Nothing of the patient in it.",
    ),
    Format.NIFTI_PER_CLASS: (
        "NIfTI, one file a class", "labels",
        "A mask of 0 and 1 for each class, on the voxels of the image. Nothing of the patient in it.",
    ),
    Format.DICOM_SEG: (
        "DICOM segmentation", "segmentation",
        "Refers to the CT's series, for 3D Slicer or the archive. By the standard it carries the patient's name, id, "
        "birth date and sex as the series does; for a mask without them choose NIfTI.",
    ),
    Format.CSV: (
        "Table (CSV)", "measurements",
        "Volume, HU, surface and slices of each class, and who made its voxels. Nothing of the patient in it.",
    ),
}  # fmt: skip
"""Name of each format, what its files are called, and what a person should know of it."""

FILTERS = {".nii.gz": "NIfTI (*.nii.gz *.nii)", ".dcm": "DICOM (*.dcm)", ".csv": "Table (*.csv)"}


class ExportPanel(Panel):
    """The labels as files for others, each read back and with its provenance; and what they measure."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.format = QComboBox()
        for wanted, (name, _, words) in CHOICES.items():
            self.format.addItem(name, wanted)
            self.format.setItemData(self.format.count() - 1, words, Qt.ItemDataRole.ToolTipRole)
        self.format.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.format.setToolTip("What to write.")
        self.format.currentIndexChanged.connect(self._explain)
        self.export = button("Export…", "Choose a file and write; how it came about is written beside it.", self.ask,
                             strong=True)  # fmt: skip
        self.measure = button("Measure", "Volume, HU, surface and slices of each class.", session.exporting.measure)
        self.copy = button("Copy table", "Copy all measurements, for a spreadsheet.", self._copy)
        self.copy.hide()
        self.words = note()
        self.figures = FiguresTable()
        self.figures.hide()
        self._measurements: list[Measurement] = []
        self.column.addLayout(row(self.format, self.export, stretch=0))
        self.column.addWidget(self.words)
        self.column.addLayout(row(self.measure, self.copy))
        self.column.addWidget(self.figures)
        self.listen(session.exporting.exported, self.show_exported)
        self.listen(session.exporting.measured, self.show_measurements)
        self.listen(session.case_changed, self._reset)
        self.listen(session.annotating.saved_changed, self._outdate)
        self.listen(session.reviewing.prediction_changed, self._outdate)
        self._explain()

    @property
    def useful(self) -> bool:
        """Once something is labelled or predicted."""
        session = self.session
        return session.is_open and (bool(session.annotations.records) or session.reviewing.prediction is not None)

    # ------------------------------------------------------------ session -> widget

    def _reset(self) -> None:
        """Offer what the opened case can be written as."""
        from_dicom = self.session.exporting.from_dicom
        model = self.format.model()
        item = model.item(self.format.findData(Format.DICOM_SEG)) if isinstance(model, QStandardItemModel) else None
        if item is not None:
            item.setEnabled(from_dicom)
            item.setToolTip(CHOICES[Format.DICOM_SEG][2] if from_dicom else "Needs a CT that was opened as DICOM.")
        if self.wanted is Format.DICOM_SEG and not from_dicom:
            self.format.setCurrentIndex(0)
        self.figures.hide()
        self.copy.hide()
        self._explain()

    def show_exported(self, paths: list[Path]) -> None:
        """Say where the files are."""
        names = ", ".join(path.name for path in paths)
        self.words.setText(escape(f"Written to {paths[0].parent}: {names}"))

    def show_measurements(self, measurements: list[Measurement]) -> None:
        """List the figures read most; the copy has them all."""
        self._measurements = measurements
        self.figures.show_measurements(measurements, self.session.case.volume)
        self.figures.setToolTip("✓ %: the share of the voxels that a person drew, accepted or imported.")
        self.figures.setEnabled(True)
        self.figures.show()
        self.copy.show()

    def _outdate(self, saved: bool = False) -> None:
        """Grey figures are those of labels that have changed since."""
        if not saved and self.figures.isEnabled():
            self.figures.setEnabled(False)
            self.figures.setToolTip("The labels have changed since; measure again.")

    # ------------------------------------------------------------ person -> session

    @property
    def wanted(self) -> Format:
        """The format chosen."""
        return Format(self.format.currentData())

    def _explain(self) -> None:
        self.words.setText(CHOICES[self.wanted][2])

    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(as_csv(self._measurements, delimiter="\t"))

    def ask(self) -> None:
        """Choose a file; ask before any is overwritten."""
        case, wanted, suffix = self.session.case, self.wanted, SUFFIXES[self.wanted]
        folder = Path.home() if case.is_kept else case.case.source.parent
        name = re.sub(
            r"[^\w.()+-]+", "-", f"{case.name}-{CHOICES[wanted][1]}{suffix}"
        )  # a description may hold any sign
        path, _ = QFileDialog.getSaveFileName(
            self, "Export", str(folder / name), FILTERS[suffix],
            options=QFileDialog.Option.DontConfirmOverwrite,
        )  # fmt: skip
        if not path:
            return
        endings = (".nii.gz", ".nii") if suffix == ".nii.gz" else (suffix,)
        target = Path(path if path.lower().endswith(endings) else f"{path}{suffix}")
        existing = self.session.exporting.existing(target, wanted)
        if not existing or self._may_overwrite(existing):
            self.session.exporting.export(target, wanted)

    def _may_overwrite(self, files: list[Path]) -> bool:
        names = "\n".join(file.name for file in files)
        answer = QMessageBox.question(self, "Overwrite?", f"These files exist already. Overwrite them?\n\n{names}")
        return bool(answer == QMessageBox.StandardButton.Yes)
