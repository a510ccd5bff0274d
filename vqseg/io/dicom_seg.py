"""DICOM Segmentation objects, through highdicom: read from any program, written for the series they belong to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pydicom
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

import vqseg
from vqseg.colours import colour_of
from vqseg.errors import GeometryError, VolumeError
from vqseg.io import dicom
from vqseg.io.dicom_frames import TAGS, FunctionalGroups
from vqseg.io.geometry import LPS_TO_RAS
from vqseg.io.labels import LabelMap
from vqseg.io.structures import Indices, Structure, paint
from vqseg.io.terms import term_for
from vqseg.volume import Volume

__all__ = ["read", "write"]

STUDY_TAGS = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
              "AccessionNumber")  # fmt: skip
"""What files an object with its study: types 1 and 2 of the modules Patient and General Study."""

REFERENCE_TAGS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
DEIDENTIFIED_TAGS = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")
LABEL_LENGTH = 64
LABEL_VALUE = "Label value {}"
"""A segment's description: segments are numbered from 1 without gaps, label values need not be."""

HALF = 0.5


# ------------------------------------------------------------------------------------------------- reading


def read(path: Path, volume: Volume, what: str = "labels", only: Collection[int] | None = None) -> LabelMap:
    """Read a segmentation drawn on `volume`; its segments keep their names, and their numbers as label values.

    Frames are placed by their own position, so that it does not matter which slices the object leaves out.
    Fractional segments count from one half on. `only` names the segments to read, by label value;
    by default all. A segmentation written by this program comes back with the label values it was written from.

    Raises
    ------
    GeometryError
        If the frames do not lie on the voxels of `volume`, or segments reach outside it.
    VolumeError
        If the file is damaged, or holds no or more than 254 segments.
    """
    try:
        segmentation = hd.seg.segread(path)
        segments = {int(item.segment_number): item for item in segmentation.SegmentSequence}
        labels = {number: str(item.segment_label) for number, item in segments.items()}
        values = _label_values(segments)
    except Exception as error:  # highdicom and pydicom raise many kinds on damaged or unusual files
        raise VolumeError(
            f"{path.name} cannot be read as a DICOM segmentation; export it again, or convert it to NIfTI."
        ) from error
    own, expected = str(segmentation.get("FrameOfReferenceUID") or ""), volume.metadata.get("frame_of_reference")
    if own and expected and own != expected:
        raise GeometryError(
            f"The {what} were drawn in another frame of reference than the image (another scan); "
            f"choose the {what} of this series."
        )
    frames = _Frames(segmentation, volume, what)
    structures = [
        Structure(values.get(number, number), labels.get(number, str(number)), size, partial(frames.voxels_of, number))
        for number, size in frames.sizes().items()
    ]
    return paint(structures, volume, what, only)


def _label_values(segments: Mapping[int, pydicom.Dataset]) -> dict[int, int]:
    """Label value of each segment: the one that this program has written down, else its number."""
    found = {
        number: re.fullmatch(LABEL_VALUE.format(r"(\d+)"), str(item.get("SegmentDescription") or ""))
        for number, item in segments.items()
    }
    values = {number: int(match[1]) for number, match in found.items() if match}
    return values if len(set(values.values())) == len(segments) else {}


