"""RT structure sets: contours in the patient, filled onto an image's voxels.

rt-utils reads them as well, but it rounds the contours to whole pixels, needs the DICOM series at hand, and brings
OpenCV, whose own copy of Qt breaks that of the viewer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from skimage.draw import polygon

from vqseg.errors import GeometryError, VolumeError
from vqseg.io.geometry import LPS_TO_RAS
from vqseg.io.labels import LabelMap
from vqseg.io.structures import Indices, Structure, paint
from vqseg.volume import Volume

__all__ = ["read"]

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
MAX_OFF_SLICE = 0.2
"""Distance of a contour from the nearest slice, in slice distances, below which it is rounding."""

MARGIN_PX = 1.0
"""Contours run around voxels, so that one may lie this far outside the image's outermost voxel centres."""

Contour = npt.NDArray[np.float64]


def read(path: Path, volume: Volume, what: str = "labels", only: Collection[int] | None = None) -> LabelMap:
    """Read the structures drawn on `volume`: label values 1, 2, ... in the order of their numbers, names along.

    A voxel belongs to a structure if its centre lies inside an odd number of the structure's contours in its slice,
    so that an inner contour is a hole. Nothing is filled in between slices without a contour. `only` names the
    structures to read, by label value; by default all.

    Raises
    ------
    GeometryError
        If contours lie between the slices or outside the image, or in another frame of reference.
    VolumeError
        If the file is damaged, or holds no or more than 254 structures with closed contours.
    """
    try:
        dataset = pydicom.dcmread(path)
        regions = sorted(dataset.StructureSetROISequence, key=lambda item: int(item.ROINumber))
        named = {int(item.ROINumber): str(item.get("ROIName") or item.ROINumber) for item in regions}
        frames = {str(item.get("ReferencedFrameOfReferenceUID") or "") for item in regions}
        contours, skipped = _contours(dataset)
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise VolumeError(
            f"{path.name} cannot be read as an RT structure set; export it again, or convert it to NIfTI."
        ) from error
    expected = volume.metadata.get("frame_of_reference")
    if expected and frames - {""} and expected not in frames:
        raise GeometryError(
            f"The {what} were drawn in another frame of reference than the image (another scan); "
            f"choose the {what} of this series."
        )
    numbers = [number for number in named if number in contours]
    structures = []
    for value, number in enumerate(numbers, start=1):
        by_slice = _by_slice(contours[number], volume, named[number], what)
        size = sum(_area(contour) for group in by_slice.values() for contour in group)
        structures.append(Structure(value, named[number], size, partial(_voxels, by_slice, volume)))
    found = paint(structures, volume, what, only)
    left_out = [named[number] for number in named if number in skipped and number not in contours]
    warnings = [*found.warnings]
    if left_out:
        warnings.append(f"Points and open lines are no areas and were left out: {', '.join(left_out)}.")
    return LabelMap(found.array, found.names, tuple(warnings))


def _contours(dataset: pydicom.Dataset) -> tuple[dict[int, list[Contour]], set[int]]:
    """Closed contours (points, 3) in LPS mm by the number of their structure, and structures with others."""
    closed: dict[int, list[Contour]] = defaultdict(list)
    others: set[int] = set()
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        for contour in item.get("ContourSequence") or []:
            points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
            if contour.ContourGeometricType in CLOSED and len(points) >= 3:
                closed[number].append(points)
            else:
                others.add(number)
    return dict(closed), others


def _by_slice(
    contours: Sequence[Contour], volume: Volume, name: str, what: str
) -> dict[tuple[int, int], list[npt.NDArray[np.float64]]]:
    """Contours as (points, 2) canonical indices, by the axis they are flat along and their slice on it."""
    to_index = np.linalg.inv(volume.affine) @ LPS_TO_RAS
    found: dict[tuple[int, int], list[npt.NDArray[np.float64]]] = defaultdict(list)
    for contour in contours:
        points = contour @ to_index[:3, :3].T + to_index[:3, 3]
        axis = int(np.argmin(np.ptp(points, axis=0)))
        along = points[:, axis]
        position = round(float(along.mean()))
        off = float(np.abs(along - position).max())
        if off > MAX_OFF_SLICE:
            raise GeometryError(
                f"The {what} do not lie on the slices of the image: a contour of {name!r} is "
                f"{off * volume.spacing_mm[axis]:.3g} mm away from the nearest; choose the {what} drawn on this image."
            )
        _require_inside(points, axis, volume, name, what)
        found[axis, position].append(np.delete(points, axis, axis=1))
    return dict(found)


def _require_inside(points: Contour, axis: int, volume: Volume, name: str, what: str) -> None:
    margin = np.full(3, MARGIN_PX)
    margin[axis] = MAX_OFF_SLICE
    last = np.array(volume.shape) - 1
    beyond = np.maximum(-points - margin, points - last - margin).max(axis=0)
    if beyond.max() > 0:
        mm = float((beyond * np.array(volume.spacing_mm)).max())
        raise GeometryError(
            f"The {what} reach up to {mm:.3g} mm outside the image (a contour of {name!r}); "
            f"choose the {what} drawn on this image."
        )


def _area(contour: npt.NDArray[np.float64]) -> float:
    """Area of a polygon (points, 2), in pixels."""
    y, x = contour.T
    return float(abs(y @ np.roll(x, 1) - x @ np.roll(y, 1)) / 2)


def _voxels(by_slice: dict[tuple[int, int], list[Any]], volume: Volume) -> Iterator[Indices]:
    """Canonical indices (z, y, x) inside an odd number of contours, slice by slice."""
    for (axis, position), contours in by_slice.items():
        shape = tuple(np.delete(volume.shape, axis))
        inside = np.zeros(shape, dtype=bool)
        for contour in contours:
            rows, columns = polygon(contour[:, 0], contour[:, 1], shape)
            inside[rows, columns] ^= True
        plane = np.stack(np.nonzero(inside), axis=1)
        yield np.insert(plane, axis, position, axis=1)
