"""Which slice to label next, and why.

First asked is where a structure ends: without a complete slice beyond its end, a network paints it on through the
volume. Then slices are ranked by expected gain: the errors to be expected in a slice and around it, as far as no
labelled slice is near. What a network says (its uncertainty, where its prediction flips under perturbed codes, codes
that the labelled slices hardly show) tells where errors are to be expected; without a network every slice is as likely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations

__all__ = ["Evidence", "Suggestion", "suggest_slices", "uncertainty_profile"]

REACH_MM = 15.0
"""What a labelled slice teaches about its neighbours falls to a third over this distance."""

BEYOND_MM = 5.0
"""How far beyond the expected end of a structure the empty slice is asked for."""

OUTSIDE_WEIGHT = 0.1
"""Weight of slices in which nothing is predicted, nor in their neighbourhood."""

WEIGHTS = {"unsure": 0.8, "flips": 0.1, "unseen": 0.1}
"""Shares of the three signs of expected errors."""

Profile = npt.NDArray[np.float64]


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


@dataclass(frozen=True)
class Evidence:
    """What a network says about slices; each part may be missing.

    Parameters
    ----------
    uncertainty : ndarray, optional
        (z,) uncertainty of each slice's prediction, from :func:`uncertainty_profile`.
    flips_mm2 : mapping of int to float
        Area on which predictions behind perturbed codes disagree, of the slices measured so far, mm^2.
    codes : mapping of int to ndarray
        (K,) number of tokens of each code, of the slices measured so far, labelled ones among them.
    """

    uncertainty: npt.NDArray[np.float32] | None = None
    flips_mm2: Mapping[int, float] = field(default_factory=dict)
    codes: Mapping[int, npt.NDArray[np.int64]] = field(default_factory=dict)


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
    evidence: Evidence | None = None,
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
    evidence : Evidence, optional
        What a network says.
    predicted : ndarray, optional
        (z, y, x) predicted labels; they say where structures seem to end.
    class_names : mapping, optional
        Names for the reasons.

    Returns
    -------
    list of Suggestion
        Best first; each is chosen as if those before it were labelled.
    """
    n_slices = annotations.labels.shape[0]
    extents = _extents(predicted, n_slices)
    chosen = _ends(annotations, float(spacing_mm[0]), extents, class_names or {})[:count]
    candidates = [z for z in range(n_slices) if z not in annotations.records]
    inside = _inside(extents, n_slices, 2 * REACH_MM / float(spacing_mm[0]))
    ranking = _Ranking(annotations.used, float(spacing_mm[0]), inside, evidence or Evidence())
    for item in chosen:
        ranking.take(item.z)
    while len(chosen) < count:
        free = [z for z in candidates if z not in ranking.taken]
        if not free:
            break
        chosen.append(ranking.best(free))
        ranking.take(chosen[-1].z)
    return chosen


