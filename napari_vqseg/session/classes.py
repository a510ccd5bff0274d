"""The classes of the project: names, colours, order, locks, visibility, and which is in hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from psygnal import Signal

from napari_vqseg.classes import SegmentClass
from napari_vqseg.session.context import Concern, Context
from vqseg.errors import ProjectError, VQSegError
from vqseg.io.label_set import LabelClass, read_label_set, write_label_set

__all__ = ["Classes"]


class Classes(Concern):
    """Changes classes, protects locked ones, hides hidden ones; all of it is kept on disk.

    Attributes
    ----------
    changed : Signal()
        The list of classes or the look of one has changed, or a change was refused.
    """

    changed = Signal()

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._told: set[int] = set()
        context.view.annotation.refused.connect(self._on_refused)

    def forget(self) -> None:
        """Forget what was said about the locks of the project before."""
        self._told = set()

    def announce(self) -> None:
        """Tell the classes, and the layers what is locked."""
        self.context.view.annotation.lock(self.locked)
        self.changed.emit()

    # ------------------------------------------------------------ reading

    @property
    def all(self) -> list[SegmentClass]:
        """The classes in order; none before a case is open."""
        return self.context.case.classes.all if self.context.is_open else []

    @property
    def names(self) -> dict[int, str]:
        """Name of each class value."""
        return {item.value: item.name for item in self.all}

    @property
    def colours(self) -> dict[int, str]:
        """What each label value is drawn in, painted background among them."""
        return self.context.case.colours

    @property
    def locked(self) -> frozenset[int]:
        """Values of the locked classes."""
        return self.context.case.classes.locked

    # ------------------------------------------------------------ one class

    def add(self, name: str) -> None:
        """Add a class; it takes the next free value."""
        added: list[int] = []
        self._change(lambda: added.append(self.context.case.classes.add(name)))
        for value in added:
            self.select(value)

    def adopt(self, names: Mapping[int, str]) -> None:
        """Add the classes, by value, that labels from elsewhere bring along."""
        self._change(lambda: self.context.case.classes.adopt(names))

    def rename(self, value: int, name: str) -> None:
        """Give a class another name."""
        self._change(lambda: self.context.case.classes.rename(value, name))

    def recolour(self, value: int, colour: str) -> None:
        """Give a class another colour."""
        self._change(lambda: self.context.case.classes.recolour(value, colour))

    def lock(self, value: int, locked: bool) -> None:
        """Protect what is painted with a class from every tool, or let it be changed again."""
        self._told.discard(value)
        self._change(lambda: self.context.case.classes.lock(value, locked))

    def show(self, value: int, visible: bool) -> None:
        """Show or hide a class, in the annotation and in the prediction."""
        self._change(lambda: self.context.case.classes.show(value, visible))

    def show_predicted(self, value: int, visible: bool) -> None:
        """Show or hide the prediction of a class; the annotation stays as it is."""
        self._change(lambda: self.context.case.classes.show_predicted(value, visible))

    def move(self, value: int, places: int) -> None:
        """Move a class down the list, or up where `places` is negative; its label value stays."""
        self._change(lambda: self.context.case.classes.move(value, places))

    def remove(self, value: int) -> None:
        """Remove a class that nothing in the project is painted with."""
        classes, name = self.context.case.classes, self.names[value]

        def removed(painted: dict[int, list[str]]) -> None:
            if value in painted:
                titles = painted[value]
                more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
                self._refuse(ProjectError(f"{name!r} is painted in {titles[0]}{more}; erase it there before removing."))
            elif value in classes.names:
                self._change(lambda: classes.remove(value))

        self._with_painted(removed)

    def select(self, value: int) -> None:
        """Paint with a class, 0 to erase, 255 for background; a hidden class shows itself."""
        if any(item.value == value and not item.visible for item in self.all):
            self.show(value, True)
        if value in self.colours or value == 0:
            self.context.view.annotation.select_class(value)
            self.context.view.annotation.take_painting_tool()

    # ------------------------------------------------------------ label sets

    def use_set(self, classes: Sequence[LabelClass]) -> None:
        """Take the classes of a label set; what is painted anywhere in the project keeps its class."""
        case_classes = self.context.case.classes

        def take(painted: dict[int, list[str]]) -> None:
            remarks: list[str] = []
            self._change(lambda: remarks.extend(case_classes.take_set(classes, painted)))
            for remark in remarks:
                self.context.notified.emit(remark, "warning")

        self._with_painted(take)

    def load_set(self, path: str | os.PathLike[str]) -> None:
        """Take the classes of a label set's file."""
        self.context.background(lambda: read_label_set(Path(path)), self.use_set)

    def save_set(self, path: str | os.PathLike[str]) -> None:
        """Write the classes to a label set's file."""
        classes, target = self.context.case.classes.as_set(), Path(path)
        self.context.background(
            lambda: write_label_set(target, classes),
            lambda _: self.context.notified.emit(f"The label set was saved as {target.name}.", "info"),
        )

    # ------------------------------------------------------------ changing

    def _with_painted(self, use: Callable[[dict[int, list[str]]], None]) -> None:
        """Call `use` with where in the project each label value is painted: titles of cases by value."""
        opened, labels, slices = self.context.case, self.context.annotations.labels, [*self.context.annotations.records]

        def find() -> dict[int, list[str]]:
            painted: dict[int, list[str]] = {}
            for case in opened.project.cases:
                is_shown = case.id == opened.case.id
                for value in np.unique(labels[slices]).tolist() if is_shown else case.load_painted_values():
                    painted.setdefault(value, []).append(case.title)
            return painted

        def use_if_open(painted: dict[int, list[str]]) -> None:
            if self.context.opened is opened:
                use(painted)

        self.context.background(find, use_if_open)

    def _change(self, change: Callable[[], object]) -> None:
        """Change the list, and draw anew what looks otherwise: each layer takes the event loop 20 ms."""
        classes, view = self.context.case.classes, self.context.view
        painted, predicted = classes.colours, (classes.predicted_colours, classes.contoured)
        try:
            change()
        except VQSegError as error:
            self._refuse(error)
            return
        self.context.save_project()
        if classes.colours != painted:
            view.annotation.set_colours(classes.colours)
        if (classes.predicted_colours, classes.contoured) != predicted:
            view.overlay.draw_classes(classes.predicted_colours, classes.contoured)
        self.announce()

    def _refuse(self, error: VQSegError) -> None:
        self.context.notified.emit(str(error), "warning")
        self.changed.emit()

    def _on_refused(self, values: set[int]) -> None:
        new = [name for value, name in self.names.items() if value in values - self._told]
        self._told |= values
        if new:
            self.context.notified.emit(
                f"{' and '.join(map(repr, new))} stay{'s' * (len(new) == 1)} as painted: locked in Classes.", "info"
            )
