"""From slices where the scanner left them to a regular grid.

Slices evenly stacked along their normal are taken as they are. Gantry tilt (slices sheared against each other) is
undone by moving each slice within its plane; missing slices and uneven spacing by linear interpolation between the
neighbours. Both are said in a warning. Larger gaps are refused: anatomy is not invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dask.array
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vqseg.errors import VolumeError
from vqseg.io.dicom_frames import Frame, read_values

__all__ = ["Grid", "has_duplicates", "lay_grid", "sort_frames"]

MAX_DRIFT_PX = 0.1
"""Sideways drift of the slices below this is rounding, above it tilt."""

MAX_UNEVEN = 0.05
"""Deviation from even spacing, in slice distances, below which it is rounding."""

MAX_GAP = 3.5
"""Largest gap that is filled, in slice distances: up to two missing slices in a row."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular stack of slices made of frames.

    Parameters
    ----------
    frames : sequence of Frame
        Sorted along the normal.
    sources : list of (int, int, float)
        For each slice: two frames and the weight of the second.
    shifts_px : ndarray
        (frames, 2) move of each frame within its plane, (rows, columns).
    shape : tuple of int
        (columns, rows, slices).
    affine : ndarray
        (4, 4) (column, row, slice) -> LPS mm.
    warnings : tuple of str
        What was resampled.
    """

    frames: Sequence[Frame]
    sources: list[tuple[int, int, float]]
    shifts_px: npt.NDArray[np.float64]
    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    warnings: tuple[str, ...] = ()
    interpolated: tuple[int, ...] = field(default=())

    def to_dask(self) -> Any:
        """A dask array (column, row, slice) that decodes one slice a chunk."""
        return dask.array.from_array(_LazySlices(self), chunks=(*self.shape[:2], 1), name=False, asarray=True)


def sort_frames(frames: Sequence[Frame]) -> list[Frame]:
    """Frames by their position along the slice normal, never by name or number."""
    normal = frames[0].normal
    return sorted(frames, key=lambda frame: float(frame.position_mm @ normal))


def has_duplicates(frames: Sequence[Frame]) -> bool:
    """Whether sorted frames share a position."""
    steps = np.diff(_along_normal(frames))
    return bool(len(steps)) and bool((steps < 0.01 * max(float(np.median(steps)), 0.1)).any())


def lay_grid(frames: Sequence[Frame]) -> Grid:
    """The regular grid of frames sorted along their normal, at least two and without duplicates.

    Raises
    ------
    VolumeError
        For gaps of more than two missing slices.
    """
    first = frames[0]
    sources, step, warnings = _stack(_along_normal(frames))
    shifts, shape, tilt_warnings = _straighten(frames)
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * first.spacing_mm[1]
    affine[:3, 1] = first.orientation[1] * first.spacing_mm[0]
    affine[:3, 2] = first.normal * step
    affine[:3, 3] = first.position_mm - affine[:3, 1] * shifts[0, 0] - affine[:3, 0] * shifts[0, 1]
    interpolated = tuple(index for index, (_, _, weight) in enumerate(sources) if weight)
    return Grid(
        frames, sources, shifts, (shape[1], shape[0], len(sources)), affine, (*tilt_warnings, *warnings), interpolated
    )


def _along_normal(frames: Sequence[Frame]) -> npt.NDArray[np.float64]:
    """Positions along the first frame's normal, mm, from 0."""
    positions = np.array([frame.position_mm for frame in frames])
    along: npt.NDArray[np.float64] = (positions - positions[0]) @ frames[0].normal
    return along


def _stack(along_mm: npt.NDArray[np.float64]) -> tuple[list[tuple[int, int, float]], float, list[str]]:
    """What each slice of the grid is made of, their distance in mm, and warnings."""
    count = len(along_mm)
    mean = float(along_mm[-1]) / (count - 1)
    if np.abs(along_mm - mean * np.arange(count)).max() <= MAX_UNEVEN * mean:
        return [(index, index, 0.0) for index in range(count)], mean, []
    steps = np.diff(along_mm)
    step = float(np.median(steps))
    if steps.max() > MAX_GAP * step:
        raise VolumeError(
            f"The DICOM series has a gap of {steps.max():.4g} mm between slices {step:.4g} mm apart "
            f"(about {round(steps.max() / step) - 1} are missing); export the whole series again."
        )
    targets = np.arange(int(np.floor(along_mm[-1] / step + MAX_UNEVEN)) + 1) * step
    sources = [_bracket(along_mm, float(target), step) for target in targets]
    made = sum(weight > 0 for _, _, weight in sources)
    return sources, step, [
        f"The slices are not evenly spaced ({steps.min():.4g} to {steps.max():.4g} mm; some may be missing): "
        f"{made} of {len(sources)} slices interpolated at {step:.4g} mm."
    ]  # fmt: skip


