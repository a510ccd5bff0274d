"""NRRD (`.nrrd`, `.nhdr`) and MetaImage (`.mha`, `.mhd`), through SimpleITK; read at once."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK

from vqseg.errors import VolumeError
from vqseg.io.geometry import LPS_TO_RAS, make_layout
from vqseg.volume import Volume

__all__ = ["read"]

HEADER_LIMIT = 1 << 16
"""Bytes in which a header ends, custom fields included."""


def read(path: Path, axis: int | None = None) -> Volume:
    """Read an NRRD or MetaImage file.

    Parameters
    ----------
    path : Path
        `.nrrd`, `.nhdr`, `.mha` or `.mhd`.
    axis : int, optional
        Stored axis that becomes z; by default the most axial one.

    Returns
    -------
    Volume
        In memory.

    Raises
    ------
    VolumeError
        For a damaged file, or one that is not one scalar volume.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_LIMIT).replace(b"\r", b"")
    if path.suffix.lower() in (".mha", ".mhd"):
        reader, is_one, stated = "MetaImageIO", b"ElementDataFile" in header, b"TransformMatrix" in header
    else:
        reader, is_one, stated = "NrrdImageIO", header.startswith(b"NRRD"), b"\nspace:" in header.split(b"\n\n")[0]
    if not is_one:
        raise VolumeError(f"{path.name} is not of the kind that its name says; choose another, or copy it again.")
    image = _load(path, reader)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    layout = make_layout(image.GetSize(), LPS_TO_RAS @ affine, path.name, axis=axis)
    stored = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    if stored.dtype == np.float64:
        stored = stored.astype(np.float32)
    warnings = () if stated else ("The file states no orientation; left and right are a guess.",)
    return Volume(
        layout.to_canonical(stored), layout, source=str(path), warnings=warnings,
        metadata={"label_names": _segment_names(image)},
    )  # fmt: skip


def _segment_names(image: SimpleITK.Image) -> dict[int, str]:
    """Name by label value in a segmentation of 3D Slicer (.seg.nrrd); empty for any other image."""
    keys = [key for key in image.GetMetaDataKeys() if re.fullmatch(r"Segment\d+_LabelValue", key)]
    named = [(image.GetMetaData(key), key.removesuffix("LabelValue") + "Name") for key in keys]
    return {
        int(value): image.GetMetaData(name)
        for value, name in named
        if value.strip().isdigit() and image.HasMetaDataKey(name)
    }


def _load(path: Path, reader_name: str) -> SimpleITK.Image:
    """The image, of three dimensions and one number a voxel."""
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(reader_name)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        dimensions, components = reader.GetDimension(), reader.GetNumberOfComponents()
        size = reader.GetSize()
    except RuntimeError:
        raise _damaged(path) from None
    if components != 1 or "complex" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()):
        raise VolumeError(f"{path.name} holds {components} numbers a voxel; save one of them as a 3D file.")
    if dimensions < 3:
        raise VolumeError(f"{path.name} is a 2D image (shape {size}); choose a volume with at least two slices.")
    if dimensions > 3:
        raise VolumeError(f"{path.name} has {dimensions} axes (shape {size}); save the volume you want as a 3D file.")
    try:
        image: SimpleITK.Image = reader.Execute()
        return image
    except RuntimeError:
        raise _damaged(path) from None


def _damaged(path: Path) -> VolumeError:
    return VolumeError(f"{path.name} is damaged, cut short or has no valid geometry; copy or convert it again.")
