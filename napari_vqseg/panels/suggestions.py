"""Which slice to label next, why, and which ones then: links in a line of text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_vqseg.panels.strip import MARKS

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["SuggestionNote"]

LINK = "#56B4E9"
"""A link's own colour would be too dark here."""


class SuggestionNote(QLabel):
    """The slice that was gone to last, or else the best one; hidden while nothing is suggested."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.LinksAccessibleByMouse)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.linkActivated.connect(lambda z: session.go_to(int(z)))
        self.hide()

    def refresh(self) -> None:
        """Show what is suggested now."""
        suggesting, records = self._session.suggesting, self._session.annotations.records
        waiting = [item for item in suggesting.suggestions if item.z not in records]
        first = suggesting.current or next(iter(waiting), None)
        self.setVisible(first is not None)
        if first is None:
            return
        mark = MARKS["suggested"]
        text = f'<span style="color:{mark.colour}">{mark.sign}</span> Slice {_link(first.z)}: {escape(first.reason)}'
        then = ", ".join(_link(item.z) for item in waiting if item.z != first.z)
        self.setText(f"{text} Then {then}." if then else text)


def _link(z: int) -> str:
    return f'<a href="{z}" style="color:{LINK}">{z}</a>'
