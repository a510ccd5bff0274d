"""DICOM files as frames: where each image lies in the patient, and its values in HU.

A classic file holds one frame, an enhanced (multi-frame) one many. Only the tags listed here are read; none of them
names a patient.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, MediaStorageDirectoryStorage

from vqseg.errors import VolumeError

__all__ = ["Frame", "FunctionalGroups", "NotAnImageError", "is_dicom", "label_object", "read_frames", "read_values"]

TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "ImageType",
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "PixelRepresentation", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope",
    "RescaleIntercept", "SliceThickness", "ConvolutionKernel", "TemporalPositionIdentifier", "AcquisitionNumber",
    "TriggerTime", "NominalPercentageOfCardiacPhase", "EchoTime", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "FrameOfReferenceUID",
]  # fmt: skip

PHASE_TAGS = ("TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase", "TriggerTime", "EchoTime",
              "AcquisitionNumber", "ImageType")  # fmt: skip
"""What may tell apart images at the same position within one series, the most telling first."""

NOT_IMAGES = ("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTIMAGE", "PR", "SR", "KO", "REG", "OT")
"""Modalities of objects that accompany images."""


class NotAnImageError(Exception):
    """A DICOM object that is no slice in the patient: a localizer, a report, a segmentation..."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One image.

    Parameters
    ----------
    path, index : Path, int
        The file, and the frame in it.
    position_mm : ndarray
        (3,) centre of the first pixel, LPS.
    orientation : ndarray
        (2, 3) unit vectors along increasing column and increasing row index, LPS.
    spacing_mm : tuple of float
        Between rows, between columns.
    shape : tuple of int
        (rows, columns).
    slope, intercept : float
        Stored value -> HU.
    limits : tuple of int
        Smallest and largest value that can be stored.
    tags : dict
        Series uid, description, number, modality and so on; nothing of the patient.
    """

    path: Path
    index: int
    position_mm: npt.NDArray[np.float64]
    orientation: npt.NDArray[np.float64]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    slope: float
    intercept: float
    limits: tuple[int, int]
    tags: dict[str, Any] = field(default_factory=dict)

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """(3,) unit vector across the slice, LPS."""
        return np.cross(self.orientation[0], self.orientation[1])


def is_dicom(path: Path) -> bool:
    """Whether a file looks like DICOM: by its prefix or, for old files without one, by its first tag."""
    with path.open("rb") as file:
        head = file.read(132)
    return head[128:] == b"DICM" or head[:4] in (b"\x08\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00")


def label_object(path: Path) -> str:
    """The modality of a DICOM object that holds labels ("SEG", "RTSTRUCT"), "" for anything else."""
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "Modality"], force=True)
    except Exception:  # pydicom raises many kinds on damaged files; as a series it gets its sentence
        return ""
    kind = str(dataset.get("Modality") or "")
    return kind if kind in ("SEG", "RTSTRUCT") else ""


def read_frames(path: Path) -> list[Frame]:
    """The frames of a DICOM file, without their pixels.

    Raises
    ------
    NotAnImageError
        For objects that are not slices in the patient.
    VolumeError
        For a damaged file.
    """
    try:
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
            pixel_bytes = os.fstat(file.fileno()).st_size - file.tell()
        return list(_frames(path, dataset, pixel_bytes))
    except (NotAnImageError, VolumeError):
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise _cut_short() from error


def _frames(path: Path, dataset: pydicom.Dataset, pixel_bytes: int) -> Iterator[Frame]:
    if "SOPClassUID" not in dataset and "Rows" not in dataset:
        if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise NotAnImageError
        raise _cut_short()
    image_type = [str(part).upper() for part in dataset.get("ImageType") or []]
    if "Rows" not in dataset or dataset.get("Modality") in NOT_IMAGES or "LOCALIZER" in image_type:
        raise NotAnImageError
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise NotAnImageError  # screenshots and dose reports in colour
    count = int(dataset.get("NumberOfFrames") or 1)
    _require_whole(dataset, count, pixel_bytes)
    for index in range(count):
        values = FunctionalGroups(dataset, index)
        position, orientation = values("ImagePositionPatient"), values("ImageOrientationPatient")
        spacing = values("PixelSpacing")
        if position is None or orientation is None or spacing is None:
            raise NotAnImageError
        if min(map(float, spacing)) <= 0:
            raise VolumeError("The DICOM series has zero spacing between its pixels; export it again from the archive.")
        slope, intercept = values("RescaleSlope"), values("RescaleIntercept")
        axes = np.array(orientation, dtype=float).reshape(2, 3)
        axes = axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-12)
        yield Frame(
            path, index, np.array(position, dtype=float), axes, (float(spacing[0]), float(spacing[1])),
            (int(dataset.Rows), int(dataset.Columns)), 1.0 if slope is None else float(slope),
            0.0 if intercept is None else float(intercept), _limits(dataset), _tags(dataset, values, index),
        )  # fmt: skip


class FunctionalGroups:
    """Values of one frame by keyword: its own, else those all frames share, else the file's."""

    def __init__(self, dataset: pydicom.Dataset, index: int) -> None:
        groups = []
        for keyword, item in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
            sequence = dataset.get(keyword)
            if sequence and item < len(sequence):
                groups.append(sequence[item])
        self.nested = [
            element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value
        ]
        self.dataset = dataset

    def __call__(self, keyword: str) -> Any:
        """The first value that is not empty, or None."""
        for source in (*self.nested, self.dataset):
            value = source.get(keyword)
            if value is not None and str(value) != "":
                return value
        return None


