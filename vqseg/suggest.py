"""Which slice to label next, and why.

Slices are ranked by expected gain: by how much of the expected errors would be settled if the slice were labelled
(:mod:`vqseg.gain`). Errors are expected where the structures change, where there is much of them, and where a network
says so: by its uncertainty, by where its prediction flips under perturbed codes, by codes that the labelled slices
hardly show. Where a structure ends is asked for by the same measure: early where the outermost labelled slice still
holds much of it, late where it has all but ended there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations
from vqseg.gain import Gap, course, expected_errors, gaps, settled

__all__ = ["Evidence", "Suggestion", "suggest_slices", "uncertainty_profile"]

WEIGHTS = {"unsure": 1.0, "changes": 1.0, "filled": 1.0, "flips": 0.1, "unseen": 0.1}
"""Shares of the signs of expected errors."""

WORDS = {
    "unsure": "The network is unsure around here",
    "changes": "The structures change much around here",
    "filled": "Much of the structures lies around here",
    "flips": "The prediction flips around here when its codes are perturbed",
    "unseen": "It looks unlike the labelled slices around here",
}

NEAR_MM = 4.0
"""A slice nearer than that to a labelled one shows almost the same."""

Profile = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Suggestion:
    """A slice worth labelling.

    Parameters
    ----------
    z : int
        Canonical slice index.
    score : float
        Share of the expected errors that labelling it would settle, in [0, 1].
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
    ranking = _Ranking(annotations, spacing_mm, evidence or Evidence(), predicted)
    candidates = [z for z in range(annotations.labels.shape[0]) if z not in annotations.records]
    chosen: list[Suggestion] = []
    while len(chosen) < count and (free := [z for z in candidates if z not in ranking.taken]):
        chosen.append(ranking.best(free, class_names or {}))
        ranking.taken.append(chosen[-1].z)
    return chosen


class _Ranking:
    """Slices by expected gain, one after the other.

    Attributes
    ----------
    taken : list of int
        Slices that are labelled, or count as if they were.
    """

    def __init__(
        self,
        annotations: Annotations,
        spacing_mm: Sequence[float],
        evidence: Evidence,
        predicted: npt.NDArray[np.uint8] | None,
    ) -> None:
        self.taken = list(annotations.used)
        self._annotations, self._spacing_mm, self._evidence = annotations, spacing_mm[0], evidence
        self._n_slices = annotations.labels.shape[0]
        self._course = course(annotations, predicted, spacing_mm)
        self._begun = self._gaps() if self.taken else []

    def best(self, free: list[int], class_names: Mapping[int, str]) -> Suggestion:
        """The slice with the largest expected gain; of equals the one farthest from labelled slices.

        One that all but repeats a labelled slice comes after all others that would settle anything.
        """
        if not self.taken:
            z = min(free, key=lambda z: abs(z - self._n_slices // 2))
            return Suggestion(z, 1.0, "Nothing is labelled yet; the middle of the volume is a good start.")
        spans = self._gaps()
        self._begun = self._begun or spans
        signs = self._signs()
        prone = sum((WEIGHTS[name] * sign for name, sign in signs.items()), start=np.zeros(self._n_slices))
        if not signs:
            prone = np.ones(self._n_slices)
        gain = settled(spans, prone)[free] / max(expected_errors(self._begun, prone), 1e-12)
        distance = np.abs(np.subtract.outer(free, self.taken)).min(1)
        apart = (distance * self._spacing_mm >= NEAR_MM) & (gain > 0)
        best = np.lexsort((distance, gain.round(9), apart))[-1]
        return Suggestion(free[best], float(gain[best]), self._reason(free[best], signs, spans, class_names))

    def _gaps(self) -> list[Gap]:
        return gaps(self._annotations, self.taken, self._course.beyond)

    def _signs(self) -> dict[str, Profile]:
        """(z,) each sign of expected errors that there is evidence of, mean 1 over what is open."""
        found = {
            "unsure": self._unsure(), "changes": self._course.change, "filled": self._course.area,
            "flips": self._flips(), "unseen": self._unseen(),
        }  # fmt: skip
        inside = _inside(self._begun, self._n_slices)
        return {
            name: profile / profile[inside].mean() for name, profile in found.items()
            if profile is not None and np.isfinite(profile).all() and inside.any() and profile[inside].mean() > 0
        }  # fmt: skip

    def _unsure(self) -> Profile | None:
        """Uncertainty grows with the length of the gap, which is counted already."""
        if self._evidence.uncertainty is None:
            return None
        profile = np.asarray(self._evidence.uncertainty, np.float64).copy()
        for low, high, _ in self._begun:
            profile[low + 1 : high] /= high - low
        return profile

    def _flips(self) -> Profile | None:
        flips = self._evidence.flips_mm2
        return _between(flips, self._n_slices) if flips else None

    def _unseen(self) -> Profile | None:
        """Share of a slice's tokens whose codes the taken slices hardly show."""
        codes = self._evidence.codes
        if not codes:
            return None
        measured = np.array(sorted(codes))
        nearest = {int(measured[np.abs(measured - z).argmin()]) for z in self.taken}
        unseen = 1.0 / (1.0 + np.sum([codes[z] for z in nearest], axis=0))  # (K,)
        shares = {z: float(codes[z] @ unseen) / max(1, int(codes[z].sum())) for z in measured.tolist()}
        return _between(shares, self._n_slices)

    def _reason(
        self, z: int, signs: Mapping[str, Profile], spans: Sequence[Gap], class_names: Mapping[int, str]
    ) -> str:
        """Which end is asked for; or else what speaks most for it between the labelled slices, and the distance."""
        low, high, towards = next((gap for gap in spans if gap.low < z < gap.high), Gap(z - 1, z + 1))
        if towards and (names := self._holding(low if towards > 0 else high, class_names)):
            return _question(names, "head" if towards > 0 else "feet")
        if not self._annotations.classes:
            return "No structure is labelled yet; this looks for one in the rest of the volume."
        distance_mm = float(np.abs(np.subtract(self._annotations.used, z)).min()) * self._spacing_mm
        where = f"{distance_mm:.0f} mm from the nearest labelled slice"
        around = {name: float(sign[low + 1 : high].mean()) for name, sign in signs.items()}
        name = max(around, key=lambda name: WEIGHTS[name] * (around[name] - 1), default="")
        times = around.get(name, 0.0)
        if times < 1.2:
            return f"Far from what is labelled: {where}."
        return f"{WORDS[name]} ({times:.1f} times the usual), {where}."

    def _holding(self, z: int, class_names: Mapping[int, str]) -> list[str]:
        """Names of the structures in a labelled slice."""
        values = np.flatnonzero(np.bincount(self._annotations.labels[z].ravel(), minlength=256)[:255]).tolist()
        return [class_names.get(value, f"class {value}") for value in values if value]


def _between(measured: Mapping[int, float], n_slices: int) -> Profile:
    """A value for each slice, interpolated between the measured ones."""
    slices = sorted(measured)
    return np.interp(np.arange(n_slices), slices, [measured[z] for z in slices])


def _inside(spans: Sequence[Gap], n_slices: int) -> npt.NDArray[np.bool_]:
    """(z,) whether a slice lies in a gap."""
    inside = np.zeros(n_slices, bool)
    for low, high, _ in spans:
        inside[low + 1 : high] = True
    return inside


def _question(names: Sequence[str], side: str) -> str:
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return (
        f"Where {'does' if len(names) == 1 else 'do'} {listed} end towards the {side}? "
        "A complete slice beyond the end, even an empty one, keeps it from running on."
    )