class _Frames:
    """The frames of a segmentation by segment, placed on a volume's voxels."""

    def __init__(self, segmentation: Any, volume: Volume, what: str) -> None:
        self._segmentation, self._volume, self._what = segmentation, volume, what
        self._is_label_map = segmentation.segmentation_type is SegmentationTypeValues.LABELMAP
        fractional = segmentation.segmentation_type is SegmentationTypeValues.FRACTIONAL
        self._threshold = HALF * float(segmentation.MaximumFractionalValue) if fractional else HALF
        self._groups = [FunctionalGroups(segmentation, frame) for frame in range(int(segmentation.NumberOfFrames))]
        self._frames_of: dict[int, list[int]] = defaultdict(list)

    def sizes(self) -> dict[int, int]:
        """Number of voxels of each segment that has any."""
        counts: dict[int, int] = defaultdict(int)
        for frame, groups in enumerate(self._groups):
            pixels = self._pixels(frame)
            numbers = np.unique(pixels) if self._is_label_map else [groups("ReferencedSegmentNumber")]
            for number in (int(number) for number in numbers if number):
                if count := int(np.count_nonzero(self._mask(pixels, number))):
                    counts[number] += count
                    self._frames_of[number].append(frame)
        return dict(sorted(counts.items()))

    def voxels_of(self, number: int) -> Iterator[Indices]:
        """Canonical indices of a segment, frame by frame; after :meth:`sizes`."""
        for frame in self._frames_of[number]:
            yield self._place(frame, self._mask(self._pixels(frame), number))

    def _mask(self, pixels: npt.NDArray[Any], number: int) -> npt.NDArray[np.bool_]:
        return pixels == number if self._is_label_map else pixels >= self._threshold

    def _pixels(self, frame: int) -> npt.NDArray[Any]:
        try:
            pixels: npt.NDArray[Any] = self._segmentation.get_stored_frame(frame + 1)
        except Exception as error:  # as above
            raise VolumeError(
                f"A frame of the {self._what} cannot be decoded; export the segmentation again."
            ) from error
        return pixels

    def _place(self, frame: int, mask: npt.NDArray[np.bool_]) -> Indices:
        """Canonical indices (z, y, x) of the set pixels of a frame."""
        values = self._groups[frame]
        down_mm, right_mm = (float(size) for size in values("PixelSpacing"))
        right, down = np.array(values("ImageOrientationPatient"), dtype=float).reshape(2, 3)
        plane = np.zeros((4, 3))  # (row, column, 1) -> LPS
        plane[:3] = np.stack([down * down_mm, right * right_mm, np.array(values("ImagePositionPatient"), float)], 1)
        plane[3, 2] = 1
        exact = (np.linalg.inv(self._volume.affine) @ LPS_TO_RAS @ plane)[:3]
        placed = np.rint(exact)
        corners = np.array([[row, column, 1] for row in (0, mask.shape[0] - 1) for column in (0, mask.shape[1] - 1)])
        off_mm = np.linalg.norm((exact - placed) @ corners.T * np.array(self._volume.spacing_mm)[:, None], axis=0).max()
        if not off_mm <= 0.05 * min(self._volume.spacing_mm):
            spacing = " x ".join(f"{size:.4g}" for size in reversed(self._volume.spacing_mm))
            raise GeometryError(
                f"The {self._what} lie up to {off_mm:.3g} mm off the voxels of the image (pixels of {right_mm:.4g} x "
                f"{down_mm:.4g} mm, the image has {spacing}); choose the {self._what} drawn on this image."
            )
        rows, columns = np.nonzero(mask)
        pixels = np.stack([rows, columns, np.ones_like(rows)])
        indices: Indices = (placed.astype(np.int64) @ pixels).T
        return indices


# ------------------------------------------------------------------------------------------------- writing


def write(
    path: Path,
    labels: npt.NDArray[np.integer[Any]],
    volume: Volume,
    names: Mapping[int, str],
    *,
    drawn: bool = False,
    colours: Mapping[int, str] | None = None,
) -> tuple[str, ...]:
    """Write a binary segmentation that refers to the DICOM series of `volume`, read it back and compare.

    Segments are numbered from 1 in the order of the label values, and say which these were; classes without a voxel
    are left out, since a segment without a frame is none. The object carries what the standard asks for to file it
    with its study (patient's name, id, birth date and sex, study's ids and time) and nothing else of the source.

    Parameters
    ----------
    path : Path
        Written in place (see :func:`vqseg.io.atomic.atomic_path`).
    labels : ndarray of int
        (z, y, x), as `volume`.
    volume : Volume
        Read from a DICOM series that is still where it was.
    names : mapping of int to str
        Name of each label value.
    drawn : bool
        Whether a person drew all of it (MANUAL) or a network took part (SEMIAUTOMATIC).
    colours : mapping of int to str, optional
        "#RRGGBB" for each label value, that other programs show it in; by default :func:`vqseg.colours.colour_of`.

    Returns
    -------
    tuple of str
        What the person should know about the references, in sentences.

    Raises
    ------
    VolumeError
        If the image is no DICOM series or has moved, no voxel is labelled, or the file does not read back the same.
    GeometryError
        If the series on disk no longer lies on the voxels of `volume`.
    """
    values = [int(value) for value in np.unique(labels) if value]
    if not values:
        raise VolumeError("No voxel is labelled, and a DICOM segmentation cannot be empty; label or predict first.")
    sources, warnings = _source_images(volume)
    numbers = np.zeros(max(values) + 1, dtype=np.uint8)
    numbers[values] = np.arange(1, len(values) + 1)
    numbered = numbers[labels]
    shown = {value: colour_of(value) for value in values} | dict(colours or {})
    segments = [_describe(number, value, names.get(value, str(value)), drawn, shown[value])
                for number, value in enumerate(values, start=1)]  # fmt: skip
    affine = (LPS_TO_RAS @ volume.stored.affine)[:, [2, 1, 0, 3]]  # (slice, row, column) -> LPS
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=hd.Volume(
            np.ascontiguousarray(volume.stored.to_stored(numbered).transpose(2, 1, 0)), affine, "PATIENT",
            frame_of_reference_uid=sources[0].FrameOfReferenceUID,
        ),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=100 * max(int(sources[0].get("SeriesNumber") or 0), 0) + 1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="napari-vqseg",
        manufacturer_model_name="napari-vqseg",
        software_versions=vqseg.__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        series_description="Segmentation by napari-vqseg, research only",
        specific_character_set="ISO_IR 192",
    )  # fmt: skip
    segmentation.save_as(path)
    again = read(path, volume)
    if not np.array_equal(again.array, labels) or list(again.names) != values:
        raise VolumeError("What was written does not read back the same; check the disk and write it again.")
    return warnings


