"""Window and level: what is shown, and what training sees."""

from __future__ import annotations

from psygnal import Signal

from napari_vqseg.cases import AUTO, CUSTOM
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.settings import Settings
from vqseg.config import WINDOWS
from vqseg.volume import Window

__all__ = ["AUTO", "CUSTOM", "Windowing"]

TRAINING_AFTER_S = 0.2
LEVELS_HU = (-1e6, 1e6)
WIDTHS_HU = (1e-4, 2e6)
"""Windows that training takes."""


class Windowing(Concern):
    """The display window of the case; the next run is trained in the same.

    Attributes
    ----------
    changed : Signal()
        Another window.
    name : str
        A preset of vqseg.config.WINDOWS, :data:`AUTO` (between quantiles of the shown slice; training then chooses
        its window from the labelled slices), or :data:`CUSTOM`.
    window : Window
        The display window, HU.
    """

    changed = Signal()

    def __init__(self, context: Context, settings: Settings) -> None:
        super().__init__(context)
        self._settings = settings
        self.name, self.window = "mediastinum", WINDOWS["mediastinum"]
        self._timer = context.scheduler.debounce(TRAINING_AFTER_S, self._keep)
        context.view.image.window_changed.connect(self._on_hand)

    def restore(self, name: str, by_hand: Window | None = None) -> None:
        """Take up the window that was chosen last, before the case is shown."""
        self.name, self.window = name, by_hand or WINDOWS.get(name, WINDOWS["mediastinum"])

    def announce(self) -> None:
        """Show the window and train in it."""
        self.choose(self.name)

    def choose(self, name: str) -> None:
        """Show, and train, in a preset or in :data:`AUTO`; any other name keeps the window."""
        image = self.context.view.image
        self.name = name
        self.window = (image.visible_quantiles() if name == AUTO else WINDOWS.get(name)) or self.window
        image.set_window(self.window)
        self.changed.emit()
        self._keep()

    def _on_hand(self, window: Window) -> None:
        """A person has changed the window: on the canvas, or in napari's own controls."""
        self.window = window
        self.name = CUSTOM
        self.changed.emit()
        self._timer.start()

    def _keep(self) -> None:
        """Let the next run train in the window, and find it again with the project."""
        self._timer.stop()
        window = self.window
        level_hu = min(max(window.level_hu, LEVELS_HU[0]), LEVELS_HU[1])
        width_hu = 0.0 if self.name == AUTO else min(max(window.width_hu, WIDTHS_HU[0]), WIDTHS_HU[1])
        self._settings.replace(window_level_hu=level_hu, window_width_hu=width_hu)
        if self.context.is_open:
            remember = self.context.remember if self.context.volume.in_hu else self.context.remember_of_case
            remember(window=self.name, window_hu=[window.level_hu, window.width_hu])

    @property
    def training_words(self) -> str:
        """What training sees, in a sentence."""
        data = self._settings.config.data
        if not data.window_width_hu:
            return "Training chooses its own window, from the labelled slices."
        seen = Window(data.window_level_hu, data.window_width_hu)
        (low, high), volume = seen.limits_hu, self.context.case.volume
        as_shown = seen == self.window or self._timer.waiting
        seen_as = "as shown" if as_shown else "not as shown"
        return f"Training sees {volume.digits(low)} to {volume.reading(high)}, {seen_as}."
