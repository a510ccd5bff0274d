"""Small icons drawn by hand, in the colour of the text, so that they hold on every theme and at every scale."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

from vqseg.tasks import TaskState

__all__ = ["TASKS", "eye", "overlay", "padlock", "swatch", "task_icon"]

SIDE = 16
SCALE = 3
FAINT = 90


def _icon(draw: Callable[[QPainter], None]) -> QIcon:
    pixmap = QPixmap(SIDE * SCALE, SIDE * SCALE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(SCALE, SCALE)
    draw(painter)
    painter.end()
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # a selected row keeps its colours
    return icon


def _pen(colour: QColor, strong: bool) -> QPen:
    shade = QColor(colour)
    shade.setAlpha(255 if strong else FAINT)
    return QPen(shade, 1.4)


def swatch(colour: str) -> QIcon:
    """A square of a class's colour."""

    def draw(painter: QPainter) -> None:
        painter.setPen(QPen(QColor(0, 0, 0, 120), 1))
        painter.setBrush(QColor(colour))
        painter.drawRoundedRect(QRectF(1.5, 1.5, 13, 13), 2, 2)

    return _icon(draw)


def padlock(text: QColor, locked: bool) -> QIcon:
    """A closed padlock, or a faint open one."""

    def draw(painter: QPainter) -> None:
        pen = _pen(text, locked)
        painter.setPen(pen)
        body = QRectF(3.5, 7.5, 9, 6.5)
        if locked:
            painter.setBrush(pen.color())
        painter.drawRoundedRect(body, 1, 1)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        shackle = QPainterPath(QPointF(5.2, 7.5))
        shackle.lineTo(5.2, 5)
        shackle.arcTo(QRectF(5.2, 2, 5.6, 6), 180, -180)
        if locked:
            shackle.lineTo(10.8, 7.5)
        painter.drawPath(shackle)

    return _icon(draw)


def eye(text: QColor, visible: bool) -> QIcon:
    """An eye, or a faint one crossed out."""

    def draw(painter: QPainter) -> None:
        pen = _pen(text, visible)
        painter.setPen(pen)
        lids = QPainterPath(QPointF(1.5, 8))
        lids.quadTo(8, 1.5, 14.5, 8)
        lids.quadTo(8, 14.5, 1.5, 8)
        painter.drawPath(lids)
        if visible:
            painter.setBrush(pen.color())
        painter.drawEllipse(QPointF(8, 8), 2.2, 2.2)
        if not visible:
            painter.drawLine(QPointF(3, 13.5), QPointF(13, 2.5))

    return _icon(draw)


def overlay(text: QColor, visible: bool) -> QIcon:
    """A tinted area in a slice, or a faint outline crossed out."""

    def draw(painter: QPainter) -> None:
        pen = _pen(text, visible)
        painter.setPen(pen)
        painter.drawEllipse(QRectF(1.5, 2.5, 13, 11))
        if visible:
            painter.setBrush(pen.color())
            painter.drawEllipse(QRectF(7, 5.5, 5, 5))
        else:
            painter.drawLine(QPointF(3, 13.5), QPointF(13, 2.5))

    return _icon(draw)


TASKS = {
    TaskState.NOT_STARTED: "#9AA3B2",
    TaskState.IN_PROGRESS: "#F6A600",
    TaskState.DONE: "#1FBF8F",
    TaskState.FLAGGED: "#CC79A7",
}
"""The colour of each state of a task."""


def task_icon(state: TaskState) -> QIcon:
    """A ring, a half-filled ring, a tick in a square, or a flag."""

    def draw(painter: QPainter) -> None:
        colour = QColor(TASKS[state])
        painter.setPen(QPen(colour, 1.8))
        circle = QRectF(3, 3, 10, 10)
        if state is TaskState.DONE:
            painter.setBrush(colour)
            painter.drawRoundedRect(QRectF(2, 2, 12, 12), 2, 2)
            painter.setPen(QPen(QColor("white"), 2))
            painter.drawPolyline(QPolygonF([QPointF(4.5, 8), QPointF(7, 10.8), QPointF(11.5, 5)]))
        elif state is TaskState.FLAGGED:
            painter.drawLine(QPointF(4, 2), QPointF(4, 14))
            painter.setBrush(colour)
            painter.drawPolygon(QPolygonF([QPointF(4, 2.5), QPointF(13, 5.5), QPointF(4, 9)]))
        else:
            painter.drawEllipse(circle)
            if state is TaskState.IN_PROGRESS:
                painter.setBrush(colour)
                painter.drawPie(circle, 90 * 16, 180 * 16)

    return _icon(draw)
