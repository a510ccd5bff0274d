"""Clean-up: rules for one class at a time, seen on the overlay at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QLabel, QSpinBox

from napari_vqseg.panels.parts import Panel, button, choice, note, row, silently
from vqseg.components import CleanUp

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["CleanUpPanel"]


class CleanUpPanel(Panel):
    """Which components of a class stay."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.which = choice("The class that the rules below are for.")
        self.which.activated.connect(lambda _: self.show_rule())
        self.largest = QSpinBox()
        self.largest.setRange(0, 99)
        self.largest.setSpecialValueText("all")
        self.largest.setToolTip("Keep this many connected components, the largest ones.")
        self.smallest = QDoubleSpinBox()
        self.smallest.setRange(0, 1000)
        self.smallest.setDecimals(2)
        self.smallest.setSingleStep(0.1)
        self.smallest.setSuffix(" ml")
        self.smallest.setSpecialValueText("off")
        self.smallest.setToolTip("Drop connected components smaller than this volume.")
        self.holes = QCheckBox("Fill holes")
        self.holes.setToolTip("Give the class the background that it encloses on all sides.")
        self.raw = button("Raw", "Take all rules back: the prediction as the network made it.", self._clear)
        self.words = note("Counts on the overlay, for accepting and for export; what you have drawn always stands.")
        self.smallest.setMinimumWidth(96)
        for spin in (self.largest, self.smallest):
            spin.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
            spin.setKeyboardTracking(False)
            spin.valueChanged.connect(self._set)
        self.holes.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.holes.toggled.connect(self._set)
        self.column.addLayout(row(QLabel("Of"), self.which, QLabel("keep"), self.largest, stretch=1))
        self.column.addLayout(row(QLabel("Drop below"), self.smallest, self.holes, self.raw, stretch=1))
        self.column.addWidget(self.words)
        self.listen(session.classes.changed, self.show_classes)
        self.listen(session.cleaning.changed, self.show_rule)
        self.show_classes()

    # ------------------------------------------------------------ session -> widget

    @property
    def value(self) -> int:
        """The class that is on show."""
        return int(self.which.currentData() or 0)

    def show_classes(self) -> None:
        """List the classes."""
        value, blocked = self.value, silently(self.which)
        self.which.clear()
        for item in self.session.classes.all:
            self.which.addItem(item.name, item.value)
        self.which.setCurrentIndex(max(self.which.findData(value), 0))
        blocked.unblock()
        self.show_rule()

    def show_rule(self) -> None:
        """Show the rule of the class."""
        rule = self.session.cleaning.rule(self.value)
        blocked = [silently(widget) for widget in (self.largest, self.smallest, self.holes)]
        self.largest.setValue(rule.keep_largest)
        self.smallest.setValue(rule.min_volume_ml)
        self.holes.setChecked(rule.fill_holes)
        for blocker in blocked:
            blocker.unblock()
        self.raw.setEnabled(bool(self.session.cleaning.rules))

    # ------------------------------------------------------------ person -> session

    def _set(self, *_: object) -> None:
        rule = CleanUp(self.largest.value(), self.smallest.value(), self.holes.isChecked())
        self.session.cleaning.set(self.value, rule)

    def _clear(self) -> None:
        self.session.cleaning.clear()
