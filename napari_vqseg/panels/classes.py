"""Classes: what is painted with, in which colour and order, what is protected and what is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtGui import QColor, QIcon
from qtpy.QtWidgets import QColorDialog, QFileDialog, QHeaderView, QMenu, QToolButton, QTreeWidget, QTreeWidgetItem

from napari_vqseg.classes import CLASS_SETS, SegmentClass, class_set
from napari_vqseg.panels.class_tree import ClassTree
from napari_vqseg.panels.icons import eye, overlay, padlock, swatch
from napari_vqseg.panels.parts import Panel, button, menu_button, row, silently
from vqseg.annotations import PAINTED_BACKGROUND

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["ClassesPanel"]

VALUE = Qt.ItemDataRole.UserRole
SWATCH, NAME, KEY, LOCK, EYE, PREDICTED = range(6)
ROW_PX, ROWS_SHOWN = 24, 7
SETS = "Label sets (*.json *.txt *.label *.ctbl);;All files (*)"


def _tool(icon: QIcon, tip: str, action: Callable[[bool], None], *, on: bool | None = None) -> QToolButton:
    """A small button in a row of the list; a toggle where `on` says its state."""
    made = QToolButton()
    made.setIcon(icon)
    made.setIconSize(QSize(16, 16))
    made.setToolTip(tip)
    made.setAccessibleName(tip)
    made.setAutoRaise(True)
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    made.setStyleSheet("QToolButton { border: none; background: transparent; padding: 1px; }")
    if on is not None:
        made.setCheckable(True)
        made.setChecked(on)
    made.clicked.connect(action)
    return made


class ClassesPanel(Panel):
    """The list of classes; a digit or a click takes one in hand."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._listed: list[SegmentClass] = []
        self.tree = ClassTree()
        self.tree.setColumnCount(6)
        self.tree.setRootIsDecorated(False)
        self.tree.setIndentation(0)
        self.tree.setUniformRowHeights(True)
        self.tree.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.tree.setEditTriggers(QTreeWidget.EditTrigger.NoEditTriggers)
        header = QHeaderView(Qt.Orientation.Horizontal)
        self.tree.setHeader(header)
        self.tree.setHeaderHidden(True)
        header.setStretchLastSection(False)
        header.setMinimumSectionSize(ROW_PX)
        for column in (SWATCH, KEY, LOCK, EYE, PREDICTED):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            header.resizeSection(column, ROW_PX)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        self.tree.currentItemChanged.connect(self._selected)
        self.tree.itemDoubleClicked.connect(self._edit)
        self.tree.itemChanged.connect(self._renamed)
        self.tree.dropped.connect(self._drop)
        self.add = button("+", "Add a class, and type its name.", self._add)
        self.remove = button("−", "Remove the selected class, if nothing is painted with it.", self._remove)
        self.up = button("▲", "Move the selected class up, or drag it; its key changes, its label value does not.",
                         partial(self._move, -1))  # fmt: skip
        self.down = button("▼", "Move the selected class down, or drag it.", partial(self._move, 1))
        self.sets = menu_button("Label set", "Ready sets of classes; load one saved here, in ITK-SNAP or in 3D Slicer; "
                                "save these.")  # fmt: skip
        menu = QMenu(self.sets)
        for name, names in CLASS_SETS.items():
            menu.addAction(name, partial(session.classes.use_set, class_set(names)))
        menu.addSeparator()
        menu.addAction("Load a set…", self.ask_load)
        menu.addAction("Save as a set…", self.ask_save)
        self.sets.setMenu(menu)
        self.column.addWidget(self.tree)
        self.column.addLayout(row(self.add, self.remove, self.up, self.down, self.sets))
        self.listen(session.classes.changed, self.refresh)
        self.listen(session.view.annotation.class_selected, self.show_selected)
        self.listen(session.reviewing.prediction_changed, self.show_column)
        self.show_column()

    @property
    def useful(self) -> bool:
        """Once a volume is open."""
        return self.session.is_open

    # ------------------------------------------------------------ session -> widget

    def refresh(self) -> None:
        """List the classes, and background for scribbles."""
        in_hand, before = self.value, self._listed
        self._listed = self.session.classes.all
        blocked = silently(self.tree)
        if before and [item.value for item in before] == [item.value for item in self._listed]:
            self._refresh_rows(before)
        else:
            self._list_anew()
        blocked.unblock()
        self.show_selected(in_hand)

    def _refresh_rows(self, before: Sequence[SegmentClass]) -> None:
        """Make the buttons anew of the classes that have changed: those of all would hold the event loop 20 ms."""
        for index, (old, item) in enumerate(zip(before, self._listed, strict=True)):
            line = self.tree.topLevelItem(index)
            assert line is not None
            line.setText(NAME, item.name)
            if item != old:
                self._put_buttons(line, item)

    def _list_anew(self) -> None:
        self.tree.clear()
        self.tree.movable = len(self._listed)
        for number, item in enumerate(self._listed, start=1):
            line = self._line(item.value, item.name, str(number) if number < 10 else "")
            line.setFlags(line.flags() | Qt.ItemFlag.ItemIsEditable)
            self._put_buttons(line, item)
        if self.session.is_open:
            self._add_background()
        shown = min(self.tree.topLevelItemCount(), ROWS_SHOWN)
        self.tree.setFixedHeight(shown * ROW_PX + 4)

    def _put_buttons(self, line: QTreeWidgetItem, item: SegmentClass) -> None:
        classes = self.session.classes
        text = self.palette().color(self.foregroundRole())
        lock_tip = "Locked: no tool changes what is painted with it. Click to unlock." if item.locked else (
            "Lock: no tool then paints over or erases it.")  # fmt: skip
        eye_tip = "Hide it, in annotation and prediction." if item.visible else "Hidden; click to show it."
        overlay_tip = "Hide its prediction; what is painted stays on show." if item.predicted else (
            "Its prediction is hidden; click to show it.")  # fmt: skip
        for column, made in (
            (SWATCH, _tool(swatch(item.colour), "Change the colour.", lambda *_: self._recolour(item))),
            (LOCK, _tool(padlock(text, item.locked), lock_tip, partial(classes.lock, item.value), on=item.locked)),
            (EYE, _tool(eye(text, item.visible), eye_tip, partial(classes.show, item.value), on=item.visible)),
            (PREDICTED, _tool(overlay(text, item.predicted), overlay_tip, partial(classes.show_predicted, item.value),
                              on=item.predicted)),
        ):  # fmt: skip
            made.setEnabled(item.visible or column != PREDICTED)
            self.tree.setItemWidget(line, column, made)

    def _add_background(self) -> None:
        line = self._line(PAINTED_BACKGROUND, "background (for scribbles)", "0")
        line.setIcon(SWATCH, swatch(self.session.classes.colours[PAINTED_BACKGROUND]))

    def _line(self, value: int, name: str, key: str) -> QTreeWidgetItem:
        line = QTreeWidgetItem(self.tree)
        line.setText(NAME, name)
        line.setText(KEY, key)
        line.setForeground(KEY, self.palette().placeholderText())
        line.setData(SWATCH, VALUE, value)
        line.setSizeHint(NAME, QSize(60, ROW_PX))
        line.setToolTip(NAME, f"{f'Key {key}. ' * bool(key)}Click to paint with it, double-click to rename it.")
        return line

    @property
    def value(self) -> int:
        """The label value in hand."""
        line = self.tree.currentItem()
        return int(line.data(SWATCH, VALUE)) if line is not None else 1

    def show_selected(self, value: int) -> None:
        """Show which class is in hand."""
        blocked = silently(self.tree)
        for index in range(self.tree.topLevelItemCount()):
            line = self.tree.topLevelItem(index)
            if line is not None and int(line.data(SWATCH, VALUE)) == value:
                self.tree.setCurrentItem(line)
        blocked.unblock()

    def show_column(self) -> None:
        """Offer to hide predictions once there is one."""
        self.tree.setColumnHidden(PREDICTED, self.session.reviewing.prediction is None)

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the icons in the colour of another theme's text."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.PaletteChange and hasattr(self, "tree"):
            self._listed = []
            self.refresh()

    # ------------------------------------------------------------ person -> session

    def _selected(self, line: QTreeWidgetItem | None, *_: object) -> None:
        if line is not None:
            self.session.classes.select(int(line.data(SWATCH, VALUE)))

    def _edit(self, line: QTreeWidgetItem, *_: object) -> None:
        if line.flags() & Qt.ItemFlag.ItemIsEditable:
            self.tree.editItem(line, NAME)

    def _renamed(self, line: QTreeWidgetItem, column: int) -> None:
        if column == NAME:
            self.session.classes.rename(int(line.data(SWATCH, VALUE)), line.text(NAME))

    def _add(self) -> None:
        """Add a class and let its name be typed at once."""
        self.session.classes.add(self._free_name())
        if (line := self.tree.currentItem()) is not None:
            self._edit(line)

    def _free_name(self) -> str:
        """A name after the label value that comes next."""
        names = self.session.classes.names
        value = next((value for value in range(1, PAINTED_BACKGROUND) if value not in names), 1)
        numbers = (value, *range(1, PAINTED_BACKGROUND + 1))
        return next(name for number in numbers if (name := f"class {number}") not in names.values())

    def _remove(self) -> None:
        if self.value != PAINTED_BACKGROUND:
            self.session.classes.remove(self.value)

    def _move(self, places: int) -> None:
        if self.value != PAINTED_BACKGROUND:
            self.session.classes.move(self.value, places)

    def _drop(self, row: int, place: int) -> None:
        self.session.classes.move(self.session.classes.all[row].value, place - row)

    def _recolour(self, item: SegmentClass) -> None:
        colour = QColorDialog.getColor(QColor(item.colour), self, f"Colour of {item.name}")
        if colour.isValid():
            self.session.classes.recolour(item.value, colour.name())

    def ask_load(self) -> None:
        """Choose a label set's file."""
        path, _ = QFileDialog.getOpenFileName(self, "Load a label set", "", SETS)
        if path:
            self.session.classes.load_set(path)

    def ask_save(self) -> None:
        """Choose where to write the label set."""
        path, _ = QFileDialog.getSaveFileName(self, "Save the label set", "labels.json", "Label sets (*.json)")
        if path:
            self.session.classes.save_set(path)