def _bracket(along_mm: npt.NDArray[np.float64], target: float, step: float) -> tuple[int, int, float]:
    """The frame at `target`, or the two around it and the weight of the second."""
    nearest = int(np.argmin(np.abs(along_mm - target)))
    if abs(along_mm[nearest] - target) <= MAX_UNEVEN * step:
        return nearest, nearest, 0.0
    upper = int(np.searchsorted(along_mm, target))
    low, high = along_mm[upper - 1], along_mm[upper]
    return upper - 1, upper, float((target - low) / (high - low))


def _straighten(frames: Sequence[Frame]) -> tuple[npt.NDArray[np.float64], tuple[int, int], list[str]]:
    """Moves (frames, 2) in pixels that line the slices up, the shape (rows, columns) that holds them, and warnings."""
    first = frames[0]
    offsets = np.array([frame.position_mm - first.position_mm for frame in frames])
    drift = np.stack(
        [offsets @ first.orientation[1] / first.spacing_mm[0], offsets @ first.orientation[0] / first.spacing_mm[1]],
        axis=1,
    )
    if np.abs(drift).max() <= MAX_DRIFT_PX:
        return np.zeros_like(drift), first.shape, []
    moves = drift - drift.min(axis=0)
    extra = np.ceil(moves.max(axis=0) - 1e-6).astype(int)
    spread_mm = float(np.linalg.norm(np.ptp(drift, axis=0) * first.spacing_mm))
    rise_mm = float(_along_normal(frames)[-1])
    return moves, (first.shape[0] + int(extra[0]), first.shape[1] + int(extra[1])), [
        f"The slices are sheared by gantry tilt ({np.degrees(np.arctan2(spread_mm, rise_mm)):.3g} degrees): "
        "each was moved within its plane to line up; masks lie on the straightened grid."
    ]  # fmt: skip


class _LazySlices:
    """What dask asks of an array, decoded frame by frame."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.shape, self.ndim, self.dtype = grid.shape, 3, _value_dtype(grid.frames)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        keys: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
        column, row, which = keys + (slice(None),) * (3 - len(keys))
        wanted = np.arange(self.shape[2])[which]
        slices = [self._slice(int(index))[column, row] for index in np.atleast_1d(wanted)]
        return slices[0] if np.ndim(wanted) == 0 else np.stack(slices, axis=-1)

    def _slice(self, index: int) -> npt.NDArray[Any]:
        """Slice (column, row) of the grid, in the array's dtype."""
        lower, upper, weight = self.grid.sources[index]
        values = self._frame(lower)
        if weight:
            values = (1 - weight) * values + weight * self._frame(upper)
        if self.dtype.kind == "i":
            limits = np.iinfo(self.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        return values.astype(self.dtype).T

    def _frame(self, number: int) -> npt.NDArray[np.float64]:
        """Frame (row, column), moved in its plane; what lies outside it takes its smallest value."""
        values = read_values(self.grid.frames[number])
        shape = (self.grid.shape[1], self.grid.shape[0])
        if values.shape == shape:
            return values
        low = float(values.min())
        padded = np.pad(
            values, [(0, size - have) for size, have in zip(shape, values.shape, strict=True)], constant_values=low
        )
        moved: npt.NDArray[np.float64] = ndimage.shift(padded, self.grid.shifts_px[number], order=1, cval=low)
        return moved


def _value_dtype(frames: Sequence[Frame]) -> np.dtype[Any]:
    """int16 or int32 where every rescale keeps whole numbers, else float32.

    Values below -32768 are no HU; they do not cost a type twice the size and are clipped.
    """
    if any(frame.slope % 1 or frame.intercept % 1 for frame in frames):
        return np.dtype(np.float32)
    highest = max(value * frame.slope + frame.intercept for frame in frames for value in frame.limits)
    return np.dtype(np.int16 if highest <= np.iinfo(np.int16).max else np.int32)
