"""What a person has chosen under Preferences, VQ-Seg: where new projects are kept and how they start."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Preferences", "from_napari"]

PLUGIN = "napari-vqseg"


@dataclass(frozen=True)
class Preferences:
    """How new projects start; the manifest declares the same names and defaults to napari.

    Parameters
    ----------
    folder : str
        Where they are kept; "" for ~/napari-vqseg.
    class_set : str
        A name of napari_vqseg.classes.CLASS_SETS.
    window : str
        A name of vqseg.config.WINDOWS.
    preset : str
        A name of vqseg.config.PRESETS, which the section Train starts with.
    """

    folder: str = ""
    class_set: str = "Lung tumour"
    window: str = "mediastinum"
    preset: str = "fast"

    @property
    def home(self) -> Path:
        """Where projects are kept; the environment's NAPARI_VQSEG_HOME goes before the folder."""
        chosen = os.environ.get("NAPARI_VQSEG_HOME") or self.folder.strip()
        return Path(chosen).expanduser() if chosen else Path.home() / PLUGIN


def from_napari() -> Preferences:
    """The preferences as napari keeps them now; the defaults where the plugin is not installed in it."""
    from napari.settings import get_plugin_settings

    settings = get_plugin_settings().get(PLUGIN)
    return Preferences() if settings is None else Preferences(**settings.projects.model_dump())
