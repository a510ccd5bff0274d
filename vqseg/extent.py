"""How far a structure may reach: not beyond what the labelled slices allow, and never in loose pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vqseg.annotations import Annotations

__all__ = ["keep_reachable", "reach"]

Box = tuple[slice, ...]

LONGEST = 2.0
"""How far a class may reach from the only labelled slice, in widths that it has there."""


def reach(annotations: Annotations, value: int, spacing_mm: Sequence[float]) -> tuple[int, int] | None:
    """First and last slice a class may be in; None where no used slice holds it.

    Where every labelled slice contains a structure, nothing tells where it ends: it may go on for half a gap between
    labelled slices, and from a single complete one for twice its width in it. A labelled slice without it, beyond the
    outermost with it, is the end for certain.

    Parameters
    ----------
    annotations : Annotations
        The labelled slices.
    value : int
        The class.
    spacing_mm : sequence of float
        Along (z, y, x), mm.
    """
    used = annotations.used
    holding = [z for z in used if (annotations.labels[z] == value).any()]
    if not holding:
        return None
    gaps, complete = np.diff(used), annotations.complete
    if len(gaps):
        further = max(1, int(np.median(gaps)) // 2)
    elif complete:
        further = max(1, int(LONGEST * _width_mm(annotations.labels[used[0]] == value, spacing_mm[1:]) / spacing_mm[0]))
    else:  # a scribble is narrower than what it is in
        further = annotations.labels.shape[0]
    before = [z for z in complete if z < holding[0]]
    after = [z for z in complete if z > holding[-1]]
    first = before[-1] + 1 if before else max(0, holding[0] - further)
    last = after[0] - 1 if after else min(annotations.labels.shape[0] - 1, holding[-1] + further)
    return first, last


def _width_mm(drawn: npt.NDArray[np.bool_], spacing_yx_mm: Sequence[float]) -> float:
    """The longer side of the box round what is drawn in a slice (y, x), mm."""
    box = ndimage.find_objects(drawn.view(np.uint8))[0]
    return float(max((side.stop - side.start) * mm for side, mm in zip(box, spacing_yx_mm, strict=True)))


def keep_reachable(
    labels: npt.NDArray[np.uint8], annotations: Annotations, highest: int, spacing_mm: Sequence[float]
) -> None:
    """Erase, in place, predicted voxels out of reach and components that touch no labelled slice of their class.

    On a volume without a labelled slice, as one that a network from elsewhere is tried on, nothing is erased.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8 prediction; changed.
    annotations : Annotations
        The labelled slices.
    highest : int
        Highest label value.
    spacing_mm : sequence of float
        Along (z, y, x), mm.
    """
    if not annotations.used:
        return
    for value, box in enumerate(ndimage.find_objects(labels, max_label=highest), start=1):
        if box is None:
            continue
        limits = reach(annotations, value, spacing_mm)
        if limits is None:
            _erase(labels[box], value)
            continue
        first, last = (max(0, z - box[0].start) for z in (limits[0], limits[1] + 1))
        _erase(labels[box][:first], value)
        _erase(labels[box][last:], value)
        _drop_loose(labels, box, annotations, value)


def _erase(labels: npt.NDArray[np.uint8], value: int) -> None:
    labels[labels == value] = 0


def _drop_loose(labels: npt.NDArray[np.uint8], box: Box, annotations: Annotations, value: int) -> None:
    """Erase a class's components that touch none of its drawn voxels; `box` holds the class."""
    drawn = {z: annotations.labels[z] == value for z in annotations.used}
    box = _around(box, drawn)
    z0, z1, within = box[0].start, box[0].stop, box[1:]
    drawn = {z - z0: there[within] for z, there in drawn.items() if z0 <= z < z1}
    found = labels[box] == value
    for z in annotations.complete:
        if z0 <= z < z1:
            found[z - z0] = False
    for z, there in drawn.items():
        found[z] |= there
    components, count = ndimage.label(found, structure=np.ones((3, 3, 3)))
    stays = np.zeros(count + 1, bool)
    stays[0] = True
    for z, there in drawn.items():
        stays[components[z][there]] = True
    labels[box][~stays[components]] = 0


def _around(box: Box, drawn: Mapping[int, npt.NDArray[np.bool_]]) -> Box:
    """The box enlarged to the drawn voxels of each slice z."""
    boxes = [box]
    for z, there in drawn.items():
        boxes += [(slice(z, z + 1), *found) for found in ndimage.find_objects(there.view(np.uint8))]
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
