"""Which slice to label next, and why.

First asked is where a structure ends: without a complete slice beyond its end, a network paints it on through the
volume. Then slices are ranked by how unsure the network is there and how far the next labelled slice is away,
with distance between the suggestions themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations

__all__ = ["Suggestion", "suggest_slices", "uncertainty_profile"]

REACH_MM = 30.0
"""A labelled slice informs its neighbours up to about this distance."""

BEYOND_MM = 5.0
"""How far beyond the expected end of a structure the empty slice is asked for."""

OUTSIDE_WEIGHT = 0.3
"""Weight of slices in which nothing is predicted, nor in their neighbourhood."""


@dataclass(frozen=True)
class Suggestion:
    """A slice worth labelling.

    Parameters
    ----------
    z : int
        Canonical slice index.
    score : float
        Expected gain, in [0, 2]; only the order means something. Ends of structures score above 1.
    reason : str
        Why, in words.
    """

    z: int
    score: float
    reason: str


def uncertainty_profile(uncertainty: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Uncertainty per slice: the sum over a slice's voxels in thousands, so that small sure slices rank low.

    Parameters
    ----------
    uncertainty : array_like
        (z, y, x); may be a memory map, slices are read one by one.
    """
    array = np.asanyarray(uncertainty)
    return np.array([np.sum(array[z], dtype=np.float64) / 1000 for z in range(array.shape[0])], dtype=np.float32)


def suggest_slices(
    annotations: Annotations,
    spacing_mm: Sequence[float],
    *,
    count: int = 5,
    uncertainty: npt.ArrayLike | None = None,
    predicted: npt.NDArray[np.uint8] | None = None,
    class_names: Mapping[int, str] | None = None,
) -> list[Suggestion]:
    """Rank the slices that are not labelled yet.

    Parameters
    ----------
    annotations : Annotations
        What is labelled; drafts are not suggested again.
    spacing_mm : sequence of float
        Spacing along (z, y, x), mm.
    count : int
        Largest number of suggestions.
    uncertainty : array_like, optional
        (z,) uncertainty or disagreement per slice, from :func:`uncertainty_profile`.
    predicted : ndarray, optional
        (z, y, x) predicted labels; they say where structures seem to end.
    class_names : mapping, optional
        Names for the reasons.

    Returns
    -------
    list of Suggestion
        Best first.
    """
    n_slices = annotations.labels.shape[0]
    extents = _extents(predicted, n_slices)
    chosen = _ends(annotations, float(spacing_mm[0]), extents, class_names or {})
    chosen = chosen[:count]
    candidates = [z for z in range(n_slices) if z not in annotations.records]
    profile = np.zeros(n_slices) if uncertainty is None else np.asarray(uncertainty, dtype=np.float64)
    profile = np.nan_to_num(profile)
    relative = profile / profile.max() if profile.max() > 0 else profile
    inside = _inside(extents, n_slices, REACH_MM / float(spacing_mm[0]))
    while len(chosen) < count:
        taken = np.array([*annotations.used, *(item.z for item in chosen)], dtype=float)
        free = [z for z in candidates if z not in taken]
        if not free:
            break
        best = max((_rank(z, taken, relative, inside, float(spacing_mm[0]), n_slices) for z in free), key=_score)
        chosen.append(_with_reason(best, taken, profile, float(spacing_mm[0])))
    return chosen


def _score(item: tuple[int, float]) -> float:
    return item[1]


