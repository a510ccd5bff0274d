"""Training: start, pause, resume, stop; corrections and settings reach a running one."""

from __future__ import annotations

import gc
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from napari_vqseg.session.settings import Settings
from vqseg import protocol
from vqseg.annotations import SliceState
from vqseg.project import Case, Run
from vqseg.step_report import StepReport

__all__ = ["Training", "TrainingState"]

SETTINGS_AFTER_S = 0.2
COLLECTIONS = gc.get_threshold()
"""When Python looks for rubbish among young, older and all objects, as it was before anything was trained."""
NEVER = 1_000_000
"""Collections of older objects after which Python would look through all of them, too."""


class TrainingState(StrEnum):
    """What the engine is doing about training."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"


class Training(Concern):
    """The run in the engine.

    Attributes
    ----------
    changed : Signal(TrainingState)
        Another state.
    progressed : Signal(protocol.Progress)
        How far it is, several times a second.
    earlier : Signal(list of protocol.Progress)
        What was told of a run that goes on, before it was interrupted.
    on_all : bool
        Whether the next run learns from every labelled volume of the project, or from the open one alone.
    """

    changed = Signal(object)
    progressed = Signal(object)
    earlier = Signal(object)

    def __init__(self, context: Context, engine: Engine, annotating: Annotating, settings: Settings) -> None:
        super().__init__(context)
        self._engine, self._annotating, self._settings = engine, annotating, settings
        self.on_all = False
        self.forget()
        self._timer = context.scheduler.debounce(SETTINGS_AFTER_S, self._send_settings)
        engine.on(protocol.Progress, self._on_progress)
        engine.on(protocol.TrainingEnded, self._on_ended)
        engine.on(protocol.Failed, self._on_failed)
        engine.crashed.connect(self._on_crash)
        settings.updated.connect(self._on_setting)
        annotating.training_slices_saved.connect(self._on_slices)

    def forget(self) -> None:
        """Forget the run of the case before."""
        self.state = TrainingState.IDLE
        self.progress: protocol.Progress | None = None
        self._run_path: Path | None = None
        self._waiting: dict[str, Any] = {}
        self._slices_changed = False

    def announce(self) -> None:
        """Tell the state."""
        self.changed.emit(self.state)

    def _become(self, state: TrainingState) -> None:
        if state is not self.state:
            if state is TrainingState.STARTING:
                gc.set_threshold(*COLLECTIONS[:2], NEVER)  # to look through all objects takes up to 125 ms
            elif state is TrainingState.IDLE:
                self.let_collect()
            self.state = state
            self.changed.emit(state)

    def let_collect(self) -> None:
        """Let Python look for rubbish among all objects again."""
        gc.set_threshold(*COLLECTIONS)

    # ------------------------------------------------------------ the person

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being trained."""
        return self.state is TrainingState.IDLE

    @property
    def under_way(self) -> bool:
        """Whether there is a run that takes messages: running or paused."""
        return self.state in (TrainingState.RUNNING, TrainingState.PAUSED)

    @property
    def can_start(self) -> bool:
        """Whether there is a slice to learn from."""
        return self.context.is_open and (
            bool(self.context.annotations.used) or (self.on_all and bool(self.other_labelled))
        )

    @property
    def other_labelled(self) -> int:
        """How many other volumes of the project are labelled."""
        shown = self.context.case.case.id
        return sum(task.labelled > 0 and not task.problem and task.case_id != shown for task in self.context.tasks)

    def use_all(self, on: bool) -> None:
        """Let the next run learn from every labelled volume of the project, or from the open one alone."""
        self.on_all = on
        self.changed.emit(self.state)

    @property
    def resumable(self) -> bool:
        """Whether an earlier run can be taken up where it stood."""
        return self.is_idle and self.context.is_open and self.context.case.resumable is not None

    def start(self) -> None:
        """Save, make a run folder and train it."""
        if not self.is_idle:
            return
        if not self.can_start:
            self.context.notified.emit("Mark a slice as complete (key C) before training.", "warning")
            return
        opened, config, on_all = self.context.case, self._settings.config, self.on_all
        self._become(TrainingState.STARTING)
        self.progress = self._run_path = None

        def make_run() -> Run:
            cases = [opened.case, *opened.project.cases] if on_all else [opened.case]
            labelled = dict.fromkeys(case.id for case in cases if _is_labelled(case))
            return opened.project.new_run(config, list(labelled))

        def failed(error: BaseException) -> None:
            self._become(TrainingState.IDLE)
            self.context.refused(error)

        self._annotating.save(
            then=lambda: self.context.scheduler.background(make_run, lambda run: self._begin(run.path), failed),
            failed=lambda: self._become(TrainingState.IDLE),
        )

    def resume(self) -> None:
        """Go on after a pause, or with the run that was interrupted."""
        if self.state is TrainingState.PAUSED:
            self._engine.send(protocol.ResumeTraining())
            self._become(TrainingState.RUNNING)
        elif self.resumable:
            path = self.context.case.resumable
            assert path is not None
            self._become(TrainingState.STARTING)
            self._run_path = None
            run = Run(path)
            self._settings.take(run.config)
            self.context.background(lambda: _told(run), self.earlier.emit)
            self._annotating.save(
                then=lambda: self._begin(path, resume=True), failed=lambda: self._become(TrainingState.IDLE)
            )

    def _begin(self, run_path: Path, *, resume: bool = False) -> None:
        """Let the engine train a run, unless a person has pressed Stop meanwhile."""
        if self.state is not TrainingState.STARTING:
            self._become(TrainingState.IDLE)
            return
        self._slices_changed, self._run_path = False, run_path
        self._engine.send(protocol.StartTraining(str(run_path), resume=resume))

    def pause(self) -> None:
        """Hold training; the time budget stands still."""
        if self.state is TrainingState.RUNNING:
            self._engine.send(protocol.PauseTraining())
            self._become(TrainingState.PAUSED)

    def stop(self) -> None:
        """Stop training and keep what it has learnt."""
        if self.state not in (TrainingState.IDLE, TrainingState.STOPPING):
            if self._run_path is not None:
                self._engine.send(protocol.StopTraining())
            self._become(TrainingState.STOPPING)

    # ------------------------------------------------------------ what reaches a running one

    def _on_setting(self, name: str, value: Any) -> None:
        if self.under_way:
            self._waiting[name] = value
            self._timer.start()

    def _send_settings(self) -> None:
        if self._waiting and not self.is_idle:
            self._engine.send(protocol.UpdateSettings(dict(self._waiting)))
        self._waiting.clear()

    def _on_slices(self) -> None:
        self._slices_changed = True
        self._send_slices()

    def _send_slices(self) -> None:
        """Let the engine read changed slices again, which train, and stand in what is predicted."""
        if self._slices_changed and (self.under_way or (self.is_idle and self._engine.has_network)):
            self._slices_changed = False
            self._engine.send(protocol.UpdateAnnotations(self.context.case.case.id))

    # ------------------------------------------------------------ the engine

    def _on_progress(self, message: protocol.Progress) -> None:
        self.progress = message
        self._engine.has_network = True
        if self.state is not TrainingState.STOPPING:
            self._become(TrainingState.PAUSED if message.paused else TrainingState.RUNNING)
        self._send_slices()
        self.progressed.emit(message)

    def _on_ended(self, message: protocol.TrainingEnded) -> None:
        begun = message.reason != "failed" or message.step > 0
        if self.context.opened is not None and begun:
            self.context.opened.resumable = None
        self._engine.has_network = self._engine.has_network or message.reason != "failed"
        self._become(TrainingState.IDLE)
        self._send_slices()
        if message.reason != "failed":
            done = "Training finished" if message.reason == "finished" else "Training stopped"
            text = f"{done} after {message.step} step{'s' * (message.step != 1)}."
            if message.untaught:
                text += (
                    f" Not learned yet: {', '.join(message.untaught)}. There the overlay is only the shape between "
                    "your slices; train longer."
                )
            self.context.notified.emit(text, "info")

    def _on_failed(self, message: protocol.Failed) -> None:
        if message.request == "StartTraining":
            self._become(TrainingState.IDLE)

    def _on_crash(self, text: str) -> None:
        if not self.is_idle:
            text = f"{text} Your annotations are saved; {self._way_on()}."
        self._become(TrainingState.IDLE)
        self.context.notified.emit(text, "error")

    def _way_on(self) -> str:
        """What a person can do after the engine has gone in the midst of a run, which is made ready for it."""
        run = None if self._run_path is None else Run(self._run_path)
        if run is not None and run.interrupted and run.has_checkpoint:
            self.context.case.resumable = run.path
        if self.context.case.resumable is None:
            return "no checkpoint was written yet, so train again"
        return "Resume goes on from the last checkpoint"


def _told(run: Run) -> list[protocol.Progress]:
    """The steps of a run's metrics, as they were told."""
    names = {item.name for item in fields(StepReport)}
    rows = [row for row in run.read_metrics() if {"step", "progress"} <= row.keys()]
    return [
        protocol.Progress(time_left_s=0.0, **{name: value for name, value in row.items() if name in names})
        for row in rows
    ]


def _is_labelled(case: Case) -> bool:
    return any(state is not SliceState.DRAFT for state in case.load_slice_states().values())
