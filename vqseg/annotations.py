"""What a person has labelled: which slices, how far, and by whom.

Label values are uint8: 0 unpainted, 1..254 classes, 255 background painted in a scribbled slice.
The shape between labelled slices comes from vqseg.interpolation and is offered here as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from vqseg.errors import AnnotationError
from vqseg.interpolation import DISTANCE_CAP_MM, interpolate_labels, interpolate_signed_distance, signed_distance

__all__ = [
    "DISTANCE_CAP_MM",
    "PAINTED_BACKGROUND",
    "Annotations",
    "Origin",
    "SliceRecord",
    "SliceState",
    "interpolate_labels",
    "interpolate_signed_distance",
    "signed_distance",
]

PAINTED_BACKGROUND = 255
"""Value of voxels painted as background; in a complete slice it means the same as unpainted."""


class SliceState(StrEnum):
    """How far a slice is labelled; a slice without a state is unlabelled."""

    DRAFT = "draft"
    SCRIBBLED = "scribbled"
    COMPLETE = "complete"


class Origin(StrEnum):
    """Who made a slice's labels: a person here, the network with a person's consent, both, or somebody elsewhere."""

    DRAWN = "drawn"
    ACCEPTED = "accepted"
    MIXED = "mixed"
    IMPORTED = "imported"


@dataclass(frozen=True)
class SliceRecord:
    """State and origin of one slice."""

    state: SliceState
    origin: Origin = Origin.DRAWN

    @property
    def holds_accepted(self) -> bool:
        """Whether the network made the labels, or some of them, and a person accepted them."""
        return self.origin in (Origin.ACCEPTED, Origin.MIXED)


class Annotations:
    """The labels of a volume and the state of each labelled slice.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8; kept, not copied.
    records : mapping of int to SliceRecord, optional
        State of each slice that is not unlabelled.

    Raises
    ------
    AnnotationError
        If the labels are not three-dimensional uint8, or a record lies outside the volume.
    """

    def __init__(self, labels: npt.NDArray[np.uint8], records: Mapping[int, SliceRecord] | None = None) -> None:
        labels = np.asarray(labels)
        if labels.ndim != 3 or labels.dtype != np.uint8:
            raise AnnotationError(
                f"Labels must be a (z, y, x) array of uint8; got shape {labels.shape} and {labels.dtype}. "
                "Convert them with at most 254 classes."
            )
        self.labels = labels
        self.records: dict[int, SliceRecord] = {}
        for z, record in (records or {}).items():
            self.mark(z, record.state, record.origin)

    def __repr__(self) -> str:
        return (
            f"Annotations(shape={self.labels.shape}, complete={len(self.complete)}, "
            f"scribbled={len(self.scribbled)}, draft={len(self.draft)})"
        )

    @classmethod
    def empty(cls, shape: Sequence[int]) -> Annotations:
        """Annotations of a volume (z, y, x) on which nothing is painted yet."""
        return cls(np.zeros(tuple(shape), dtype=np.uint8))

    @classmethod
    def from_slices(cls, labels: npt.ArrayLike, slices: Iterable[int], origin: Origin = Origin.DRAWN) -> Annotations:
        """Annotations whose listed slices are complete and all others unlabelled and unpainted.

        Parameters
        ----------
        labels : array_like
            (z, y, x) labels of the whole volume; only the listed slices are taken over.
        slices : iterable of int
            Canonical indices z of the complete slices.
        origin : Origin
            Who made them.
        """
        source = np.asarray(labels)
        annotations = cls.empty(source.shape)
        for z in slices:
            annotations.set_slice(int(z), source[annotations._checked(z)], SliceState.COMPLETE, origin)
        return annotations

    def _with_state(self, *states: SliceState) -> list[int]:
        return sorted(z for z, record in self.records.items() if record.state in states)

    @property
    def complete(self) -> list[int]:
        """Slices in which unpainted means background, ascending."""
        return self._with_state(SliceState.COMPLETE)

    @property
    def scribbled(self) -> list[int]:
        """Slices in which only painted voxels count, ascending."""
        return self._with_state(SliceState.SCRIBBLED)

    @property
    def draft(self) -> list[int]:
        """Slices that are being painted and not used yet, ascending."""
        return self._with_state(SliceState.DRAFT)

    @property
    def used(self) -> list[int]:
        """Slices that training learns from: complete and scribbled, ascending."""
        return self._with_state(SliceState.COMPLETE, SliceState.SCRIBBLED)

    @property
    def empty_complete(self) -> list[int]:
        """Complete slices without any class: true negatives, ascending."""
        return [z for z in self.complete if not self.has_class(z)]

    @property
    def classes(self) -> list[int]:
        """Class values that occur in the used slices, ascending."""
        values: set[int] = set()
        for z in self.used:
            values.update(np.flatnonzero(np.bincount(self.labels[z].ravel(), minlength=256)).tolist())
        return sorted(values - {0, PAINTED_BACKGROUND})

    def has_class(self, z: int) -> bool:
        """Whether any class is painted in slice z.

        Raises
        ------
        AnnotationError
            If the slice lies outside the volume.
        """
        labels_yx = self.labels[self._checked(z)]
        highest = labels_yx.max(initial=0)  # ten times as quick as to compare all
        if highest < PAINTED_BACKGROUND:
            return bool(highest > 0)
        return bool(((labels_yx > 0) & (labels_yx < PAINTED_BACKGROUND)).any())

    def state(self, z: int) -> SliceState | None:
        """State of slice z, None where it is unlabelled."""
        record = self.records.get(self._checked(z))
        return None if record is None else record.state

    def mark(self, z: int, state: SliceState, origin: Origin = Origin.DRAWN) -> None:
        """Give slice z a state; its labels stay."""
        self.records[self._checked(z)] = SliceRecord(SliceState(state), Origin(origin))

    def clear(self, z: int) -> None:
        """Make slice z unlabelled and unpainted."""
        self.records.pop(self._checked(z), None)
        self.labels[z] = 0

    def set_slice(self, z: int, labels_yx: npt.ArrayLike, state: SliceState, origin: Origin = Origin.DRAWN) -> None:
        """Replace the labels of slice z and mark it.

        Raises
        ------
        AnnotationError
            If the slice has another shape, or values that do not fit into uint8.
        """
        values = np.asarray(labels_yx)
        z = self._checked(z)
        if values.shape != self.labels.shape[1:]:
            raise AnnotationError(
                f"Slice {z} has shape {values.shape}; the volume's slices are {self.labels.shape[1:]} (y, x)."
            )
        if values.dtype != np.uint8 and values.size and (values.min() < 0 or values.max() > 255):
            raise AnnotationError(f"Slice {z} has label values outside 0..255; use at most 254 classes.")
        self.labels[z] = values
        self.mark(z, state, origin)

    def target(self, z: int, ignore: int = 255) -> npt.NDArray[np.uint8]:
        """What training is told about slice z: (y, x) uint8, 0 background, 1..254 classes, `ignore` unknown.

        A draft or unlabelled slice is unknown everywhere.
        """
        labels = self.labels[self._checked(z)]
        state = self.state(z)
        if state == SliceState.COMPLETE:
            return np.where(labels == PAINTED_BACKGROUND, 0, labels).astype(np.uint8)
        if state == SliceState.SCRIBBLED:
            target = np.where(labels == 0, ignore, labels)
            return np.where(labels == PAINTED_BACKGROUND, 0, target).astype(np.uint8)
        return np.full(labels.shape, ignore, dtype=np.uint8)

    def copy(self) -> Annotations:
        """An independent copy."""
        return Annotations(self.labels.copy(), self.records)

    def _checked(self, z: int) -> int:
        if not 0 <= z < self.labels.shape[0]:
            raise AnnotationError(
                f"Slice {z} lies outside the volume; its slices run from 0 to {self.labels.shape[0] - 1}."
            )
        return int(z)
