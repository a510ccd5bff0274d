"""The settings of the next run; live ones reach a running one too."""

from __future__ import annotations

from typing import Any

from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from vqseg.config import Config, preset
from vqseg.errors import VQSegError

__all__ = ["Settings"]


class Settings(Concern):
    """The config that the next run is made with.

    Attributes
    ----------
    changed : Signal()
        Show the config anew.
    updated : Signal(str, object)
        A person has given a setting a value.
    """

    changed = Signal()
    updated = Signal(str, object)

    def __init__(self, context: Context, preset_name: str) -> None:
        super().__init__(context)
        self.config: Config = preset(preset_name)

    def use_preset(self, name: str) -> None:
        """Take a preset's settings for the next run; the display window stays."""
        self.take(preset(name))

    def take(self, config: Config) -> None:
        """Take settings as they are, those of a run that goes on for instance; the display window stays."""
        window = self.config.data
        self.config = config.replace(window_level_hu=window.window_level_hu, window_width_hu=window.window_width_hu)
        self.changed.emit()

    def replace(self, **values: Any) -> None:
        """Set several settings at once, as another concern decides."""
        self.config = self.config.replace(**values)
        self.changed.emit()

    def update(self, name: str, value: Any) -> None:
        """Change a setting; a running training takes live ones over between two steps."""
        try:
            self.config = self.config.replace(**{name: value})
        except VQSegError as error:
            self.context.notified.emit(str(error), "warning")
            self.changed.emit()
        else:
            self.updated.emit(name, value)
