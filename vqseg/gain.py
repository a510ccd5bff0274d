"""What labelling one more slice would settle.

Between two labelled slices the shape is interpolated, so what is wrong there grows with the length of the gap and with
what lies in it: a gap's expected errors are its length times the sum over its slices of how prone to errors they are.
A slice labelled within it leaves two shorter gaps; the difference is its gain. So not the slice that looks worst is
worth most but the one that splits a long gap in which much changes. Beyond the outermost labelled slices lies a gap to
where their structures may go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations, SliceState

__all__ = ["Course", "Gap", "course", "expected_errors", "gaps", "settled"]

LEAP = 1.5
"""A structure that the labelled slices do not show shrinking may go on for so many times their span."""
EXTRAPOLATION = 4.0
"""Errors beyond the outermost labelled slice, where shapes are known from one side, against those between two."""

Profile = npt.NDArray[np.float64]


class Gap(NamedTuple):
    """A run of unlabelled slices in which structures are to be expected.

    Parameters
    ----------
    low, high : int
        The slices on either side: labelled ones, or that behind the last to be expected, from -1 to the number of
        slices.
    open_towards : int
        -1 or 1 where only the other side is labelled: the gap beyond the lowest or the highest labelled slice.
    """

    low: int
    high: int
    open_towards: int = 0


@dataclass(frozen=True)
class Course:
    """How the structures run along the volume; each counts the same, however large it is.

    Parameters
    ----------
    area, change : ndarray
        (z,) area of the structures in each slice, and by how much they differ from the slices beside it, as shares of
        each structure's volume, summed over the structures.
    beyond : (int, int)
        How many slices beyond the lowest and the highest complete slice their structures may go on.
    """

    area: Profile
    change: Profile
    beyond: tuple[int, int]


def gaps(annotations: Annotations, labelled: Sequence[int], beyond: tuple[int, int]) -> list[Gap]:
    """The runs of unlabelled slices in which structures are to be expected.

    Parameters
    ----------
    annotations : Annotations
        What is labelled.
    labelled : sequence of int
        Slices that count as labelled, at least one, in any order.
    beyond : (int, int)
        How many slices below the lowest and above the highest labelled slice a structure in it may go on. Where that is
        complete and empty, or not labelled in truth, there is no gap, once a structure has been found.

    Returns
    -------
    list of Gap
        From the feet to the head.
    """
    inner = sorted(labelled)
    found = [Gap(low, high) for low, high in pairwise(inner)]
    if _is_open_ended(annotations, inner[0]):
        found.insert(0, Gap(max(-1, inner[0] - beyond[0] - 1), inner[0], -1))
    if _is_open_ended(annotations, inner[-1]):
        found.append(Gap(inner[-1], min(annotations.labels.shape[0], inner[-1] + beyond[1] + 1), 1))
    return [gap for gap in found if gap.high - gap.low > 1]


def _is_open_ended(annotations: Annotations, z: int) -> bool:
    state = annotations.state(z)
    if not annotations.classes:  # nothing has been found yet, so that it may be anywhere
        return True
    return state == SliceState.SCRIBBLED or (state == SliceState.COMPLETE and bool(annotations.target(z).any()))


def expected_errors(spans: Sequence[Gap], prone: Profile) -> float:
    """The errors to be expected in all gaps together, in the unit of `prone` times slices."""
    return float(sum(
        (EXTRAPOLATION if towards else 1) * (high - low) * prone[low + 1 : high].sum() for low, high, towards in spans
    ))  # fmt: skip


def settled(spans: Sequence[Gap], prone: Profile) -> Profile:
    """(z,) how much less errors are to be expected once a slice is labelled; 0 outside the gaps.

    Parameters
    ----------
    spans : sequence of Gap
        From :func:`gaps`.
    prone : ndarray
        (z,) how prone to errors each slice is.
    """
    gain = np.zeros(len(prone))
    before = np.concatenate([[0.0], np.cumsum(prone)])
    for low, high, towards in spans:
        z = np.arange(low + 1, high)
        feet, head = (EXTRAPOLATION if towards == side else 1 for side in (-1, 1))
        to_feet, to_head = (z - low) * (before[z] - before[low + 1]), (high - z) * (before[high] - before[z + 1])
        gain[z] = max(feet, head) * (high - low) * (before[high] - before[low + 1]) - feet * to_feet - head * to_head
    return gain


def course(annotations: Annotations, predicted: npt.NDArray[np.uint8] | None, spacing_mm: Sequence[float]) -> Course:
    """How the structures seem to run, from the complete slices and a prediction.

    Parameters
    ----------
    annotations : Annotations
        What is labelled.
    predicted : ndarray, optional
        (z, y, x) labels; may be a memory map. Without them what differs between two complete slices is spread evenly
        over those between.
    spacing_mm : sequence of float
        Spacing along (z, y, x), mm.
    """
    n_slices = annotations.labels.shape[0]
    area, change = _between(_slices(annotations, predicted), n_slices)
    beyond = [n_slices, n_slices]
    if (complete := annotations.complete) and annotations.classes:
        ends = (complete[0], complete[:2][-1], -1), (complete[-1], complete[-2:][0], 1)
        for side, (outer, inner, away) in enumerate(ends):
            area[:, outer] = _counts(annotations, outer)
            lost = (_counts(annotations, inner) - area[:, outer]) / max(1, abs(outer - inner))
            lengths = _going_on(area[:, outer], lost, complete[-1] - complete[0], spacing_mm)
            _dwindle(area, change, outer, away, lengths)
            beyond[side] = int(lengths.max())
    size = area.sum(1, keepdims=True)
    kept = np.flatnonzero(size[1:, 0]) + 1
    return Course((area[kept] / size[kept]).sum(0), (change[kept] / size[kept]).sum(0), (beyond[0], beyond[1]))


def _between(slices: Iterator[tuple[int, npt.NDArray[np.uint8]]], n_slices: int) -> tuple[Profile, Profile]:
    """(256, z) voxels of each class, and half of those that differ on either side, evenly between the known slices."""
    area, change = np.zeros((256, n_slices)), np.zeros((256, n_slices))
    for (low, before), (high, after) in pairwise(slices):
        pairs = np.bincount((before.astype(np.uint16) << 8 | after).ravel(), minlength=65536).reshape(256, 256)
        steps = np.linspace(0, 1, high - low + 1)
        area[:, low : high + 1] = pairs.sum(1)[:, None] * (1 - steps) + pairs.sum(0)[:, None] * steps
        half = ((pairs.sum(1) + pairs.sum(0) - 2 * pairs.diagonal()) / (high - low) / 2)[:, None]
        change[:, low:high] += half
        change[:, low + 1 : high + 1] += half
    return area, change


def _counts(annotations: Annotations, z: int) -> Profile:
    """(256,) voxels of each class in a complete slice, background left out."""
    counts = np.bincount(annotations.target(z).ravel(), minlength=256).astype(np.float64)
    counts[0] = 0
    return counts


def _slices(
    annotations: Annotations, predicted: npt.NDArray[np.uint8] | None
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """What is known of the volume, slice by slice: the complete slices, and between them the prediction."""
    complete = annotations.complete
    if predicted is None:
        yield from ((z, annotations.target(z)) for z in complete)
        return
    drawn = set(complete)
    for z in range(len(predicted)):
        yield z, annotations.target(z) if z in drawn else np.asarray(predicted[z])


def _going_on(outer: Profile, lost: Profile, span: int, spacing_mm: Sequence[float]) -> Profile:
    """(256,) slices that each class may go on beyond the outermost complete slice, where its area is `outer`.

    As many as it takes to shrink to nothing if so many voxels are lost a slice; at most its radius or, if that is more,
    a multiple of the labelled slices' span.
    """
    spacing_z_mm, *in_plane_mm = spacing_mm
    shrinking = np.divide(outer, lost, out=np.full(len(outer), np.inf), where=lost > 0)
    radius = np.sqrt(outer * np.prod(in_plane_mm) / np.pi) / spacing_z_mm
    return np.where(outer > 0, np.ceil(np.clip(shrinking, 1, np.maximum(np.maximum(radius, LEAP * span), 1))), 0)


def _dwindle(area: Profile, change: Profile, outer: int, away: int, lengths: Profile) -> None:
    """Beyond the outermost complete slice let each class shrink evenly to nothing, unless more of it is predicted."""
    lost = area[:, outer] / (lengths + 1)
    for step in range(1, int(lengths.max()) + 1):
        z = outer + away * step
        if not 0 <= z < area.shape[1]:
            return
        goes_on = lengths >= step
        area[:, z] = np.maximum(area[:, z], goes_on * (area[:, outer] - step * lost))
        change[:, z] = np.maximum(change[:, z], goes_on * lost)
