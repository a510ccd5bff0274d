"""Annotate: classes, brush, and the slices along the volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QColorDialog, QDoubleSpinBox, QLabel, QListWidget, QListWidgetItem, QMenu, QToolButton

from napari_vqseg.classes import CLASS_SETS
from napari_vqseg.panels.parts import Panel, button, note, row, silently
from napari_vqseg.panels.strip import MARKS, SliceStrip, mark_of
from vqseg.annotations import PAINTED_BACKGROUND, SliceState

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["AnnotatePanel"]

VALUE = Qt.ItemDataRole.UserRole


def _swatch(colour: str) -> QIcon:
    pixmap = QPixmap(14, 14)
    pixmap.fill(QColor(colour))
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # a selected class keeps its colour
    return icon


class AnnotatePanel(Panel):
    """Paint slices and say which are finished."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.list = QListWidget()
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setIconSize(QSize(14, 14))
        self.list.setToolTip("Click to paint with a class, double-click to rename it.")
        self.list.currentItemChanged.connect(self._selected)
        self.list.itemChanged.connect(self._renamed)
        self.add = button("+ class", "Add a class.", lambda: session.classes.add(self._free_name()))
        self.remove = button("− class", "Remove the selected class, if nothing is painted with it.", self._remove)
        self.colour = button("Colour…", "Change the colour of the selected class.", self._recolour)
        self.sets = QToolButton()
        self.sets.setText("Sets ")
        self.sets.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.sets.setToolTip("Ready sets of classes.")
        self.sets.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.sets)
        for name, names in CLASS_SETS.items():
            menu.addAction(name, lambda names=names: session.classes.use_set(names))
        self.sets.setMenu(menu)
        self.paint = button("Paint", "Take the brush (P on the layer).", session.view.annotation.paint)
        self.erase = button("Erase", "Take the eraser (E on the layer).",
                            lambda: session.view.annotation.paint(erase=True))  # fmt: skip
        self.brush = QDoubleSpinBox()
        self.brush.setRange(0.1, 200)
        self.brush.setDecimals(1)
        self.brush.setSuffix(" mm")
        self.brush.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.brush.setToolTip("Diameter of the brush; [ and ] change it.")
        self.brush.valueChanged.connect(self._resized)
        self.strip = SliceStrip(session.go_to)
        self.counts = note()
        self.complete = button("Complete (C)", "This slice is finished: what is unpainted is background. "
                               "An empty complete slice says that nothing is there.",
                               session.annotating.toggle_complete, strong=True)  # fmt: skip
        self.scribbled = button("Scribbled", "Only painted voxels of this slice count; background has its own colour "
                                "(key 0).", lambda: session.annotating.mark(SliceState.SCRIBBLED))  # fmt: skip
        self.clear = button("Clear", "Unpaint this slice; Ctrl+Z brings it back.", session.annotating.clear_slice)
        self.next = button("Next slice (N)", "Go to the slice most worth labelling next.", session.suggesting.next)
        self.copy = button("Copy from below", "Copy the nearest complete slice below.",
                           session.annotating.copy_previous)  # fmt: skip
        self.reason = note()
        self.column.addWidget(self.list)
        self.column.addLayout(row(self.add, self.remove, self.colour, self.sets))
        self.column.addLayout(row(self.paint, self.erase, QLabel("Brush"), self.brush, stretch=3))
        self.column.addWidget(self.strip)
        self.column.addWidget(self.counts)
        self.column.addLayout(row(self.complete, self.scribbled, self.clear))
        self.column.addLayout(row(self.next, self.copy))
        self.column.addWidget(self.reason)
        self.reason.hide()
        self.listen(session.classes.changed, self.show_classes)
        self.listen(session.view.annotation.class_selected, self.show_selected)
        self.listen(session.annotating.slices_changed, self.show_slices)
        self.listen(session.suggesting.changed, self.show_slices)
        self.listen(session.reviewing.prediction_changed, self.show_slices)
        self.listen(session.view.navigation.z_changed, self.show_z)
        self.listen(session.view.annotation.brush_changed, self.show_brush)
        self.listen(session.notified, self.show_reason)

    @property
    def useful(self) -> bool:
        """Once a volume is open."""
        return self.session.is_open

    # ------------------------------------------------------------ session -> widget

    def show_classes(self) -> None:
        """List the classes, and background for scribbles."""
        session, blocked = self.session, silently(self.list)
        self.list.clear()
        shown = [(item.value, item.name, item.colour) for item in session.classes.all]
        if session.is_open:
            colour = session.classes.colours[PAINTED_BACKGROUND]
            shown.append((PAINTED_BACKGROUND, "background (for scribbles)", colour))
        for number, (value, name, colour) in enumerate(shown, start=1):
            key = "0" if value == PAINTED_BACKGROUND else str(number) if number < 10 else ""
            item = QListWidgetItem(_swatch(colour), name)
            item.setToolTip(f"Key {key}" if key else "")
            item.setData(VALUE, value)
            if value != PAINTED_BACKGROUND:
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            self.list.addItem(item)
        self.list.ensurePolished()
        self.list.setFixedHeight(self.list.sizeHintForRow(0) * min(max(len(shown), 2), 6) + 8)
        blocked.unblock()
        self.show_selected(self._value_in_hand())

    def _value_in_hand(self) -> int:
        item = self.list.currentItem()
        return int(item.data(VALUE)) if item is not None else 1

    def show_selected(self, value: int) -> None:
        """Show which class is in hand."""
        blocked = silently(self.list)
        for index in range(self.list.count()):
            item = self.list.item(index)
            if item is not None and int(item.data(VALUE)) == value:
                self.list.setCurrentRow(index)
        blocked.unblock()

    def show_slices(self) -> None:
        """Show the states of the slices and how many there are of each."""
        session = self.session
        if not session.is_open:
            return
        marks = {item.z: "suggested" for item in session.suggesting.suggestions}
        marks |= {z: mark_of(session.annotations, z) for z in session.annotations.records}
        self.strip.show_slices(session.volume.shape[0], marks, session.reviewing.prediction is not None)
        kinds = list(marks.values())
        parts = [
            f'<span style="color:{mark.colour}">{mark.sign}</span>&nbsp;{kinds.count(kind)}&nbsp;{mark.words}'
            for kind, mark in MARKS.items() if kind in kinds
        ]  # fmt: skip
        self.counts.setText(" &nbsp; ".join(parts) or "Paint what you look for, then press C: this slice is complete.")
        self.show_z(session.z)

    def show_z(self, z: int) -> None:
        """Show the slice on the canvas and what can be done with it."""
        self.strip.show_z(z)
        if self.session.is_open:
            complete = self.session.annotations.state(z) is SliceState.COMPLETE
            self.complete.setText("Reopen slice (C)" if complete else "Complete (C)")

    def show_brush(self, diameter_mm: float) -> None:
        """Show the brush's diameter."""
        blocked = silently(self.brush)
        self.brush.setValue(diameter_mm)
        blocked.unblock()

    def show_reason(self, text: str, level: str) -> None:
        """Say why a slice was suggested."""
        if level == "hint":
            self.reason.setText(text)
            self.reason.show()

    # ------------------------------------------------------------ person -> session

    def _selected(self, item: QListWidgetItem | None, *_: object) -> None:
        if item is not None:
            self.session.classes.select(int(item.data(VALUE)))

    def _renamed(self, item: QListWidgetItem) -> None:
        self.session.classes.rename(int(item.data(VALUE)), item.text())

    def _resized(self, diameter_mm: float) -> None:
        self.session.view.annotation.brush_mm = diameter_mm

    def _free_name(self) -> str:
        names = {item.name for item in self.session.classes.all}
        return next(name for number in range(1, 255) if (name := f"class {number}") not in names)

    def _remove(self) -> None:
        item = self.list.currentItem()
        if item is not None and int(item.data(VALUE)) != PAINTED_BACKGROUND:
            self.session.classes.remove(int(item.data(VALUE)))

    def _recolour(self) -> None:
        value = self._value_in_hand()
        if value == PAINTED_BACKGROUND:
            return
        colour = QColorDialog.getColor(QColor(self.session.classes.colours[value]), self, "Colour of the class")
        if colour.isValid():
            self.session.classes.recolour(value, colour.name())
