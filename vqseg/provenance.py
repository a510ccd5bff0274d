"""How an export came about: a JSON file beside it, without anything that names a patient."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqseg.case import Case
from vqseg.io.image_files import NIFTI
from vqseg.records import now, write_record
from vqseg.run import Run, git_hash, versions
from vqseg.volume import Volume

__all__ = ["SCHEMA", "provenance_path", "write_provenance"]

SCHEMA = 1


def provenance_path(path: Path) -> Path:
    """MASK.provenance.json beside MASK.nii.gz, TABLE.csv.provenance.json beside TABLE.csv: none replaces another's."""
    name = next((path.name[: -len(end)] for end in NIFTI if path.name.lower().endswith(end)), path.name)
    return path.with_name(f"{name}.provenance.json")


def write_provenance(
    path: Path,
    files: Sequence[Path],
    case: Case,
    volume: Volume,
    *,
    what: str,
    classes: Mapping[int, str],
    slices: Mapping[str, Sequence[int]],
    clean_up: Mapping[str, Any],
    run: Run | None,
) -> None:
    """Write what the exported files are, what they were made from and by what.

    Parameters
    ----------
    path : Path
        The JSON file.
    files : sequence of Path
        The exported files, as they are on disk.
    case : Case
        Where the labels come from.
    volume : Volume
        Its image.
    what : str
        What was exported, in words.
    classes : mapping of int to str
        Name of each label value.
    slices : mapping of str to sequence of int
        Canonical slices by who made them.
    clean_up : mapping
        The rules that the prediction was cleaned by, by class.
    run : Run, optional
        The training behind the prediction.
    """
    stored = {who: sorted(volume.to_stored_index(z) for z in found) for who, found in slices.items()}
    write_record(path, "provenance", SCHEMA, {
        "written": now(),
        "notice": "For research use only; not a medical device.",
        "what": what,
        "files": [{"name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} for file in files],
        "versions": versions(),
        "git": git_hash(),
        "case": case.id,
        "source": _source(case, volume),
        "classes": {str(value): name for value, name in sorted(classes.items())},
        "slices": {"axis": volume.stored.slice_axis, "counted": "from 0, as the source stores them", **stored},
        "clean_up": dict(clean_up),
        "run": None if run is None else _run(run),
    })  # fmt: skip


def _source(case: Case, volume: Volume) -> dict[str, Any]:
    """The image; of a DICOM series no name, since folders are often called after the patient, and no UID."""
    is_series = "series" in volume.metadata
    return {
        "format": "DICOM series" if is_series else "file",
        "name": None if is_series else case.source.name,
        "modality": volume.modality,
        "stored_shape": list(volume.stored.shape),
        "spacing_mm": [round(size, 6) for size in volume.spacing_mm],
        "sampled_slices_sha256": case.info["signature"]["sha256"],
    }


def _run(run: Run) -> dict[str, Any]:
    kept = ("seed", "state", "created", "started", "ended", "git", "versions")
    return {
        "id": run.id,
        "method": run.config.train.method,
        "config": run.config.to_dict(),
        **{key: run.info.get(key) for key in kept},
    }
