"""One volume of a project on disk: where it came from, and what is labelled on it.

The voxels stay where they are; the case keeps a signature of them, so that labels never land on another image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vqseg.annotation_file import DAMAGE, read_annotations, read_states, write_annotations
from vqseg.annotations import Annotations, SliceState
from vqseg.errors import AnnotationError, ProjectError
from vqseg.io.atomic import atomic_path
from vqseg.io.image_files import stem
from vqseg.records import new_folder, now, read_record, write_record
from vqseg.volume import Volume

__all__ = ["Case", "signature"]

SCHEMA = 1
ENTRIES = ("added", "source", "shape", "spacing_mm", "signature")
SAMPLED_SLICES = 3
AFFINE_TOLERANCE_MM = 0.01


def signature(volume: Volume) -> dict[str, Any]:
    """What tells an image from all others: shape and affine as stored, and a digest over a few slices.

    Only the sampled slices of a lazy volume are read.
    """
    digest = hashlib.sha256()
    for z in np.linspace(0, volume.shape[0] - 1, SAMPLED_SLICES + 2).round().astype(int)[1:-1]:
        digest.update(np.ascontiguousarray(volume.slice(int(z)), dtype="<f4").tobytes())
    return {
        "stored_shape": [int(size) for size in volume.stored.shape],
        "stored_affine": np.asarray(volume.stored.affine, dtype=float).tolist(),
        "slice_axis": int(volume.stored.slice_axis),
        "sha256": digest.hexdigest(),
    }


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """How two signatures differ, in words; empty where they agree."""
    if list(expected["stored_shape"]) != list(found["stored_shape"]):
        return f"its shape is {tuple(found['stored_shape'])}, not {tuple(expected['stored_shape'])}"
    corner = np.append(np.array(expected["stored_shape"], dtype=float), 1.0)
    shift = np.abs(np.array(expected["stored_affine"]) - np.array(found["stored_affine"])) @ corner
    if not shift.max() <= AFFINE_TOLERANCE_MM:
        return f"it lies up to {shift.max():.3g} mm elsewhere"
    if expected["slice_axis"] != found["slice_axis"]:
        return "it is sliced along another axis"
    return "" if expected["sha256"] == found["sha256"] else "its voxels have other values"


class Case:
    """A volume of a project with its annotations.

    Parameters
    ----------
    path : Path
        The case's folder.

    Attributes
    ----------
    warnings : list of str
        What the person should know about the last load, in sentences.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.info = read_record(self.path / "case.json", "case", SCHEMA, ENTRIES)
        self.warnings: list[str] = []
        self._intact = False

    @classmethod
    def create(cls, path: Path, volume: Volume, title: str = "") -> Case:
        """Make the folder of a new case; a volume without a file is stored inside it."""
        with new_folder(path) as folder:
            source = Path(volume.source).absolute() if volume.source else None
            kept = source is None or not source.exists()
            if not title and source is not None:
                title = " · ".join(filter(None, (stem(source), volume.metadata.get("description"))))
            if kept:
                from vqseg.io import write_map

                write_map(folder / "image.nii.gz", np.asarray(volume.array), volume)
            write_record(folder / "case.json", "case", SCHEMA, {
                "added": now(),
                "title": title or path.name,
                "source": "image.nii.gz" if kept else str(source),
                "series": volume.metadata.get("series"),
                "modality": volume.modality,
                "shape": list(volume.shape),
                "spacing_mm": list(volume.spacing_mm),
                "signature": signature(volume),
            })  # fmt: skip
        return cls(path)

    @property
    def id(self) -> str:
        """The case's name in the project."""
        return self.path.name

    @property
    def title(self) -> str:
        """What to call the case in a list."""
        named = stem(self.source) if Path(self.info["source"]).is_absolute() else self.id
        return str(self.info.get("title") or named)

    @property
    def quality_path(self) -> Path:
        """Scores of newly drawn slices (vqseg.quality)."""
        return self.path / "quality.json"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume, (z, y, x)."""
        z, y, x = self.info["shape"]
        return z, y, x

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing along (z, y, x), mm."""
        z, y, x = self.info["spacing_mm"]
        return z, y, x

    @property
    def source(self) -> Path:
        """The image's file or folder: of the places where it has been, here or on another machine, one that exists.

        A relative one lies inside the case's folder.
        """
        places = [self.path / str(place) for place in (self.info["source"], *self.info.get("elsewhere", []))]
        return next((place for place in places if place.exists()), places[0])

    @property
    def annotations_path(self) -> Path:
        """File of the annotations: the annotated slices only."""
        return self.path / "annotations.npz"

    @property
    def _previous_path(self) -> Path:
        return self.path / "annotations.previous.npz"

    def holds(self, volume: Volume) -> bool:
        """Whether a volume is the image of this case."""
        return not _difference(self.info["signature"], signature(volume))

    def load_volume(self) -> Volume:
        """Read the image and check that it is the one that was annotated.

        Raises
        ------
        ProjectError
            If the image is gone or is another one.
        """
        if not self.source.exists():
            raise ProjectError(
                f"The image of {self.id} is no longer where it was; put it back, or say where it is now: in the "
                "window's task list, or with `vqseg train --image`. The annotations are safe."
            )
        return self._read(self.source, self.source.name)

    def relocate(self, source: str | os.PathLike[str]) -> Volume:
        """Read the image from its new place and remember that, if it is the image that was annotated.

        Raises
        ------
        ProjectError
            If it is another image.
        """
        path = Path(source).absolute()
        volume = self._read(path, str(path))
        before = [place for place in (self.info["source"], *self.info.get("elsewhere", [])) if place != str(path)]
        self.update(source=str(path), elsewhere=before)
        return volume

    def _read(self, path: Path, shown: str) -> Volume:
        from vqseg.io import read_volume

        expected = self.info["signature"]
        volume = read_volume(path, series=self.info.get("series"), axis=expected["slice_axis"])
        if difference := _difference(expected, signature(volume)):
            raise ProjectError(
                f"{Path(shown).name} is not the image that {self.id} was annotated on: {difference}. "
                "Choose the original image, or add this one as a new case."
            )
        return volume

    def update(self, **values: Any) -> None:
        """Change entries of case.json, such as a task's state; others stay as they are on disk now."""
        self.info = {**read_record(self.path / "case.json", "case", SCHEMA), **values}
        write_record(self.path / "case.json", "case", SCHEMA, self.info)

    # ------------------------------------------------------------------------------------------ annotations

    def load_annotations(self) -> Annotations:
        """The annotations on disk; the previous version where the newest is damaged (see `warnings`).

        Raises
        ------
        ProjectError
            If no version can be read.
        """
        self.warnings = []
        previous = self._previous_path
        if not self.annotations_path.exists() and not previous.exists():
            return Annotations.empty(self.shape)
        try:
            annotations = read_annotations(self.annotations_path, self.shape)
            self._intact = True
            return annotations
        except DAMAGE:
            self._intact = False
        try:
            annotations = read_annotations(previous, self.shape)
        except DAMAGE:
            raise ProjectError(
                f"The annotations of {self.id} are damaged; restore annotations.npz from a backup of the project."
            ) from None
        self.warnings.append(
            f"The newest annotations of {self.id} are damaged; the version saved before them was opened. "
            "Check the slices you labelled last."
        )
        return annotations

    def load_slice_states(self) -> dict[int, SliceState]:
        """State of each labelled slice, without reading the labels.

        Raises
        ------
        ProjectError
            If no version of the annotations can be read.
        """
        damaged = False
        for path in (self.annotations_path, self._previous_path):
            try:
                return read_states(path)
            except FileNotFoundError:
                continue
            except DAMAGE:
                damaged = True
        if damaged:
            raise ProjectError(
                f"The annotations of {self.id} are damaged; restore annotations.npz from a backup of the project."
            )
        return {}

    def load_painted_values(self) -> set[int]:
        """Label values that anything is painted with, as last saved."""
        return set(np.unique(self.load_annotations().labels).tolist()) - {0}

    def save_annotations(self, annotations: Annotations) -> None:
        """Write the annotated slices; the version before stays as annotations.previous.npz.

        Raises
        ------
        AnnotationError
            If the annotations have another shape than the volume.
        """
        if annotations.labels.shape != self.shape:
            raise AnnotationError(f"The labels have shape {annotations.labels.shape}; the volume has {self.shape}.")
        with atomic_path(self.annotations_path) as temporary:
            write_annotations(temporary, annotations)
            self._keep_previous()
        self._intact = True

    def _keep_previous(self) -> None:
        """Link the version on disk as the previous one; a damaged one is set aside and replaces nothing."""
        if not self.annotations_path.exists():
            return
        if not self._intact:
            try:
                read_annotations(self.annotations_path, self.shape)
            except DAMAGE:
                os.replace(self.annotations_path, self.annotations_path.with_name("annotations.damaged.npz"))
                return
        link = self.annotations_path.with_name(".annotations.previous.npz")
        with suppress(FileNotFoundError):
            link.unlink()
        try:
            os.link(self.annotations_path, link)
        except OSError:  # a file system without links
            link.write_bytes(self.annotations_path.read_bytes())
        os.replace(link, self._previous_path)
