"""A table of measurements that fits the dock: the figures read most."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem

from vqseg.measure import Measurement
from vqseg.volume import Volume

__all__ = ["FiguresTable"]

COLUMNS = ("", "ml", "HU", "cm²", "slices", "✓ %")
MOST_ROWS = 8
SCROLL_BAR_PX = 14


class FiguresTable(QTableWidget):
    """One row a class; as high as its rows, up to a few."""

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self.setHorizontalHeaderLabels(COLUMNS)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWordWrap(False)
        self.setShowGrid(False)
        self.setStyleSheet("QHeaderView::section { padding: 1px 2px; } QTableView::item { padding: 0 1px; }")
        side = self.verticalHeader()
        if side is not None:
            side.hide()

    def show_measurements(self, measurements: list[Measurement], volume: Volume) -> None:
        """Show these of a volume, and no others."""
        self.setHorizontalHeaderItem(2, QTableWidgetItem("HU" if volume.in_hu else "value"))
        self.setRowCount(len(measurements))
        for row, item in enumerate(measurements):
            for column, text in enumerate(_cells(item, volume)):
                cell = QTableWidgetItem(text)
                side = Qt.AlignmentFlag.AlignLeft if column == 0 else Qt.AlignmentFlag.AlignRight
                cell.setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(row, column, cell)
        self.resizeColumnsToContents()
        self.resizeRowsToContents()
        head = self.horizontalHeader()
        height = sum(self.rowHeight(row) for row in range(min(len(measurements), MOST_ROWS)))
        height += 0 if head is None else head.height()
        self.setFixedHeight(height + 2 * self.frameWidth() + SCROLL_BAR_PX)


def _cells(item: Measurement, volume: Volume) -> tuple[str, ...]:
    value = "" if np.isnan(item.mean_hu) else f"{volume.digits(item.mean_hu)} ± {volume.digits(item.sd_hu)}"
    return (item.name, _short(item.volume_ml, 2), value, _short(item.surface_mm2 / 100, 1), str(item.slices),
            f"{100 * item.checked:.0f}" if item.slices else "")  # fmt: skip


def _short(value: float, digits: int) -> str:
    """A number with fewer digits where it is large."""
    spared = 0 if value < 100 else 1 if value < 1000 else digits
    return f"{value:,.{max(digits - spared, 0)}f}"
