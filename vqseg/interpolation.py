"""The shape between labelled slices: signed distance maps, blended linearly.

Each class's signed distance map, in mm and in-plane, is blended linearly between neighbouring complete
slices; where the blend is below zero, there the class is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

if TYPE_CHECKING:
    from vqseg.annotations import Annotations

__all__ = ["DISTANCE_CAP_MM", "interpolate_labels", "interpolate_signed_distance", "signed_distance"]

DISTANCE_CAP_MM = 20.0
"""Distances outside a structure are not followed further than this."""

_Window = tuple[slice, slice]


def _box(mask: npt.NDArray[np.bool_]) -> _Window | None:
    """Smallest window that holds the mask, None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _grown(window: _Window, margin: Sequence[int], shape: Sequence[int]) -> _Window:
    rows, columns = (
        slice(max(0, side.start - grow), min(size, side.stop + grow))
        for side, grow, size in zip(window, margin, shape, strict=True)
    )
    return rows, columns


def _exact_distance(mask: npt.NDArray[np.bool_], spacing_yx_mm: Sequence[float]) -> npt.NDArray[np.float32]:
    """Signed distance to the edge between voxels, mm; outside the array there is background. Not for empty masks."""
    half = min(spacing_yx_mm) / 2
    distance = np.zeros(mask.shape, dtype=np.float32)
    if not mask.all():
        distance += ndimage.distance_transform_edt(~mask, sampling=spacing_yx_mm).astype(np.float32) - half
    box = _box(mask)
    assert box is not None
    inside = np.pad(mask[box], 1)
    depth = ndimage.distance_transform_edt(inside, sampling=spacing_yx_mm)[1:-1, 1:-1].astype(np.float32) - half
    distance[box] = np.where(mask[box], -depth, distance[box])
    return distance


def signed_distance(
    labels_yx: npt.NDArray[np.uint8], value: int, spacing_yx_mm: Sequence[float], cap_mm: float = DISTANCE_CAP_MM
) -> npt.NDArray[np.float32]:
    """Distance of each voxel to the edge of a class in one slice.

    Parameters
    ----------
    labels_yx : ndarray
        (y, x) labels.
    value : int
        Class value.
    spacing_yx_mm : sequence of float
        Spacing along y and x, mm.
    cap_mm : float
        Largest distance outside; also the distance everywhere in a slice without the class.

    Returns
    -------
    ndarray
        (y, x) float32, mm, negative inside.
    """
    mask = np.asarray(labels_yx) == value
    distance = np.full(mask.shape, cap_mm, dtype=np.float32)
    box = _box(mask)
    if box is not None:
        margin = [int(np.ceil(cap_mm / step)) + 1 for step in spacing_yx_mm]
        window = _grown(box, margin, mask.shape)
        distance[window] = np.minimum(_exact_distance(mask[window], spacing_yx_mm), cap_mm)
    return distance


