"""A list whose rows are dragged to another place."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtGui import QCursor, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QApplication, QTreeWidget

__all__ = ["ClassTree"]

LINE_PX = 3


class ClassTree(QTreeWidget):
    """Rows without children, all of one height; Qt's own drag and drop would lose the buttons in them.

    Attributes
    ----------
    dropped : Signal(int, int)
        The row that was dragged, and the row that it is to have.
    movable : int
        So many rows, from the first on, can be dragged among themselves.
    """

    dropped = Signal(int, int)

    def __init__(self) -> None:
        super().__init__()
        self.movable = 0
        self._pressed: tuple[int, QPoint] | None = None
        self._gap: int | None = None
        self._rows: Any = self.viewport()

    @property
    def _row_px(self) -> int:
        return self.visualItemRect(self.topLevelItem(0)).height()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Remember the row; a click takes it in hand as ever."""
        assert event is not None
        row = self.indexAt(event.pos()).row()
        left = event.button() == Qt.MouseButton.LeftButton
        self._pressed = (row, event.pos()) if left and 0 <= row < self.movable else None
        super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Drag the row that was pressed; a line shows where it would go."""
        assert event is not None
        if self._pressed is None or not event.buttons() & Qt.MouseButton.LeftButton:
            super().mouseMoveEvent(event)
            return
        moved = event.pos() - self._pressed[1]
        if self._gap is None and moved.manhattanLength() < QApplication.startDragDistance():
            return
        self._gap = min(max(round((event.pos().y() + self.verticalOffset()) / self._row_px), 0), self.movable)
        self._rows.setCursor(QCursor(Qt.CursorShape.ClosedHandCursor))
        self._rows.update()

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Drop it there."""
        assert event is not None
        super().mouseReleaseEvent(event)
        pressed, gap = self._pressed, self._gap
        self._pressed = self._gap = None
        if pressed is not None and gap is not None:
            self._rows.unsetCursor()
            self._rows.update()
            place = gap - (gap > pressed[0])
            if place != pressed[0]:
                self.dropped.emit(pressed[0], place)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the line over the rows."""
        super().paintEvent(event)
        if self._gap is not None:
            y = max(self._gap * self._row_px - self.verticalOffset(), LINE_PX // 2)
            painter = QPainter(self._rows)
            painter.setPen(QPen(self.palette().text().color(), LINE_PX))
            painter.drawLine(0, y, self._rows.width(), y)
            painter.end()
