"""DICOM series: a folder, or one file of it, as a volume.

Pixels are decoded by pydicom (uncompressed, RLE, JPEG, JPEG-LS, JPEG 2000) slice by slice when asked for, and by
SimpleITK's GDCM where pydicom has no decoder (JPEG Lossless). Stored index (i, j, k) is (column, row, slice), k in
the direction of the slice normal.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqseg.errors import VolumeError
from vqseg.io.dicom_frames import PHASE_TAGS, Frame, NotAnImageError, is_dicom, read_frames
from vqseg.io.dicom_grid import has_duplicates, lay_grid, sort_frames
from vqseg.io.geometry import LPS_TO_RAS, make_layout
from vqseg.volume import Volume

__all__ = ["SeriesInfo", "list_series", "read", "series_files"]


@dataclass(frozen=True)
class SeriesInfo:
    """One series, as a person chooses it.

    Parameters
    ----------
    uid : str
        What to pass as `series`; a series split by phase or orientation has "#1", "#2"... after its UID.
    description, modality : str
        As the scanner named it.
    n_slices : int
        Number of slices in the files.
    spacing_mm : tuple of float
        (slices, rows, columns); median distance of the slices.
    shape : tuple of int
        (slices, rows, columns).
    """

    uid: str
    description: str
    modality: str
    n_slices: int
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Series:
    """Frames of one series, sorted along their normal, and what was left out of it."""

    uid: str
    frames: list[Frame]
    copies: int = 0

    @property
    def info(self) -> SeriesInfo:
        first = self.frames[0]
        along = [float((frame.position_mm - first.position_mm) @ first.normal) for frame in self.frames]
        step = float(np.median(np.diff(along))) if len(along) > 1 else float(first.tags["thickness_mm"] or 0)
        tags, count = first.tags, len(self.frames)
        return SeriesInfo(
            self.uid, tags["description"], tags["modality"], count, (step, *first.spacing_mm), (count, *first.shape)
        )


def list_series(path: Path) -> list[SeriesInfo]:
    """The image series in a folder (or in a file's folder), in the order of their numbers.

    Raises
    ------
    VolumeError
        If there are none.
    """
    return [series.info for series in _scan(path)[0]]


def series_files(path: Path, series: str | int | None = None) -> list[Path]:
    """The files of a series in the order of the stored slices, for objects that refer to them (DICOM SEG).

    Raises
    ------
    VolumeError
        As :func:`read`.
    """
    return list(dict.fromkeys(frame.path for frame in _choose(_scan(path)[0], path, series).frames))


def read(path: Path, series: str | int | None = None, axis: int | None = None) -> Volume:
    """Read a DICOM series.

    Parameters
    ----------
    path : Path
        A folder, or one of the series' files.
    series : str or int, optional
        UID, description, or number in :func:`list_series` from 1; needed for a folder with several.
    axis : int, optional
        Stored axis that becomes z; by default the most axial one.

    Returns
    -------
    Volume
        Lazy: a dask array, one chunk a slice.

    Raises
    ------
    VolumeError
        If there is no series, more than one, or one that does not make a volume.
    """
    found, ignored = _scan(path)
    chosen = _choose(found, path, series)
    if len(chosen.frames) < 2:
        raise VolumeError("The DICOM series has one slice only, a 2D image; choose a series with at least two slices.")
    if has_duplicates(chosen.frames):
        raise VolumeError(
            "The DICOM series has several images at the same position (phases or repeats that no tag tells apart); "
            "export one of them to its own folder."
        )
    grid = lay_grid(chosen.frames)
    name = "The DICOM series"
    layout = make_layout(grid.shape, LPS_TO_RAS @ grid.affine, name, axis=axis)
    tags = chosen.frames[0].tags
    metadata = {
        "series": chosen.uid,
        "frame_of_reference": tags["frame_of_reference"],
        "description": tags["description"],
        "kernel": tags["kernel"],
        "thickness_mm": tags["thickness_mm"],
        "interpolated_stored_slices": grid.interpolated,
        "resampled": bool(grid.warnings),
    }
    warnings = (*grid.warnings, *_remarks(chosen, ignored))
    array = layout.to_canonical(grid.to_dask())
    return Volume(array, layout, tags["modality"], str(path), warnings, metadata)


def _remarks(series: _Series, ignored: Counter[str]) -> Iterator[str]:
    """What the person should know besides resampling."""
    modality = series.frames[0].tags["modality"]
    if modality != "CT":
        yield f"The series is {modality or 'of unknown modality'}, not CT; windows in HU do not apply."
    if series.frames[0].tags["photometric"] == "MONOCHROME1":
        yield "The series is meant to be shown inverted (MONOCHROME1); its values were left as they are."
    if series.copies:
        yield f"Copies of slices left out: {series.copies}."
    for what, count in ignored.items():
        yield f"{count} {what} in the folder {'was' if count == 1 else 'were'} left out."


# ------------------------------------------------------------------------------------------------- finding


def _scan(path: Path) -> tuple[list[_Series], Counter[str]]:
    """Every series of a folder, and how many objects of which kind were ignored."""
    folder = path if path.is_dir() else path.parent
    if path.is_file() and not is_dicom(path):
        raise VolumeError(f"{path.name} is in no known format; choose NIfTI, NRRD, MetaImage or DICOM.")
    files = sorted(item for item in folder.iterdir() if item.is_file())
    frames, ignored = _read_all(files)
    if not frames and path.is_dir():
        below = sorted(Path(root) / name for root, _, names in os.walk(folder) for name in names)
        frames, more = _read_all([item for item in below if item not in set(files)])
        ignored += more
    series = _group(frames)
    if any(len(item.frames) > 1 for item in series):
        single = [item for item in series if len(item.frames) == 1 and item.frames[0].path != path]
        series = [item for item in series if item not in single]
        if single:
            ignored["single image(s) of other series"] += len(single)
    if not series:
        reason = "holds no DICOM slices" + (" (only reports, localizers or the like)" if ignored else "")
        name = path.name or str(path)
        raise VolumeError(f"{name} {reason}; choose the folder of a CT series, or a NIfTI, NRRD or MetaImage file.")
    return series, ignored


def _read_all(files: Sequence[Path]) -> tuple[list[Frame], Counter[str]]:
    frames: list[Frame] = []
    ignored: Counter[str] = Counter()
    for file in files:
        if file.name == "DICOMDIR" or not is_dicom(file):
            continue
        try:
            frames += read_frames(file)
        except NotAnImageError:
            ignored["DICOM object(s) that are not slices"] += 1
    return frames, ignored


def _group(frames: Sequence[Frame]) -> list[_Series]:
    """Frames by series; within one, by size and orientation; within that, by phase where positions repeat."""
    by_uid: dict[str, list[list[Frame]]] = {}
    for frame in frames:
        stacks = by_uid.setdefault(frame.tags["uid"], [])
        matching = next((stack for stack in stacks if _same_stack(stack[0], frame)), None)
        if matching is None:
            stacks.append([frame])
        else:
            matching.append(frame)
    series = []
    for uid, stacks in by_uid.items():
        unique = [(sort_frames(list({frame.tags["instance"] if frame.tags["instance"][0] != "/" else id(frame): frame
                                     for frame in stack}.values())), len(stack)) for stack in stacks]  # fmt: skip
        parts = [(part, count - len(whole)) for whole, count in unique for part in _phases(whole)]
        for number, (part, copies) in enumerate(parts, start=1):
            series.append(_Series(f"{uid}#{number}" if len(parts) > 1 else uid, part, copies))
    return sorted(series, key=lambda item: (item.frames[0].tags["number"], item.uid))


def _same_stack(one: Frame, other: Frame) -> bool:
    """Whether two frames of a series can be slices of one volume."""
    return (
        one.shape == other.shape
        and bool(np.allclose(one.orientation, other.orientation, atol=1e-3))
        and bool(np.allclose(one.spacing_mm, other.spacing_mm, rtol=1e-3))
    )


def _phases(frames: list[Frame]) -> list[list[Frame]]:
    """Frames split by the first tag that leaves no two at one position; unsplit where none does."""
    if not has_duplicates(frames):
        return [frames]
    for position in range(len(PHASE_TAGS)):
        parts: dict[str, list[Frame]] = {}
        for frame in frames:
            parts.setdefault(frame.tags["phases"][position], []).append(frame)
        if len(parts) > 1 and not any(has_duplicates(part) or len(part) < 2 for part in parts.values()):
            return [parts[key] for key in sorted(parts)]
    return [frames]


def _choose(found: list[_Series], path: Path, wanted: str | int | None) -> _Series:
    """The series asked for, the one of the file given, or the only one."""
    if wanted is None:
        found = [item for item in found if path.is_dir() or any(frame.path == path for frame in item.frames)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise VolumeError(f"{path.name} is not a slice of a series (a report, a localizer?); choose another file.")
        raise VolumeError(f"The folder holds {len(found)} series; {_listing(found)}.")
    if str(wanted).isdigit() and 1 <= int(wanted) <= len(found):
        return found[int(wanted) - 1]
    named = [item for item in found if wanted in (item.uid, item.info.description)]
    if len(named) == 1:
        return named[0]
    raise VolumeError(f"No single series goes by the name given; {_listing(found)}.")


def _listing(found: Sequence[_Series]) -> str:
    """The way out: the numbers, and what they stand for."""
    infos = [series.info for series in found]
    return "choose one by its number (series=1, or --series 1): " + "; ".join(
        f"{number} = {info.description or 'no description'} ({info.modality or '?'}, {info.n_slices} slices, "
        f"{info.spacing_mm[0]:.3g} mm)"
        for number, info in enumerate(infos, start=1)
    )
