"""One codeword: what it looks like, where it occurs, and what QPM makes of it at the current epsilon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPixmap
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

from vqseg.tokens import Codeword
from vqseg.volume import Window

__all__ = ["SubstitutionBars", "Thumbnail"]

THUMBNAIL_PX = 60
ROW_PX, ROWS = 19, 9
KEPT, REPLACED = "#56B4E9", "#F6A600"


def picture(hu: npt.NDArray[np.float32], window: Window, side: int) -> QPixmap:
    """An image (y, x) in HU through a window, as large as fits a square."""
    grey = np.ascontiguousarray(255 * window.apply(hu), dtype=np.uint8)
    height, width = grey.shape
    image = QImage(grey.tobytes(), width, height, width, QImage.Format.Format_Grayscale8)
    fast = Qt.TransformationMode.FastTransformation
    return QPixmap.fromImage(image).scaled(side, side, Qt.AspectRatioMode.KeepAspectRatio, fast)


class Thumbnail(QLabel):
    """A small picture of a patch; its tooltip says of what."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.setFixedSize(THUMBNAIL_PX, THUMBNAIL_PX)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setStyleSheet("border: 1px solid #8a93a3;")
        self.setToolTip(tip)

    def show_hu(self, hu: npt.NDArray[np.float32] | None, window: Window) -> None:
        """Show an image, HU; hidden without one."""
        shown = hu is not None and hu.size > 0
        self.setVisible(shown)
        if hu is not None and shown:
            self.setPixmap(picture(hu, window, THUMBNAIL_PX - 4))


class SubstitutionBars(QWidget):
    """A bar for keeping the code, one for each likely substitute, and one for all others; a click looks at one."""

    def __init__(self, choose: Callable[[int], None]) -> None:
        super().__init__()
        self._choose = choose
        self._word: Codeword | None = None
        self._thumbnails: list[QPixmap] = []
        self.epsilon = 0.0
        self.setFixedHeight(ROW_PX * ROWS + 2)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("What replaces the code")

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """A row a bar."""
        return QSize(240, ROW_PX * ROWS + 2)

    @property
    def rows(self) -> list[tuple[str, int | None, float]]:
        """Text, code (None for all others) and probability of each bar, at the current epsilon."""
        if self._word is None:
            return []
        keep, likely, rest = self._word.substitutes.at(self.epsilon)
        codes = self._word.substitutes.codes.tolist()
        return [
            ("keeps", self._word.code, keep),
            *((str(code), code, float(value)) for code, value in zip(codes, likely, strict=True)),
            ("others", None, rest),
        ]

    def show_word(self, word: Codeword | None, window: Window) -> None:
        """Show a codeword's substitutes."""
        self._word = word
        decoded_hu = () if word is None or not word.decoded_hu.size else word.decoded_hu
        self._thumbnails = [picture(hu, window, ROW_PX - 3) for hu in decoded_hu]
        self.update()

    def show_epsilon(self, epsilon: float) -> None:
        """Move the bars."""
        self.epsilon = epsilon
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw a row a bar."""
        painter = QPainter(self)
        text = self.palette().color(self.foregroundRole())
        left, right = 76.0, 44.0
        room = self.width() - left - right
        for number, (name, _, value) in enumerate(self.rows):
            top = ROW_PX * number
            if number < len(self._thumbnails):
                painter.drawPixmap(QPointF(0, top + 1), self._thumbnails[number])
            painter.setPen(text)
            middle = Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(22, top, left - 26, ROW_PX), middle, name)
            painter.fillRect(QRectF(left, top + 4, room, ROW_PX - 8), QColor(138, 147, 163, 50))
            painter.fillRect(QRectF(left, top + 4, room * value, ROW_PX - 8), QColor(KEPT if number == 0 else REPLACED))
            percent = f"{100 * value:.1f} %" if value < 0.0995 else f"{100 * value:.0f} %"
            painter.drawText(QRectF(self.width() - right, top, right, ROW_PX), middle | Qt.AlignmentFlag.AlignRight,
                             percent)  # fmt: skip
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Look at the code of a row."""
        rows = self.rows
        number = -1 if event is None else event.pos().y() // ROW_PX
        if 0 < number < len(rows) and (code := rows[number][1]) is not None:
            self._choose(code)
