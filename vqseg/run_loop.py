"""A run being trained, one step at a time: steps, metrics and checkpoints on disk.

The loop belongs to whoever drives it: the engine looks at its messages between two steps, vqseg.runner does not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vqseg.annotations import Annotations
from vqseg.config import Config
from vqseg.errors import AnnotationError, CheckpointError, DeviceError
from vqseg.memory import free_memory, is_out_of_memory, step_down
from vqseg.run import Run, RunState
from vqseg.schedule import CheckpointTimer

if TYPE_CHECKING:
    from vqseg.data import TrainingCase
    from vqseg.step_report import StepReport
    from vqseg.team import Team
    from vqseg.train import Trainer

__all__ = ["PausableClock", "RunLoop", "TrainerFactory", "make_trainer"]

METRICS_EVERY_S = 0.5

log = logging.getLogger(__name__)
Clock = Callable[[], float]


class PausableClock:
    """Seconds that stand still during a pause, so that the time budget does."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lost_s = 0.0
        self._paused_at: float | None = None

    def __call__(self) -> float:
        """Seconds since some fixed moment, pauses left out."""
        now = self._clock() if self._paused_at is None else self._paused_at
        return now - self._lost_s

    def pause(self) -> None:
        """Hold; nothing happens where it is held already."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    def resume(self) -> None:
        """Go on."""
        if self._paused_at is not None:
            self._lost_s += self._clock() - self._paused_at
            self._paused_at = None


class TrainerFactory(Protocol):
    """Makes the trainer of a run, or loads the one in `checkpoint`, whose own config counts where none is given."""

    def __call__(
        self,
        run: Run,
        config: Config | None,
        cases: Sequence[TrainingCase],
        class_names: Mapping[int, str],
        clock: Clock,
        checkpoint: Path | None,
    ) -> Trainer:
        """A trainer that reads its time budget from `clock`."""
        ...


def make_trainer(
    run: Run,
    config: Config | None,
    cases: Sequence[TrainingCase],
    class_names: Mapping[int, str],
    clock: Clock,
    checkpoint: Path | None,
) -> Trainer:
    """The project's own trainer."""
    from vqseg.train import Trainer

    if checkpoint is not None:
        return Trainer.load(checkpoint, cases, config=config, clock=clock)
    return Trainer(config or run.config, cases, class_names, clock=clock)