class _ClassMaps:
    """Signed distance maps of one class in every complete slice, in the window that holds them all."""

    def __init__(self, annotations: Annotations, value: int, spacing_yx_mm: Sequence[float], margin_mm: float) -> None:
        masks = {z: annotations.labels[z] == value for z in annotations.complete}
        shape = annotations.labels.shape[1:]
        box = _box(np.logical_or.reduce(list(masks.values()))) if masks else None
        self.window: _Window | None = None
        self.maps: dict[int, npt.NDArray[np.float32] | None] = {}
        if box is not None:
            margin = [int(np.ceil(margin_mm / step)) + 1 if margin_mm else 0 for step in spacing_yx_mm]
            self.window = _grown(box, margin, shape)
            for z, mask in masks.items():
                cropped = mask[self.window]
                self.maps[z] = _exact_distance(cropped, spacing_yx_mm) if cropped.any() else None

    def pair(self, low: int, high: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        """Maps of two neighbouring complete slices; None where neither holds the class.

        Beside a structure an empty slice counts as far outside as the structure is deep, so that the structure
        shrinks evenly and its core ends half-way: the best guess where the end is not known.
        """
        one, other = self.maps[low], self.maps[high]
        if one is None and other is None:
            return None
        if one is None:
            assert other is not None
            return np.maximum(other, 0) - other.min(), other
        if other is None:
            return one, np.maximum(one, 0) - one.min()
        return one, other


def _intervals(annotations: Annotations) -> list[tuple[int, int]]:
    """Neighbouring complete slices; a single one is its own neighbour."""
    complete = annotations.complete
    return list(pairwise(complete)) if len(complete) > 1 else [(z, z) for z in complete]


def _blend(low: npt.NDArray[np.float32], high: npt.NDArray[np.float32], n_slices: int) -> npt.NDArray[np.float32]:
    """Maps (n, y, x) from `low` to `high`, both included."""
    weight = np.linspace(0, 1, n_slices, dtype=np.float32)[:, None, None]
    blended = np.multiply(high - low, weight)
    blended += low
    return blended


def interpolate_signed_distance(
    annotations: Annotations,
    classes: Sequence[int],
    spacing_mm: Sequence[float],
    cap_mm: float = DISTANCE_CAP_MM,
) -> npt.NDArray[np.float32]:
    """Signed distance of each class, interpolated between the complete slices.

    Parameters
    ----------
    annotations : Annotations
        Only complete slices are used.
    classes : sequence of int
        Class values, in the order of the result.
    spacing_mm : sequence of float
        Spacing along (z, y, x), mm.
    cap_mm : float
        Largest distance; also the distance beyond the outermost complete slices, where nothing is known.

    Returns
    -------
    ndarray
        (K, z, y, x) float32, mm, negative inside.
    """
    result = np.full((len(classes), *annotations.labels.shape), cap_mm, dtype=np.float32)
    for k, value in enumerate(classes):
        maps = _ClassMaps(annotations, value, spacing_mm[1:], cap_mm)
        for low, high in _intervals(annotations) if maps.window else []:
            pair = maps.pair(low, high)
            if pair is not None and maps.window is not None:
                part = result[(k, slice(low, high + 1), *maps.window)]
                np.minimum(_blend(*pair, high - low + 1), cap_mm, out=part)
        _restore(result[k], annotations, maps, cap_mm)
    return result


def _restore(result: npt.NDArray[np.float32], annotations: Annotations, maps: _ClassMaps, cap_mm: float) -> None:
    """Complete slices keep their own map, whatever their neighbours needed."""
    for z in annotations.complete if maps.window else []:
        own, window = maps.maps[z], maps.window
        assert window is not None
        result[(z, *window)] = cap_mm if own is None else np.minimum(own, cap_mm)


def interpolate_labels(
    annotations: Annotations, classes: Sequence[int], spacing_mm: Sequence[float]
) -> npt.NDArray[np.uint8]:
    """Labels interpolated between the complete slices: the class that a voxel lies deepest in.

    Parameters
    ----------
    annotations : Annotations
        Only complete slices are used; they come back as they are (painted background as 0).
    classes : sequence of int
        Class values.
    spacing_mm : sequence of float
        Spacing along (z, y, x), mm.

    Returns
    -------
    ndarray
        (z, y, x) uint8; 0 beyond the outermost complete slices.
    """
    shape = annotations.labels.shape
    labels = np.zeros(shape, dtype=np.uint8)
    deepest = np.zeros(shape, dtype=np.float32) if len(classes) > 1 else None
    for value in classes:
        maps = _ClassMaps(annotations, value, spacing_mm[1:], 0.0)
        for low, high in _intervals(annotations) if maps.window else []:
            pair = maps.pair(low, high)
            if pair is None or maps.window is None:
                continue
            part = (slice(low, high + 1), *maps.window)
            blended = _blend(*pair, high - low + 1)
            wins = blended < (0 if deepest is None else deepest[part])
            labels[part][wins] = value
            if deepest is not None:
                np.minimum(deepest[part], blended, out=deepest[part])
    for z in annotations.complete:
        labels[z] = np.where(np.isin(annotations.labels[z], list(classes)), annotations.labels[z], 0)
    return labels
