"""The chooser for DICOM folders with several series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from vqseg.io.dicom import SeriesInfo

__all__ = ["SeriesDialog"]

COLUMNS = ("Series", "Modality", "Slices", "Spacing, mm", "Matrix")


class SeriesDialog(QDialog):
    """Asks which series to open; says nothing about the patient.

    Parameters
    ----------
    folder : str
        Name of the folder.
    series : sequence of SeriesInfo
        What it holds.
    choose : callable
        Called with the chosen ones, in their order; not called after a cancel.
    parent : QWidget
        What the dialog belongs to.
    """

    def __init__(
        self, folder: str, series: Sequence[SeriesInfo], choose: Callable[[list[SeriesInfo]], None], parent: QWidget
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Series in {folder}")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._series, self._choose = list(series), choose
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(list(COLUMNS))
        self.tree.setRootIsDecorated(False)
        self.tree.setSelectionMode(QTreeWidget.SelectionMode.ExtendedSelection)
        for item in self._series:
            dz, dy, dx = item.spacing_mm
            depth, height, width = item.shape
            line = QTreeWidgetItem(self.tree, [
                item.description or "no description", item.modality or "?", str(item.n_slices),
                f"{dx:.2f} × {dy:.2f} × {dz:.2f}", f"{width} × {height}",
            ])  # fmt: skip
            line.setTextAlignment(2, Qt.AlignmentFlag.AlignRight)
            line.setToolTip(0, f"{item.description or 'no description'}: {item.modality} of {depth} slices")
        header = self.tree.header()
        assert header is not None
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)  # gives way, so that the figures stay in sight
        self.tree.itemDoubleClicked.connect(self.accept)
        self.tree.itemSelectionChanged.connect(self._follow_selection)
        self.buttons = QDialogButtonBox()
        self.buttons.addButton(QDialogButtonBox.StandardButton.Open)
        self.buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        column_layout = QVBoxLayout(self)
        column_layout.addWidget(QLabel("Which series? Ctrl or Shift with a click takes several; each is a volume."))
        column_layout.addWidget(self.tree)
        column_layout.addWidget(self.buttons)
        self.resize(620, 300)
        self.tree.setCurrentItem(self.tree.topLevelItem(self._likely))
        self.accepted.connect(lambda: self._choose(self.chosen))

    @property
    def _likely(self) -> int:
        """The CT with most slices."""
        return max(
            range(len(self._series)), key=lambda row: (self._series[row].modality == "CT", self._series[row].n_slices)
        )

    @property
    def chosen(self) -> list[SeriesInfo]:
        """The selected series."""
        return [
            item for row, item in enumerate(self._series)
            if (line := self.tree.topLevelItem(row)) is not None and line.isSelected()
        ]  # fmt: skip

    def _follow_selection(self) -> None:
        button = self.buttons.button(QDialogButtonBox.StandardButton.Open)
        if button is not None:
            button.setEnabled(bool(self.tree.selectedItems()))
