"""Small plots that fit either theme, painted in a millisecond: the event loop draws them while the engine trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["Chart", "HistogramPlot", "Line", "StepPlot"]

GREY = QColor("#8a93a3")
FONT_PX = 11
LEFT, RIGHT, TOP, BOTTOM = 42, 15, 8, 34


SIGNS = {Qt.PenStyle.SolidLine: "━", Qt.PenStyle.DashLine: "╍", Qt.PenStyle.DotLine: "┅"}


@dataclass(frozen=True)
class Line:
    """How a curve of a chart is drawn: each in a colour, and in a style of its own where there are several."""

    colour: str
    style: Qt.PenStyle = Qt.PenStyle.SolidLine

    @property
    def sign(self) -> str:
        """The line in a legend, as rich text."""
        return f'<span style="color:{self.colour}">{SIGNS[self.style]}</span>'


@dataclass
class Curve:
    """A line of a chart through points (n, 2), with a gap where one is NaN; on request filled, or dots alone."""

    line: Line
    points: npt.NDArray[np.float64]
    filled: bool = False
    dots: bool = False


class Chart(QWidget):
    """Curves over a labelled axis.

    Parameters
    ----------
    height : int
        Height of the widget, px.
    label : str
        What the horizontal axis counts.
    log : bool
        Whether the vertical axis is logarithmic; points at or below zero are then left out.
    """

    def __init__(self, height: int, label: str, *, log: bool = False) -> None:
        super().__init__()
        self.curves: dict[str, Curve] = {}
        self.limits: tuple[tuple[float, float], tuple[float, float]] | None = None  # (x, y) low, (x, y) high
        self._height, self._label, self._log = height, label, log
        self.setFixedHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Wide and flat."""
        return QSize(240, self._height)

    @property
    def label_width(self) -> int:
        """Pixels that the axis' label takes."""
        return int(QFontMetrics(self._small).horizontalAdvance(self._label))

    @property
    def _small(self) -> QFont:
        font = self.font()
        font.setPixelSize(FONT_PX)
        return font

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the axes, then the curves."""
        painter = QPainter(self)
        painter.setFont(self._small)
        frame = self._frame
        shown = {name: self._scaled(curve.points) for name, curve in self.curves.items()}
        points = np.concatenate([np.empty((0, 2)), *shown.values()])
        painter.setPen(QPen(GREY, 1))
        beneath = QRectF(0, self.height() - 17, self.width(), 16)
        painter.drawText(beneath, Qt.AlignmentFlag.AlignCenter, self._label)
        painter.drawPolyline(QPolygonF([frame.topLeft(), frame.bottomLeft(), frame.bottomRight()]))
        if points.size:
            low, high = self._ends(points)
            self._draw_ticks(painter, frame, low, high)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            for name, curve in self.curves.items():
                _draw_curve(painter, frame, curve, (shown[name] - low) / (high - low))
        painter.end()

    @property
    def _frame(self) -> QRectF:
        """Where the curves are drawn."""
        return QRectF(LEFT, TOP, self.width() - LEFT - RIGHT, self.height() - TOP - BOTTOM)

    def _ends(self, points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The axes' low and high ends: the limits, or what holds all points."""
        if self.limits is not None:
            return np.array(self.limits[0], dtype=float), np.array(self.limits[1], dtype=float)
        low, high = points.min(axis=0), points.max(axis=0)
        if not self._log:
            low[1] = min(low[1], 0.0)
        return low, np.where(high > low, high, low + 1.0)

    def _scaled(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if not self._log:
            return points
        above = points[points[:, 1] > 0]
        return np.column_stack([above[:, 0], np.log10(above[:, 1])])

    def _draw_ticks(
        self, painter: QPainter, frame: QRectF, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
    ) -> None:
        for x in _ticks(low[0], high[0], 5):
            place = frame.left() + (x - low[0]) / (high[0] - low[0]) * frame.width()
            painter.drawLine(QPointF(place, frame.bottom()), QPointF(place, frame.bottom() + 3))
            where = QRectF(place - 30, frame.bottom() + 3, 60, 14)
            painter.drawText(where, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop, f"{x:g}")
        for y in _ticks(low[1], high[1], 3):
            place = frame.bottom() - (y - low[1]) / (high[1] - low[1]) * frame.height()
            painter.drawLine(QPointF(frame.left() - 3, place), QPointF(frame.left(), place))
            text = f"{10**y:g}" if self._log else f"{y:g}"
            where = QRectF(0, place - 8, LEFT - 5, 16)
            painter.drawText(where, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, text)


def _draw_curve(painter: QPainter, frame: QRectF, curve: Curve, places: npt.NDArray[np.float64]) -> None:
    """Draw points given in 0..1 of the frame."""
    colour = QColor(curve.line.colour)
    for run in _runs([bool(np.isfinite(place).all()) for place in places]):
        spots = [
            QPointF(frame.left() + float(x) * frame.width(), frame.bottom() - float(y) * frame.height())
            for x, y in places[run]
        ]
        if curve.dots or len(spots) == 1:
            painter.setBrush(colour if curve.line.style == Qt.PenStyle.SolidLine else Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(colour, 1.5))
            for spot in spots:
                painter.drawEllipse(spot, 3.0, 3.0)
            continue
        if curve.filled:
            fill = QColor(colour)
            fill.setAlpha(80)
            painter.setBrush(fill)
            painter.setPen(Qt.PenStyle.NoPen)
            ends = [QPointF(spots[-1].x(), frame.bottom()), QPointF(spots[0].x(), frame.bottom())]
            painter.drawPolygon(QPolygonF([*spots, *ends]))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(colour, 2, curve.line.style))
        painter.drawPolyline(QPolygonF(spots))


