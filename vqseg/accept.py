"""Making what the machine proposes an annotation, with a person's consent; what a person has painted always stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vqseg.annotations import PAINTED_BACKGROUND, Annotations, Origin, SliceRecord, SliceState
from vqseg.between import Filling
from vqseg.components import Component

__all__ = ["SliceChange", "accept_component", "accept_filling", "accept_slices", "is_drawn"]

MARGIN_MM = 5.0
"""How far around an accepted component the predicted background is accepted with it."""


@dataclass(frozen=True)
class SliceChange:
    """What a slice's labels, (y, x) uint8, and its record become; without a record it is unlabelled."""

    labels: npt.NDArray[np.uint8]
    record: SliceRecord | None


def is_drawn(annotations: Annotations, z: int) -> bool:
    """Whether slice z was drawn, here or elsewhere, and finished, so that nothing proposed may replace it."""
    record = annotations.records.get(z)
    return record is not None and record.state is SliceState.COMPLETE and record.origin is not Origin.ACCEPTED


def _record(annotations: Annotations, z: int, state: SliceState) -> SliceRecord:
    """The record of slice z once something in it is accepted: mixed where a person has painted there before."""
    record = annotations.records.get(z)
    alone = record is None or record.origin is Origin.ACCEPTED or not annotations.labels[z].any()
    return SliceRecord(state, Origin.ACCEPTED if alone else Origin.MIXED)


def _over(annotations: Annotations, z: int, proposed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A proposal for slice z under what a person has painted there; an earlier accepted proposal gives way."""
    record = annotations.records.get(z)
    if record is None or record.origin is Origin.ACCEPTED:
        return np.array(proposed, dtype=np.uint8)
    painted = annotations.labels[z]
    return np.where(painted > 0, painted, proposed)


def accept_slices(
    annotations: Annotations, prediction: npt.NDArray[np.uint8], slices: Iterable[int]
) -> dict[int, SliceChange]:
    """Predicted slices as complete annotations; drawn and finished slices are left out.

    Parameters
    ----------
    annotations : Annotations
        What is labelled; stays as it is.
    prediction : ndarray
        (z, y, x) uint8.
    slices : iterable of int
        Canonical slice indices.
    """
    return {
        z: SliceChange(_over(annotations, z, prediction[z]), _record(annotations, z, SliceState.COMPLETE))
        for z in slices if not is_drawn(annotations, z)
    }  # fmt: skip


def accept_filling(annotations: Annotations, filling: Filling, slices: Iterable[int]) -> dict[int, SliceChange]:
    """Slices filled between complete ones as complete annotations."""
    return {
        z: SliceChange(_over(annotations, z, filling.slice(z)), _record(annotations, z, SliceState.COMPLETE))
        for z in slices if z in filling.slices
    }  # fmt: skip


def accept_component(
    annotations: Annotations, prediction: npt.NDArray[np.uint8], component: Component, spacing_mm: Sequence[float]
) -> dict[int, SliceChange]:
    """A predicted component as annotations of the slices it lies in, beside what is labelled there.

    A slice becomes complete once nothing predicted in it is left to be accepted. Until then only its components are
    known, with the predicted background close around them, and it is scribbled.

    Parameters
    ----------
    annotations : Annotations
        What is labelled; stays as it is.
    prediction : ndarray
        (z, y, x) uint8, the prediction that the component was found in.
    component : Component
        What is accepted.
    spacing_mm : sequence of float
        Spacing along (z, y, x), mm.
    """
    return {
        z: _beside(annotations, z, component.slice(z, prediction.shape[1:]), component.value, prediction[z], spacing_mm)
        for z in component.slices if not is_drawn(annotations, z)
    }  # fmt: skip


def _beside(
    annotations: Annotations,
    z: int,
    mask: npt.NDArray[np.bool_],
    value: int,
    predicted: npt.NDArray[np.uint8],
    spacing_mm: Sequence[float],
) -> SliceChange:
    """Slice z with a component in it: over what was accepted there, under what a person has painted."""
    labels, record = annotations.labels[z].copy(), annotations.records.get(z)
    accepted = record is not None and record.origin is Origin.ACCEPTED
    labels[mask & (accepted | (labels == 0))] = value
    around = accepted & (labels == PAINTED_BACKGROUND)
    labels[around & (predicted > 0)] = 0  # an older prediction's background
    if annotations.state(z) is SliceState.COMPLETE or not (predicted[labels == 0] > 0).any():
        labels[around] = 0
        return SliceChange(labels, _record(annotations, z, SliceState.COMPLETE))
    near = ndimage.distance_transform_edt(~mask, sampling=spacing_mm[1:]) <= MARGIN_MM
    labels[near & (predicted == 0) & (labels == 0)] = PAINTED_BACKGROUND
    return SliceChange(labels, _record(annotations, z, SliceState.SCRIBBLED))
