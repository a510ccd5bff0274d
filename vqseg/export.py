"""A case's segmentation as files for others: NIfTI, DICOM segmentation, a table, each with its provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqseg.annotations import PAINTED_BACKGROUND, Annotations, Origin, SliceState
from vqseg.case import Case
from vqseg.components import CleanUp, rules_record
from vqseg.errors import GeometryError, VolumeError
from vqseg.measure import MAKERS, PREDICTED, Measurement, as_csv, measure
from vqseg.provenance import provenance_path, write_provenance
from vqseg.run import Run
from vqseg.volume import Volume

__all__ = ["SUFFIXES", "Content", "Format", "Segmentation", "Written", "files_of", "merged", "write"]


class Format(StrEnum):
    """What a segmentation is written as."""

    NIFTI = "nifti"
    NIFTI_PER_CLASS = "nifti-per-class"
    DICOM_SEG = "dicom-seg"
    CSV = "csv"


SUFFIXES = {Format.NIFTI: ".nii.gz", Format.NIFTI_PER_CLASS: ".nii.gz", Format.DICOM_SEG: ".dcm", Format.CSV: ".csv"}


class Content(StrEnum):
    """What is exported."""

    SEGMENTATION = "segmentation"
    LABELS = "labels"
    PREDICTION = "prediction"


IN_WORDS = {
    Content.SEGMENTATION: "the prediction, with the labelled slices as a person left them",
    Content.LABELS: "the labelled slices only",
    Content.PREDICTION: "the prediction as the network made it",
}


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What is exported of a case.

    Parameters
    ----------
    case : Case
        The case.
    volume : Volume
        Its image.
    annotations : Annotations
        What is labelled.
    names : mapping of int to str
        Name of each class.
    prediction : ndarray, optional
        (z, y, x) uint8.
    run : Run, optional
        The training that the prediction comes from.
    content : Content
        Which of the two is exported; without a prediction only the labels are.
    clean_up : mapping of int to CleanUp
        The rules, by class value, that the prediction has been cleaned by.
    colours : mapping of int to str
        "#RRGGBB" of each class, for a DICOM segmentation.

    Raises
    ------
    GeometryError
        If labels or prediction have another shape than the image.
    """

    case: Case
    volume: Volume
    annotations: Annotations
    names: Mapping[int, str]
    prediction: npt.NDArray[np.uint8] | None = None
    run: Run | None = None
    content: Content = Content.SEGMENTATION
    clean_up: Mapping[int, CleanUp] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, array in (("labels", self.annotations.labels), ("prediction", self.prediction)):
            if array is not None and array.shape != self.volume.shape:
                raise GeometryError(
                    f"The shape of the {what} of {self.case.id} is {array.shape} (z, y, x), the image's"
                    f" {self.volume.shape}; nothing was exported. Predict again, or open the image that was labelled."
                )

    @cached_property
    def labels(self) -> npt.NDArray[np.uint8]:
        """(z, y, x) uint8, as exported."""
        if self.content is Content.PREDICTION:
            if self.prediction is None:
                raise VolumeError(f"{self.case.id} has no prediction yet; train it first.")
            return self.prediction
        return merged(self.annotations, self.prediction if self.content is Content.SEGMENTATION else None)

    @property
    def drawn_only(self) -> bool:
        """Whether no network took part."""
        origins = {record.origin for record in self.annotations.records.values()}
        return (self.content is Content.LABELS or self.prediction is None) and origins <= {Origin.DRAWN}

    def maker(self, z: int) -> npt.NDArray[np.uint8]:
        """Who made each voxel of slice z: (y, x), index into :data:`vqseg.measure.MAKERS`."""
        made_by = np.full(self.volume.shape[1:], PREDICTED, dtype=np.uint8)
        record = self.annotations.records.get(z)
        if record is not None:
            painted = self.annotations.labels[z]
            known = np.where(painted == PAINTED_BACKGROUND, 0, painted) == self.labels[z]
            if record.state is not SliceState.COMPLETE:
                known &= painted > 0
            made_by[known] = MAKERS.index(record.origin)
        return made_by

    @property
    def slices(self) -> dict[str, list[int]]:
        """Canonical slices by who made them; in partly labelled ones the rest is predicted."""
        found: dict[str, list[int]] = {str(maker): [] for maker in (*MAKERS[:-1], "partly labelled", MAKERS[-1])}
        predicted = self.prediction is not None and self.content is not Content.LABELS
        for z in range(self.volume.shape[0]):
            record = self.annotations.records.get(z)
            if record is None:
                if predicted:
                    found["predicted"].append(z)
            else:
                complete = record.state is SliceState.COMPLETE
                found[str(record.origin) if complete else "partly labelled"].append(z)
        return found

    def measure(self) -> list[Measurement]:
        """Measure every class."""
        return measure(self.labels, self.volume, self.names, self.maker)