def _rank(
    z: int,
    taken: npt.NDArray[np.float64],
    relative: npt.NDArray[np.float64],
    inside: npt.NDArray[np.bool_],
    spacing_z_mm: float,
    n_slices: int,
) -> tuple[int, float]:
    """Score of one slice: unsure and far is best; close to a labelled or chosen one is worth little."""
    if taken.size == 0:
        return z, 1.0 - abs(z - n_slices // 2) / n_slices
    distance_mm = float(np.abs(taken - z).min()) * spacing_z_mm
    new = 1.0 - np.exp(-distance_mm / REACH_MM)
    gain = (0.5 * relative[z] + 0.5) * new if relative.any() else new
    return z, float(gain * (1.0 if inside[z] else OUTSIDE_WEIGHT))


def _with_reason(
    best: tuple[int, float], taken: npt.NDArray[np.float64], profile: npt.NDArray[np.float64], spacing_z_mm: float
) -> Suggestion:
    z, score = best
    if taken.size == 0:
        return Suggestion(z, score, "Nothing is labelled yet; the middle of the volume is a good start.")
    distance_mm = float(np.abs(taken - z).min()) * spacing_z_mm
    typical = float(np.median(profile))
    words = f"{distance_mm:.0f} mm from the nearest labelled slice"
    if typical > 0 and profile[z] > 1.2 * typical:
        words = f"The network is unsure here ({profile[z] / typical:.1f} times the usual), {words}."
    elif profile.any() and profile[z] >= np.quantile(profile, 0.75):
        words = f"The network is among its least sure here, {words}."
    else:
        words = f"Far from what is labelled: {words}."
    return Suggestion(z, score, words)


# -------------------------------------------------------------------------------------------------- ends


def _extents(predicted: npt.NDArray[np.uint8] | None, n_slices: int) -> dict[int, tuple[int, int]]:
    """First and last slice of each predicted class."""
    extents: dict[int, tuple[int, int]] = {}
    for z in range(n_slices if predicted is not None else 0):
        assert predicted is not None
        for value in np.flatnonzero(np.bincount(predicted[z].ravel(), minlength=256)[:255]).tolist():
            if value:
                extents[value] = (extents.get(value, (z, z))[0], z)
    return extents


def _inside(extents: Mapping[int, tuple[int, int]], n_slices: int, margin: float) -> npt.NDArray[np.bool_]:
    """Slices in or near any predicted class; all where nothing is predicted."""
    inside = np.zeros(n_slices, dtype=bool)
    for first, last in extents.values():
        inside[max(0, int(first - margin)) : int(last + margin) + 1] = True
    return inside if extents else np.ones(n_slices, dtype=bool)


def _ends(
    annotations: Annotations,
    spacing_z_mm: float,
    extents: Mapping[int, tuple[int, int]],
    class_names: Mapping[int, str],
) -> list[Suggestion]:
    """Slices beyond the ends of structures that no complete slice bounds yet; one slice may serve several."""
    complete = annotations.complete
    last_slice = annotations.labels.shape[0] - 1
    gap = float(np.median(np.diff(complete))) if len(complete) > 1 else 2 * BEYOND_MM / spacing_z_mm
    beyond = max(1, round(BEYOND_MM / spacing_z_mm))
    asked: dict[tuple[int, str], list[str]] = {}
    for value in annotations.classes:
        holding = [z for z in complete if (annotations.labels[z] == value).any()]
        if not holding:
            continue
        name = class_names.get(value, f"class {value}")
        low, high = holding[0], holding[-1]
        first, last = extents.get(value, (round(low - gap), round(high + gap)))
        if not any(z > high for z in complete) and high < last_slice:
            z = int(np.clip(max(last, high) + beyond, high + 1, last_slice))
            asked.setdefault((z, "head"), []).append(name)
        if not any(z < low for z in complete) and low > 0:
            z = int(np.clip(min(first, low) - beyond, 0, low - 1))
            asked.setdefault((z, "feet"), []).append(name)
    found = [
        Suggestion(z, 1.0 + min(len(names), 10) / 10, f"Where does {_listed(names)} end towards the {side}? "
                   "A complete slice beyond the end, even an empty one, keeps it from running on.")
        for (z, side), names in asked.items() if z not in annotations.records
    ]  # fmt: skip
    return sorted(found, key=lambda item: (-item.score, item.z))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
