"""Two trainings of a volume against each other: where their predictions differ, and how good each was on unseen slices.

Neither question is about accuracy alone: that two predictions agree says nothing of whether they are right. What is
right is only known of slices that a person has drawn after both trainings had ended, and that is what
:func:`score_unseen` keeps with each run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from vqseg.io.mapped import open_array
from vqseg.project import Project
from vqseg.quality import QualityCurve, pooled_dice, score_slice
from vqseg.run import Run, RunState

__all__ = [
    "ANOTHER_CLASS", "ONLY_FIRST", "ONLY_SECOND", "Comparison", "TrainedRun", "Unseen", "compare", "difference",
    "score_unseen", "trained_runs", "unseen",
]  # fmt: skip

ONLY_FIRST, ONLY_SECOND, ANOTHER_CLASS = 1, 2, 3
"""What :func:`difference` calls a voxel that one prediction gives a class and the other none, or another class."""


@dataclass(frozen=True)
class TrainedRun:
    """A run whose prediction of a case is on disk.

    Parameters
    ----------
    run : Run
        The run.
    created : datetime
        When it was started, in the machine's time zone.
    unlabelled : bool or None
        Whether it learnt from unlabelled slices too; None where that was switched on the way.
    learnt : frozenset of int
        The labelled slices of the case that its prediction rests on.
    """

    run: Run
    created: datetime
    unlabelled: bool | None
    learnt: frozenset[int]


def trained_runs(project: Project, case_id: str) -> list[TrainedRun]:
    """The runs that have predicted a case, newest first."""
    runs = [run for run in project.runs if run.prediction_path(case_id).exists()]
    return [
        TrainedRun(
            run, datetime.fromisoformat(run.info["created"]).astimezone(), _unlabelled(run), run.rests_on(case_id)
        )
        for run in reversed(runs)
    ]


def _unlabelled(run: Run) -> bool | None:
    """Whether a run learnt from unlabelled slices, as set at its start and on its way."""
    if run.config.train.method == "supervised":
        return False
    switched = [row["settings"].get("use_unlabelled") for row in run.read_metrics() if "settings" in row]
    values = {run.config.train.use_unlabelled, *(bool(value) for value in switched if value is not None)}
    return values.pop() if len(values) == 1 else None


# ---------------------------------------------------------------------------------------------------- differences


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far two predictions agree.

    Parameters
    ----------
    overlap : mapping of int to tuple of int
        For each class in either: voxels in both, in the first, in the second.
    differing : ndarray
        (z,) int64, voxels of each slice that the two give different labels.
    """

    overlap: Mapping[int, tuple[int, int, int]]
    differing: npt.NDArray[np.int64]

    @property
    def dice(self) -> dict[int, float]:
        """Dice of each class between the two predictions."""
        return {value: 2 * both / (first + second) for value, (both, first, second) in self.overlap.items()}

    @property
    def most(self) -> int | None:
        """The slice in which they differ most, None where they are the same."""
        return int(self.differing.argmax()) if self.differing.any() else None


def difference(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Where two predictions of any, but the same, shape differ: 0 for the same label, else as the constants above."""
    kinds = (first > 0) * np.uint8(ONLY_FIRST) + (second > 0) * np.uint8(ONLY_SECOND)
    return np.where(first == second, np.uint8(0), kinds)


def compare(
    first: npt.NDArray[np.uint8],
    second: npt.NDArray[np.uint8],
    classes: Collection[int],
    left_out: Collection[int] = (),
) -> Comparison:
    """Compare two predictions slice by slice; either may map a file.

    Parameters
    ----------
    first, second : ndarray
        (z, y, x) uint8 labels.
    classes : collection of int
        The label values to count.
    left_out : collection of int
        Slices that do not count: complete ones, in which a person's labels stand.
    """
    values = sorted(classes)
    counts = np.zeros((len(values), 3), np.int64)
    differing = np.zeros(len(first), np.int64)
    for z in sorted(set(range(len(first))).difference(left_out)):
        one, other = np.asarray(first[z]), np.asarray(second[z])
        same = one == other
        differing[z] = same.size - np.count_nonzero(same)
        sizes = [np.bincount(part.ravel(), minlength=256)[values] for part in (one[same], one, other)]
        counts += np.stack(sizes, axis=1)
    overlap = {
        value: (int(both), int(first_size), int(second_size))
        for value, (both, first_size, second_size) in zip(values, counts, strict=True)
        if first_size + second_size
    }
    return Comparison(overlap, differing)


# ---------------------------------------------------------------------------------------------------- unseen slices


def score_unseen(
    project: Project,
    case_id: str,
    z: int,
    drawn_yx: npt.NDArray[np.uint8],
    spacing_yx_mm: Sequence[float],
    classes: Collection[int],
) -> list[str]:
    """Score what every run that has ended said of a slice before it was drawn, and keep the score with the run.

    Parameters
    ----------
    project : Project
        The project.
    case_id : str
        The case.
    z : int
        The slice, complete now.
    drawn_yx : ndarray
        (y, x) uint8, what was drawn.
    spacing_yx_mm : sequence of float
        Distance between pixel centres along (y, x), mm.
    classes : collection of int
        The label values to score.

    Returns
    -------
    list of str
        The runs that have a score now: those whose prediction does not rest on the slice.
    """
    scored = []
    for run in project.runs:
        path = run.prediction_path(case_id)
        if run.state not in (RunState.FINISHED, RunState.STOPPED) or not path.exists():
            continue
        predicted = np.array(open_array(path)[z])
        learnt = run.rests_on(case_id)  # after the prediction, for the engine writes it before
        if z in learnt:
            continue
        curve = QualityCurve.load(run.quality_path(case_id))
        step = int(run.info.get("step", 0))
        curve.put(score_slice(predicted, drawn_yx, spacing_yx_mm, classes, z=z, taught=len(learnt), step=step))
        curve.save(run.quality_path(case_id))
        scored.append(run.id)
    return scored


@dataclass(frozen=True)
class Unseen:
    """Two runs on the slices that neither had seen.

    Parameters
    ----------
    slices : list of int
        The slices.
    dice : tuple of float
        Dice of the first and of the second run, pixels pooled over the slices, mean over the classes; NaN where
        there is nothing in drawing and prediction.
    """

    slices: list[int]
    dice: tuple[float, float]


def unseen(first: Run, second: Run, case_id: str) -> Unseen:
    """How good two runs were on the slices of a case that neither had seen, by the scores kept with them."""
    one, other = (QualityCurve.load(run.quality_path(case_id)).scores for run in (first, second))
    shared = sorted({score.z for score in one} & {score.z for score in other})
    pooled = [pooled_dice([score for score in scores if score.z in shared]) for scores in (one, other)]
    return Unseen(shared, (pooled[0], pooled[1]))