@dataclass(frozen=True)
class Written:
    """What an export left on disk.

    Parameters
    ----------
    paths : list of Path
        Every file, the provenance last.
    warnings : tuple of str
        What the person should know.
    """

    paths: list[Path]
    warnings: tuple[str, ...] = field(default=())


def merged(annotations: Annotations, prediction: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """Prediction and annotations in one: complete slices as they are, painted voxels elsewhere."""
    if prediction is None:
        labels = np.zeros(annotations.labels.shape, dtype=np.uint8)
    else:
        labels = np.array(prediction, dtype=np.uint8)
    for z, record in annotations.records.items():
        painted = annotations.labels[z]
        labels[z] = painted if record.state is SliceState.COMPLETE else np.where(painted > 0, painted, labels[z])
    labels[labels == PAINTED_BACKGROUND] = 0
    return labels


def files_of(path: Path, wanted: Format, names: Mapping[int, str]) -> list[Path]:
    """Every file that :func:`write` would write, so that a person can be asked before one is overwritten."""
    from vqseg.io.labels import sidecar_path

    if wanted is Format.NIFTI:
        masks = [path]
    elif wanted is Format.NIFTI_PER_CLASS:
        masks = list(_class_paths(path, names).values())
    else:
        return [path, _provenance_path(path, wanted)]
    return [*(file for mask in masks for file in (mask, sidecar_path(mask))), _provenance_path(path, wanted)]


def write(segmentation: Segmentation, path: Path, wanted: Format) -> Written:
    """Write a segmentation and, once it is on disk, its provenance; asking before overwriting is the caller's.

    Parameters
    ----------
    segmentation : Segmentation
        What to write.
    path : Path
        The file; with one file a class, each takes this name with the class's added.
    wanted : Format
        What to write it as.

    Raises
    ------
    VQSegError
        For a path that cannot be written, a source a DICOM segmentation cannot refer to, or a file that does not
        read back the same; the old file stays then.
    """
    from vqseg import io
    from vqseg.io.labels import replace_file

    labels, volume, names = segmentation.labels, segmentation.volume, segmentation.names
    warnings: tuple[str, ...] = ()
    if wanted is Format.NIFTI:
        files = io.write_labels(path, labels, volume, names)
    elif wanted is Format.NIFTI_PER_CLASS:
        files = [
            file
            for value, target in _class_paths(path, names).items()
            for file in io.write_labels(target, (labels == value).astype(np.uint8), volume, {1: names[value]})
        ]
    elif wanted is Format.DICOM_SEG:
        warnings = io.write_segmentation(
            path, labels, volume, names, drawn=segmentation.drawn_only, colours=segmentation.colours
        )
        files = [path]
    else:
        table = as_csv(segmentation.measure())
        replace_file(path, volume, lambda file: file.write_text(table, encoding="utf-8"), (".csv",))
        files = [path]
    beside = _provenance_path(path, wanted)
    write_provenance(
        beside, files, segmentation.case, volume, what=IN_WORDS[segmentation.content], classes=names,
        slices=segmentation.slices, clean_up=rules_record(segmentation.clean_up), run=segmentation.run,
    )  # fmt: skip
    return Written([*files, beside], warnings)


def _provenance_path(path: Path, wanted: Format) -> Path:
    """The provenance of one file a class, which these share, goes beside that of one file of the same name."""
    from vqseg.io.image_files import stem

    return provenance_path(path.with_name(f"{stem(path)}.per-class") if wanted is Format.NIFTI_PER_CLASS else path)


def _class_paths(path: Path, names: Mapping[int, str]) -> dict[int, Path]:
    """MASK_tumour.nii.gz beside MASK.nii.gz for each class; with its value where names coincide as file names."""
    from vqseg.io.image_files import stem

    mask = stem(path)
    suffix = path.name.removeprefix(mask)
    safe = {value: re.sub(r"[^\w.-]+", "-", name).strip(".-") or str(value) for value, name in names.items()}
    folded = [name.lower() for name in safe.values()]
    coincide = len(set(folded)) < len(folded)

    def is_unique(name: str) -> bool:
        return folded.count(name.lower()) == 1 and not (coincide and re.search(r"-\d+$", name))

    return {
        value: path.with_name(f"{mask}_{name if is_unique(name) else f'{name}-{value}'}{suffix}")
        for value, name in sorted(safe.items())
    }
