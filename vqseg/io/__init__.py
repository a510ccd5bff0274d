"""Volumes in, masks out: one file a format, the same verbs for all.

Everything read is canonical (see :mod:`vqseg.volume`); everything written is in the layout of its source.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import numpy.typing as npt

from vqseg.errors import VolumeError
from vqseg.io import labels as _labels
from vqseg.io import nifti as _nifti
from vqseg.io.atomic import atomic_path
from vqseg.io.image_files import NIFTI, is_image_file
from vqseg.io.labels import LabelMap
from vqseg.volume import Volume

if TYPE_CHECKING:
    from vqseg.io.dicom import SeriesInfo

__all__ = [
    "LabelMap",
    "atomic_path",
    "is_label_object",
    "list_series",
    "read_as_stored",
    "read_labels",
    "read_volume",
    "write_labels",
    "write_map",
    "write_segmentation",
]

PathLike = str | os.PathLike[str]

OBJECT_FOLDER_FILES = 8
"""Archives export a segmentation as a folder of its own; one with more files than this is a series."""


def read_volume(path: PathLike, *, series: str | int | None = None, axis: int | None = None) -> Volume:
    """Read a volume; slices stay on disk until they are asked for where the format allows it.

    Parameters
    ----------
    path : str or path-like
        `.nii`, `.nii.gz`, `.nrrd`, `.nhdr`, `.mha`, `.mhd`, a folder with a DICOM series, or one of its files.
    series : str or int, optional
        For a folder with several series: a UID or description from :func:`list_series`, or its number there,
        counted from 1.
    axis : int, optional
        The stored axis (0, 1, 2) that becomes z; by default the most axial one.

    Returns
    -------
    Volume
        `volume.warnings` says what was unusual. Floats that are not numbers (NaN, infinite) are replaced by
        the smallest number of their slice, or of the volume, where it is read at once and the warning can count them.

    Raises
    ------
    VolumeError
        In one sentence, for whatever cannot be read as one volume.
    """
    volume = _read(Path(path), series, axis)
    if np.dtype(volume.array.dtype).kind != "f":
        return volume
    if isinstance(volume.array, np.ndarray):
        if count := volume.array.size - int(np.count_nonzero(np.isfinite(volume.array))):
            if count == volume.array.size:
                raise VolumeError(f"No voxel of {Path(path).name} is a number (all NaN or infinite); export it again.")
            text = f"{count} voxels are not numbers (NaN or infinite); they were given the smallest value there is."
            return replace(volume, array=_only_numbers(volume.array), warnings=(*volume.warnings, text))
        return volume
    return replace(volume, array=dask.array.map_blocks(_only_numbers, volume.array, dtype=volume.array.dtype))


def read_as_stored(path: PathLike) -> Volume:
    """Read a volume as :func:`read_volume` does, but leave values that are not numbers as they are."""
    return _read(Path(path), None, None)


def list_series(path: PathLike) -> list[SeriesInfo]:
    """The image series in a DICOM folder, in the order of their numbers.

    Raises
    ------
    VolumeError
        If there are none.
    """
    from vqseg.io import dicom

    return dicom.list_series(_existing(Path(path)))


def read_labels(path: PathLike, volume: Volume, what: str = "labels", only: Collection[int] | None = None) -> LabelMap:
    """Read labels drawn on `volume`, whichever orientation they are stored in.

    Parameters
    ----------
    path : str or path-like
        A label file in any format that :func:`read_volume` reads, names from the JSON file beside it; a DICOM
        segmentation or RT structure set (or a folder with that file only), names from the file; a segmentation of
        3D Slicer (.seg.nrrd).
    volume : Volume
        The image.
    what : str
        What to call the labels in an error ("reference").
    only : collection of int, optional
        Label values to read, so that overlapping structures that are not wanted hide nothing; by default all.

    Raises
    ------
    GeometryError
        If the labels do not lie on the voxels of `volume`.
    VolumeError
        For files that cannot be read, and values that are not whole numbers from 0 to 254.
    """
    file = _object_file(_existing(Path(path)))
    if file is not None:
        return _read_object(file, volume, what, only)
    found = _labels.align(_read(Path(path), None, None), volume, what)
    if only is None:
        return found
    kept = np.where(np.isin(found.array, list(only)), found.array, 0).astype(np.uint8)
    return LabelMap(kept, {value: name for value, name in found.names.items() if value in only}, found.warnings)


def is_label_object(path: PathLike) -> bool:
    """Whether a path is a DICOM segmentation or RT structure set, which only make sense beside their image."""
    return _object_file(_existing(Path(path))) is not None


def write_labels(path: PathLike, array: npt.ArrayLike, volume: Volume, names: Mapping[int, str]) -> list[Path]:
    """Write labels (z, y, x) as NIfTI in the source's layout; see :func:`vqseg.io.labels.write_labels`."""
    return _labels.write_labels(Path(path), array, volume, names)