class _Ranking:
    """Slices by expected gain, one after the other."""

    def __init__(self, used: Sequence[int], spacing_mm: float, inside: Profile, evidence: Evidence) -> None:
        self.taken = list(used)
        self._spacing_mm, self._inside, self._evidence = spacing_mm, inside, evidence
        z = np.arange(len(inside))
        distance_mm = np.abs(z[:, np.newaxis] - z) * spacing_mm
        self._teaches = np.exp(-((distance_mm / REACH_MM) ** 2))  # (z, z) how far a labelled slice settles another

    def take(self, z: int) -> None:
        """Go on as if slice z were labelled."""
        self.taken.append(z)

    def best(self, free: Sequence[int]) -> Suggestion:
        """The slice with the largest expected gain."""
        if not self.taken:
            z = min(free, key=lambda z: abs(z - len(self._inside) // 2))
            return Suggestion(z, 1.0, "Nothing is labelled yet; the middle of the volume is a good start.")
        signs = self._signs()
        errors = sum((WEIGHTS[name] * sign for name, sign in signs.items()), start=np.zeros(len(self._inside)))
        if not signs:
            errors = np.ones(len(self._inside))
        open_to_doubt = 1.0 - self._teaches[:, self.taken].max(1)
        errors = errors * self._inside * open_to_doubt
        gain = self._teaches @ errors / max(float(errors.sum()), 1e-12)
        z = max(free, key=lambda z: float(gain[z]))
        return Suggestion(z, float(min(gain[z], 1.0)), self._reason(z, signs))

    def _signs(self) -> dict[str, Profile]:
        """(z,) each sign of expected errors that there is evidence of, mean 1."""
        found = {"unsure": self._unsure(), "flips": self._flips(), "unseen": self._unseen()}
        return {
            name: profile / profile.mean() for name, profile in found.items()
            if profile is not None and np.isfinite(profile).all() and profile.mean() > 0
        }  # fmt: skip

    def _unsure(self) -> Profile | None:
        uncertainty = self._evidence.uncertainty
        return None if uncertainty is None else np.asarray(uncertainty, np.float64)

    def _flips(self) -> Profile | None:
        flips = self._evidence.flips_mm2
        return _between(flips, len(self._inside)) if flips else None

    def _unseen(self) -> Profile | None:
        """Share of a slice's tokens whose codes the taken slices hardly show."""
        codes = self._evidence.codes
        if not codes:
            return None
        measured = np.array(sorted(codes))
        nearest = {int(measured[np.abs(measured - z).argmin()]) for z in self.taken}
        unseen = 1.0 / (1.0 + np.sum([codes[z] for z in nearest], axis=0))  # (K,)
        shares = {z: float(codes[z] @ unseen) / max(1, int(codes[z].sum())) for z in measured.tolist()}
        return _between(shares, len(self._inside))

    def _reason(self, z: int, signs: Mapping[str, Profile]) -> str:
        """The sign that stands out most at z, and the distance."""
        distance_mm = float(np.abs(np.array(self.taken) - z).min()) * self._spacing_mm
        where = f"{distance_mm:.0f} mm from the nearest labelled slice"
        name, times = max(((name, float(sign[z])) for name, sign in signs.items()), key=_second, default=("", 0.0))
        words = {
            "unsure": "The network is unsure here",
            "flips": "The prediction flips here when its codes are perturbed",
            "unseen": "It looks unlike the labelled slices",
        }
        if times < 1.2:
            return f"Far from what is labelled: {where}."
        return f"{words[name]} ({times:.1f} times the usual), {where}."


def _second(item: tuple[str, float]) -> float:
    return item[1]


def _between(measured: Mapping[int, float], n_slices: int) -> Profile:
    """A value for each slice, interpolated between the measured ones."""
    slices = sorted(measured)
    return np.interp(np.arange(n_slices), slices, [measured[z] for z in slices])


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


def _inside(extents: Mapping[int, tuple[int, int]], n_slices: int, margin: float) -> Profile:
    """(z,) 1 in or near any predicted class, little elsewhere; 1 everywhere where nothing is predicted."""
    inside = np.full(n_slices, OUTSIDE_WEIGHT if extents else 1.0)
    for first, last in extents.values():
        inside[max(0, int(first - margin)) : int(last + margin) + 1] = 1.0
    return inside


def _ends(
    annotations: Annotations,
    spacing_z_mm: float,
    extents: Mapping[int, tuple[int, int]],
    class_names: Mapping[int, str],
) -> list[Suggestion]:
    """A slice a side beyond the ends of the structures that no complete slice bounds there."""
    complete = annotations.complete
    last_slice = annotations.labels.shape[0] - 1
    gap = float(np.median(np.diff(complete))) if len(complete) > 1 else 2 * BEYOND_MM / spacing_z_mm
    beyond = max(1, round(BEYOND_MM / spacing_z_mm))
    asked: dict[str, tuple[int, list[str]]] = {}
    for value in annotations.classes:
        holding = [z for z in complete if (annotations.labels[z] == value).any()]
        if not holding:
            continue
        name = class_names.get(value, f"class {value}")
        low, high = holding[0], holding[-1]
        first, last = extents.get(value, (round(low - gap), round(high + gap)))
        if high == complete[-1] < last_slice:
            z, names = asked.get("head", (0, []))
            asked["head"] = max(z, int(np.clip(max(last, high) + beyond, high + 1, last_slice))), [*names, name]
        if low == complete[0] > 0:
            z, names = asked.get("feet", (last_slice, []))
            asked["feet"] = min(z, int(np.clip(min(first, low) - beyond, 0, low - 1))), [*names, name]
    found = [
        Suggestion(z, 1.0 + min(len(names), 10) / 10, _question(names, side))
        for side, (z, names) in asked.items() if z not in annotations.records
    ]  # fmt: skip
    return sorted(found, key=lambda item: (-item.score, item.z))


def _question(names: Sequence[str], side: str) -> str:
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return (
        f"Where {'does' if len(names) == 1 else 'do'} {listed} end towards the {side}? "
        "A complete slice beyond the end, even an empty one, keeps it from running on."
    )
