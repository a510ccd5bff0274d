"""Label volumes on an image's voxels, and the names of their values in a JSON file beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel.orientations as orientations
import numpy as np
import numpy.typing as npt

from vqseg.errors import VolumeError
from vqseg.io import nifti
from vqseg.io.atomic import atomic_path
from vqseg.io.image_files import NIFTI, stem
from vqseg.volume import StoredLayout, Volume

__all__ = [
    "MAX_LABEL",
    "LabelMap",
    "align",
    "names_of",
    "replace_file",
    "require_shape",
    "require_sidecar",
    "sidecar_path",
    "write_labels",
    "write_map",
]

MAX_LABEL = 254
"""255 is kept for background painted in scribbled slices."""
MASK = 255
"""What image programs write for "inside"."""
ROUNDING = 0.02
"""Programs that store labels as scaled integers (nibabel does, of floats) bring them back so far from whole numbers."""


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels on the voxels of an image.

    Parameters
    ----------
    array : ndarray
        uint8 (z, y, x), canonical as the image is; 0 is background.
    names : dict
        Name of each label value, where known.
    warnings : tuple of str
        What the person should know, such as an unreadable file of names.
    """

    array: npt.NDArray[np.uint8]
    names: dict[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def align(labels: Volume, volume: Volume, what: str = "labels") -> LabelMap:
    """Labels as stored in any orientation -> labels on the voxels of `volume`; a mask of 0 and 255 becomes 0 and 1.

    Raises
    ------
    GeometryError
        Unless the voxels of both coincide, up to the order in which they are stored.
    VolumeError
        For values that are not whole numbers from 0 to 254.
    """
    stored = labels.stored.to_stored(labels.array)
    transform = orientations.ornt_transform(
        orientations.io_orientation(labels.stored.affine), orientations.io_orientation(volume.stored.affine)
    )
    affine = labels.stored.affine @ orientations.inv_ornt_aff(transform, labels.stored.shape)
    order = tuple(int(axis) for axis in np.argsort(transform[:, 0]))
    flips = tuple(slice(None, None, int(transform[axis, 1])) for axis in order)
    stored = stored.transpose(order)[flips]
    layout = StoredLayout(tuple(stored.shape), affine, slice_axis=volume.stored.slice_axis)
    aligned = Volume(layout.to_canonical(stored), layout)
    volume.require_same_geometry(aligned, what)
    array = np.asarray(aligned.array)
    names, warnings = names_of(labels)
    if array.max() == MASK and array.min() == 0 and np.isin(array, (0, MASK)).all():
        array = (array == MASK).astype(np.uint8)
        warnings = (*warnings, f"The {what} are a mask of 0 and {MASK}; {MASK} was read as 1.")
    return LabelMap(_whole_numbers(array, what), names, warnings)


def _whole_numbers(array: npt.NDArray[Any], what: str) -> npt.NDArray[np.uint8]:
    """The array as contiguous uint8, or a :class:`VolumeError`."""
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise VolumeError(f"There are values that are not numbers in the {what}; save whole numbers from 0 to 254.")
    if round(low) < 0 or round(high) > MAX_LABEL:
        raise VolumeError(
            f"There are values from {low:g} to {high:g} in the {what}; "
            "renumber them to whole numbers from 1 to 254, with 0 as background."
        )
    whole = np.rint(array) if array.dtype.kind == "f" else array
    if whole is not array and np.abs(whole - array).max() > ROUNDING:
        raise VolumeError(
            f"There are fractions in the {what} (probabilities, or labels resampled with interpolation); "
            "save whole numbers, resampled to the nearest."
        )
    return np.ascontiguousarray(whole, dtype=np.uint8)


# --------------------------------------------------------------------------------------------------- names


def sidecar_path(path: Path) -> Path:
    """PRED.json beside PRED.nii.gz."""
    return path.with_name(f"{stem(path)}.json")


def names_of(labels: Volume) -> tuple[dict[int, str], tuple[str, ...]]:
    """Label names that a file holds itself (segmentation in NRRD) or that lie beside it, and warnings."""
    inside = labels.metadata.get("label_names")
    return (dict(inside), ()) if inside else read_names(labels.source)


def read_names(source: str) -> tuple[dict[int, str], tuple[str, ...]]:
    """Label names in the JSON file beside a label file, and warnings; empty where there is none.

    Understood are ``{"labels": {"1": "liver"}}``, the other way round as nnU-Net has it, and the same without
    the outer level. A file that says other things, such as the scan's protocol (BIDS), names no labels.
    """
    path = sidecar_path(Path(source))
    if not path.is_file():
        return {}, ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        pairs = dict(content.get("labels", content)).items()
        numbered = [(key, value) if str(key).isdigit() else (value, key) for key, value in pairs]
        if "labels" not in content and not all(str(number).isdigit() for number, _ in numbered):
            return {}, ()
        names = {int(number): str(name) for number, name in numbered if str(number).isdigit()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}, (f"The label names in {path.name} could not be read; the labels go by their numbers.",)
    return {number: name for number, name in sorted(names.items()) if 1 <= number <= MAX_LABEL}, ()


def require_sidecar(path: Path) -> Path:
    """Where the names of the labels in the file `path` go.

    Raises
    ------
    VolumeError
        If another program's file is there, such as the scan's protocol (BIDS).
    """
    sidecar = sidecar_path(path)
    if sidecar.exists():
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        if not (isinstance(content, dict) and content.keys() == {"labels"}):
            raise VolumeError(
                f"{sidecar.name} would be replaced by the label names, and holds other things; choose another name for "
                "the output."
            )
    return sidecar


def _write_names(path: Path, names: Mapping[int, str]) -> None:
    labels = {str(int(value)): str(name) for value, name in sorted(names.items())}
    path.write_text(json.dumps({"labels": labels}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# ------------------------------------------------------------------------------------------------- writing


def write_labels(path: Path, array: npt.ArrayLike, volume: Volume, names: Mapping[int, str]) -> list[Path]:
    """Write labels (z, y, x) as NIfTI in the stored layout of `volume`, and their names beside it.

    The file is written beside, read back and compared before it takes the old one's place.

    Parameters
    ----------
    path : Path
        `.nii` or `.nii.gz`.
    array : array of int
        (z, y, x), as `volume`.
    volume : Volume
        The image the labels belong to.
    names : mapping of int to str
        Name of each label value.

    Returns
    -------
    list of Path
        The mask and its JSON file.

    Raises
    ------
    VolumeError
        For a wrong shape, values that are not whole numbers of at least 0, or a path that cannot be written or whose
        JSON file is another program's.
    """
    labels = np.asarray(array)
    require_shape(labels.shape, volume, "labels")
    labels = labels.astype(_smallest_dtype(labels))
    sidecar = require_sidecar(path)

    def write(mask: Path) -> None:
        with atomic_path(sidecar) as listing:
            _write_names(listing, names)
            nifti.write(mask, volume.stored.to_stored(labels), volume.stored)

    replace_file(path, volume, write)
    return [path, sidecar]


def write_map(path: Path, array: npt.ArrayLike, volume: Volume) -> list[Path]:
    """Write numbers such as probabilities as float32 NIfTI in the stored layout of `volume`.

    Parameters
    ----------
    path : Path
        `.nii` or `.nii.gz`.
    array : array
        (z, y, x), stored as (i, j, k); or (K, z, y, x), stored as (i, j, k, K).
    volume : Volume
        The image the map belongs to.

    Returns
    -------
    list of Path
        The file.

    Raises
    ------
    VolumeError
        For a wrong shape or a path that cannot be written.
    """
    values = np.asarray(array, dtype=np.float32)
    require_shape(values.shape[-3:], volume, "map")
    if values.ndim == 3:
        stored = volume.stored.to_stored(values)
    elif values.ndim == 4:
        stored = np.stack([volume.stored.to_stored(channel) for channel in values], axis=-1)
    else:
        raise VolumeError(f"The map has {values.ndim} axes; expected (z, y, x) or (channel, z, y, x).")
    replace_file(path, volume, lambda target: nifti.write(target, stored, volume.stored))
    return [path]


def require_shape(shape: tuple[int, ...], volume: Volume, what: str) -> None:
    """Raise :class:`VolumeError` unless what is to be written has the image's shape."""
    if tuple(shape) != volume.shape:
        raise VolumeError(f"The {what} to write have shape {tuple(shape)} (z, y, x); the image has {volume.shape}.")


def _smallest_dtype(labels: npt.NDArray[Any]) -> np.dtype[Any]:
    """The smallest of NIfTI's unsigned integers that holds the labels."""
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise VolumeError("The labels to write hold fractions; round them to whole numbers first.")
    if labels.min() < 0 or labels.max() >= 2**32:
        raise VolumeError("The labels to write lie outside 0 to 4294967295; renumber them from 1 on.")
    return np.dtype(np.min_scalar_type(int(labels.max())))


def replace_file(
    path: Path, volume: Volume, write: Callable[[Path], object], suffixes: tuple[str, ...] = NIFTI
) -> None:
    """Let `write` fill a temporary file and put it in the place of `path`.

    Raises
    ------
    VolumeError
        For another suffix, the image's own path, or one that cannot be written.
    """
    if not path.name.lower().endswith(suffixes):
        raise VolumeError(f"{path.name} has the wrong ending; let the output end in {' or '.join(suffixes)}.")
    if not path.parent.is_dir():
        raise VolumeError(f"The folder of {path.name} does not exist; create it first, or choose another.")
    if volume.source and path.exists() and Path(volume.source).exists() and path.samefile(volume.source):
        raise VolumeError(f"{path.name} is the image itself; choose another name for the output.")
    try:
        with atomic_path(path) as temporary:
            write(temporary)
    except OSError as error:
        reason = error.strerror or "the disk refused it"
        raise VolumeError(f"{path.name} could not be written ({reason}); choose another folder.") from None
