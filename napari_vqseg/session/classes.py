"""The classes of the project: their names and colours, and which is in hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from psygnal import Signal

from napari_vqseg.classes import SegmentClass
from napari_vqseg.session.context import Concern
from vqseg.errors import VQSegError

__all__ = ["Classes"]


class Classes(Concern):
    """Adds, names, colours and removes classes.

    Attributes
    ----------
    changed : Signal()
        The list of classes, a name or a colour has changed, or a change was refused.
    """

    changed = Signal()

    def announce(self) -> None:
        """Tell the classes."""
        self.changed.emit()

    @property
    def all(self) -> list[SegmentClass]:
        """The classes by value; none before a case is open."""
        return self.context.case.classes if self.context.is_open else []

    @property
    def names(self) -> dict[int, str]:
        """Name of each class value."""
        return {item.value: item.name for item in self.all}

    @property
    def colours(self) -> dict[int, str]:
        """Colour of each label value, painted background among them."""
        return self.context.case.colours

    def add(self, name: str) -> None:
        """Add a class; it takes the next free value."""
        self._change(lambda: self.context.case.add_class(name))
        self.select(self.all[-1].value)

    def rename(self, value: int, name: str) -> None:
        """Give a class another name."""
        self._change(lambda: self.context.case.change_class(value, name=name))

    def recolour(self, value: int, colour: str) -> None:
        """Give a class another colour."""
        self._change(lambda: self.context.case.change_class(value, colour=colour))

    def remove(self, value: int) -> None:
        """Remove a class that nothing is painted with."""
        self._change(lambda: self.context.case.remove_class(value))

    def use_set(self, names: Sequence[str]) -> None:
        """Add the classes of a ready set; what is painted keeps its class."""
        self._change(lambda: self.context.case.use_class_set(names))

    def select(self, value: int) -> None:
        """Paint with a class, 0 to erase, 255 for background."""
        if value in self.colours or value == 0:
            self.context.view.annotation.select_class(value)
            self.context.view.annotation.paint()

    def _change(self, change: Callable[[], None]) -> None:
        try:
            change()
        except VQSegError as error:
            self.context.notified.emit(str(error), "warning")
        else:
            self.context.view.set_colours(self.colours)
        self.changed.emit()
