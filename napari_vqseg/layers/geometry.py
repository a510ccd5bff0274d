"""Where voxels lie in the viewer's world, and which way the patient lies in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from vqseg.io.geometry import make_layout
from vqseg.volume import Volume

if TYPE_CHECKING:
    import napari

__all__ = ["direction_letters", "layer_geometry", "volume_beneath", "volume_of"]

PLACE = ("scale", "translate", "rotate", "shear", "affine")
"""Where a layer lies, as napari calls it."""


def layer_geometry(volume: Volume) -> dict[str, Any]:
    """Keyword arguments that place a layer of `volume`'s voxels in the viewer."""
    x, y, z = volume.affine[:3, 3]
    return {
        "scale": volume.spacing_mm,
        "translate": (float(z), float(-y), float(-x)),
        "units": ("mm", "mm", "mm"),
        "axis_labels": ("z", "y", "x"),
        "metadata": {"vqseg": {"affine": volume.affine.tolist(), "source": volume.source, "volume": volume}},
    }


def direction_letters(affine: npt.NDArray[np.float64], axis: int) -> tuple[str, str]:
    """The patient's direction at the low and at the high end of a canonical axis (z, y, x)."""
    column = affine[:3, axis]
    world = int(np.argmax(np.abs(column)))
    low, high = ("LPI"[world], "RAS"[world]) if column[world] > 0 else ("RAS"[world], "LPI"[world])
    return low, high


def volume_of(layer: Image) -> Volume:
    """The volume behind an image layer: as our reader left it, or placed as the viewer places the layer.

    Scale, translation, rotation, affine and units all count; lengths without a unit are taken as mm.

    Raises
    ------
    VolumeError
        If the layer is flat, or its axes do not span a space.
    """
    known = layer.metadata.get("vqseg", {}).get("volume")
    if isinstance(known, Volume) and known.shape == tuple(layer.data.shape):
        return known
    world_to_ras = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    lengths_mm = np.array([_mm(unit) for unit in layer.units])
    origin = np.asarray(layer.data_to_world((0.0, 0.0, 0.0)))
    steps = np.stack([np.asarray(layer.data_to_world(step)) - origin for step in np.eye(3)], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = (world_to_ras @ (lengths_mm[:, np.newaxis] * steps))[:, ::-1]  # stored (x, y, z)
    affine[:3, 3] = world_to_ras @ (lengths_mm * origin)
    data = layer.data if not layer.multiscale else layer.data[0]
    layout = make_layout(tuple(int(size) for size in data.shape[::-1]), affine, f"The layer {layer.name!r}")
    return Volume(layout.to_canonical(data.transpose()), layout, warnings=(
        "The layer's directions are taken as z to the head, y to the back, x to the left; check the letters.",
    ))  # fmt: skip


def volume_beneath(viewer: napari.Viewer | None, shape: tuple[int, ...], meta: Mapping[str, Any]) -> Volume | None:
    """The volume on whose voxels a layer lies: its own, or that of another layer of the same shape and place.

    Parameters
    ----------
    viewer : napari.Viewer, optional
        Where to look for other layers.
    shape : tuple of int
        (z, y, x) of the layer's data.
    meta : mapping
        What napari hands to writers: metadata, scale, translate and so on.

    Returns
    -------
    Volume or None
        None where the layer lies on no volume that VQ-Seg, or its reader, has placed.
    """
    places = [meta["metadata"]] if "metadata" in meta else []
    for layer in viewer.layers if viewer is not None else ():
        pairs = [(np.asarray(meta[name]), np.asarray(getattr(layer, name))) for name in PLACE if name in meta]
        if all(wanted.shape == found.shape and np.allclose(wanted, found) for wanted, found in pairs):
            places.append(layer.metadata)
    known = (place.get("vqseg", {}).get("volume") for place in places)
    return next((volume for volume in known if isinstance(volume, Volume) and volume.shape == shape), None)


def _mm(unit: Any) -> float:
    """Length of a unit in mm; 1 where it is none of length (pixels)."""
    return float((1 * unit).to("mm").magnitude) if (1 * unit).check("[length]") else 1.0
