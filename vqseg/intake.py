"""Labels made elsewhere, taken over into a case: classes matched by name, slices chosen by a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations
from vqseg.errors import AnnotationError
from vqseg.io.labels import MAX_LABEL, LabelMap

__all__ = ["Intake", "labelled_slices", "planes_across", "prepare", "slices_by_label"]


@dataclass(frozen=True, eq=False)
class Intake:
    """What will be taken over.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8 in the project's class values.
    class_names : dict
        The project's classes with those that came along.
    slices : list of int
        Canonical slices to take over, ascending.
    kept : list of int
        Slices that were asked for and stay as they are, since somebody has labelled them here.
    """

    labels: npt.NDArray[np.uint8]
    class_names: dict[int, str]
    slices: list[int]
    kept: list[int]


def labelled_slices(found: LabelMap) -> list[int]:
    """Slices that hold a label, ascending."""
    return [int(z) for z in np.flatnonzero(found.array.any(axis=(1, 2)))]


def slices_by_label(found: LabelMap) -> dict[int, frozenset[int]]:
    """The slices that hold each label value, by ascending value."""
    holds = np.stack([np.bincount(labels_yx.ravel(), minlength=256) > 0 for labels_yx in found.array])
    slices = {value: frozenset(np.flatnonzero(held).tolist()) for value, held in enumerate(holds.T)}
    return {value: held for value, held in slices.items() if value and held}


def planes_across(labels: npt.NDArray[np.integer]) -> tuple[int, list[int]] | None:
    """The planes in which labels were drawn, where that was across the slices: in sagittal or coronal ones.

    Such labels show in nearly every slice, as lines with nothing beside them, and none of these slices is complete.

    Parameters
    ----------
    labels : ndarray
        (z, y, x).

    Returns
    -------
    axis : int
        1 or 2, the axis that the planes count along.
    planes : list of int
        Ascending; no two are neighbours.
    None
        Where the labels fill neighbouring planes along y and along x, as any that are drawn slice by slice do.
    """
    held = [np.flatnonzero(labels.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    apart = [axis for axis, planes in enumerate(held) if (np.diff(planes) > 1).all()]
    return (apart[0], held[apart[0]].tolist()) if apart in ([1], [2]) else None


def prepare(
    found: LabelMap, annotations: Annotations, class_names: Mapping[int, str], slices: Iterable[int] | None = None
) -> Intake:
    """Match labels from elsewhere with a case.

    A label with a name becomes the class of that name, whatever its value; one without becomes the class of its
    value. What is missing is added. Nothing that is labelled here already is overwritten.

    Parameters
    ----------
    found : LabelMap
        On the voxels of the case's image, see :func:`vqseg.io.read_labels`.
    annotations : Annotations
        The case's own.
    class_names : mapping of int to str
        The project's classes.
    slices : iterable of int, optional
        Canonical slices to take over, empty ones too; by default those with a label.

    Raises
    ------
    AnnotationError
        If there is no label, a slice lies outside the volume, or the classes become more than 254.
    """
    wanted = labelled_slices(found) if slices is None else sorted({int(z) for z in slices})
    if outside := [z for z in wanted if not 0 <= z < annotations.labels.shape[0]]:
        raise AnnotationError(
            f"Slice {outside[0]} lies outside the volume; its slices run from 0 to {annotations.labels.shape[0] - 1}."
        )
    if not found.array[wanted].any():
        raise AnnotationError("The file holds no label in these slices; choose other slices, or another file.")
    table, names = _match(found, dict(class_names), np.unique(found.array[wanted]).tolist())
    kept = [z for z in wanted if z in annotations.records]
    return Intake(table[found.array], names, [z for z in wanted if z not in annotations.records], kept)


def _match(found: LabelMap, names: dict[int, str], values: list[int]) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    """Value in the file -> the project's value, as a table, and the project's classes with the new ones."""
    table = np.zeros(256, dtype=np.uint8)
    by_name = {name.strip().lower(): value for value, name in names.items()}
    named = {value: found.names.get(value, "").strip() for value in values if value}
    for value, name in sorted(named.items(), key=lambda item: bool(item[1])):  # a newcomer takes no value in use there
        target = by_name.get(name.lower()) if name else value
        if target is None or target not in names:
            free = [value, *range(1, MAX_LABEL + 1)]
            target = next((number for number in free if number not in names), None)
            if target is None:
                raise AnnotationError(
                    f"The project would have more than {MAX_LABEL} classes; remove classes, or import fewer structures."
                )
            names[target] = name or f"label {value}"
            by_name[names[target].lower()] = target
        table[value] = target
    return table, names
