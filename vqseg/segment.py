"""The few-slices job in one call: train on one volume's labelled slices, then predict all of it.

The command line's ``segment`` and the benchmarks take this one road.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vqseg.annotations import Annotations
from vqseg.config import Config
from vqseg.data import TrainingCase
from vqseg.predict import Prediction
from vqseg.train import StepReport, Trainer
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

    Returns
    -------
    prediction : Prediction
        Labels, probabilities and uncertainty of every slice.
    trainer : Trainer
        The trained network, for ``trainer.save(path)`` or more previews.
    """
    trainer = Trainer(config, [TrainingCase(volume, annotations)], class_names)
    while not trainer.finished:
        report = trainer.step()
        if on_report is not None:
            on_report(report)
    predictor = trainer.predictor()
    prediction = predictor.predict(volume, annotations, keep_probabilities=keep_probabilities, on_progress=on_progress)
    return prediction, trainer
