"""The codewords as points in a plane: near ones look alike; size is use, colour and shape are the class."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QPolygonF, QResizeEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from vqseg.tokens import CodebookSurvey

__all__ = ["SHAPES", "CodebookMap"]

HEIGHT = 190
MARGIN = 10
MOST = 3000
"""Codewords drawn, the most used ones."""
NEAR_PX = 8.0
BACKGROUND = "#8a93a3"
SHAPES = "●■▲◆▼"
"""Signs of the classes' shapes, in turn; the background is the first."""


class CodebookMap(QWidget):
    """A map of the codewords in use; a click asks about the nearest one."""

    def __init__(self, choose: Callable[[int], None]) -> None:
        super().__init__()
        self._choose = choose
        self._survey: CodebookSurvey | None = None
        self._colours: Mapping[int, str] = {}
        self._names: Mapping[int, str] = {}
        self._codes: npt.NDArray[np.intp] = np.empty(0, np.intp)
        self._picture: QPixmap | None = None
        self.chosen: int | None = None
        self.setFixedHeight(HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setAccessibleName("Map of the codebook")

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Wide and flat."""
        return QSize(240, HEIGHT)

    def show_survey(self, survey: CodebookSurvey, colours: Mapping[int, str], names: Mapping[int, str]) -> None:
        """Draw a survey's codewords."""
        self._survey, self._colours, self._names = survey, colours, names
        used = np.flatnonzero(survey.report.usage)
        self._codes = used[np.argsort(-survey.report.usage[used], kind="stable")][:MOST]
        self._picture = None
        self.update()

    def show_chosen(self, code: int | None) -> None:
        """Put a ring round a codeword."""
        self.chosen = code
        self.update()

    def place_of(self, code: int) -> QPointF | None:
        """Where a codeword is drawn; None where it is not."""
        found = np.flatnonzero(self._codes == code)
        return None if not found.size else QPointF(*self._places()[found[0]])

    def _places(self) -> npt.NDArray[np.float64]:
        """(n, 2) x and y of the drawn codewords, px; both axes have one scale.

        Most codewords lie close together and a few far off, so the distance from their middle is drawn by its root.
        """
        if self._survey is None or not self._codes.size:
            return np.empty((0, 2))
        points = self._survey.places[self._codes].astype(float)
        points -= np.median(points, axis=0)
        points /= np.sqrt(np.maximum(np.hypot(*points.T), 1e-9))[:, None]
        middle, spread = (points.max(0) + points.min(0)) / 2, np.ptp(points, axis=0)
        room = np.array([self.width(), self.height()]) - 2.0 * MARGIN
        scale = float((room / np.maximum(spread, 1e-9)).min())
        return (points - middle) * (scale, -scale) + np.array([self.width(), self.height()]) / 2

    def _sizes(self) -> npt.NDArray[np.float64]:
        assert self._survey is not None
        usage = self._survey.report.usage[self._codes]
        return 1.5 + 6.5 * np.sqrt(usage / max(1, int(usage.max(initial=1))))

    # ------------------------------------------------------------ drawing

    def _draw(self) -> QPixmap:
        picture = QPixmap(self.size() * self.devicePixelRatioF())
        picture.setDevicePixelRatio(self.devicePixelRatioF())
        picture.fill(Qt.GlobalColor.transparent)
        if self._survey is None:
            return picture
        owner, painter = self._survey.owner[self._codes], QPainter(picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        order = np.argsort(owner != 0, kind="stable")  # the background beneath
        for (x, y), size, value in zip(self._places()[order], self._sizes()[order], owner[order], strict=True):
            colour = QColor(self._colours.get(int(value), BACKGROUND) if value else BACKGROUND)
            colour.setAlpha(190 if value else 110)
            painter.setBrush(colour)
            _draw_shape(painter, QPointF(x, y), float(size), int(value))
        painter.end()
        return picture

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Show the picture, made once, and the ring."""
        if self._picture is None:
            self._picture = self._draw()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._picture)
        place = self.place_of(self.chosen) if self.chosen is not None else None
        if place is not None:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(self.palette().color(self.foregroundRole()), 2))
            painter.drawEllipse(place, 10.0, 10.0)
        painter.end()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw anew."""
        self._picture = None
        super().resizeEvent(event)

    # ------------------------------------------------------------ the mouse

    def _code_near(self, x: float, y: float) -> int | None:
        distances = np.hypot(*(self._places() - (x, y)).T)
        if not distances.size or distances.min() > NEAR_PX + float(self._sizes()[distances.argmin()]):
            return None
        return int(self._codes[distances.argmin()])

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Ask about the codeword."""
        code = None if event is None else self._code_near(event.pos().x(), event.pos().y())
        if code is not None:
            self._choose(code)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Say which codeword is under the mouse."""
        code = None if event is None else self._code_near(event.pos().x(), event.pos().y())
        if event is None or code is None or self._survey is None:
            return
        name = self._names.get(int(self._survey.owner[code]), "background")
        words = f"Code {code}: {self._survey.report.usage[code]} tokens, mostly {name}"
        QToolTip.showText(self.mapToGlobal(event.pos()), words, self)


def _draw_shape(painter: QPainter, place: QPointF, size: float, value: int) -> None:
    """The shape of a class: round for the background, then square, triangles, diamond in turn."""
    shape = SHAPES[value % len(SHAPES)]
    if shape == "●":
        painter.drawEllipse(place, size, size)
        return
    corners = {
        "■": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        "▲": ((0, -1.3), (1.2, 1), (-1.2, 1)),
        "◆": ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
        "▼": ((0, 1.3), (1.2, -1), (-1.2, -1)),
    }[shape]
    painter.drawPolygon(QPolygonF([QPointF(place.x() + size * x, place.y() + size * y) for x, y in corners]))
