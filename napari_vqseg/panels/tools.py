"""The tools in hand: brush, eraser, bucket, and the range of HU that brush and bucket keep to."""

from __future__ import annotations

from functools import partial
from math import floor, inf, log10
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QPushButton
from superqt import QLabeledDoubleRangeSlider

from napari_vqseg.panels.parts import Panel, button, row, silently

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["Tools"]

RANGE_HU = (-1024.0, 2000.0)
TOOLS = {
    "paint": ("Brush", "Paint with the class in hand (P)."),
    "erase": ("Erase", "Take the eraser (E)."),
    "fill": ("Bucket", "Fill what is joined to the clicked voxel in this slice (B): within the HU range where one is "
             "set, else what has the same label."),
}  # fmt: skip


class Tools(Panel):
    """Two rows: what is painted with, and where it paints."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.column.setContentsMargins(0, 0, 0, 0)
        annotation = session.view.annotation
        self.buttons: dict[str, QPushButton] = {}
        for tool, (text, tip) in TOOLS.items():
            self.buttons[tool] = button(text, tip, partial(self._take, tool))
            self.buttons[tool].setCheckable(True)
        self.brush = QDoubleSpinBox()
        self.brush.setRange(0.1, 200)
        self.brush.setDecimals(1)
        self.brush.setSuffix(" mm")
        self.brush.setKeyboardTracking(False)  # a brush of the first digit typed would take the others' place
        self.brush.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.brush.setToolTip("Diameter of the brush; [ and ] change it.")
        self.brush.valueChanged.connect(self._resized)
        self.ranged = QCheckBox("HU")
        self.ranged.setToolTip("Brush and bucket paint voxels in this range of values only (R); the eraser is free.")
        self.ranged.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.ranged.toggled.connect(self._limit)
        self.range = QLabeledDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.range.setEdgeLabelMode(QLabeledDoubleRangeSlider.EdgeLabelMode.LabelIsValue)
        self.range.setHandleLabelPosition(QLabeledDoubleRangeSlider.LabelPosition.NoLabel)
        self.range.setToolTip("Smallest and largest value, at the ends any; drag the handles, or type the numbers.")
        self.range.setEnabled(False)
        self.range.valueChanged.connect(self._limit)
        self._chosen, self._offered = False, (0.0, 0.0)
        self._offer(RANGE_HU, "HU", 0)
        self.column.addLayout(row(*self.buttons.values(), self.brush, stretch=3))
        self.column.addLayout(row(self.ranged, self.range, stretch=1))
        self.listen(annotation.brush_changed, self.show_brush)
        self.listen(annotation.tool_changed, self.show_tool)
        self.listen(session.case_changed, self.show_case)
        self.listen(session.windowing.changed, self.show_range)
        self.show_range()

    # ------------------------------------------------------------ session -> widget

    def show_brush(self, diameter_mm: float) -> None:
        """Show the brush's diameter."""
        blocked = silently(self.brush)
        self.brush.setSingleStep(self.session.view.annotation.brush_step_mm)
        self.brush.setValue(diameter_mm)
        blocked.unblock()

    def show_tool(self, in_hand: str) -> None:
        """Show which tool is in hand, if any of these."""
        for tool, made in self.buttons.items():
            made.setChecked(tool == in_hand)

    def show_case(self) -> None:
        """Offer the range of the volume's own scale: HU, or the values that its middle slice holds."""
        if not self.session.is_open:
            return
        volume = self.session.case.volume
        if volume.in_hu:
            self._offer(RANGE_HU, "HU", 0)
        else:
            low, high = volume.value_range
            self._offer((low, high if high > low else low + 1), "Values", _decimals(high - low))

    def _offer(self, limits: tuple[float, float], words: str, decimals: int) -> None:
        if limits == self._offered:
            return
        self._offered = limits
        self.ranged.setChecked(False)
        self.ranged.setText(words)
        self._chosen = False
        blocked = silently(self.range)
        self.range.setDecimals(decimals)
        self.range.setRange(*limits)  # type: ignore[arg-type]  # superqt's stubs know whole numbers only
        blocked.unblock()
        self.show_range()

    def show_range(self) -> None:
        """Offer what the display window shows, until another range is chosen."""
        if not self._chosen and self.session.is_open:
            low, high = self.session.windowing.window.limits_hu
            blocked = silently(self.range)
            self.range.setValue((max(low, self.range.minimum()), min(high, self.range.maximum())))
            blocked.unblock()

    # ------------------------------------------------------------ person -> session

    def _take(self, tool: str) -> None:
        self.show_tool(tool)
        self.session.view.annotation.take(tool)

    def _resized(self, diameter_mm: float) -> None:
        self.session.view.annotation.brush_mm = diameter_mm

    def _limit(self, *_: object) -> None:
        on = self.ranged.isChecked()
        self._chosen = self._chosen or on
        self.range.setEnabled(on)
        low, high = self.range.value()
        low = -inf if low <= self.range.minimum() else low
        high = inf if high >= self.range.maximum() else high
        self.session.view.annotation.limits_hu = (low, high) if on else None


def _decimals(extent: float) -> int:
    """Decimals that tell a thousandth of a range."""
    return max(0, 3 - floor(log10(extent))) if extent > 0 else 0