def _runs(known: list[bool]) -> list[slice]:
    """Where neighbouring points are known."""
    ends = [i for i, (here, before) in enumerate(zip([*known, False], [False, *known], strict=True)) if here != before]
    return [slice(first, last) for first, last in zip(ends[::2], ends[1::2], strict=True)]


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round values between two others, some `about` of them."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(n * step, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


class StepPlot(Chart):
    """Values over the steps of a training.

    Parameters
    ----------
    height : int
        Height of the widget, px.
    lines : mapping of str to Line
        Each curve's name, and how it is drawn.
    percent : bool
        Whether the vertical axis runs from 0 to 100, rather than as far as the values do.
    """

    LONGEST = 400

    def __init__(self, height: int, lines: Mapping[str, Line], *, percent: bool = False) -> None:
        super().__init__(height, "step")
        self.lines, self._percent = dict(lines), percent
        self.points: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}

    def clear_points(self) -> None:
        """Begin a new run."""
        for points in self.points.values():
            points.clear()
        self.refresh()

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Add a step, to be drawn with the next :meth:`refresh`; long runs are thinned out, steps taken anew count."""
        for name, value in values.items():
            if value is None or not np.isfinite(value):
                continue
            points = self.points[name]
            while points and points[-1][0] >= step:
                points.pop()
            points.append((step, value))
            if len(points) > self.LONGEST:
                del points[::2]

    def refresh(self) -> None:
        """Draw what has been added."""
        self.curves = {
            name: Curve(line, np.array(self.points[name], dtype=float).reshape(-1, 2))
            for name, line in self.lines.items()
        }
        if self._percent:
            last = max((points[-1][0] for points in self.points.values() if points), default=1)
            self.limits = (0.0, 0.0), (last, 100.0)
        self.update()

    @property
    def legend(self) -> str:
        """The names of the curves that have points, and how they are drawn, as rich text."""
        return " ".join(
            f"{line.sign}&nbsp;{name.replace(' ', '&nbsp;')}" for name, line in self.lines.items() if self.points[name]
        )


class HistogramPlot(Chart):
    """Usage of the codewords, sorted, on a logarithmic scale."""

    def __init__(self) -> None:
        super().__init__(150, "codewords, most used first", log=True)

    def show_usage(self, usage: npt.NDArray[np.int64]) -> None:
        """Show how many tokens fell to each code; dead codes are not drawn."""
        used = np.sort(usage[usage > 0])[::-1].astype(float)
        kept = np.unique(np.linspace(0, max(used.size - 1, 0), 400).astype(int)) if used.size else np.empty(0, int)
        self.curves = {"usage": Curve(Line("#56B4E9"), np.column_stack([kept, used[kept]]), filled=True)}
        self.update()
