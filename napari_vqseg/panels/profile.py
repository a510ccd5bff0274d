"""The profile of a prediction: how sure and how stable it is along the slices; a click shows the slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QToolTip

from napari_vqseg.panels.plots import Chart, Curve, Line

__all__ = ["ProfilePlot"]

Profile = npt.NDArray[np.float32]


class ProfilePlot(Chart):
    """Confidence (solid) and stability (dashed) in percent, feet on the left; the shown slice and a threshold.

    Parameters
    ----------
    go_to : callable
        Shows a slice.
    """

    LINES: ClassVar = {"confidence": Line("#56B4E9"), "stability": Line("#F6A600", Qt.PenStyle.DashLine)}

    def __init__(self, go_to: Callable[[int], None]) -> None:
        super().__init__(120, "slice")
        self._go_to = go_to
        self.n_slices = 0
        self.z = 0
        self.threshold: float | None = None
        self.values: dict[str, Profile | None] = {}
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName("Confidence and stability along the slices")

    def show_profiles(self, n_slices: int, confidence: Profile | None, stability: Profile | None) -> None:
        """Show profiles (z,) in [0, 1]; NaN leaves a gap, None shows nothing."""
        self.n_slices = n_slices
        self.values = {"confidence": confidence, "stability": stability}
        known = [profile[np.isfinite(profile)] for profile in self.values.values() if profile is not None]
        lowest = min((float(profile.min()) for profile in known if profile.size), default=0.0)
        self.limits = ((0.0, min(100 * lowest, 90.0)), (float(max(n_slices - 1, 1)), 100.0))
        self.curves = {
            name: Curve(line, _points(profile))
            for name, line in self.LINES.items() if (profile := self.values[name]) is not None
        }  # fmt: skip
        self.update()

    def show_z(self, z: int) -> None:
        """Show which slice is on the canvas."""
        self.z = z
        self.update()

    def show_threshold(self, threshold: float | None) -> None:
        """Show a level, in [0, 1]."""
        self.threshold = threshold
        self.update()

    def x_of(self, z: int) -> float:
        """Horizontal place of slice z, px."""
        return self._frame.left() + self._frame.width() * z / max(self.n_slices - 1, 1)

    def z_at(self, x: float) -> int:
        """The slice at a horizontal place."""
        share = (x - self._frame.left()) / max(self._frame.width(), 1)
        return round(min(max(share, 0.0), 1.0) * max(self.n_slices - 1, 0))

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the curves, then the shown slice and the threshold."""
        super().paintEvent(event)
        if not self.n_slices or self.limits is None:
            return
        painter, frame = QPainter(self), self._frame
        text = self.palette().color(self.foregroundRole())
        x = self.x_of(self.z)
        painter.setPen(QPen(text, 2))
        painter.drawLine(QPointF(x, frame.top()), QPointF(x, frame.bottom()))
        low, high = self.limits[0][1], self.limits[1][1]
        if self.threshold is not None and 100 * self.threshold >= low:
            y = frame.bottom() - frame.height() * (100 * self.threshold - low) / (high - low)
            painter.setPen(QPen(text, 1, Qt.PenStyle.DotLine))
            painter.drawLine(QPointF(frame.left(), y), QPointF(frame.right(), y))
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Jump to the slice."""
        if event is not None and self.n_slices:
            self._go_to(self.z_at(event.pos().x()))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Follow a drag; say what is under the mouse."""
        if event is None or not self.n_slices:
            return
        z = self.z_at(event.pos().x())
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._go_to(z)
        found = [
            f"{name} {100 * profile[z]:.0f} %" for name, profile in self.values.items()
            if profile is not None and np.isfinite(profile[z])
        ]  # fmt: skip
        QToolTip.showText(self.mapToGlobal(event.pos()), f"Slice {z}: {', '.join(found) or 'nothing predicted'}", self)


def _points(profile: Profile) -> npt.NDArray[np.float64]:
    return np.column_stack([np.arange(profile.size), 100 * profile.astype(float)])
