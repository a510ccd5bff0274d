"""How sure and how stable a prediction is, slice by slice, where it counts: in and around the structures.

A mean over a whole slice says nothing, since background is always sure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["class_means", "coarse_to_fine", "confidence_profile", "slice_stability", "wavering_mm2"]

UNSURE = 0.5
"""Uncertainty (entropy over its largest value) from which background counts as a possible structure."""


def confidence_profile(labels: npt.NDArray[np.uint8], uncertainty: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Mean confidence of each slice that holds a predicted structure, over that and what might belong to it.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8 prediction; may be a memory map.
    uncertainty : ndarray
        (z, y, x) in [0, 1], as :class:`vqseg.prediction.Prediction` has it; may be a memory map.

    Returns
    -------
    ndarray
        (z,) float32 in [0, 1]; NaN in slices without any structure, where there is nothing to be confident in.
    """
    profile = np.full(labels.shape[0], np.nan, dtype=np.float32)
    for z in range(labels.shape[0]):
        unsure, structure = np.asarray(uncertainty[z]), labels[z] > 0
        if structure.any():
            profile[z] = 1 - unsure[structure | (unsure >= UNSURE)].mean(dtype=np.float64)
    return profile


def slice_stability(labels_yx: npt.NDArray[np.uint8], stability_yx: npt.ArrayLike) -> float:
    """Mean stability over the predicted structures and wherever the draws disagree.

    Parameters
    ----------
    labels_yx : ndarray
        (y, x) uint8 prediction.
    stability_yx : array_like
        (y, x) share of the draws that agree, in [0, 1].

    Returns
    -------
    float
        In [0, 1]; NaN where there is no structure in any draw.
    """
    stability = np.asarray(stability_yx)
    counted = stability[(labels_yx > 0) | (stability < 1)]
    return float(counted.mean(dtype=np.float64)) if counted.size else float("nan")


def class_means(labels_yx: npt.NDArray[np.uint8], values_yx: npt.ArrayLike) -> dict[int, float]:
    """Mean of a map within each class of a slice.

    Parameters
    ----------
    labels_yx : ndarray
        (y, x) uint8.
    values_yx : array_like
        (y, x), such as confidence or stability.

    Returns
    -------
    dict
        Mean by class value; classes that are not there have none.
    """
    flat = labels_yx.ravel()
    counts = np.bincount(flat)
    sums = np.bincount(flat, weights=np.asarray(values_yx, dtype=np.float64).ravel())
    return {int(value): float(sums[value] / counts[value]) for value in np.flatnonzero(counts) if value}


def wavering_mm2(stability_yx: npt.ArrayLike, spacing_mm: Sequence[float]) -> float:
    """Area of a slice on which the draws do not all agree, mm^2.

    Parameters
    ----------
    stability_yx : array_like
        (y, x) share of the draws that agree.
    spacing_mm : sequence of float
        Spacing along (z, y, x), mm.
    """
    return float(np.count_nonzero(np.asarray(stability_yx) < 1) * spacing_mm[1] * spacing_mm[2])


def coarse_to_fine(slices: Iterable[int]) -> list[int]:
    """The slices in an order that shows the whole range early: every 16th first, then the ones between."""
    left = sorted(slices)
    return list(dict.fromkeys(z for stride in (16, 8, 4, 2, 1) for z in left[::stride]))
