"""How far a structure may reach: not beyond what the labelled slices allow, and never in loose pieces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vqseg.annotations import Annotations

__all__ = ["keep_reachable", "reach"]


def reach(annotations: Annotations, value: int) -> tuple[int, int] | None:
    """First and last slice a class may be in; None where no used slice holds it.

    Where every labelled slice contains a structure, nothing tells where it ends: it may go on for half a gap between
    labelled slices. A labelled slice without it, beyond the outermost with it, is the end for certain.
    """
    used = annotations.used
    holding = [z for z in used if (annotations.labels[z] == value).any()]
    if not holding:
        return None
    gaps = np.diff(used)
    half_gap = max(1, int(np.median(gaps)) // 2) if len(gaps) else annotations.labels.shape[0]
    complete = annotations.complete
    before = [z for z in complete if z < holding[0]]
    after = [z for z in complete if z > holding[-1]]
    first = before[-1] + 1 if before else max(0, holding[0] - half_gap)
    last = after[0] - 1 if after else min(annotations.labels.shape[0] - 1, holding[-1] + half_gap)
    return first, last


def keep_reachable(labels: npt.NDArray[np.uint8], annotations: Annotations, n_classes: int) -> None:
    """Erase, in place, predicted voxels out of reach and components that touch no labelled slice of their class.

    On a volume without a labelled slice, as one that a network from elsewhere is tried on, nothing is erased.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8 prediction; changed.
    annotations : Annotations
        The labelled slices.
    n_classes : int
        Number of classes K.
    """
    if not annotations.used:
        return
    boxes = ndimage.find_objects(labels, max_label=n_classes)
    for value, box in enumerate(boxes, start=1):
        if box is None:
            continue
        limits = reach(annotations, value)
        found = labels == value
        if limits is None:
            labels[found] = 0
            continue
        beyond = found.copy()
        beyond[limits[0] : limits[1] + 1] = False
        labels[beyond] = 0
        _drop_loose(labels, found & ~beyond, annotations, value)


def _drop_loose(
    labels: npt.NDArray[np.uint8], found: npt.NDArray[np.bool_], annotations: Annotations, value: int
) -> None:
    for z in annotations.complete:
        found[z] = annotations.labels[z] == value
    for z in annotations.scribbled:
        found[z] |= annotations.labels[z] == value
    boxes = ndimage.find_objects(found.view(np.uint8))
    if not boxes:
        return
    components, count = ndimage.label(found[boxes[0]], structure=np.ones((3, 3, 3)))
    drawn = (annotations.labels[boxes[0]] == value) & _on_used(annotations, boxes[0])
    touched = np.zeros(count + 1, bool)
    touched[np.unique(components[drawn])] = True
    loose = (components > 0) & ~touched[components]
    labels[boxes[0]][loose] = 0


def _on_used(annotations: Annotations, box: tuple[slice, ...]) -> npt.NDArray[np.bool_]:
    used = np.zeros((annotations.labels.shape[0], 1, 1), bool)
    used[annotations.used] = True
    return used[box[0]]
