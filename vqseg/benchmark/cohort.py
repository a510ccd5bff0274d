"""Many patients, few of them labelled: what the papers' tables are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["Cohort", "CohortCase", "Labels", "Protocol"]

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CohortCase:
    """One volume of a cohort.

    Parameters
    ----------
    name, patient : str
        Name of the volume, and of the patient that several volumes may share.
    image : ndarray
        (z, y, x) float32 in [0, 1].
    label : ndarray
        (z, y, x) uint8, classes 0..K.
    spacing_mm : tuple of float
        Spacing along (z, y, x); 1 where it is unknown, so that distances are in voxels.
    """

    name: str
    patient: str
    image: npt.NDArray[np.float32]
    label: Labels
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Cohort:
    """Who is labelled, who is not, and who is scored; no patient is in two of them."""

    labelled: list[CohortCase]
    unlabelled: list[CohortCase]
    evaluation: list[CohortCase]


@dataclass(frozen=True)
class Protocol:
    """What a table's module says about its data.

    Parameters
    ----------
    name : str
        Title of the table.
    class_names : tuple of str
        Classes 1..K.
    full_iterations : int
        Length of the papers' runs; shorter ones are labelled as shortened.
    distance_unit : str
        Unit of HD95 and ASD.
    published_dice : dict
        Published Dice by (method, labelled), to stand beside the measured one: values, each with the letter of its
        source.
    sources : str
        What the letters stand for.
    """

    name: str
    class_names: tuple[str, ...]
    full_iterations: int
    distance_unit: str
    published_dice: Mapping[tuple[str, str], str] = field(default_factory=dict)
    sources: str = ""

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return 1 + len(self.class_names)
