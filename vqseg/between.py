"""Filling the slices between two complete ones with the shape that signed distances interpolate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations
from vqseg.errors import AnnotationError
from vqseg.interpolation import interpolate_labels

__all__ = ["Filling", "fill_between", "gap_around", "gaps_between_shapes"]


@dataclass(frozen=True)
class Filling:
    """Labels for the slices between two complete ones.

    Parameters
    ----------
    low, high : int
        The complete slices.
    labels : ndarray
        (high - low - 1, y, x) uint8, from slice low + 1 on.
    follows_anatomy : bool
        Whether the shapes move as the image does, as far as that pays; or else straight from end to end.
    """

    low: int
    high: int
    labels: npt.NDArray[np.uint8]
    follows_anatomy: bool = False

    @property
    def slices(self) -> range:
        """The slices in between."""
        return range(self.low + 1, self.high)

    def slice(self, z: int) -> npt.NDArray[np.uint8]:
        """The labels of slice z, (y, x) uint8."""
        return self.labels[z - self.low - 1]

    def followed_by(self, labels: Mapping[int, npt.NDArray[np.uint8]]) -> Filling:
        """The same with labels, (y, x) uint8, that follow the anatomy in some slices z."""
        merged = np.stack([labels.get(z, self.slice(z)) for z in self.slices])
        return Filling(self.low, self.high, merged, follows_anatomy=True)


def gap_around(annotations: Annotations, z: int) -> tuple[int, int]:
    """The neighbouring complete slices around slice z; where z itself is complete, those of the gap below it, or above.

    Raises
    ------
    AnnotationError
        If z does not lie between complete slices, or none is left between them.
    """
    complete = annotations.complete
    pairs = [pair for pair in pairwise(complete) if pair[0] <= z <= pair[1]]
    if not pairs:
        raise AnnotationError(
            f"Slice {z} does not lie between two complete slices; complete one on either side of it, then fill between."
        )
    for low, high in pairs:
        if high - low > 1:
            return low, high
    raise AnnotationError(f"Every slice beside slice {z} is complete; there is nothing left to fill here.")


def gaps_between_shapes(annotations: Annotations) -> list[tuple[int, int]]:
    """All neighbouring complete slices with slices left between them; not those that are both empty.

    Raises
    ------
    AnnotationError
        If there is none.
    """
    empty = set(annotations.empty_complete)
    gaps = [pair for pair in pairwise(annotations.complete) if pair[1] - pair[0] > 1 and not empty.issuperset(pair)]
    if not gaps:
        raise AnnotationError(
            "There is no gap to fill: complete slices on both sides of one, at least one of them with a structure."
        )
    return gaps


def fill_between(annotations: Annotations, gap: tuple[int, int], spacing_mm: Sequence[float]) -> Filling:
    """Interpolate all classes between two complete slices; what is painted in between stands.

    Parameters
    ----------
    annotations : Annotations
        What is labelled.
    gap : tuple of int
        Two complete slices, the lower first.
    spacing_mm : sequence of float
        Spacing along (z, y, x), mm.
    """
    low, high = gap
    part = annotations.labels[low : high + 1]
    ends = Annotations(part, {0: annotations.records[low], high - low: annotations.records[high]})
    filled = interpolate_labels(ends, ends.classes, spacing_mm)[1:-1]
    painted = part[1:-1]
    return Filling(low, high, np.where(painted > 0, painted, filled))
