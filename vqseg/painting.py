"""What a painting tool may change: the one gate of brush, fill, copy and accept."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["SPECK_MM2", "flood", "in_range", "protect"]

SPECK_MM2 = 10.0
"""What noise leaves out of a range within an organ is smaller, and most vessels are larger."""


def protect(old: npt.NDArray[np.uint8], new: npt.ArrayLike, locked: Collection[int]) -> npt.NDArray[np.uint8]:
    """The labels after painting, where voxels of locked classes stay as they are.

    Parameters
    ----------
    old : ndarray
        Labels before, any shape.
    new : array_like
        Labels wished for, of the same shape, or one value for all.
    locked : collection of int
        Values of the locked classes.
    """
    wished = np.broadcast_to(np.asarray(new, dtype=np.uint8), old.shape)
    if not locked:
        return wished.copy()
    return np.where(np.isin(old, list(locked)), old, wished)


def in_range(hu: npt.ArrayLike, limits_hu: tuple[float, float] | None) -> npt.NDArray[np.bool_]:
    """Where the image lies in a range of HU, both ends included; everywhere without one."""
    values = np.asarray(hu)
    if limits_hu is None:
        return np.ones(values.shape, dtype=bool)
    return (values >= limits_hu[0]) & (values <= limits_hu[1])


def flood(
    hu_yx: npt.ArrayLike,
    labels_yx: npt.NDArray[np.uint8],
    seed_yx: Sequence[int],
    limits_hu: tuple[float, float],
    locked: Collection[int] = (),
    pixel_mm2: float = 1.0,
) -> npt.NDArray[np.bool_]:
    """The part of a slice that is joined to a voxel by voxels in a range of HU; locked classes are walls.

    Specks of other values that it encloses, which the noise of a CT makes, belong to it up to `SPECK_MM2`.

    Parameters
    ----------
    hu_yx : array_like
        (y, x) image, HU.
    labels_yx : ndarray
        (y, x) uint8 labels.
    seed_yx : sequence of int
        The voxel to start from, (y, x).
    limits_hu : tuple of float
        Smallest and largest HU.
    locked : collection of int
        Values of the locked classes.
    pixel_mm2 : float
        Area of a voxel in the slice, mm².

    Returns
    -------
    ndarray
        (y, x) bool; empty where the seed itself is out of range or locked.
    """
    walls = np.isin(labels_yx, list(locked))
    free = in_range(hu_yx, limits_hu) & ~walls
    parts, _ = ndimage.label(free)
    filled = (parts == parts[tuple(seed_yx)]) & free
    if not filled.any():
        return filled
    gaps, _ = ndimage.label(~filled)
    areas_mm2 = np.bincount(gaps.ravel()) * pixel_mm2
    specks = areas_mm2 <= SPECK_MM2
    specks[np.unique(gaps[walls])] = False
    return filled | specks[gaps] & ~filled