def write_segmentation(
    path: PathLike,
    array: npt.ArrayLike,
    volume: Volume,
    names: Mapping[int, str],
    *,
    drawn: bool = False,
    colours: Mapping[int, str] | None = None,
) -> tuple[str, ...]:
    """Write labels (z, y, x) as a DICOM segmentation of the series `volume` was read from.

    The file is written beside, read back and compared before it takes the old one's place.

    Parameters
    ----------
    path : str or path-like
        `.dcm`.
    array, volume, names, drawn, colours
        As :func:`vqseg.io.dicom_seg.write`, which says what else goes wrong.

    Returns
    -------
    tuple of str
        What the person should know about the references, in sentences.

    Raises
    ------
    VolumeError
        For a wrong name or shape, or a path that cannot be written.
    """
    from vqseg.io import dicom_frames, dicom_seg

    labels = np.asarray(array)
    if Path(path).is_file() and dicom_frames.label_object(Path(path)) != "SEG":
        raise VolumeError(f"{Path(path).name} exists and is no segmentation; choose another name for the output.")
    _labels.require_shape(labels.shape, volume, "labels")
    warnings: list[str] = []

    def write(file: Path) -> None:
        warnings.extend(dicom_seg.write(file, labels, volume, names, drawn=drawn, colours=colours))

    _labels.replace_file(Path(path), volume, write, (".dcm",))
    return tuple(warnings)


def write_map(path: PathLike, array: npt.ArrayLike, volume: Volume) -> list[Path]:
    """Write float32 (z, y, x), or (K, z, y, x) as 4D (i, j, k, K); see :func:`vqseg.io.labels.write_map`."""
    return _labels.write_map(Path(path), array, volume)


def _read(path: Path, series: str | int | None, axis: int | None) -> Volume:
    """Choose the format by the name, and DICOM for folders and names that tell nothing."""
    name = _existing(path).name.lower()
    if series is not None and is_image_file(path):
        raise VolumeError(f"{path.name} is one image, no folder of DICOM series; leave the choice of a series out.")
    try:
        if is_image_file(path) and name.endswith(NIFTI):
            return _nifti.read(path, axis)
        if is_image_file(path):
            from vqseg.io import itk

            return itk.read(path, axis)
        from vqseg.io import dicom

        return dicom.read(path, series, axis)
    except OSError as error:
        raise _unreadable(path, error) from None
    except MemoryError:
        raise VolumeError(f"{path.name} does not fit in memory; crop it, or save it as uncompressed .nii.") from None


def _object_file(path: Path) -> Path | None:
    """The DICOM segmentation or RT structure set at a path, or in a folder that holds nothing else."""
    if is_image_file(path):
        return None
    from vqseg.io import dicom_frames

    try:
        files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
        objects = [file for file in files if dicom_frames.is_dicom(file)] if len(files) <= OBJECT_FOLDER_FILES else []
        return objects[0] if len(objects) == 1 and dicom_frames.label_object(objects[0]) else None
    except OSError as error:
        raise _unreadable(path, error) from None


def _read_object(file: Path, volume: Volume, what: str, only: Collection[int] | None) -> LabelMap:
    from vqseg.io import dicom_frames

    if dicom_frames.label_object(file) == "SEG":
        from vqseg.io import dicom_seg

        return dicom_seg.read(file, volume, what, only)
    from vqseg.io import dicom_rtstruct

    return dicom_rtstruct.read(file, volume, what, only)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise VolumeError(f"{path} does not exist; check the path.")
    if path.is_file() and path.stat().st_size == 0:
        raise VolumeError(f"{path.name} is empty; copy or download it again.")
    return path


def _unreadable(path: Path, error: OSError) -> VolumeError:
    reason = error.strerror or "the disk refused it"
    return VolumeError(f"{path.name} could not be read ({reason}); check the file and its permissions.")


def _only_numbers(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """NaN and infinities -> the smallest number of the block, 0 where it has none."""
    finite = np.isfinite(block)
    if finite.all():
        return block
    return np.where(finite, block, block[finite].min() if finite.any() else 0).astype(block.dtype)
