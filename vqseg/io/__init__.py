"""Volumes in, masks out: one file a format, the same verbs for all.

Everything read is canonical (see :mod:`vqseg.volume`); everything written is in the layout of its source.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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
from vqseg.io.labels import LabelMap
from vqseg.volume import Volume

if TYPE_CHECKING:
    from vqseg.io.dicom import SeriesInfo

__all__ = [
    "LabelMap",
    "atomic_path",
    "list_series",
    "read_labels",
    "read_volume",
    "write_labels",
    "write_map",
]

PathLike = str | os.PathLike[str]


def read_volume(path: PathLike, *, series: str | int | None = None, axis: int | None = None) -> Volume:
    """Read a volume; slices stay on disk until they are asked for where the format allows it.

    Parameters
    ----------
    path : str or path-like
        `.nii`, `.nii.gz`, `.nrrd`, `.nhdr`, a folder with a DICOM series, or one of its files.
    series : str or int, optional
        For a folder with several series: a UID or description from :func:`list_series`, or its number there,
        counted from 1.
    axis : int, optional
        The stored axis (0, 1, 2) that becomes z; by default the most axial one.

    Returns
    -------
    Volume
        `volume.warnings` says what was unusual. Floats that are not numbers (NaN, infinite) are replaced by
        the smallest number of their slice (of the volume, where it is read at once).

    Raises
    ------
    VolumeError
        In one sentence, for whatever cannot be read as one volume.
    """
    volume = _read(Path(path), series, axis)
    if np.dtype(volume.array.dtype).kind != "f":
        return volume
    if isinstance(volume.array, np.ndarray):
        return replace(volume, array=_only_numbers(volume.array))
    return replace(volume, array=dask.array.map_blocks(_only_numbers, volume.array, dtype=volume.array.dtype))


def list_series(path: PathLike) -> list[SeriesInfo]:
    """The image series in a DICOM folder, in the order of their numbers.

    Raises
    ------
    VolumeError
        If there are none.
    """
    from vqseg.io import dicom

    return dicom.list_series(_existing(Path(path)))


def read_labels(path: PathLike, volume: Volume, what: str = "labels") -> LabelMap:
    """Read labels drawn on `volume`, whichever orientation they are stored in.

    Parameters
    ----------
    path : str or path-like
        A label file in any format that :func:`read_volume` reads; names from the JSON file beside it.
    volume : Volume
        The image.
    what : str
        What to call the labels in an error ("reference").

    Raises
    ------
    GeometryError
        If the labels do not lie on the voxels of `volume`.
    VolumeError
        For files that cannot be read, and values that are not whole numbers from 0 to 254.
    """
    return _labels.align(_read(Path(path), None, None), volume, what)


def write_labels(path: PathLike, array: npt.ArrayLike, volume: Volume, names: Mapping[int, str]) -> list[Path]:
    """Write labels (z, y, x) as NIfTI in the source's layout; see :func:`vqseg.io.labels.write_labels`."""
    return _labels.write_labels(Path(path), array, volume, names)


def write_map(path: PathLike, array: npt.ArrayLike, volume: Volume) -> list[Path]:
    """Write float32 (z, y, x), or (K, z, y, x) as 4D (i, j, k, K); see :func:`vqseg.io.labels.write_map`."""
    return _labels.write_map(Path(path), array, volume)


def _read(path: Path, series: str | int | None, axis: int | None) -> Volume:
    """Choose the format by the name, and DICOM for folders and names that tell nothing."""
    name = _existing(path).name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")) and path.is_file():
            return _nifti.read(path, axis)
        if name.endswith((".nrrd", ".nhdr")) and path.is_file():
            from vqseg.io import nrrd

            return nrrd.read(path, axis)
        from vqseg.io import dicom

        return dicom.read(path, series, axis)
    except OSError as error:
        reason = error.strerror or "the disk refused it"
        raise VolumeError(f"{path.name} could not be read ({reason}); check the file and its permissions.") from None
    except MemoryError:
        raise VolumeError(f"{path.name} does not fit in memory; crop it, or save it as uncompressed .nii.") from None


def _existing(path: Path) -> Path:
    if not path.exists():
        raise VolumeError(f"{path} does not exist; check the path.")
    if path.is_file() and path.stat().st_size == 0:
        raise VolumeError(f"{path.name} is empty; copy or download it again.")
    return path


def _only_numbers(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """NaN and infinities -> the smallest number of the block, 0 where it has none."""
    finite = np.isfinite(block)
    if finite.all():
        return block
    return np.where(finite, block, block[finite].min() if finite.any() else 0).astype(block.dtype)