def _limits(dataset: pydicom.Dataset) -> tuple[int, int]:
    bits = int(dataset.get("BitsStored") or dataset.get("BitsAllocated") or 16)
    signed = bool(dataset.get("PixelRepresentation") or 0)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _tags(dataset: pydicom.Dataset, values: FunctionalGroups, index: int) -> dict[str, Any]:
    thickness = values("SliceThickness")
    kernel = values("ConvolutionKernel")
    return {
        "instance": f"{dataset.get('SOPInstanceUID') or ''}/{index}",
        "uid": str(dataset.get("SeriesInstanceUID") or ""),
        "frame_of_reference": str(dataset.get("FrameOfReferenceUID") or ""),
        "number": int(dataset.get("SeriesNumber") or 0),
        "description": str(dataset.get("SeriesDescription") or ""),
        "modality": str(dataset.get("Modality") or ""),
        "photometric": str(dataset.get("PhotometricInterpretation") or ""),
        "thickness_mm": None if thickness is None else float(thickness),
        "kernel": "" if kernel is None else str(kernel if isinstance(kernel, str) else "/".join(map(str, kernel))),
        "phases": tuple(str(values(keyword) or "") for keyword in PHASE_TAGS),
    }


def _require_whole(dataset: pydicom.Dataset, frames: int, pixel_bytes: int) -> None:
    """Raise unless an uncompressed file is long enough for its pixels (compressed ones show when decoded)."""
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID") or "1.2.840.10008.1.2")
    if syntax.is_encapsulated or syntax.is_deflated:
        return
    size = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("BitsAllocated") or 16) // 8 * frames
    if pixel_bytes < size:
        raise _cut_short()


def _cut_short() -> VolumeError:
    return VolumeError("A DICOM file in the folder is damaged or cut short; copy the series again from the archive.")


# -------------------------------------------------------------------------------------------------- pixels


def read_values(frame: Frame) -> npt.NDArray[np.float64]:
    """Values of a frame after its rescale, HU for CT: float64 (rows, columns).

    Raises
    ------
    VolumeError
        If the pixels cannot be decoded.
    """
    try:
        stored = pixel_array(frame.path, index=frame.index, raw=True)
        values = stored.astype(np.float64) * frame.slope + frame.intercept
    except Exception:  # a missing decoder and damaged pixels raise many kinds; GDCM knows more syntaxes
        values = _read_with_gdcm(frame)
    if values.shape != frame.shape:
        raise _undecodable()
    return values


def _read_with_gdcm(frame: Frame) -> npt.NDArray[np.float64]:
    """The same through SimpleITK, which applies the rescale itself (JPEG Lossless, for one)."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(frame.path))
    try:
        array = SimpleITK.GetArrayFromImage(reader.Execute())
        return np.asarray(array[frame.index], dtype=np.float64)
    except (RuntimeError, IndexError):
        raise _undecodable() from None


def _undecodable() -> VolumeError:
    return VolumeError("A slice of the DICOM series cannot be decoded; it is damaged or its compression is unknown.")
