"""The card of keys."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QDialog, QLabel, QVBoxLayout, QWidget

from napari_vqseg.panels.view_bar import NAMES

__all__ = ["KEYS", "KeyCard"]

KEYS = {
    "C": "Complete: this slice is finished (again: reopen it)",
    "A": "Accept what is predicted, or proposed, in this slice",
    "Shift+A": "Accept the component under the mouse, or all that is proposed",
    "F": "Fill between: propose the shape between complete slices; Esc takes it away",
    "Shift+F": "Fill every gap between complete slices, as a proposal",
    "N": "Next slice worth labelling",
    "Shift+T": "Train; hold it, go on with it",
    "G": "Overlay on and off",
    "W": "With or without: where this training and another one disagree",
    "I": "Inspect the code under the mouse",
    "[ ]": "Brush smaller, larger",
    "R": "Paint in the HU range only, on and off",
    "1 … 9": "Class to paint with",
    "0": "Background, for scribbled slices",
    "P E B": "Brush, eraser, bucket",
    "Ctrl+Z": "Undo, in any slice",
    "T": "Next task that is neither done nor flagged",
    "D": "This volume is done (again: it is not)",
    "F1 … F6": f"Window: {', '.join(NAMES)}",
    "Right-drag": "Window: across the width, downwards the level",
    "Wheel, ← →": "Slice by slice; Shift and the wheel zoom, Space moves the image",
    "H": "This card",
}
"""The card behind key H."""


class KeyCard(QDialog):
    """What the keys do; H shows it, and hides it again.

    Parameters
    ----------
    parent : QWidget
        The window it belongs to.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys")
        rows = "".join(f"<tr><td><b>{key}</b>&nbsp;&nbsp;</td><td>{words}</td></tr>" for key, words in KEYS.items())
        QVBoxLayout(self).addWidget(QLabel(f"<table cellpadding='3'>{rows}</table>"))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """The key that has brought it takes it away."""
        if event is not None and event.key() == Qt.Key.Key_H:
            self.hide()
        else:
            super().keyPressEvent(event)
