"""How good the prediction is, measured honestly: on slices that the network had not seen when it predicted them.

When a person finishes a slice, it is scored against the prediction that was on hand, if no training behind that
prediction had learnt from the slice. Each slice counts once. Slices accepted from the machine's own prediction do not
count: they would flatter it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqseg.errors import DamagedRecordError
from vqseg.metrics import evaluate_slice
from vqseg.records import read_record, write_record

__all__ = ["Estimate", "QualityCurve", "Round", "SliceScore", "pooled_dice", "score_slice"]

SCHEMA = 1
NEWEST = 5
"""Slices that the estimate rests on: enough to even out one odd slice, few enough to follow the network."""


@dataclass(frozen=True)
class SliceScore:
    """One slice against the prediction made before it was seen.

    Parameters
    ----------
    z : int
        Canonical slice index.
    taught : int
        Labelled slices that the prediction rested on.
    step : int
        Training step of the prediction.
    overlap : mapping of int to tuple of int
        For each class in the slice or in its prediction: pixels in both, predicted, drawn.
    hd95_mm : mapping of int to float
        95 % Hausdorff distance in the plane of each class in both, mm.
    """

    z: int
    taught: int
    step: int
    overlap: Mapping[int, tuple[int, int, int]]
    hd95_mm: Mapping[int, float]

    @property
    def dice(self) -> float:
        """Mean Dice of the classes in the slice or its prediction; NaN where both are empty."""
        return pooled_dice([self])

    @property
    def mean_hd95_mm(self) -> float:
        """Mean of the classes' HD95, mm; NaN where no class is in both."""
        return _mean(self.hd95_mm.values())


@dataclass(frozen=True)
class Round:
    """Slices scored against predictions that rested on equally many labelled slices."""

    taught: int
    scores: tuple[SliceScore, ...]

    @property
    def dice(self) -> float:
        """Dice over the round's slices, pixels pooled, mean over the classes."""
        return pooled_dice(self.scores)

    @property
    def hd95_mm(self) -> float:
        """Mean HD95 of the round's slices, mm."""
        return _mean(score.mean_hd95_mm for score in self.scores)


@dataclass(frozen=True)
class Estimate:
    """What the newest unseen slices say.

    Parameters
    ----------
    dice : float
        Pixels pooled over the slices, mean over the classes.
    hd95_mm : float
        Mean over slices and classes, mm; NaN where no class was in both.
    n_slices : int
        Slices that it rests on.
    """

    dice: float
    hd95_mm: float
    n_slices: int


