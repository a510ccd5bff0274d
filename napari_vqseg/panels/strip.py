"""The strip along the slice axis: which slices are labelled, how far, and by whom, by colour and by shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QBrush, QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from vqseg.annotations import Annotations, SliceRecord, SliceState

__all__ = ["MARKS", "Mark", "SliceStrip", "marks_of"]


@dataclass(frozen=True)
class Mark:
    """How a state is drawn, and its sign in a line of text."""

    words: str
    colour: str
    sign: str


MARKS = {
    "complete": Mark("complete", "#1FBF8F", "■"),
    "empty": Mark("empty, complete", "#1FBF8F", "□"),
    "accepted": Mark("accepted", "#56B4E9", "●"),
    "accepted empty": Mark("empty, accepted", "#56B4E9", "□"),
    "scribbled": Mark("scribbled", "#F0E442", "▲"),
    "draft": Mark("draft, not used yet", "#F6A600", "○"),
    "suggested": Mark("suggested", "#CC79A7", "◆"),
    "predicted": Mark("predicted", "#8C96FF", "▬"),
}
HOLLOW = ("empty", "accepted empty", "draft")
EDGE_PX = 9
SIZE_PX = 5.0
"""Half of a mark's width."""


def marks_of(annotations: Annotations, suggested: Iterable[int], empty: Collection[int]) -> dict[int, str]:
    """The mark of each slice that is labelled or suggested; `empty` are the complete ones without any class."""
    labelled = {z: _mark(record, z in empty) for z, record in annotations.records.items()}
    return dict.fromkeys(suggested, "suggested") | labelled


def _mark(record: SliceRecord, empty: bool) -> str:
    if record.state is not SliceState.COMPLETE:
        return str(record.state.value)
    if record.holds_accepted:
        return "accepted empty" if empty else "accepted"
    return "empty" if empty else "complete"


class SliceStrip(QWidget):
    """A strip from the feet (left) to the head (right); a click shows the slice."""

    def __init__(self, go_to: Callable[[int], None]) -> None:
        super().__init__()
        self._go_to = go_to
        self.n_slices = 0
        self.z = 0
        self.predicted: Sequence[int] = ()
        self.marks: dict[int, str] = {}
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Slices: labelled, suggested and shown")

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Wide and thin."""
        return QSize(240, 34)

    def show_slices(self, n_slices: int, marks: dict[int, str], predicted: Sequence[int]) -> None:
        """Show the marks of the slices, and in which a structure is predicted."""
        self.n_slices, self.marks, self.predicted = n_slices, marks, predicted
        self.update()

    def show_z(self, z: int) -> None:
        """Show which slice is on the canvas."""
        self.z = z
        self.update()

    def x_of(self, z: int) -> float:
        """Horizontal place of slice z, px."""
        return EDGE_PX + (self.width() - 2 * EDGE_PX) * z / max(self.n_slices - 1, 1)

    def z_at(self, x: float) -> int:
        """The slice at a horizontal place; a mark close by attracts."""
        z = round((x - EDGE_PX) / max(self.width() - 2 * EDGE_PX, 1) * max(self.n_slices - 1, 1))
        near = [other for other in self.marks if abs(self.x_of(other) - x) <= 5]
        z = min(near, key=lambda other: abs(self.x_of(other) - x)) if near else z
        return int(min(max(z, 0), max(self.n_slices - 1, 0)))

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the axis, the marks and the shown slice."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        middle = self.height() / 2
        axis = QColor(text)
        axis.setAlpha(90)
        painter.setPen(QPen(axis, 1))
        painter.drawLine(QPointF(EDGE_PX, middle), QPointF(self.width() - EDGE_PX, middle))
        self._draw_predicted(painter, middle)
        if self.n_slices:
            painter.setPen(QPen(text, 2))
            x = self.x_of(self.z)
            painter.drawLine(QPointF(x, 2), QPointF(x, self.height() - 2))
            self._draw_marks(painter, middle)
        painter.end()

    def _draw_marks(self, painter: QPainter, middle: float) -> None:
        """Each mark, the rarest on top; of a run that would cover itself the two ends, with a bar between."""
        crowded = self.x_of(1) - self.x_of(0) < 2 * SIZE_PX
        count = Counter(self.marks.values())
        for kind in sorted(count, key=lambda kind: (kind != "suggested", -count[kind], kind)):
            slices = sorted(z for z, other in self.marks.items() if other == kind)
            runs = _runs(slices)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(MARKS[kind].colour))
            half = 1 if kind in HOLLOW else 3
            for left, right in ((self.x_of(first), self.x_of(last)) for first, last in runs if crowded):
                painter.drawRect(QRectF(left, middle - half, right - left, 2 * half))
            for z in {z for run in runs for z in run} if crowded else slices:
                _draw_mark(painter, kind, QPointF(self.x_of(z), middle), self.palette().color(self.backgroundRole()))

    def _draw_predicted(self, painter: QPainter, middle: float) -> None:
        """A bar along the axis wherever a structure is predicted."""
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(MARKS["predicted"].colour))
        half = max((self.width() - 2 * EDGE_PX) / max(self.n_slices - 1, 1), 1) / 2
        for first, last in _runs(self.predicted):
            left, right = self.x_of(first) - half, self.x_of(last) + half
            painter.drawRect(QRectF(left, middle - 2.5, right - left, 5))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Jump to the slice."""
        if event is not None and self.n_slices:
            self._go_to(self.z_at(event.pos().x()))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Follow a drag; say which slice is under the mouse."""
        if event is None or not self.n_slices:
            return
        z = self.z_at(event.pos().x())
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._go_to(z)
        words = MARKS[self.marks[z]].words if z in self.marks else "not labelled"
        if z in self.predicted:
            words += ", predicted"
        QToolTip.showText(self.mapToGlobal(event.pos()), f"Slice {z}: {words}", self)


def _runs(slices: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbouring slices."""
    runs: list[tuple[int, int]] = []
    for z in slices:
        if runs and z == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], z
        else:
            runs.append((z, z))
    return runs


def _draw_mark(painter: QPainter, kind: str, at: QPointF, behind: QColor) -> None:
    """Draw a mark, a hollow one in its colour round what lies behind the strip, others edged with it."""
    x, y, colour, hollow = at.x(), at.y(), QColor(MARKS[kind].colour), kind in HOLLOW
    painter.setPen(QPen(colour if hollow else behind, 2 if hollow else 1))
    painter.setBrush(QBrush(behind if hollow else colour))
    size = SIZE_PX
    if kind in ("complete", "empty", "accepted empty"):
        painter.drawRect(QRectF(x - size, y - size, 2 * size, 2 * size))
    elif kind in ("accepted", "draft"):
        painter.drawEllipse(at, size, size)
    elif kind == "scribbled":
        painter.drawPolygon(QPolygonF([QPointF(x, y - 6), QPointF(x - 6, y + 5), QPointF(x + 6, y + 5)]))
    else:
        painter.drawPolygon(
            QPolygonF([QPointF(x, y - 6), QPointF(x - 5, y), QPointF(x, y + 6), QPointF(x + 5, y)])
        )  # fmt: skip
