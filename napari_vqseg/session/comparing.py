"""Comparing: the prediction on show against that of another training of the same volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.cleaning import Cleaning
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.quality import Quality
from napari_vqseg.session.reviewing import Reviewing
from napari_vqseg.session.settings import Settings
from napari_vqseg.session.training import Training
from vqseg.comparison import Comparison, TrainedRun, Unseen, compare, score_unseen, trained_runs, unseen
from vqseg.components import clean_up
from vqseg.io.mapped import open_array
from vqseg.quality import SliceScore

__all__ = ["Comparing", "TwoRuns"]

LOOK_AFTER_S = 0.2
ANNOUNCE_AFTER_S = 0.05
"""The difference is drawn before the panels are, so that neither holds the event loop long."""


@dataclass(frozen=True, eq=False)
class TwoRuns:
    """What is behind the prediction on show and what it can be compared with; the rest once it is.

    Parameters
    ----------
    shown : TrainedRun or None
        The training behind the prediction on show.
    others : tuple of TrainedRun
        Those it can be compared with, newest first.
    other : TrainedRun or None
        The one it is compared with: as chosen, else the newest that differs in learning from unlabelled slices.
    labels : ndarray or None
        (z, y, x) uint8, what the other predicts, cleaned up as the prediction on show is.
    comparison : Comparison or None
        How far they agree outside of the complete slices.
    unseen : Unseen or None
        How good they were on the slices that neither had seen.
    """

    shown: TrainedRun | None = None
    others: tuple[TrainedRun, ...] = ()
    other: TrainedRun | None = None
    labels: npt.NDArray[np.uint8] | None = None
    comparison: Comparison | None = None
    unseen: Unseen | None = None


class Comparing(Concern):
    """Where two trainings disagree, and which was better on slices that neither had seen.

    Attributes
    ----------
    changed : Signal()
        Another training to compare with, or more is known.
    on : bool
        Whether the difference is wanted.
    found : TwoRuns
        The two trainings, and what is known of them.
    """

    changed = Signal()

    def __init__(
        self,
        context: Context,
        settings: Settings,
        training: Training,
        cleaning: Cleaning,
        reviewing: Reviewing,
        quality: Quality,
    ) -> None:
        super().__init__(context)
        self._settings, self._training, self._cleaning, self._reviewing = settings, training, cleaning, reviewing
        self.forget()
        self._announcing = context.scheduler.debounce(ANNOUNCE_AFTER_S, self.changed.emit)
        self._timer = context.scheduler.debounce(LOOK_AFTER_S, self._look)
        reviewing.prediction_changed.connect(self._timer.start)
        quality.scored.connect(self._on_scored)
        context.view.difference.changed.connect(self._on_visible)

    def forget(self) -> None:
        """Forget the trainings of the case before."""
        self.on = self._at_work = False
        self._chosen = ""
        self.found = TwoRuns()

    def announce(self) -> None:
        """Tell that there is nothing to compare yet."""
        self.changed.emit()

    # ------------------------------------------------------------ the person

    def toggle(self) -> None:
        """Key W: show where the two differ, or no longer."""
        if self.on:
            self._turn_off()
        elif self.found.other is None:
            self.context.notified.emit(
                "There is no second training to compare with: switch 'Learn from unlabelled slices too' over, "
                "train again, then press W.", "warning",
            )  # fmt: skip
        else:
            self.on = True
            self._look()

    def _on_visible(self) -> None:
        """The layer has been shown or hidden, perhaps in napari's own list."""
        visible = self.context.view.difference.visible
        if visible != self.on:
            self.on = visible
            self.changed.emit()
            self._timer.start()

    def _turn_off(self) -> None:
        self.on = False
        self.context.view.difference.hide()
        self.changed.emit()

    def choose(self, run_id: str) -> None:
        """Compare with another training."""
        self._chosen = run_id
        self._look()

    def train_otherwise(self) -> None:
        """Train once more, with unlabelled slices where there were none and the other way round, and compare."""
        if self.found.shown is not None and self._training.is_idle:
            self.on = True
            self._settings.replace(use_unlabelled=self.found.shown.unlabelled is False)
            self._training.start()

    def take_other(self) -> None:
        """Go on with the other training: its network predicts the volume, from now on."""
        if self.found.other is not None and self._training.is_idle:
            self._reviewing.go_on_with(self.found.other.run.path)

    def go_to_most(self) -> None:
        """Show the slice in which the two differ most."""
        if self.found.comparison is not None and self.found.comparison.most is not None:
            self.context.view.navigation.go_to(self.found.comparison.most)

    # ------------------------------------------------------------ looking

    def _look(self) -> None:
        """Find what there is to compare, and where it is wanted compare it, in the background."""
        if self._at_work or not self.context.is_open or self._reviewing.prediction is None:
            return
        self._at_work = True
        opened, prediction, rules = self.context.case, self._reviewing.prediction, self._cleaning.rules
        run_path, chosen, on = self._reviewing.run_path, self._chosen, self.on
        complete, classes = list(self.context.annotations.complete), sorted(opened.project.class_names)

        def work() -> TwoRuns:
            found = _choose(
                trained_runs(opened.project, opened.case.id), "" if run_path is None else run_path.name, chosen
            )
            if not on or found.shown is None or found.other is None:
                return found
            path = found.other.run.prediction_path(opened.case.id)
            labels = open_array(path)
            labels = clean_up(labels, rules, opened.volume.voxel_ml) if rules else labels
            return TwoRuns(
                found.shown, found.others, found.other, labels, compare(prediction, labels, classes, complete),
                unseen(found.shown.run, found.other.run, opened.case.id),
            )  # fmt: skip

        def done(found: TwoRuns) -> None:
            if self.context.opened is not opened:
                return
            self._at_work = False
            wanted = self._reviewing.prediction, self._cleaning.rules, self._chosen, self.on
            if wanted[0] is prediction and wanted[1:] == (rules, chosen, on):
                self._take(found, prediction, complete)
            else:
                self._look()

        def failed(error: BaseException) -> None:
            if self.context.opened is not opened:
                return
            self._at_work = False
            self._turn_off()
            self.context.notified.emit(f"The other prediction could not be read ({error}); choose another.", "warning")

        self.context.scheduler.aside(work, done, failed)

    def _take(self, found: TwoRuns, prediction: npt.NDArray[np.uint8], complete: list[int]) -> None:
        self.found = found
        if found.labels is not None:
            self.context.view.difference.show(prediction, found.labels, complete)
        self._announcing.start()

    def _on_scored(self, score: SliceScore) -> None:
        """A slice that the prediction on show had not seen was drawn; score what the others had said of it."""
        opened, drawn, z = self.context.case, self.context.annotations.target(score.z), score.z
        spacing_mm, classes = opened.volume.spacing_mm[1:], sorted(opened.project.class_names)
        self.context.aside(
            lambda: score_unseen(opened.project, opened.case.id, z, drawn, spacing_mm, classes),
            lambda _: self._timer.start(),
        )


def _choose(found: list[TrainedRun], run_id: str, chosen: str) -> TwoRuns:
    shown = next((run for run in found if run.run.id == run_id), None)
    others = tuple(run for run in found if run is not shown)
    if shown is None or not others:
        return TwoRuns(shown, others if shown is not None else ())
    unlike = [run for run in others if run.unlabelled is not shown.unlabelled]
    by_hand = [run for run in others if run.run.id == chosen]
    return TwoRuns(shown, others, [*by_hand, *unlike, *others][0])
