"""Filling slices between complete ones with shapes that follow the anatomy; it takes no network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from vqseg.annotations import Annotations
from vqseg.config import DataConfig
from vqseg.data.case import PreparedCase
from vqseg.data.framing import TrainingCase, frame_cases
from vqseg.errors import AnnotationError

__all__ = ["fill_along"]


@torch.inference_mode()
def fill_along(case: TrainingCase, slices: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The labelled shapes in some slices, carried there with the anatomy as far as that pays; what is painted stands.

    The frame and the contrast are those of a training: see :mod:`vqseg.data.framing`. How much of each class's shape
    follows the anatomy is decided by leaving labelled slices out: see :class:`vqseg.data.ShapePrior`. That takes the
    two next complete slices on either side; those farther off are not looked at.

    Parameters
    ----------
    case : TrainingCase
        A volume and what is labelled on it.
    slices : sequence of int
        Those to fill, z; at least one.

    Returns
    -------
    ndarray
        (n, y, x) uint8 labels on the volume's voxels.

    Raises
    ------
    AnnotationError
        If no slice is complete.
    """
    annotations = _around(case.annotations, slices)
    values = annotations.classes
    framing = frame_cases([TrainingCase(case.volume, annotations)], DataConfig())
    prepared = PreparedCase(case.volume, annotations, framing, values)
    if prepared.shape is None:
        raise AnnotationError("No slice is complete; complete one on either side of a gap, then fill between.")
    y0, y1, x0, x1 = prepared.box
    filled = np.array(annotations.labels[list(slices)])
    for labels, z in zip(filled, slices, strict=True):
        depth, deepest = prepared.to_volume(prepared.shape.at(z).distance_maps).min(0)
        shapes = np.where(depth.numpy() < 0, np.array(values, np.uint8)[deepest.numpy()], 0)
        inside = labels[y0:y1, x0:x1]
        inside[inside == 0] = shapes[inside == 0]
    return filled


def _around(annotations: Annotations, slices: Sequence[int]) -> Annotations:
    """The annotations from the second complete slice below to the second above some slices."""
    below = [z for z in annotations.complete if z < min(slices)][-2:]
    above = [z for z in annotations.complete if z > max(slices)][:2]
    low, high = min(below, default=0), max(above, default=len(annotations.labels))
    records = {z: record for z, record in annotations.records.items() if low <= z <= high}
    return Annotations(annotations.labels, records)
