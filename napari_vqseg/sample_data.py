"""The synthetic thorax as napari sample data."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.types import LayerData

__all__ = ["synthetic_thorax", "synthetic_thorax_with_reference"]


def synthetic_thorax() -> list[LayerData]:
    """The CT alone."""
    return _layers()[:1]


def synthetic_thorax_with_reference() -> list[LayerData]:
    """The CT and its reference mask."""
    return _layers()


def _layers() -> list[LayerData]:
    from napari_vqseg.layers import layer_geometry
    from vqseg.config import WINDOWS
    from vqseg.phantom import synthetic_thorax as make

    volume, reference = make()
    geometry = layer_geometry(volume)
    look = {"colormap": "gray", "contrast_limits": WINDOWS["mediastinum"].limits_hu}
    return [
        (volume.array, {"name": "synthetic thorax", **look, **geometry}, "image"),
        (reference.array, {"name": "reference", **geometry}, "labels"),
    ]
