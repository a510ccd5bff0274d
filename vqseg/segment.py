"""The few-slices job in one call: train on one volume's labelled slices, then predict all of it.

The command line's ``segment`` and the benchmarks take this one road.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from vqseg.annotations import Annotations
from vqseg.config import Config
from vqseg.data import TrainingCase
from vqseg.memory import free_memory, step_down
from vqseg.prediction import Prediction
from vqseg.step_report import StepReport
from vqseg.train import Trainer
from vqseg.volume import Volume

__all__ = ["segment"]


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
    on_interrupt: Callable[[Trainer], None] | None = None,
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
    on_interrupt : callable, optional
        Given what was trained so far when Ctrl-C ends the training or the prediction; the interrupt goes on.

    Returns
    -------
    prediction : Prediction
        Labels, probabilities and uncertainty of every slice.
    trainer : Trainer
        The trained network, for ``trainer.save(path)`` or more previews.
    """
    case = TrainingCase(volume, annotations)
    trainer = _train_in_memory(
        config, case, class_names, on_report or _ignore, on_notice or _ignore, on_interrupt or _ignore
    )
    predictor = trainer.predictor()
    try:
        prediction = predictor.predict(
            volume, annotations, keep_probabilities=keep_probabilities, on_progress=on_progress
        )
    except KeyboardInterrupt:
        (on_interrupt or _ignore)(trainer)
        raise
    return prediction, trainer


def _ignore(told: object) -> None:
    """Nobody listens."""


def _train_in_memory(
    config: Config,
    case: TrainingCase,
    class_names: Mapping[int, str],
    on_report: Callable[[StepReport], None],
    on_notice: Callable[[str], None],
    on_interrupt: Callable[[Trainer], None],
) -> Trainer:
    """Train to the end of the budget; with smaller batches, then smaller slices, where the memory is full."""
    with tempfile.TemporaryDirectory(prefix="vqseg-") as folder:
        checkpoint, trainer = Path(folder) / "checkpoint", None
        while True:
            try:
                if checkpoint.exists():
                    trainer = Trainer.load(checkpoint, [case], config=config)
                else:
                    trainer = Trainer(config, [case], class_names)
                return _train(trainer, on_report, on_notice, on_interrupt)
            except (MemoryError, RuntimeError) as error:
                config, notice = step_down(config, error)
            on_notice(notice)
            if trainer is not None:  # out here, where no traceback holds the step's tensors any more
                trainer.save(checkpoint)
                trainer = None
            free_memory()


def _train(
    trainer: Trainer,
    on_report: Callable[[StepReport], None],
    on_notice: Callable[[str], None],
    on_interrupt: Callable[[Trainer], None],
) -> Trainer:
    for warning in trainer.warnings:
        on_notice(warning)
    try:
        while not trainer.finished:
            on_report(trainer.step())
    except KeyboardInterrupt:
        on_interrupt(trainer)
        raise
    return trainer
