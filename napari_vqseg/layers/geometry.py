"""Where voxels lie in the viewer's world, and which way the patient lies in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from vqseg.volume import StoredLayout, Volume

__all__ = ["direction_letters", "layer_geometry", "volume_of"]


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
    """The volume behind an image layer: as our reader left it, or placed by the layer's own scale and translation."""
    known = layer.metadata.get("vqseg", {}).get("volume")
    if isinstance(known, Volume) and known.shape == tuple(layer.data.shape):
        return known
    affine = np.eye(4)
    for axis, sign in enumerate((1.0, -1.0, -1.0)):  # z to the head, y to the back, x to the left, in RAS+
        affine[2 - axis, 2 - axis] = sign * abs(float(layer.scale[axis]))
        affine[2 - axis, 3] = sign * float(layer.translate[axis])
    data = layer.data if not layer.multiscale else layer.data[0]
    z, y, x = (int(size) for size in data.shape)
    layout = StoredLayout((x, y, z), affine)
    return Volume(layout.to_canonical(data.transpose()), layout, warnings=(
        "The layer's directions are taken as z to the head, y to the back, x to the left; check the letters.",
    ))  # fmt: skip
