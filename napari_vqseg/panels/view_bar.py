"""Above the sections: window and plane, and what training sees."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QComboBox, QPushButton

from napari_vqseg.panels.parts import Panel, note, row, silently
from napari_vqseg.session import AUTO, CUSTOM
from vqseg.config import WINDOWS

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["NAMES", "ViewBar"]

NAMES = (*WINDOWS, AUTO)
"""Windows in the order of their keys, F1 and on."""


class ViewBar(Panel):
    """How the CT is shown."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(2)
        self.windows = QComboBox()
        for key, name in enumerate(NAMES, start=1):
            window = WINDOWS.get(name)
            self.windows.addItem(f"{name}  {window.width_hu:g}/{window.level_hu:g}" if window else name, name)
            self.windows.setItemData(key - 1, f"Key F{key}", Qt.ItemDataRole.ToolTipRole)
        self.windows.setToolTip(
            "Width/level of the display window, HU (F1 to F6). Drag with the right button on the image to change it: "
            "across the width, downwards the level. Training sees the CT in the same window."
        )
        self.windows.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.windows.activated.connect(lambda index: session.windowing.choose(self.windows.itemData(index)))
        self.planes = QButtonGroup(self)
        buttons = []
        for plane in ("axial", "coronal", "sagittal"):
            made = QPushButton(plane.capitalize())
            made.setCheckable(True)
            made.setChecked(plane == "axial")
            made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            made.setToolTip(f"Turn the view to {plane} slices.")
            made.clicked.connect(partial(self._show_plane, plane))
            self.planes.addButton(made)
            buttons.append(made)
        self.training = note()
        self.column.addLayout(row(self.windows, *buttons, stretch=0))
        self.column.addWidget(self.training)
        self.listen(session.windowing.changed, self.refresh)
        self.listen(session.settings.changed, self.refresh)
        self.listen(session.settings.updated, self._on_setting)
        self.listen(session.view.navigation.plane_changed, self._mark_plane)

    @property
    def useful(self) -> bool:
        """Once a volume is open."""
        return self.session.is_open

    def refresh(self) -> None:
        """Show the window in hand and what training sees."""
        windowing = self.session.windowing
        custom = self.windows.findData(CUSTOM)
        blocked = silently(self.windows)
        if windowing.name == CUSTOM:
            if custom < 0:
                self.windows.addItem("", CUSTOM)
                custom = self.windows.count() - 1
            self.windows.setItemText(custom, f"custom  {windowing.window.width_hu:.0f}/{windowing.window.level_hu:.0f}")
        elif custom >= 0:
            self.windows.removeItem(custom)
        self.windows.setCurrentIndex(self.windows.findData(windowing.name))
        blocked.unblock()
        self.training.setText(windowing.training_words)

    def _on_setting(self, *_: object) -> None:
        self.training.setText(self.session.windowing.training_words)

    def _show_plane(self, plane: str, *_: object) -> None:
        self.session.view.navigation.show_plane(plane)

    def _mark_plane(self) -> None:
        """Press the button of the plane on show, whoever turned to it; none in three dimensions."""
        plane = self.session.view.navigation.plane
        self.planes.setExclusive(False)
        for made in self.planes.buttons():
            made.setChecked(made.text().lower() == plane)
        self.planes.setExclusive(True)
