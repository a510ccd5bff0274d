"""What all panels are made of: a base that remembers its connections, and small widgets that leave the keys alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QSignalBlocker, Qt, Signal
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QScrollBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = [
    "DRAW_EVERY_S", "FOLLOW_EVERY_S", "STRONG", "InputGuard", "Panel", "Section", "button", "choice", "dropped",
    "lay_out", "menu_button", "note", "row", "silently",
]  # fmt: skip

silently = QSignalBlocker

DRAW_EVERY_S = 1.0
"""The progress of a training is drawn that often."""
FOLLOW_EVERY_S = 0.2
"""What is said of a slice follows a person who scrolls that often."""
STRONG = (
    "QPushButton { background-color: #1a6fd6; color: white; font-weight: bold; }"
    "QPushButton:hover { background-color: #2f86f0; }"
    "QPushButton:disabled { background-color: #4a515e; color: #9aa3b2; }"
)
"""The look of the button that is to be pressed next."""


class Panel(QWidget):
    """A section: two arrows, person to session and session to widget, and one list of connections."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(4, 2, 4, 6)
        self.column.setSpacing(5)

    def listen(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect a signal of the session until :meth:`release`."""
        signal.connect(slot)
        self._connections.append((signal, slot))

    def release(self) -> None:
        """Disconnect from the session."""
        for signal, slot in self._connections:
            with contextlib.suppress(ValueError):
                signal.disconnect(slot)
        self._connections.clear()

    @property
    def useful(self) -> bool:
        """Whether a person can do anything here now."""
        return True


class InputGuard(QObject):
    """Keeps inputs from taking what is not meant for them.

    The wheel, which scrolls the column, changes no value that happens to lie under the mouse; and once a number has
    been entered, or clicked up or down, the next digit takes a class in hand.
    """

    def guard(self, column: QWidget) -> None:
        """Guard all inputs in a column."""
        for kind in (QAbstractSpinBox, QAbstractSlider, QComboBox):
            for child in column.findChildren(kind):
                if not isinstance(child, QScrollBar):
                    child.installEventFilter(self)
        for box in column.findChildren(QAbstractSpinBox):
            box.editingFinished.connect(box.clearFocus)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        """Hand the wheel on to what lies behind; let go of the keys after a click on an arrow."""
        kind = None if event is None else event.type()
        if event is not None and kind == QEvent.Type.Wheel:
            event.ignore()
            return True
        if kind == QEvent.Type.MouseButtonRelease and isinstance(watched, QAbstractSpinBox):
            watched.clearFocus()
        return super().eventFilter(watched, event)


def dropped(event: QDropEvent | None) -> list[Path]:
    """Files and folders that are being dropped."""
    data = None if event is None else event.mimeData()
    return [] if data is None else [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]


def button(text: str, tip: str, action: Callable[[], Any], *, strong: bool = False) -> QPushButton:
    """A push button; it takes no focus from the canvas, so that the keys keep working."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.clicked.connect(lambda *_: action())
    if strong:
        made.setStyleSheet(STRONG)
    return made


def menu_button(text: str, tip: str) -> QPushButton:
    """A button that opens a menu; the theme's own arrow would lie over the text."""
    made = QPushButton(f"{text} ▾")
    made.setToolTip(tip)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setStyleSheet("QPushButton::menu-indicator { image: none; width: 0; }")
    return made


def choice(tip: str) -> QComboBox:
    """A list to choose from that never widens the dock, however long the words in it."""
    made = QComboBox()
    made.setToolTip(tip)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setMinimumContentsLength(6)
    return made


def row(*widgets: QWidget, stretch: int | None = None) -> QHBoxLayout:
    """Widgets side by side; `stretch` names the one that takes the space."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(5)
    for position, widget in enumerate(widgets):
        layout.addWidget(widget, 1 if stretch is None or stretch == position else 0)
    return layout


def note(text: str = "") -> QLabel:
    """A line of small text that wraps."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return label


def lay_out(widget: QWidget) -> None:
    """Lay out what is around a widget whose words have changed, before it is drawn.

    Else Qt draws the whole window for the words, and once or twice more for where they come to lie: 10 ms each.
    """
    around = widget.parentWidget()
    while around is not None and not isinstance(around, QScrollArea):
        if (layout := around.layout()) is not None:
            layout.activate()
        around = around.parentWidget()


class Section(QWidget):
    """A title that folds what is below it.

    superqt's QCollapsible fixes its content's height when it unfolds; these contents grow while a person works.
    """

    toggled = Signal(bool)

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        self._content = content
        self._title, self._words = title, ""
        self._button = QPushButton()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self._button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # words never widen the dock
        self._button.setCheckable(True)
        self._button.setToolTip(f"Show or hide what belongs to {title}.")
        self._button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._button.setStyleSheet("text-align: left; padding: 3px 6px;")
        self._button.toggled.connect(self._fold)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._button)
        column.addWidget(content)
        self._fold(False)

    def _fold(self, expanded: bool) -> None:
        self._write_title()
        self._content.setVisible(expanded)
        self.toggled.emit(expanded)

    def _write_title(self) -> None:
        words = f"   {self._words}" if self._words else ""
        self._button.setText(f"{'▾' if self.expanded else '▸'}  {self._title}{words}")

    def add_words(self, words: str) -> None:
        """Say something beside the title, which shows while the section is folded too."""
        self._words = words
        self._write_title()

    @property
    def expanded(self) -> bool:
        """Whether the content shows."""
        return bool(self._button.isChecked())

    def expand(self) -> None:
        """Unfold."""
        self._button.setChecked(True)

    def collapse(self) -> None:
        """Fold."""
        self._button.setChecked(False)
