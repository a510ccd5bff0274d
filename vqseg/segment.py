"""The few-slices job in one call: train on one volume's labelled slices, then predict all of it.

The command line's ``segment`` and the benchmarks take this one road.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vqseg.annotations import Annotations
from vqseg.checkpoint import read_description, restore_settings
from vqseg.config import Config
from vqseg.data import TrainingCase
from vqseg.errors import CheckpointError
from vqseg.memory import free_memory, step_down
from vqseg.prediction import Prediction
from vqseg.schedule import CheckpointTimer
from vqseg.step_report import StepReport
from vqseg.train import Trainer
from vqseg.volume import Volume

__all__ = ["Autosave", "segment"]


class Autosave:
    """Where a training is kept on the way, so that neither Ctrl-C nor a kill loses it.

    Parameters
    ----------
    folder : Path
        The checkpoint's folder.
    notes : mapping
        What its description says of the labels and the image, as JSON has it.
    """

    def __init__(self, folder: Path, notes: Mapping[str, Any]) -> None:
        self.folder, self.notes = folder, dict(notes)
        self._timer = CheckpointTimer()
        self._refused = False

    def config(self) -> Config:
        """The settings of the training that is kept in the folder.

        Raises
        ------
        CheckpointError
            If there is none, or it was one on another image or other labels.
        """
        description = read_description(self.folder)
        if other := [name for name, value in self.notes.items() if description.get(name) != value]:
            raise CheckpointError(
                f"The training in {self.folder} was one with other {other[0].replace('_', ' ')}; give what it was "
                "begun with, or begin anew without --resume."
            )
        return restore_settings(description)[0]

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint now."""
        with self._timer.writing():
            trainer.save(self.folder, **self.notes)

    def save_if_due(self, trainer: Trainer, on_notice: Callable[[str], None]) -> None:
        """Write the checkpoint now and then; a disk that refuses it is told of once, and does not end the training."""
        if not self._timer.due:
            return
        try:
            self.save(trainer)
            self._refused = False
        except CheckpointError as error:
            if not self._refused:
                on_notice(f"{error} The training goes on meanwhile.")
            self._refused = True


def segment(
    volume: Volume,
    annotations: Annotations,
    class_names: Mapping[int, str],
    config: Config,
    on_report: Callable[[StepReport], None] | None = None,
    *,
    keep_probabilities: bool = False,
    on_progress: Callable[[float], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
    autosave: Autosave | None = None,
    resume: bool = False,
) -> tuple[Prediction, Trainer]:
    """Train a network on `volume` and its labelled slices, and predict the volume.

    Parameters
    ----------
    volume : Volume
        The image.
    annotations : Annotations
        Its labelled slices; they come back unchanged in the prediction.
    class_names : mapping of int to str
        Name of each class 1..K.
    config : Config
        Settings; the time budget counts the training only.
    on_report : callable, optional
        Called after each step.
    keep_probabilities : bool
        Return the class probabilities as well.
    on_progress : callable, optional
        Told the share of the prediction that is done.
    on_notice : callable, optional
        Told in sentences what the person should know: that a prior is missing, that the memory is full and training
        goes on with less.
    autosave : Autosave, optional
        Where the training is kept now and then, and when Ctrl-C ends it or the prediction.
    resume : bool
        Go on from what is kept there, with its own settings in place of `config`.

    Returns
    -------
    prediction : Prediction
        Labels, probabilities and uncertainty of every slice.
    trainer : Trainer
        The trained network, for ``trainer.save(path)`` or more previews.

    Raises
    ------
    CheckpointError
        If what is kept is damaged, or was trained on another image or other labels.
    """
    tell, checkpoint = on_notice or _ignore, None
    if resume and autosave is not None:
        config, checkpoint = autosave.config(), autosave.folder
    case = TrainingCase(volume, annotations)
    trainer = _train_in_memory(config, case, class_names, checkpoint, on_report or _ignore, tell, autosave)
    try:
        prediction = trainer.predictor().predict(
            volume, annotations, keep_probabilities=keep_probabilities, on_progress=on_progress
        )
    except KeyboardInterrupt:
        if autosave is not None:
            autosave.save(trainer)
        raise
    return prediction, trainer


def _ignore(told: object) -> None:
    """Nobody listens."""


def _train_in_memory(
    config: Config,
    case: TrainingCase,
    class_names: Mapping[int, str],
    checkpoint: Path | None,
    on_report: Callable[[StepReport], None],
    on_notice: Callable[[str], None],
    autosave: Autosave | None,
) -> Trainer:
    """Train to the end of the budget; with smaller batches, then smaller slices, where the memory is full."""
    with ExitStack() as to_the_end:
        while True:
            trainer = None
            try:
                if checkpoint is None:
                    trainer = Trainer(config, [case], class_names)
                else:
                    trainer = Trainer.load(checkpoint, [case], config=config)
                return _train(trainer, on_report, on_notice, autosave)
            except (MemoryError, RuntimeError) as error:
                config, notice = step_down(config, error)
            on_notice(notice)
            if trainer is not None:  # out here, where no traceback holds the step's tensors any more
                folder = to_the_end.enter_context(tempfile.TemporaryDirectory(prefix="vqseg-"))
                checkpoint = Path(folder, "checkpoint")
                trainer.save(checkpoint)
                trainer = None
            free_memory()


def _train(
    trainer: Trainer,
    on_report: Callable[[StepReport], None],
    on_notice: Callable[[str], None],
    autosave: Autosave | None,
) -> Trainer:
    for warning in trainer.warnings:
        on_notice(warning)
    try:
        while not trainer.finished:
            on_report(trainer.step())
            if autosave is not None:
                autosave.save_if_due(trainer, on_notice)
    except KeyboardInterrupt:
        if autosave is not None:
            autosave.save(trainer)
        raise
    return trainer
