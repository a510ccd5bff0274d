"""A scanned volume in one orientation, with the way back to the file it came from.

Files lay voxels in any of 48 orders; napari and torch want one. A :class:`Volume` holds the voxels as
``(z, y, x)`` with z towards the patient's head, y towards the back and x towards the left hand, so that an
axial slice ``array[z]`` is drawn in radiological convention (patient's right on the left of the screen).
Only axis permutations and flips lie between it and the stored array, so the way back is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import nibabel.orientations as orientations
import numpy as np
import numpy.typing as npt

from vqseg.errors import GeometryError, VolumeError

__all__ = ["StoredLayout", "Volume", "Window"]

AIR_HU = -200.0
"""Where no modality is told, a slice with values below this is taken for a CT's."""


@dataclass(frozen=True)
class Window:
    """A display and training window in Hounsfield units.

    Parameters
    ----------
    level_hu : float
        Centre of the window, HU.
    width_hu : float
        Full width of the window, HU; above 0.
    """

    level_hu: float
    width_hu: float

    @property
    def limits_hu(self) -> tuple[float, float]:
        """Lower and upper limit, HU."""
        return self.level_hu - self.width_hu / 2, self.level_hu + self.width_hu / 2

    def apply(self, array: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Map HU to [0, 1], clipped at the window's limits; the shape stays."""
        low, high = self.limits_hu
        scaled = (np.asarray(array, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
        clipped: npt.NDArray[np.float32] = np.clip(scaled, 0.0, 1.0)
        return clipped


@dataclass(frozen=True, eq=False)
class StoredLayout:
    """How the source file lays out the voxels of a volume.

    Parameters
    ----------
    shape : tuple of int
        Shape as stored, (i, j, k).
    affine : ndarray
        (4, 4) float64, stored voxel index (i, j, k) -> RAS+ mm, exactly as read.
    header : bytes or None
        The source's NIfTI-1/2 header, kept so that masks carry its sform, qform and codes bit for bit;
        None for other formats.
    slice_axis : int
        The stored axis (0, 1, 2) that runs along z of the volume.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    header: bytes | None = None
    slice_axis: int = 2

    @property
    def orientation(self) -> str:
        """Where the stored axes point, each nearest to another one of the body's: RAS, LPS, ..."""
        return "".join(orientations.aff2axcodes(self.affine))

    def _canonical(self) -> npt.NDArray[np.float64]:
        """Nibabel orientation (3, 2) of the stored axes with respect to the canonical x, y, z."""
        ornt = orientations.io_orientation(self.affine)
        target = orientations.axcodes2ornt(("L", "P", "S"))
        transform: npt.NDArray[np.float64] = orientations.ornt_transform(ornt, target)
        return transform

    @cached_property
    def permutation(self) -> tuple[int, int, int]:
        """The stored axis behind each of (z, y, x)."""
        transform = self._canonical()
        world_to_stored = {int(world): stored for stored, (world, _) in enumerate(transform)}
        order = [world_to_stored[2], world_to_stored[1], world_to_stored[0]]
        order.remove(self.slice_axis)
        return (self.slice_axis, order[0], order[1])

    @cached_property
    def flipped(self) -> tuple[bool, bool, bool]:
        """Whether each of (z, y, x) runs against its stored axis."""
        transform = self._canonical()
        # Superior runs up the screen in a coronal or sagittal slice, so it is flipped where it is a row axis.
        flips = [
            bool(transform[stored, 1] < 0) != (position > 0 and int(transform[stored, 0]) == 2)
            for position, stored in enumerate(self.permutation)
        ]
        return flips[0], flips[1], flips[2]

    def to_canonical(self, array: Any) -> Any:
        """Stored (i, j, k) array, numpy or dask -> (z, y, x), a view without copying."""
        flips = tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return array.transpose(self.permutation)[flips]

    def to_stored(self, array: Any) -> Any:
        """(z, y, x) array, numpy or dask -> stored (i, j, k), a view without copying."""
        flips = tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return array[flips].transpose(tuple(np.argsort(self.permutation)))

    @cached_property
    def index_to_ras(self) -> npt.NDArray[np.float64]:
        """(4, 4) float64, canonical index (z, y, x) -> RAS+ mm."""
        to_stored = np.zeros((4, 4))
        to_stored[3, 3] = 1
        for position, (stored, flip) in enumerate(zip(self.permutation, self.flipped, strict=True)):
            to_stored[stored, position] = -1 if flip else 1
            to_stored[stored, 3] = self.shape[stored] - 1 if flip else 0
        return self.affine @ to_stored


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume with its geometry.

    Parameters
    ----------
    array : ndarray or dask array
        (z, y, x); HU for CT. May be lazy: ``volume.slice(z)`` reads one slice only.
    stored : StoredLayout
        The source's own layout.
    modality : str
        DICOM's term ("CT", "MR"), or "" where the file does not tell.
    source : str
        Path the volume came from, as given.
    warnings : tuple of str
        What the reader wants the person to know (resampled, missing slices, not a CT...).
    """

    array: Any
    stored: StoredLayout
    modality: str = ""
    source: str = ""
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = tuple(self.stored.shape[axis] for axis in self.stored.permutation)
        if tuple(self.array.shape) != expected:
            raise VolumeError(f"The array has shape {tuple(self.array.shape)}; its layout expects {expected}.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return tuple(int(size) for size in self.array.shape)  # type: ignore[return-value]

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4) float64, index (z, y, x) -> RAS+ mm."""
        return self.stored.index_to_ras

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (z, y, x), mm."""
        return tuple(float(size) for size in np.linalg.norm(self.affine[:3, :3], axis=0))  # type: ignore[return-value]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, ml; of a sheared one less than the product of its sides."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def slice(self, z: int) -> npt.NDArray[Any]:
        """Slice z as a numpy array (y, x)."""
        return np.asarray(self.array[z])

    @cached_property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value of the middle slice; no other is read."""
        middle = self.slice(self.shape[0] // 2)
        finite = middle[np.isfinite(middle)]
        return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)

    @property
    def in_hu(self) -> bool:
        """Whether the voxels seem to be in Hounsfield units: by the modality, or where it is not told by their air."""
        return self.modality == "CT" or (not self.modality and self.value_range[0] < AIR_HU)

    def digits(self, value: float) -> str:
        """A voxel's value without its unit: whole HU, or the digits that count on another scale."""
        return f"{value:.0f}" if self.in_hu or abs(value) >= 1000 else f"{value:.4g}"

    def reading(self, value: float) -> str:
        """A voxel's value in words: its digits, and HU where it is in these."""
        return f"{self.digits(value)} HU" if self.in_hu else self.digits(value)

    def load(self) -> Volume:
        """The same volume with its voxels in memory, contiguous."""
        return replace(self, array=np.ascontiguousarray(self.array))

    def to_stored_index(self, z: int) -> int:
        """Slice index along the stored slice axis of canonical slice z; its own inverse."""
        return self.shape[0] - 1 - z if self.stored.flipped[0] else z

    def require_same_geometry(self, other: Volume, what: str = "labels") -> None:
        """Raise :class:`GeometryError`, naming the difference, unless `other` lies on the same voxels.

        The two may be stored in different orientations: compared are shape and affine after both are canonical.
        Up to a twentieth of the smallest voxel side between any two corners is rounding (float32 affines, decimals in
        DICOM).
        """
        if self.shape != other.shape:
            raise GeometryError(
                f"The shape of the {what} is {other.shape} (z, y, x), the image's {self.shape}; "
                f"resample the {what} onto the image or choose the matching file."
            )
        corners = np.array([[z, y, x, 1] for z in (0, 1) for y in (0, 1) for x in (0, 1)], dtype=float)
        corners[:, :3] *= np.array(self.shape) - 1
        shift = np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :3], axis=1).max()
        if not shift <= 0.05 * min(self.spacing_mm):
            far = f"{shift:.0f}" if shift >= 100 else f"{shift:.3g}"
            raise GeometryError(
                f"The voxels of the {what} lie up to {far} mm away from the image's (their affines differ); "
                f"choose the {what} drawn on this image, or resample them onto it."
            )
