"""Label files as people have them: values with gaps, and beyond the 254 classes that the project works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import vqseg.io as io
from vqseg.cli.console import listed
from vqseg.errors import AnnotationError, VolumeError
from vqseg.intake import planes_across
from vqseg.io.labels import MASK, MAX_LABEL, align
from vqseg.prediction import Prediction
from vqseg.volume import Volume

__all__ = ["LabelValues", "canonical_slices", "drawn_across", "mask_as_one", "read_values", "write_prediction"]


def read_values(
    path: str, volume: Volume, what: str = "labels"
) -> tuple[npt.NDArray[Any], dict[int, str], tuple[str, ...]]:
    """Label values of any size on the voxels of `volume`, and their names where the file has them.

    Returns
    -------
    labels : ndarray of int
        (z, y, x), canonical.
    names : dict
        Name by label value.
    warnings : tuple of str
        What the person should know.

    Raises
    ------
    VQSegError
        If the file lies on other voxels or holds other things than whole numbers from 0.
    """
    if io.is_label_object(path):
        found = io.read_labels(path, volume, what if what == "labels" else f"{what} structures")
        return found.array, found.names, found.warnings
    source = io.read_as_stored(path).load()
    if not source.array.max() > MAX_LABEL:
        found = align(source, volume, what)
        return found.array, found.names, found.warnings
    values, index = np.unique(source.array, return_inverse=True)
    if values[0] < 0 or (values != np.round(values)).any() or not np.isfinite(values[-1]):
        raise VolumeError(f"There are values that are not whole numbers from 0 in the {what}; renumber them.")
    if len(values) > MAX_LABEL:
        raise AnnotationError(
            f"There are {len(values)} different values in the {what}; at most {MAX_LABEL} can be, and if this is the "
            "image itself, choose the file drawn on it."
        )
    codes = np.append(0, values[values != 0]).astype(np.int64)
    # Without a zero in the file the first value has index 0; zero stays the background.
    index = (index.reshape(source.shape) + (values[0] != 0)).astype(np.uint8)
    found = align(replace(source, array=index), volume, what)
    return codes[found.array], found.names, found.warnings


@dataclass(frozen=True)
class LabelValues:
    """The label values of a file, rising, and the classes 1..K that stand for them in training."""

    values: npt.NDArray[np.int64]

    @classmethod
    def of(cls, labels: npt.NDArray[Any]) -> LabelValues:
        """The values above 0 that occur in `labels`."""
        values = np.unique(labels)
        return cls(values[values != 0].astype(np.int64))

    def __len__(self) -> int:
        return len(self.values)

    def to_classes(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Label values -> classes; values that are not known become background."""
        table = np.append(0, self.values)
        position = np.searchsorted(table, labels).clip(max=len(self))
        return np.where(table[position] == labels, position, 0).astype(np.uint8)

    def to_labels(self, classes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Classes -> label values, in the smallest unsigned type that holds them."""
        table = np.append(0, self.values)
        small: npt.NDArray[Any] = table.astype(np.min_scalar_type(int(table.max())))
        return small[classes]

    def names(self, names: dict[int, str]) -> dict[int, str]:
        """Name of each class 1..K, from the file's names where it has them."""
        return {k: names.get(int(value)) or str(value) for k, value in enumerate(self.values, start=1)}


def mask_as_one(
    labels: npt.NDArray[Any], other: npt.NDArray[Any], what: str
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """A mask of 0 and 255 as one of 0 and 1 beside labels that know no 255, and the warning that says so."""
    if LabelValues.of(labels).values.tolist() != [MASK] or (other == MASK).any():
        return labels, ()
    return (labels == MASK).astype(np.uint8), (f"The {what} is a mask of 0 and {MASK}; {MASK} was read as 1.",)


def canonical_slices(stored: list[int], volume: Volume) -> list[int]:
    """Slice indices as stored -> canonical z, rising.

    Raises
    ------
    AnnotationError
        If one lies outside the volume.
    """
    if outside := [index for index in stored if index >= volume.shape[0]]:
        raise AnnotationError(
            f"{listed(outside, 'slice')} {'is' if len(outside) == 1 else 'are'} outside the image; "
            f"its slices run from 0 to {volume.shape[0] - 1} along axis {volume.stored.slice_axis}"
        )
    return sorted(volume.to_stored_index(index) for index in stored)


def drawn_across(labels: npt.NDArray[Any], volume: Volume) -> str:
    """What to say of labels that were drawn across the slices, in slices as stored; empty for all others."""
    if not (found := planes_across(labels)):
        return ""
    axis, planes = found
    layout = volume.stored
    last = volume.shape[axis] - 1
    drawn = sorted(last - plane if layout.flipped[axis] else plane for plane in planes)
    return (
        f"the labels lie in {listed(drawn, 'slice')} along axis {layout.permutation[axis]}, and cross those along axis "
        f"{layout.slice_axis}, which count here"
    )


def write_prediction(
    prediction: Prediction,
    labels: npt.NDArray[Any],
    volume: Volume,
    names: Mapping[int, str],
    output: Path,
    probabilities: Path | None,
    uncertainty: Path | None,
) -> list[Path]:
    """Write label values made of a prediction, and its probabilities and uncertainty where a file is given for them."""
    written = list(io.write_labels(output, labels, volume, names))
    if probabilities is not None and prediction.probabilities is not None:
        written += io.write_map(probabilities, prediction.probabilities, volume)
    if uncertainty is not None:
        written += io.write_map(uncertainty, prediction.uncertainty, volume)
    return written
