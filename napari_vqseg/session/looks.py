"""How the prediction of each class is drawn; the project remembers it."""

from __future__ import annotations

from typing import Any

from psygnal import Signal

from napari_vqseg.looks import EVERY, Look
from napari_vqseg.session.context import Concern, Context

__all__ = ["PredictionLooks"]

SAVE_AFTER_S = 0.5


class PredictionLooks(Concern):
    """Fill or contour and opacity, of every class or of one.

    Attributes
    ----------
    changed : Signal()
        Another look.
    """

    changed = Signal()

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._unsaved = False
        self._saving = context.scheduler.debounce(SAVE_AFTER_S, self.save)  # a slider moves many times a second
        context.view.overlay.contoured.connect(lambda on: self.draw_contour(EVERY, on))

    def forget(self) -> None:
        """Leave the project before."""
        self._saving.stop()
        self._unsaved = False

    def announce(self) -> None:
        """Tell the looks of the project."""
        self.changed.emit()

    def of(self, value: int) -> Look:
        """The look of a class, or what holds for :data:`~napari_vqseg.looks.EVERY` one without its own."""
        return self.context.case.classes.looks.of(value) if self.context.is_open else Look()

    def draw_contour(self, value: int, on: bool) -> None:
        """Draw a class, or every one, as a contour or filled."""
        self._change(value, contour=on)

    def set_opacity(self, value: int, opacity: float) -> None:
        """Draw a class, or every one, at an opacity of 0 to 1."""
        self._change(value, chosen_opacity=opacity)

    def _change(self, value: int, **wanted: Any) -> None:
        if self.context.is_open:
            classes = self.context.case.classes
            classes.looks.change(value, **wanted)
            self.context.view.overlay.draw_classes(classes.predicted_colours, classes.contoured)
            self.changed.emit()
            self._unsaved = True
            self._saving.start()

    def save(self) -> None:
        """Write down what is not yet."""
        self._saving.stop()
        if self._unsaved:
            self._unsaved = False
            self.context.save_project()
