"""Copies of the annotated slices, for work off the event loop while a person paints on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations

__all__ = ["SliceCopies"]


class SliceCopies:
    """A copy of each annotated slice, made anew only where it has changed: 600 take a quarter of a second."""

    def __init__(self) -> None:
        self._copies: dict[int, npt.NDArray[np.uint8]] = {}

    def clear(self) -> None:
        """Forget the case before."""
        self._copies.clear()

    def keep(self, z: int, labels_yx: npt.NDArray[np.uint8]) -> None:
        """Take an array that nobody changes as the copy of slice z."""
        self._copies[z] = labels_yx

    def update(self, annotations: Annotations, at_once: int) -> Iterator[None]:
        """Copy, some at once, the slices that have changed."""
        for number, z in enumerate(list(annotations.records), start=1):
            self._of(annotations, z)
            if not number % at_once:
                yield

    def snapshot(self, annotations: Annotations) -> Callable[[], Annotations]:
        """What makes a copy of the annotated slices as they are now, wherever it is called."""
        copies = {z: self._of(annotations, z) for z in annotations.records}
        shape, records = annotations.labels.shape, dict(annotations.records)

        def make() -> Annotations:
            labels = np.zeros(shape, dtype=np.uint8)
            for z, labels_yx in copies.items():
                labels[z] = labels_yx
            return Annotations(labels, records)

        return make

    def _of(self, annotations: Annotations, z: int) -> npt.NDArray[np.uint8]:
        labels_yx, copy = annotations.labels[z], self._copies.get(z)
        if copy is None or not np.array_equal(copy, labels_yx):
            copy = self._copies[z] = labels_yx.copy()
        return copy
