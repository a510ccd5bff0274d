"""Quality: what the prediction said of a slice before anybody had drawn it, against what was drawn then."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.reviewing import Reviewing
from vqseg.annotations import SliceRecord, SliceState
from vqseg.quality import QualityCurve, SliceScore, score_slice

__all__ = ["Quality"]

AGAIN_AFTER_S = 0.5
AT_ONCE = 32
"""Slices put aside in one turn of the event loop."""


@dataclass(frozen=True, eq=False)
class _Before:
    """A slice as it was predicted before it was seen: (y, x) labels, and what the prediction rested on."""

    labels: npt.NDArray[np.uint8]
    taught: int
    step: int


class Quality(Concern):
    """Scores each slice once, when a person has drawn and finished it.

    Attributes
    ----------
    changed : Signal()
        Another score.
    scored : Signal(SliceScore)
        A slice that a person has drawn was scored, or scored again when it was mended.
    curve : QualityCurve
        All scores of the case.
    """

    changed = Signal()
    scored = Signal(object)

    def __init__(self, context: Context, annotating: Annotating, reviewing: Reviewing) -> None:
        super().__init__(context)
        self._reviewing = reviewing
        self.forget()
        self._timer = context.scheduler.debounce(AGAIN_AFTER_S, self._score_again)
        annotating.slices_changed.connect(self._on_slices)
        context.view.annotation.painted.connect(self._on_painted)

    def forget(self) -> None:
        """Forget the case before."""
        self.curve = QualityCurve()
        self._path: Path | None = None
        self._records: dict[int, SliceRecord] | None = None
        self._before: dict[int, _Before] = {}
        self._mended: set[int] = set()

    def announce(self) -> None:
        """Read the case's scores and tell them."""
        opened = self.context.case
        self._records = dict(self.context.annotations.records)
        path = opened.case.quality_path

        def take(curve: QualityCurve) -> None:
            if self.context.opened is opened:
                self.curve, self._path = curve, path
                self.changed.emit()

        self.changed.emit()
        self.context.background(lambda: QualityCurve.load(path), take)

    # ------------------------------------------------------------ listening

    def _on_slices(self) -> None:
        if self._records is None:
            return
        records = self.context.annotations.records
        changed = [z for z, record in records.items() if self._records.get(z) != record]
        self._records = dict(records)
        accepted = [z for z in changed if records[z].holds_accepted]
        for z in accepted:
            self.curve.note_accepted(z)
        if accepted:
            self._save()
        used = [z for z in changed if not records[z].holds_accepted and records[z].state is not SliceState.DRAFT]
        reviewing = self._reviewing
        steps = self._take(used, reviewing.prediction, reviewing.learnt, reviewing.prediction_step)
        if len(used) > AT_ONCE:
            self.context.scheduler.in_turns(steps)
        else:
            for _ in steps:
                pass

    def _take(
        self, slices: Sequence[int], prediction: npt.NDArray[np.uint8] | None, learnt: Collection[int], step: int
    ) -> Iterator[None]:
        """Put the prediction of slices aside, a few in each turn, as training learns from them from now on; score."""
        for number, z in enumerate(slices, start=1):
            known = z in self._before or z in learnt or not self.curve.may_count(z)
            if not known and prediction is not None:
                self._before[z] = _Before(np.array(prediction[z]), len(learnt), step)
            self._score(z)
            if not number % AT_ONCE:
                yield

    def _on_painted(self, slices: set[int]) -> None:
        if not self._before.keys().isdisjoint(slices):
            self._mended |= slices
            self._timer.start()

    def _score_again(self) -> None:
        for z in self._mended:
            self._score(z)
        self._mended.clear()

    # ------------------------------------------------------------ scoring

    def _score(self, z: int) -> None:
        before, record = self._before.get(z), self.context.annotations.records.get(z)
        if before is None or record != SliceRecord(SliceState.COMPLETE) or z in self.curve.accepted:
            return
        opened, drawn = self.context.case, self.context.annotations.target(z)
        spacing_mm, classes = opened.volume.spacing_mm[1:], sorted(opened.project.class_names)

        def work() -> SliceScore:
            return score_slice(
                before.labels, drawn, spacing_mm, classes, z=z, taught=before.taught, step=before.step
            )  # fmt: skip

        def done(score: SliceScore) -> None:
            if self.context.opened is opened:
                self.curve.put(score)
                self._save()
                self.scored.emit(score)

        self.context.background(work, done)

    def _save(self) -> None:
        self.changed.emit()
        path, curve = self._path, QualityCurve(list(self.curve.scores), set(self.curve.accepted))
        if path is not None:
            self.context.background(lambda: curve.save(path), _nothing)


def _nothing(_: None) -> None:
    """There is nothing to tell."""
