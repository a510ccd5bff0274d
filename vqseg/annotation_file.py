"""The file of a case's annotations: an .npz of the annotated slices only, with the state and origin of each."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from vqseg.annotations import Annotations, Origin, SliceRecord, SliceState
from vqseg.errors import AnnotationError, ProjectError

__all__ = ["DAMAGE", "read_annotations", "read_states", "write_annotations"]

SCHEMA = 1
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    IndexError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
    AnnotationError,
)
"""What reading a damaged file raises."""


def write_annotations(path: Path, annotations: Annotations) -> None:
    """Write the annotated slices."""
    slices = sorted(set(annotations.records) | set(np.flatnonzero(annotations.labels.any(axis=(1, 2))).tolist()))
    records = [annotations.records.get(z) for z in slices]
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            schema=np.int64(SCHEMA),
            shape=np.array(annotations.labels.shape, dtype=np.int64),
            z=np.array(slices, dtype=np.int64),
            labels=annotations.labels[slices],
            state=np.array(["" if record is None else record.state.value for record in records], dtype="U16"),
            origin=np.array(["" if record is None else record.origin.value for record in records], dtype="U16"),
        )


def read_states(path: Path) -> dict[int, SliceState]:
    """Read the states of the labelled slices and nothing else."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        states = zip(file["z"].tolist(), file["state"].tolist(), strict=True)
        return {z: SliceState(state) for z, state in states if state}


def read_annotations(path: Path, shape: tuple[int, int, int]) -> Annotations:
    """Read the annotations of a volume of `shape`.

    Raises
    ------
    ProjectError
        If a newer program wrote them; a damaged file raises one of `DAMAGE`.
    """
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        if int(file["schema"]) > SCHEMA:
            raise ProjectError(f"{path.name} is newer than this program; update napari-vqseg to open it.")
        if tuple(file["shape"].tolist()) != shape:
            raise ValueError("annotations of another shape")
        annotations = Annotations.empty(shape)
        slices = file["z"].tolist()
        annotations.labels[slices] = file["labels"]
        for z, state, origin in zip(slices, file["state"].tolist(), file["origin"].tolist(), strict=True):
            if state:
                annotations.records[z] = SliceRecord(SliceState(state), Origin(origin))
    return annotations
