"""Profiles along the slices: how sure the prediction is, and how stable behind a perturbation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from napari_vqseg.session.reviewing import Reviewing
from napari_vqseg.session.training import Training, TrainingState
from vqseg import protocol

__all__ = ["SURVEY_EPSILON", "Profiles"]

SURVEY_AFTER_S = 0.8
SURVEY_EPSILON = 0.5
"""Perturbation intensity of the profile while the slider is at 0."""


class Profiles(Concern):
    """Confidence and stability of each slice.

    Attributes
    ----------
    changed : Signal()
        Another profile, or more of one.
    confidence : ndarray or None
        (z,) float32 in [0, 1], NaN where nothing is predicted; None without a prediction.
    stability : ndarray or None
        (z,) float32 in [0, 1], NaN where it is not known (yet); None where it has not been asked for.
    epsilon : float
        The perturbation intensity of the stability.
    """

    changed = Signal()

    def __init__(self, context: Context, engine: Engine, training: Training, reviewing: Reviewing) -> None:
        super().__init__(context)
        self._engine, self._training, self._reviewing = engine, training, reviewing
        self.forget()
        self._timer = context.scheduler.debounce(SURVEY_AFTER_S, self._survey)
        engine.on(protocol.PredictionReady, self._on_prediction)
        engine.on(protocol.StabilityReady, self._on_stability)
        training.changed.connect(self._on_training)
        reviewing.epsilon_changed.connect(self._timer.start)

    def forget(self) -> None:
        """Forget the profiles of the case before."""
        self.confidence: npt.NDArray[np.float32] | None = None
        self.stability: npt.NDArray[np.float32] | None = None
        self.epsilon = 0.0
        self.surveying = False

    def announce(self) -> None:
        """Tell that there is none yet."""
        self.changed.emit()

    def stable_slices(self, threshold: float) -> list[int]:
        """The unlabelled slices that hold a predicted structure and are at least so stable, 0 to 1."""
        if self.stability is None:
            return []
        records = self.context.annotations.records
        return [z for z in self._reviewing.predicted if self.stability[z] >= threshold and z not in records]

    # ------------------------------------------------------------ the engine

    def _on_prediction(self, message: protocol.PredictionReady) -> None:
        opened = self.context.opened
        if opened is None or message.case_id != opened.case.id:
            return
        self.stability, self.confidence = None, _read(message.confidence_path, opened.volume.shape[0])
        self.changed.emit()
        self._timer.start()

    def _on_training(self, state: TrainingState) -> None:
        if state is TrainingState.IDLE and self.stability is None:
            self._timer.start()
        elif state is TrainingState.STARTING and self.surveying:
            self._request(0.0)

    def _survey(self) -> None:
        """Ask for the stability of all slices, but not while training: it would take the training's time."""
        epsilon = self._reviewing.epsilon or SURVEY_EPSILON
        known = self.stability is not None and epsilon == self.epsilon
        if self.confidence is not None and not known and self._training.is_idle:
            self._request(epsilon)

    def _request(self, epsilon: float) -> None:
        self.epsilon, self.surveying = epsilon, epsilon > 0
        self.stability = np.full(self.context.volume.shape[0], np.nan, dtype=np.float32) if epsilon else None
        request_id = self._engine.new_request("stability")
        self._engine.send(protocol.RequestStability(request_id, self.context.case.case.id, epsilon))
        self.changed.emit()

    def _on_stability(self, message: protocol.StabilityReady) -> None:
        if self._engine.is_newest("stability", message.request_id) and self.stability is not None:
            values = [np.nan if value is None else value for value in message.stability]
            self.stability[message.slices] = values
            self.surveying = not message.done
            self.changed.emit()


def _read(path: str, n_slices: int) -> npt.NDArray[np.float32] | None:
    """A profile from the engine's file; None where it is not there or of another volume."""
    try:
        profile = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return profile if profile.shape == (n_slices,) else None