@dataclass
class QualityCurve:
    """The scores of a case, in the order the slices were finished.

    Parameters
    ----------
    scores : list of SliceScore
        One a slice.
    accepted : set of int
        Slices that were accepted from a prediction at some time; they never count, corrected or not.
    """

    scores: list[SliceScore] = field(default_factory=list)
    accepted: set[int] = field(default_factory=set)

    @classmethod
    def load(cls, path: Path) -> QualityCurve:
        """The curve in a file, empty where there is none.

        Raises
        ------
        ProjectError
            If the file is damaged or newer than this program.
        """
        if not path.exists():
            return cls()
        values = read_record(path, "quality", SCHEMA, ("scores", "accepted"))
        try:
            return cls([_score_from(item) for item in values["scores"]], {int(z) for z in values["accepted"]})
        except (AttributeError, KeyError, TypeError, ValueError):
            raise DamagedRecordError(
                f"{path.name} is damaged; remove it to begin the scores of this case anew. The labels are not in it."
            ) from None

    def save(self, path: Path) -> None:
        """Write the curve, whole or not at all."""
        scores = [
            {
                "z": score.z, "taught": score.taught, "step": score.step,
                "overlap": {str(value): list(counts) for value, counts in score.overlap.items()},
                "hd95_mm": {str(value): distance for value, distance in score.hd95_mm.items()},
            }
            for score in self.scores
        ]  # fmt: skip
        write_record(path, "quality", SCHEMA, {"scores": scores, "accepted": sorted(self.accepted)})

    def score_of(self, z: int) -> SliceScore | None:
        """The score of slice z, None where it has none."""
        return next((score for score in self.scores if score.z == z), None)

    def may_count(self, z: int) -> bool:
        """Whether slice z, finished now, would be news."""
        return z not in self.accepted and self.score_of(z) is None

    def put(self, score: SliceScore) -> None:
        """Add a score; a slice that has one keeps its place and takes the new one, as when a stroke is mended."""
        known = self.score_of(score.z)
        if known is None:
            self.scores.append(score)
        else:
            self.scores[self.scores.index(known)] = score

    def note_accepted(self, z: int) -> None:
        """Slice z was taken from the machine: it does not count from now on, unless it was scored before."""
        if self.score_of(z) is None:
            self.accepted.add(z)

    @property
    def counted(self) -> list[SliceScore]:
        """Scores that say something; slices empty in both drawing and prediction have no Dice."""
        return [score for score in self.scores if score.overlap]

    @property
    def estimate(self) -> Estimate | None:
        """Dice and HD95 of the newest unseen slices, None without any."""
        newest = self.counted[-NEWEST:]
        if not newest:
            return None
        return Estimate(pooled_dice(newest), _mean(score.mean_hd95_mm for score in newest), len(newest))

    @property
    def rounds(self) -> list[Round]:
        """The counted scores by the number of labelled slices behind them, ascending."""
        groups: dict[int, list[SliceScore]] = {}
        for score in self.counted:
            groups.setdefault(score.taught, []).append(score)
        return [Round(taught, tuple(groups[taught])) for taught in sorted(groups)]


def score_slice(
    predicted_yx: npt.NDArray[np.uint8],
    drawn_yx: npt.NDArray[np.uint8],
    spacing_yx_mm: Sequence[float],
    classes: Collection[int],
    *,
    z: int,
    taught: int,
    step: int,
) -> SliceScore:
    """Score a complete slice against its prediction.

    Parameters
    ----------
    predicted_yx, drawn_yx : ndarray
        (y, x) uint8 labels.
    spacing_yx_mm : sequence of float
        Distance between pixel centres along (y, x), mm.
    classes : collection of int
        The label values to score.
    z, taught, step : int
        As in :class:`SliceScore`.
    """
    overlap: dict[int, tuple[int, int, int]] = {}
    for value in classes:
        predicted, drawn = predicted_yx == value, drawn_yx == value
        counts = int((predicted & drawn).sum()), int(predicted.sum()), int(drawn.sum())
        if counts[1] or counts[2]:
            overlap[int(value)] = counts
    scores = evaluate_slice(predicted_yx, drawn_yx, spacing_yx_mm, overlap)
    distances = {value: score.hd95_mm for value, score in scores.items() if not math.isnan(score.hd95_mm)}
    return SliceScore(int(z), int(taught), int(step), overlap, distances)


def pooled_dice(scores: Collection[SliceScore]) -> float:
    """Dice of each class over the pixels of all the slices together, mean over the classes; NaN without any."""
    totals: dict[int, npt.NDArray[np.int64]] = {}
    for score in scores:
        for value, counts in score.overlap.items():
            totals[value] = totals.get(value, np.zeros(3, np.int64)) + np.array(counts)
    return _mean(2 * both / (predicted + drawn) for both, predicted, drawn in totals.values())


def _mean(values: Any) -> float:
    known = [float(value) for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _score_from(values: Mapping[str, Any]) -> SliceScore:
    return SliceScore(
        int(values["z"]), int(values["taught"]), int(values["step"]),
        {int(value): (int(both), int(predicted), int(drawn))
         for value, (both, predicted, drawn) in values["overlap"].items()},
        {int(value): float(distance) for value, distance in values["hd95_mm"].items()},
    )  # fmt: skip
