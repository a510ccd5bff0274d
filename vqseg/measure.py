"""What can be measured on a segmentation: volume, HU, surface, extent, and who made it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vqseg.annotations import Origin
from vqseg.errors import VolumeError
from vqseg.volume import Volume

__all__ = ["MAKERS", "PREDICTED", "Measurement", "as_csv", "measure"]

MAKERS = (*Origin, "predicted")
"""Who made a voxel, by index: as :class:`vqseg.annotations.Origin` has it of its slice, or the network alone."""

PREDICTED = MAKERS.index("predicted")

COLUMNS = {
    "name": "class", "value": "value", "volume_ml": "volume_ml", "mean_hu": "mean_hu", "sd_hu": "sd_hu",
    "median_hu": "median_hu", "surface_mm2": "surface_mm2", "slices": "slices",
    **{str(maker): f"share_{maker}" for maker in MAKERS},
}  # fmt: skip
"""Field of a measurement, and its column in a table."""

SLAB = 32
"""Slices that a mesh is made of at a time."""

FORMULA = ("=", "+", "-", "@", "\t")
"""A name that starts with one of these would run as a formula in a spreadsheet."""


@dataclass(frozen=True)
class Measurement:
    """One class of a segmentation.

    Parameters
    ----------
    value : int
        Label value.
    name : str
        Name of the class.
    volume_ml : float
        Number of voxels times their volume.
    mean_hu, sd_hu, median_hu : float
        Of the image's values inside; nan without a voxel.
    surface_mm2 : float
        Of the marching cubes mesh where the signed distance to the mask's edge is 0. On balls it comes within a
        tenth; a mesh of the mask itself follows the voxels' steps and is up to a quarter too large.
    slices : int
        Number of slices with a voxel.
    drawn, accepted, mixed, imported, predicted : float
        Share of the voxels, 0..1, by who made them (:data:`MAKERS`).
    """

    value: int
    name: str
    volume_ml: float
    mean_hu: float
    sd_hu: float
    median_hu: float
    surface_mm2: float
    slices: int
    drawn: float
    accepted: float
    mixed: float
    imported: float
    predicted: float

    @property
    def checked(self) -> float:
        """Share of the voxels that a person drew, accepted or imported, 0..1."""
        return self.drawn + self.accepted + self.mixed + self.imported


def measure(
    labels: npt.NDArray[np.uint8],
    volume: Volume,
    names: Mapping[int, str],
    maker: Callable[[int], npt.NDArray[np.uint8]],
) -> list[Measurement]:
    """Measure every class; the image is read slice by slice.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8.
    volume : Volume
        The image they lie on.
    names : mapping of int to str
        The classes to measure, those without a voxel too.
    maker : callable
        Slice z -> (y, x), the index into :data:`MAKERS` of each voxel.

    Raises
    ------
    VolumeError
        If the labels have another shape than the image.
    """
    if labels.shape != volume.shape:
        raise VolumeError(f"The labels have shape {labels.shape} (z, y, x), the image {volume.shape}; use its own.")
    values: dict[int, list[npt.NDArray[np.float32]]] = {value: [] for value in names}
    makers = {value: np.zeros(len(MAKERS), dtype=np.int64) for value in names}
    for z in np.flatnonzero(labels.any(axis=(1, 2))):
        image, made_by = volume.slice(int(z)), maker(int(z))
        for value in np.unique(labels[z]):
            if int(value) in values:
                inside = labels[z] == value
                values[int(value)].append(image[inside].astype(np.float32))
                makers[int(value)] += np.bincount(made_by[inside], minlength=len(MAKERS))
    boxes = ndimage.find_objects(labels)
    found = []
    for value, name in sorted(names.items()):
        hu = np.concatenate(values[value]) if values[value] else np.zeros(0, dtype=np.float32)
        box = boxes[value - 1] if value <= len(boxes) else None
        shares = makers[value] / max(hu.size, 1)
        found.append(
            Measurement(
                value, name, hu.size * volume.voxel_ml, *_statistics(hu),
                0.0 if box is None else _surface_mm2(labels[box] == value, volume.spacing_mm),
                len(values[value]), *map(float, shares),
            )
        )  # fmt: skip
    return found


def _statistics(hu: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Mean, standard deviation of the population and median; nan without a value."""
    if not hu.size:
        return float("nan"), float("nan"), float("nan")
    return float(hu.mean(dtype=np.float64)), float(hu.std(dtype=np.float64)), float(np.median(hu))


def _surface_mm2(mask: npt.NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> float:
    """Surface of a mask cropped to its box, closed at the box's sides; worked out a few slices at a time."""
    from skimage.measure import marching_cubes, mesh_surface_area  # loads much, and is needed here only

    reach = [int(np.ceil(max(spacing_mm) / size)) for size in spacing_mm]
    margin = reach[0]
    padded = np.pad(mask, [(1 + margin,) * 2, (1, 1), (1, 1)])
    last, total = padded.shape[0] - margin - 1, 0.0
    for start in range(margin, last, SLAB):
        stop = min(start + SLAB, last)  # the mesh's cells lie between slices start..stop
        slab = padded[start - margin : stop + 1 + margin]
        signed_mm = _distance_mm(slab, spacing_mm, reach) - _distance_mm(~slab, spacing_mm, reach)
        between = signed_mm[margin:-margin]
        if between.min() < 0 < between.max():
            vertices, faces, _, _ = marching_cubes(between, 0.0, spacing=spacing_mm)
            total += float(mesh_surface_area(vertices, faces))
    return total


def _distance_mm(
    mask: npt.NDArray[np.bool_], spacing_mm: tuple[float, float, float], reach: list[int]
) -> npt.NDArray[np.float32]:
    """Distance to the nearest voxel of a mask, exact up to the largest spacing and capped beyond `reach` voxels.

    The parabolas of Felzenszwalb and Huttenlocher (https://doi.org/10.4086/toc.2012.v008a019), axis by axis; a mesh
    needs no distance beyond an edge of its cells, and a whole distance transform takes several times as long.
    """
    squared = np.where(mask, np.float32(0), np.float32(4 * max(spacing_mm) ** 2))
    for axis, (size, steps) in enumerate(zip(spacing_mm, reach, strict=True)):
        before = np.moveaxis(squared.copy(), axis, 0)
        after = np.moveaxis(squared, axis, 0)
        for step in range(1, steps + 1):
            cost = np.float32((step * size) ** 2)
            np.minimum(after[step:], before[:-step] + cost, out=after[step:])
            np.minimum(after[:-step], before[step:] + cost, out=after[:-step])
    distance: npt.NDArray[np.float32] = np.sqrt(squared)
    return distance


def as_csv(measurements: list[Measurement], delimiter: str = ",") -> str:
    """The measurements as a table in text with a header; numbers that are not defined stay empty."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(COLUMNS.values())
    writer.writerows([_cell(getattr(item, name)) for name in COLUMNS] for item in measurements)
    return text.getvalue()


def _cell(value: float | int | str) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    text = str(value)
    return f"'{text}" if text[:1] in FORMULA else text