def _describe(number: int, value: int, name: str, drawn: bool, colour: str) -> SegmentDescription:
    term = term_for(name)
    algorithm = hd.AlgorithmIdentificationSequence(
        "VQ-Seg", family=codes.DCM.ArtificialIntelligence, version=vqseg.__version__
    )
    description = SegmentDescription(
        segment_number=number,
        segment_label=name[:LABEL_LENGTH],
        segmented_property_category=term.category,
        segmented_property_type=term.kind,
        algorithm_type=SegmentAlgorithmTypeValues.MANUAL if drawn else SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=None if drawn else algorithm,
        display_color=hd.color.CIELabColor.from_string(colour),
    )
    description.SegmentDescription = LABEL_VALUE.format(value)
    if term.side is not None:
        side = hd.sr.CodedConcept(term.side.value, term.side.scheme_designator, term.side.meaning)
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return description


def _source_images(volume: Volume) -> tuple[list[pydicom.Dataset], tuple[str, ...]]:
    """Headers of the series' files, whole enough to refer to, and what had to be made up for that."""
    if "series" not in volume.metadata:
        raise VolumeError(
            "A DICOM segmentation refers to the slices of a DICOM series, and this image is none; export NIfTI instead."
        )
    path = Path(volume.source)
    if not path.exists():
        raise VolumeError(f"The DICOM series is no longer where it was ({path.name}); put it back or export NIfTI.")
    current = dicom.read(path, volume.metadata["series"], volume.stored.slice_axis)
    volume.require_same_geometry(current, "slices on disk")
    images = [_source_image(file) for file in dicom.series_files(path, volume.metadata["series"])]
    missing = [keyword for keyword in REFERENCE_TAGS if not images[0].get(keyword)]
    for keyword in missing:
        uid = generate_uid(entropy_srcs=[keyword, images[0].SOPInstanceUID])
        for image in images:
            setattr(image, keyword, uid)
    if not missing:
        return images, ()
    return images, (
        f"The series has no {' and no '.join(missing)} (removed when it was anonymised?); the segmentation refers to "
        "its slices by their own UIDs, and other programs may not find the study it belongs to.",
    )


def _source_image(file: Path) -> pydicom.Dataset:
    """Where a slice lies, and what files an object with its study; nothing else of the source."""
    wanted = [*TAGS, *STUDY_TAGS, *REFERENCE_TAGS, *DEIDENTIFIED_TAGS, "SpecificCharacterSet"]
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=wanted)
    for keyword in ("SOPClassUID", "SOPInstanceUID"):  # by the standard the same in the file's own header
        if not dataset.get(keyword):
            setattr(dataset, keyword, dataset.file_meta.get(f"MediaStorage{keyword}"))
    if not dataset.SOPInstanceUID or not dataset.SOPClassUID:
        raise VolumeError(
            "The DICOM slices have no instance UIDs that a segmentation could refer to; export NIfTI instead."
        )
    for keyword in STUDY_TAGS:
        setattr(dataset, keyword, _valid(keyword, dataset.get(keyword)))
    return dataset


def _valid(keyword: str, value: Any) -> str:
    """The value as text, "" where the standard would not have it: anonymisers leave many things behind."""
    text = "" if value is None else str(value)
    try:
        if keyword.endswith("Date"):
            DA(text)
        elif keyword.endswith("Time"):
            TM(text)
    except ValueError:
        return ""
    if keyword == "PatientSex" and text not in ("M", "F", "O"):
        return ""
    return text
