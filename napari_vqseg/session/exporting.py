"""Exporting: the labels as they stand, written and measured."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.classes import Classes
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.reviewing import Reviewing
from vqseg.annotations import PAINTED_BACKGROUND, Annotations, SliceState

__all__ = ["Exporting", "merged"]


class Exporting(Concern):
    """Writes and measures what is predicted and labelled.

    Attributes
    ----------
    exported : Signal(list of Path)
        What was written.
    measured : Signal(dict of str to float)
        Volume of each class, ml.
    """

    exported = Signal(object)
    measured = Signal(object)

    def __init__(self, context: Context, annotating: Annotating, classes: Classes, reviewing: Reviewing) -> None:
        super().__init__(context)
        self._annotating, self._classes, self._reviewing = annotating, classes, reviewing

    def result(self) -> npt.NDArray[np.uint8]:
        """The labels as they stand (z, y, x): the prediction, with the labelled slices as drawn or accepted."""
        return merged(self._annotating.snapshot(), self._reviewing.prediction)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the labels as they stand to a NIfTI file; asking before overwriting is the caller's."""
        from vqseg.io import write_labels

        target, volume, names = Path(path), self.context.volume, self._classes.names
        snapshot, prediction = self._annotating.snapshot(), self._reviewing.prediction
        self._annotating.save()
        self.context.busy_changed.emit(f"Writing {target.name}")
        self.context.background(
            lambda: write_labels(target, merged(snapshot, prediction), volume, names), self._on_exported
        )

    def _on_exported(self, paths: list[Path]) -> None:
        self.context.busy_changed.emit("")
        self.context.notified.emit(f"Exported {', '.join(path.name for path in paths)}.", "info")
        self.exported.emit(paths)

    def measure(self) -> None:
        """Measure the volume of each class, ml."""
        snapshot, prediction, classes = self._annotating.snapshot(), self._reviewing.prediction, self._classes.all
        voxel_ml = float(np.prod(self.context.volume.spacing_mm)) / 1000

        def count() -> dict[str, float]:
            counts = np.bincount(merged(snapshot, prediction).ravel(), minlength=256)
            return {item.name: float(counts[item.value]) * voxel_ml for item in classes}

        self.context.background(count, self.measured.emit)


def merged(annotations: Annotations, prediction: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """Prediction and annotations in one (z, y, x): complete slices as they are, painted voxels elsewhere."""
    if prediction is None:
        labels = np.zeros(annotations.labels.shape, dtype=np.uint8)
    else:
        labels = np.array(prediction, dtype=np.uint8)
    for z, record in annotations.records.items():
        drawn = annotations.labels[z]
        labels[z] = drawn if record.state is SliceState.COMPLETE else np.where(drawn > 0, drawn, labels[z])
    labels[labels == PAINTED_BACKGROUND] = 0
    return labels
