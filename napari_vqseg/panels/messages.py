"""What the window has to say, in full and until it is read; napari's notifications cut long sentences and go away."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QSizePolicy

from napari_vqseg.panels.parts import Panel, button, note, row
from napari_vqseg.session import TrainingState

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["Messages"]

SIGNS = {"warning": ("▲", "#F6A600"), "error": ("✖", "#E8601C")}
"""Levels that stay until a person takes them away, by shape and colour."""
MOST_KEPT = 9


class Messages(Panel):
    """The newest sentence: a warning or an error stays, with those before it behind; others give way to the next.

    A hint is about the shown slice, and goes with it.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.kept: list[tuple[str, str]] = []
        """Level and sentence, the newest last."""
        self.words = note()
        self.read = button("✕", "Read: take this sentence away.", self._take_away)
        self.read.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.column.addLayout(row(self.words, self.read, stretch=0))
        self.listen(session.notified, self.say)
        self.listen(session.view.navigation.z_changed, self._leave_slice)
        self.listen(session.training.changed, self._begin_training)
        self.listen(session.view.annotation.replayed, self._undone)
        self._show()

    def say(self, text: str, level: str) -> None:
        """Show a sentence of a level: "hint", "info", "warning" or "error"."""
        self.kept = [item for item in self.kept if item[0] in SIGNS and item[1] != text][1 - MOST_KEPT :]
        self.kept.append((level, text))
        self._show()

    def _take_away(self) -> None:
        self.kept.pop()
        self._show()

    def _leave_slice(self, *_: object) -> None:
        if self.kept and self.kept[-1][0] == "hint":
            self._take_away()

    def _begin_training(self, state: TrainingState) -> None:
        """How the training before ended is old news."""
        if state is TrainingState.STARTING and self.kept and self.kept[-1][0] == "info":
            self._take_away()

    def _undone(self, *_: object) -> None:
        """What Ctrl+Z was to take back has been."""
        if self.kept and "Ctrl+Z" in self.kept[-1][1]:
            self._take_away()

    def _show(self) -> None:
        self.setVisible(bool(self.kept))
        if self.kept:
            level, text = self.kept[-1]
            sign, colour = SIGNS.get(level, ("›", "#56B4E9"))
            self.words.setText(f'<span style="color:{colour}">{sign}</span>&nbsp; {escape(text)}')
            more = len(self.kept) - 1
            self.read.setText(f"✕ {more} more" if more else "✕")
