"""Overlap and surface distances between a prediction and a reference, class by class.

Definitions (those of medpy, which the semi-supervised papers use)
    Dice        2 |P and R| / (|P| + |R|)
    Jaccard     |P and R| / |P or R|
    surface     voxels of a mask with one of the 6 face neighbours outside it; the volume's edge counts as outside
    HD95        95th percentile of the distances of both directions pooled (MONAI takes the larger of the two
                directions' percentiles instead, which is the same or larger)
    ASD         mean distance from the prediction's surface to the reference's

Where a class is in neither mask everything is undefined (NaN); where it is in one only, Dice and Jaccard are 0 and
the distances are undefined. Means are over what is defined, and what is not is counted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vqseg.errors import GeometryError

__all__ = ["ClassScores", "Summary", "evaluate", "evaluate_slice", "summarise"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; NaN where undefined.

    Parameters
    ----------
    dice, jaccard : float
        Overlap, 0 to 1.
    hd95_mm : float
        95th percentile of the surface distances, mm.
    asd_mm : float
        Mean distance from the prediction's surface to the reference's, mm.
    """

    dice: float
    jaccard: float
    hd95_mm: float
    asd_mm: float


@dataclass(frozen=True)
class Summary:
    """Means over the classes (or cases) where a score is defined.

    Parameters
    ----------
    mean : ClassScores
        Mean of each score over its defined values; NaN where none is.
    undefined : dict of str to int
        For each score, how many values were NaN.
    """

    mean: ClassScores
    undefined: dict[str, int]


def evaluate(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    spacing_mm: Sequence[float],
    classes: Collection[int],
    *,
    exclude_slices: Collection[int] = (),
) -> dict[int, ClassScores]:
    """Score a prediction class by class.

    Parameters
    ----------
    prediction, reference : ndarray of int
        (z, y, x) label values.
    spacing_mm : sequence of float
        Distance between voxel centres along (z, y, x), mm.
    classes : collection of int
        The label values to score.
    exclude_slices : collection of int
        Slices z that do not count, such as those a person labelled. Their voxels are left out of Dice and Jaccard,
        and their surface points out of the distances; surfaces are still those of the whole masks (leaving a
        slice out opens no false edge), and a point in a counted slice may find its nearest in an excluded one.

    Returns
    -------
    dict of int to ClassScores
        In the order of `classes`.

    Raises
    ------
    GeometryError
        If the shapes differ.
    """
    if prediction.shape != reference.shape or prediction.ndim != 3:
        raise GeometryError(
            f"The prediction has shape {prediction.shape} (z, y, x), the reference {reference.shape}; "
            "both must be volumes on the same voxels."
        )
    counted = np.ones(reference.shape[0], dtype=bool)
    counted[list(exclude_slices)] = False
    spacing = tuple(float(size) for size in spacing_mm)
    return {int(value): _class_scores(prediction == value, reference == value, spacing, counted) for value in classes}


def evaluate_slice(
    prediction_yx: npt.NDArray[Any],
    reference_yx: npt.NDArray[Any],
    spacing_yx_mm: Sequence[float],
    classes: Collection[int],
) -> dict[int, ClassScores]:
    """Score one slice in its plane: as :func:`evaluate`, where a surface is an outline.

    Parameters
    ----------
    prediction_yx, reference_yx : ndarray of int
        (y, x) label values.
    spacing_yx_mm : sequence of float
        Distance between pixel centres along (y, x), mm.
    classes : collection of int
        The label values to score.
    """
    # Between two copies of itself the slice has no surface but its outline, and nothing nearer than in its plane.
    prediction, reference = (np.repeat(labels[np.newaxis], 3, axis=0) for labels in (prediction_yx, reference_yx))
    return evaluate(prediction, reference, (1.0, *spacing_yx_mm), classes, exclude_slices=(0, 2))


def summarise(scores: Mapping[Any, ClassScores] | Sequence[ClassScores]) -> Summary:
    """Mean of each score over its defined values, and how many were not."""
    values = list(scores.values()) if isinstance(scores, Mapping) else list(scores)
    mean, undefined = {}, {}
    for item in fields(ClassScores):
        column = [getattr(score, item.name) for score in values]
        defined = [value for value in column if not math.isnan(value)]
        mean[item.name] = float(np.mean(defined)) if defined else math.nan
        undefined[item.name] = len(column) - len(defined)
    return Summary(ClassScores(**mean), undefined)


def _class_scores(prediction: Mask, reference: Mask, spacing_mm: tuple[float, ...], counted: Mask) -> ClassScores:
    """Scores of two masks (z, y, x); `counted` (z,) says which slices count."""
    box = _bounding_box(prediction | reference)
    if box is None:
        return ClassScores(math.nan, math.nan, math.nan, math.nan)
    prediction, reference, counted = prediction[box], reference[box], counted[box[0]]
    size_p, size_r = int(prediction[counted].sum()), int(reference[counted].sum())
    if size_p + size_r == 0:
        return ClassScores(math.nan, math.nan, math.nan, math.nan)
    both = int((prediction[counted] & reference[counted]).sum())
    dice, jaccard = 2 * both / (size_p + size_r), both / (size_p + size_r - both)
    if size_p == 0 or size_r == 0:
        return ClassScores(dice, jaccard, math.nan, math.nan)
    to_reference, to_prediction = _surface_distances_mm(prediction, reference, spacing_mm, counted)
    hd95 = float(np.percentile(np.concatenate([to_reference, to_prediction]), 95))
    return ClassScores(dice, jaccard, hd95, float(to_reference.mean()))


def _bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """The smallest box round the mask; None for an empty one."""
    found: list[tuple[slice, ...] | None] = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else None


def _surface_distances_mm(
    prediction: Mask, reference: Mask, spacing_mm: tuple[float, ...], counted: Mask
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distances of each mask's surface points in counted slices to the other's surface, mm."""
    surface_p, surface_r = _surface(prediction), _surface(reference)
    to_reference = ndimage.distance_transform_edt(~surface_r, sampling=spacing_mm)
    from_reference = ndimage.distance_transform_edt(~surface_p, sampling=spacing_mm)
    within = counted[:, None, None]
    return to_reference[surface_p & within], from_reference[surface_r & within]


def _surface(mask: Mask) -> Mask:
    """Voxels of the mask with a face neighbour outside it."""
    inside: Mask = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 1))
    return mask & ~inside