class RunLoop:
    """A run being trained: one step at a time, with what must be on disk in between.

    Parameters
    ----------
    run : Run
        The run; it is claimed until :meth:`close`.
    cases : sequence of TrainingCase
        Its cases, in the order of ``run.case_ids``.
    class_names : mapping of int to str
        Name of each class.
    resume : bool
        Go on from the run's checkpoint where there is one.
    factory : TrainerFactory
        What makes the trainer.
    on_notice : callable, optional
        Told what the person should know, in sentences.
    team : Team, optional
        The processes that train together with this one; all go on with less when the memory of one is full.
    pause : callable, optional
        Called in the midst of each step, again and again, while the time budget stands still.

    Raises
    ------
    VQSegError
        If the run is in use, nothing is labelled, or the trainer cannot be made; DeviceError where the memory is too
        full for a run that goes on from its checkpoint.
    """

    def __init__(
        self,
        run: Run,
        cases: Sequence[TrainingCase],
        class_names: Mapping[int, str],
        *,
        resume: bool = False,
        factory: TrainerFactory = make_trainer,
        on_notice: Callable[[str], None] | None = None,
        team: Team | None = None,
        pause: Callable[[], None] | None = None,
    ) -> None:
        if not any(case.annotations.used for case in cases):
            raise AnnotationError("No slice is labelled yet; paint one and mark it complete, then start the training.")
        self.run, self.cases, self.class_names = run, cases, class_names
        self.clock = PausableClock()
        self._factory, self._team, self._pause = factory, team, pause
        self._checkpoint: Path | None = None
        self._on_notice = on_notice or (lambda text: log.info("%s", text))
        self._config: Config | None = run.config
        self._checkpoint_timer = CheckpointTimer()
        self._written_at = time.monotonic()
        self._told_of_the_disk = False
        run.claim()
        try:
            if resume and run.has_checkpoint:
                self._config, self._checkpoint = None, run.checkpoint_path
            self.trainer = self._make()
            run.set_state(RunState.RUNNING)
            for case_id, case in zip(run.case_ids, cases, strict=True):
                run.note_learnt(case_id, case.annotations.used)
        except BaseException:
            run.release()
            raise

    def _make(self) -> Trainer:
        """The trainer, made smaller until it fits into memory; that of a run that is resumed must fit as it is."""
        while True:
            try:
                trainer = self._factory(
                    self.run, self._config, self.cases, self.class_names, self.clock, self._checkpoint
                )
            except (MemoryError, RuntimeError) as error:
                self._step_down(error)
            else:
                for warning in trainer.warnings:
                    self._on_notice(warning)
                return trainer
            self._gather()

    def _step_down(self, error: MemoryError | RuntimeError) -> None:
        """Take a smaller config after an out-of-memory error, ours or the team's; raise anything else again."""
        devices = 1
        if self._team is not None:
            error, devices = self._team.cause(error), self._team.devices
        if self._config is None:
            if not is_out_of_memory(error):
                raise error
            raise DeviceError(
                "The memory is too full for this run to go on; close other programs, then resume it. Its checkpoint is "
                "as it was."
            ) from error
        self._config, notice = step_down(self._config, error, devices)
        self._on_notice(notice)

    def _gather(self) -> None:
        """Let the team go on, with the config as it is now."""
        if self._team is not None and self._config is not None:
            self._team.gather(self._config, resume=self._checkpoint is not None)

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self.trainer.finished

    @property
    def step_index(self) -> int:
        """Steps taken so far."""
        return int(self.trainer.step_index) if hasattr(self, "trainer") else 0

    @property
    def untaught(self) -> list[str]:
        """Names of the labelled classes that the network has not learned yet."""
        return list(self.trainer.untaught) if hasattr(self, "trainer") else []

    def step(self) -> StepReport | None:
        """One training step; None where memory ran out and a smaller trainer took over where this one stood."""
        report = None
        try:
            report = self.trainer.step(None if self._pause is None else partial(self._hold, self._pause))
        except (MemoryError, RuntimeError) as error:
            self._config = self.trainer.config  # with what was changed on the way
            self._step_down(error)
        if report is None:  # out here, where no traceback holds the step's tensors any more
            self._written(self.save)
            self._checkpoint = self.run.checkpoint_path if self.run.has_checkpoint else None
            del self.trainer
            free_memory()
            self._gather()
            self.trainer = self._make()
            return None
        self._written(lambda: self._write_what_is_due(report))
        return report

    def _written(self, write: Callable[[], None]) -> None:
        """Write what the training can go on without, where the disk takes it."""
        try:
            write()
        except (CheckpointError, OSError) as error:
            self._tell_of_the_disk(error)

    def _write_what_is_due(self, report: StepReport) -> None:
        """Metrics often, a checkpoint now and then."""
        now = time.monotonic()
        if now - self._written_at >= METRICS_EVERY_S:
            self._written_at = now
            self.run.append_metrics(report.as_metrics())
        if self._checkpoint_timer.due:
            self.save()
            self._told_of_the_disk = False

    def _tell_of_the_disk(self, error: CheckpointError | OSError) -> None:
        """Say once that the disk refuses what is written on the way; there may be room again before the end."""
        if not self._told_of_the_disk:
            self._told_of_the_disk = True
            why = str(error)
            if isinstance(error, OSError):
                why = f"The metrics could not be written ({error.strerror}); make room on the disk."
            self._on_notice(f"{why} The training goes on meanwhile.")

    def _hold(self, pause: Callable[[], None]) -> None:
        self.clock.pause()
        pause()
        self.clock.resume()

    def save(self) -> None:
        """Write the checkpoint now."""
        with self._checkpoint_timer.writing():
            self.trainer.save(self.run.checkpoint_path)

    def pause(self) -> None:
        """Hold the time budget; the checkpoint is written, for a pause may be long."""
        self.clock.pause()
        self.save()
        self.run.set_state(RunState.PAUSED)

    def resume(self) -> None:
        """Go on after a pause."""
        self.run.set_state(RunState.RUNNING)
        self.clock.resume()

    def update_settings(self, settings: Mapping[str, Any]) -> None:
        """Change live settings from the next step on, and note it among the metrics."""
        self.trainer.update_settings(**settings)
        self.run.append_metrics({"step": self.trainer.step_index, "settings": dict(settings)})

    def update_annotations(self, case_id: str, annotations: Annotations) -> None:
        """Learn from a case's changed labels from the next step on."""
        self.trainer.update_annotations(self.run.case_ids.index(case_id), annotations)
        self.run.note_learnt(case_id, annotations.used)

    def close(self, state: RunState) -> None:
        """Record how the run ended and give it back."""
        try:
            self.run.set_state(state, step=self.step_index)
        finally:
            self.run.release()
