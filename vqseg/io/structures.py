"""Structures that may overlap (DICOM SEG, RTSTRUCT) as one label volume on an image's voxels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqseg.errors import GeometryError, VolumeError
from vqseg.io.labels import MAX_LABEL, LabelMap
from vqseg.volume import Volume

__all__ = ["Indices", "Structure", "paint"]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Structure:
    """One named structure.

    Parameters
    ----------
    value : int
        Its label value, 1..254.
    name : str
        As its author named it.
    size : float
        How large it is; only compared with the other structures'.
    voxels : callable
        Yields its voxels in pieces, each an int64 (n, 3) array of canonical indices (z, y, x).
    """

    value: int
    name: str
    size: float
    voxels: Callable[[], Iterator[Indices]]


def paint(structures: Sequence[Structure], volume: Volume, what: str, only: Collection[int] | None = None) -> LabelMap:
    """Paint structures into one label volume; where two overlap the smaller one wins, and a warning says so.

    So a tumour stays visible in the lung that was drawn around it, and nothing hides in the outline of the body.

    Parameters
    ----------
    structures : sequence of Structure
        With different values.
    volume : Volume
        The image they were drawn on.
    what : str
        What to call the labels in an error ("reference").
    only : collection of int, optional
        Values of the structures to paint; by default all.

    Raises
    ------
    GeometryError
        If a structure has voxels outside the image.
    VolumeError
        If there are none, or more than 254.
    """
    structures = [item for item in structures if only is None or item.value in only]
    if not structures:
        raise VolumeError(f"The {what} hold no structure with an outline; choose a file with segmented structures.")
    if len(structures) > MAX_LABEL or max(item.value for item in structures) > MAX_LABEL:
        raise VolumeError(
            f"The {what} hold {len(structures)} structures, numbered up to {max(item.value for item in structures)}; "
            f"at most {MAX_LABEL} are possible. Save those you need to a file of their own."
        )
    labels = np.zeros(volume.shape, dtype=np.uint8)
    overlaps: dict[str, int] = {}
    for item in sorted(structures, key=lambda item: -item.size):
        hidden = 0
        for voxels in item.voxels():
            _require_inside(voxels, volume, item.name, what)
            where = tuple(voxels.T)
            hidden += int(np.count_nonzero((labels[where] != 0) & (labels[where] != item.value)))
            labels[where] = item.value
        if hidden:
            overlaps[item.name] = hidden
    names = {item.value: item.name for item in sorted(structures, key=lambda item: item.value)}
    return LabelMap(labels, names, tuple(_overlap_warning(overlaps)))


def _require_inside(voxels: Indices, volume: Volume, name: str, what: str) -> None:
    outside = ((voxels < 0) | (voxels >= np.array(volume.shape))).any(axis=1)
    if outside.any():
        low, high = voxels.min(axis=0), voxels.max(axis=0)
        raise GeometryError(
            f"The {what} reach outside the image: {name!r} spans voxels {tuple(low.tolist())} to "
            f"{tuple(high.tolist())} (z, y, x), the image has {volume.shape}; choose the {what} drawn on this image."
        )


def _overlap_warning(overlaps: dict[str, int]) -> Iterator[str]:
    if overlaps:
        listing = ", ".join(f"{name} ({count} voxels)" for name, count in overlaps.items())
        yield f"Some structures overlap; there the smaller one was kept: {listing}."
