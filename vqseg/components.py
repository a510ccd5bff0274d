"""Connected components of a labelled volume: which one lies at a voxel, and cleaning a prediction by their size.

Components are joined over faces, edges and corners; the holes in them over faces only, so that no hole leaks out
through a corner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vqseg.errors import ConfigError

__all__ = ["CLEAN_UP", "CleanUp", "Component", "clean_up", "component_at", "rules_from", "rules_record"]

CLEAN_UP = "clean_up"
"""Where project.json keeps the rules by which predictions are cleaned."""

NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class CleanUp:
    """How the prediction of a class is cleaned; by default not at all.

    Parameters
    ----------
    keep_largest : int
        Number of components to keep, the largest ones; 0 keeps all.
    min_volume_ml : float
        Smaller components are dropped, ml; 0 drops none.
    fill_holes : bool
        Give the class the background that it encloses on all sides.

    Raises
    ------
    ConfigError
        If a number is negative.
    """

    keep_largest: int = 0
    min_volume_ml: float = 0.0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        for name, value in (("number of components to keep", self.keep_largest), ("volume", self.min_volume_ml)):
            if not value >= 0:
                raise ConfigError(f"The {name} is {value}; it must be 0 or more.")

    @property
    def drops(self) -> bool:
        """Whether components may be dropped."""
        return self.keep_largest > 0 or self.min_volume_ml > 0

    def __bool__(self) -> bool:
        return self.drops or self.fill_holes


def rules_record(rules: Mapping[int, CleanUp]) -> dict[str, Any]:
    """Rules by class value, as project.json keeps them."""
    return {str(value): asdict(rule) for value, rule in sorted(rules.items())}


def rules_from(record: Any) -> dict[int, CleanUp]:
    """Rules as :func:`rules_record` made them; one that cannot be read is none."""
    rules: dict[int, CleanUp] = {}
    for value, entries in record.items() if isinstance(record, dict) else ():
        try:
            rules[int(value)] = CleanUp(**entries)
        except (TypeError, ValueError, ConfigError):
            continue
    return {value: rule for value, rule in rules.items() if rule}


@dataclass(frozen=True)
class Component:
    """A connected part of one class.

    Parameters
    ----------
    value : int
        Class value.
    box : tuple of slice
        Where it lies, (z, y, x).
    mask : ndarray
        Bool, its voxels within the box.
    """

    value: int
    box: tuple[slice, slice, slice]
    mask: npt.NDArray[np.bool_]

    @property
    def slices(self) -> range:
        """The slices it lies in."""
        return range(self.box[0].start, self.box[0].stop)

    def volume_ml(self, voxel_ml: float) -> float:
        """Its volume, ml, of voxels of so many ml each."""
        return float(self.mask.sum() * voxel_ml)

    def slice(self, z: int, shape_yx: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Its voxels in slice z, (y, x) bool."""
        mask = np.zeros(tuple(shape_yx), dtype=bool)
        if z in self.slices:
            mask[self.box[1:]] = self.mask[z - self.box[0].start]
        return mask


def component_at(labels: npt.NDArray[np.uint8], index: Sequence[int]) -> Component | None:
    """The component that a voxel belongs to.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8, may be a memory map.
    index : sequence of int
        The voxel, (z, y, x).

    Returns
    -------
    Component or None
        None where the voxel is background.
    """
    value = int(labels[tuple(index)])
    if value == 0:
        return None
    same = np.asarray(labels) == value
    around = ndimage.find_objects(same.view(np.uint8))[0]
    components, _ = ndimage.label(same[around], structure=NEIGHBOURS)
    number = components[tuple(i - side.start for i, side in zip(index, around, strict=True))]
    inner = ndimage.find_objects(components, max_label=number)[number - 1]
    z, y, x = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(around, inner, strict=True))
    return Component(value, (z, y, x), components[inner] == number)


def clean_up(labels: npt.NDArray[np.uint8], rules: Mapping[int, CleanUp], voxel_ml: float) -> npt.NDArray[np.uint8]:
    """Clean a prediction, class by class; what is dropped becomes background, then holes are filled.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8, may be a memory map; stays as it is.
    rules : mapping of int to CleanUp
        By class value; classes that are not in it are left alone.
    voxel_ml : float
        Volume of a voxel, ml; see :attr:`vqseg.volume.Volume.voxel_ml`.

    Returns
    -------
    ndarray
        (z, y, x) uint8.
    """
    cleaned = np.array(labels, dtype=np.uint8)
    boxes = dict(enumerate(ndimage.find_objects(cleaned, max_label=max(rules, default=1)), start=1))
    found = {value: cleaned[boxes[value]] for value in rules if boxes[value] is not None}
    for value, part in found.items():
        if rules[value].drops:
            _drop(part, value, rules[value], voxel_ml)
    for value, part in found.items():
        if rules[value].fill_holes:
            _fill_holes(part, value)
    return cleaned


def _drop(part: npt.NDArray[np.uint8], value: int, rule: CleanUp, voxel_ml: float) -> None:
    """Erase, in place, the components that the rule does not keep."""
    same = part == value
    components, count = ndimage.label(same, structure=NEIGHBOURS)
    sizes = np.bincount(components[same], minlength=count + 1)
    dropped = sizes * voxel_ml < rule.min_volume_ml
    if rule.keep_largest:
        dropped[1 + np.argsort(-sizes[1:], kind="stable")[rule.keep_largest :]] = True
    dropped[0] = False
    if dropped.any():
        part[dropped[components]] = 0


def _fill_holes(part: npt.NDArray[np.uint8], value: int) -> None:
    """Fill, in place, the background that the class encloses; other classes in it stay."""
    around, _ = ndimage.label(np.pad(part != value, 1, constant_values=True))
    enclosed = around != around[0, 0, 0]
    part[enclosed[1:-1, 1:-1, 1:-1] & (part == 0)] = value
