"""Small plots that fit either theme."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyqtgraph

__all__ = ["HistogramPlot", "LossPlot"]

GREY = "#8a93a3"


def _plain(plot: Any, height: int, bottom: str) -> None:
    plot.setBackground(None)
    plot.setFixedHeight(height)
    plot.setMouseEnabled(False, False)
    plot.hideButtons()
    plot.setMenuEnabled(False)
    for side in ("left", "bottom"):
        axis = plot.getAxis(side)
        axis.setPen(GREY)
        axis.setTextPen(GREY)
        axis.setStyle(tickTextOffset=2)
    plot.getAxis("left").setWidth(38)
    plot.setLabel("bottom", bottom, color=GREY)
    plot.getAxis("bottom").setHeight(38)


class LossPlot(pyqtgraph.PlotWidget):
    """Losses over training: the supervised one, and the one on unlabelled slices."""

    CURVES = (("labelled", "#56B4E9"), ("unlabelled", "#F6A600"))
    LONGEST = 1000

    def __init__(self) -> None:
        super().__init__()
        _plain(self, 140, "step")
        self.points: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in self.CURVES}
        self._lines = {name: self.plot([], [], pen=pyqtgraph.mkPen(c, width=2)) for name, c in self.CURVES}

    def clear_points(self) -> None:
        """Begin a new run."""
        for name, points in self.points.items():
            points.clear()
            self._lines[name].setData([], [])

    def add(self, step: int, labelled: float | None, unlabelled: float | None) -> None:
        """Add a step; long runs are thinned out."""
        for name, value in (("labelled", labelled), ("unlabelled", unlabelled)):
            if value is None or not np.isfinite(value):
                continue
            points = self.points[name]
            points.append((step, value))
            if len(points) > self.LONGEST:
                del points[::2]
            self._lines[name].setData(np.array(points))


class HistogramPlot(pyqtgraph.PlotWidget):
    """Usage of the codewords, sorted, on a logarithmic scale."""

    def __init__(self) -> None:
        super().__init__()
        _plain(self, 150, "codewords, most used first")
        self.setLogMode(False, True)
        self._line = self.plot(
            [], [], stepMode="right", pen=pyqtgraph.mkPen("#56B4E9", width=2), fillLevel=0, brush="#56B4E955"
        )  # fmt: skip

    def show_usage(self, usage: npt.NDArray[np.int64]) -> None:
        """Show how many tokens fell to each code; dead codes are not drawn."""
        used = np.sort(usage[usage > 0])[::-1]
        self._line.setData(np.arange(used.size), used)
        self.setXRange(0, max(usage.size, 1), padding=0.02)
