"""Checks that every format shares: three dimensions, and an affine that places the voxels in space."""

from __future__ import annotations

import nibabel.orientations as orientations
import numpy as np
import numpy.typing as npt

from vqseg.errors import VolumeError
from vqseg.volume import StoredLayout

__all__ = ["make_layout"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM and ITK point x to the left and y to the back; NIfTI to the right and front."""

MIN_VOLUME_SHARE = 1e-3
"""Smallest volume of the three unit axes (1 when perpendicular) that still spans a space."""


def make_layout(
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
    name: str,
    *,
    header: bytes | None = None,
    axis: int | None = None,
) -> StoredLayout:
    """The layout of a stored array, after checking its shape and affine.

    Parameters
    ----------
    shape : tuple of int
        (i, j, k).
    affine : ndarray
        (4, 4), stored index -> RAS+ mm.
    name : str
        What to call the file in an error.
    header : bytes, optional
        The raw NIfTI header, for masks to carry.
    axis : int, optional
        The stored axis that becomes z; by default the most axial one.

    Raises
    ------
    VolumeError
        For an image of one slice, an affine that does not span a space, or an `axis` outside 0 to 2.
    """
    require_three_dimensions(shape, name)
    require_affine(affine, name)
    return StoredLayout((shape[0], shape[1], shape[2]), affine, header, choose_slice_axis(affine, axis))


def require_three_dimensions(shape: tuple[int, ...], name: str) -> None:
    """Raise :class:`VolumeError` unless there are three axes of at least two voxels."""
    if len(shape) != 3 or min(shape) < 2:
        raise VolumeError(
            f"{name} is a 2D image (shape {tuple(int(size) for size in shape)}); "
            "choose a volume with at least two slices, such as the whole series."
        )


def require_affine(affine: npt.NDArray[np.float64], name: str) -> None:
    """Raise :class:`VolumeError` unless the affine is finite and gives every axis a length and its own direction."""
    if not np.isfinite(affine).all():
        raise VolumeError(
            f"{name} has an affine with values that are not numbers; convert the image again from its source."
        )
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (lengths > 1e-6).all():
        raise VolumeError(
            f"{name} has zero spacing along axis {int(np.argmin(lengths))}; set its voxel size, or convert it again."
        )
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < MIN_VOLUME_SHARE:
        raise VolumeError(f"{name} has an affine whose axes lie in one plane; convert the image again from its source.")


def choose_slice_axis(affine: npt.NDArray[np.float64], axis: int | None) -> int:
    """The stored axis (0..2) that becomes z: the one asked for, or the one that runs along the body."""
    if axis is None:
        world = orientations.io_orientation(affine)[:, 0]
        return int(np.flatnonzero(world == 2)[0])
    if axis not in (0, 1, 2):
        raise VolumeError(f"The slice axis is {axis}; choose 0, 1 or 2 (the axes as stored), or leave it out.")
    return int(axis)
