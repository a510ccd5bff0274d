"""Window and level: what is shown, and what training sees."""

from __future__ import annotations

from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.settings import Settings
from vqseg.config import WINDOWS
from vqseg.volume import Window

__all__ = ["AUTO", "Windowing"]

AUTO = "auto"
"""Between quantiles of the shown slice; training then looks at the volume's own range."""


class Windowing(Concern):
    """The display window of the case.

    Attributes
    ----------
    changed : Signal()
        Another window.
    """

    changed = Signal()

    def __init__(self, context: Context, settings: Settings) -> None:
        super().__init__(context)
        self._settings = settings
        self.name = "mediastinum"

    @property
    def window(self) -> Window:
        """The display window, HU."""
        return WINDOWS.get(self.name) or self.context.view.image.visible_quantiles() or WINDOWS["mediastinum"]

    def choose(self, name: str) -> None:
        """Show, and train, in a preset of vqseg.config.WINDOWS, or :data:`AUTO`."""
        self.name = name
        window = self.window
        self.context.view.image.set_window(window)
        if self.context.opened is not None:
            self.context.opened.remember(window=name)
        self.changed.emit()
        width_hu = 0.0 if name == AUTO else window.width_hu
        self._settings.replace(window_level_hu=window.level_hu, window_width_hu=width_hu)
