"""Many volumes in one go: which they are, which belong together, and a table of what became of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqseg.errors import VQSegError
from vqseg.io.atomic import atomic_path
from vqseg.io.image_files import is_image_file, stem

__all__ = ["Image", "Pair", "images_in", "is_manifest", "is_own_table", "pairs_in", "read_manifest", "write_table"]

FIRST_COLUMNS = ["name", "status", "error"]
"""What our tables of results begin with."""


@dataclass(frozen=True)
class Image:
    """A volume of a cohort.

    Parameters
    ----------
    name : str
        What its results are called, unique in the cohort.
    path : Path
        File or DICOM folder.
    series : str
        Series of a folder with several, "" for its only one.
    axis : int or None
        Its slice axis, the most axial one by default.
    """

    name: str
    path: Path
    series: str = ""
    axis: int | None = None


@dataclass(frozen=True)
class Pair:
    """A segmentation and what it is compared with; one of them may be missing.

    Parameters
    ----------
    name : str
        Name of the pair.
    prediction, reference : Path or None
        The files.
    exclude_slices : str
        Slices of the reference as stored that do not count: ``"3 9 15"``.
    axis : int or None
        The reference's slice axis, the most axial one by default.
    """

    name: str
    prediction: Path | None
    reference: Path | None
    exclude_slices: str = ""
    axis: int | None = None


def is_manifest(path: Path) -> bool:
    """Whether a path names a list of files (.csv)."""
    return path.suffix.lower() == ".csv"


def images_in(paths: Sequence[Path]) -> list[Image]:
    """The images that files, folders of images, DICOM folders and manifests stand for.

    A folder with image files (NIfTI, NRRD, MetaImage) stands for these, one with nothing but folders for the images in
    them, and any other for the DICOM series in it. A manifest is a .csv file with a column ``image`` and, where
    needed, ``name``, ``series`` and ``axis``; its paths are relative to its folder.

    Raises
    ------
    VQSegError
        If there are none, one that is named does not exist, two have the same name, or a manifest cannot be used.
    """
    images: list[Image] = []
    for path in paths:
        if is_manifest(path):
            rows = read_manifest(path, ("image",), ("name", "series", "axis"))
            images += [
                Image(row["name"] or stem(path.parent / row["image"]), path.parent / row["image"],
                      row["series"], _axis(row["axis"], path))
                for row in rows
            ]  # fmt: skip
        elif not path.exists():
            raise VQSegError(f"{path} does not exist; check the path")
        else:
            images += [Image(stem(found), found) for found in _found_in(path)]
    _require_names([image.name for image in images])
    if not images:
        raise VQSegError(f"there are no images in {', '.join(map(str, paths))}; name files, or folders that hold some")
    return images


def pairs_in(predictions: Path, references: Path | None) -> list[Pair]:
    """What is to be compared: two folders whose files have the same names, or a manifest.

    A manifest is a .csv file with the columns ``prediction`` and ``reference`` and, where needed, ``name``,
    ``exclude_slices`` and ``axis``. What one folder lacks of the other is a pair with one side missing.

    Raises
    ------
    VQSegError
        If there are none, two have the same name, or a manifest cannot be used.
    """
    if references is None:
        rows = read_manifest(predictions, ("prediction", "reference"), ("name", "exclude_slices", "axis"))
        folder = predictions.parent
        pairs = [
            Pair(row["name"] or stem(folder / row["prediction"]), folder / row["prediction"],
                 folder / row["reference"], row["exclude_slices"], _axis(row["axis"], predictions))
            for row in rows
        ]  # fmt: skip
    else:
        sides = []
        for path in (predictions, references):
            found = _found_in(path)
            _require_names([stem(file) for file in found])
            sides.append({stem(file): file for file in found})
        pairs = [Pair(name, sides[0].get(name), sides[1].get(name)) for name in sorted({*sides[0], *sides[1]})]
    _require_names([pair.name for pair in pairs])
    if not pairs:
        raise VQSegError(f"there is nothing to compare in {predictions}; name folders that hold segmentations")
    return pairs


def read_manifest(path: Path, required: Collection[str], optional: Collection[str]) -> list[dict[str, str]]:
    """The rows of a .csv file, with commas, semicolons or tabs; optional columns that it lacks are "".

    Raises
    ------
    VQSegError
        If it cannot be read, or its columns are others.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text), delimiter=_delimiter(text))
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error):
        raise VQSegError(f"{path} is no table; save it as .csv in UTF-8") from None
    columns = set(reader.fieldnames or ())
    if missing := set(required) - columns:
        raise VQSegError(f"{path} has no column {', '.join(sorted(missing))}; its first line must name the columns")
    if unknown := columns - {*required, *optional}:
        raise VQSegError(
            f"{path} has columns that mean nothing here: {', '.join(sorted(map(str, unknown)))}; "
            f"known are {', '.join([*required, *optional])}"
        )
    return [{name: (row.get(name) or "").strip() for name in (*required, *optional)} for row in rows]


def _delimiter(text: str) -> str:
    """What the first line parts its columns with; spreadsheets of some languages take semicolons."""
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as .csv, or as JSON by any other name; what is no number stays empty.

    The columns are those of all rows, in the order in which they first occur. Missing folders are made.

    Raises
    ------
    VQSegError
        If it cannot be written, as on a full disk; an older table stays.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fill(path, columns, rows)
    except OSError as error:
        reason = error.strerror or "the disk refused it"
        raise VQSegError(f"{path} could not be written ({reason}); choose another place") from None


def is_own_table(path: Path) -> bool:
    """Whether a file is a table of results, by its columns: what a person has made of one otherwise is not."""
    try:
        text = path.read_text(encoding="utf-8")
        columns = next(csv.reader([text.partition("\n")[0]])) if is_manifest(path) else list(json.loads(text)[0])
    except (OSError, ValueError, LookupError, TypeError, csv.Error, StopIteration):
        return False
    return columns[: len(FIRST_COLUMNS)] == FIRST_COLUMNS


def _fill(path: Path, columns: list[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if is_manifest(path):
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({name: _cell(value, "") for name, value in row.items()} for row in rows)
        else:
            json.dump([{name: _cell(value, None) for name, value in row.items()} for row in rows], file, indent=1)
            file.write("\n")


def _cell(value: Any, nothing: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else nothing
    return str(value) if isinstance(value, Path) else nothing if value is None else value


def _found_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if files := [entry for entry in inside if is_image_file(entry)]:
        return files
    if inside and all(entry.is_dir() for entry in inside):
        return [found for entry in inside for found in _found_in(entry)]
    return [path]


def _axis(text: str, path: Path) -> int | None:
    if text not in ("", "0", "1", "2"):
        raise VQSegError(f"{path} has axis {text!r}; it must be 0, 1 or 2, or empty")
    return int(text) if text else None


def _require_names(names: Sequence[str]) -> None:
    if folders := [name for name in names if "/" in name or "\\" in name]:
        raise VQSegError(f"the name {folders[0]!r} would lie in another folder; give names without / and \\")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise VQSegError(
            f"several files are called {', '.join(twice[:3])}; give each a name in a .csv file, in a column `name`"
        )
