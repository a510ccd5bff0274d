"""How stable the prediction of each slice is behind QPM: a survey of the volume that proceeds slice by slice."""

from __future__ import annotations

import math
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vqseg.profiles import coarse_to_fine, slice_stability
from vqseg.protocol import RequestStability, StabilityReady

if TYPE_CHECKING:
    from vqseg.predict import Predictor
    from vqseg.volume import Volume

__all__ = ["StabilitySurvey"]

TELL_EVERY_S = 0.5


class StabilitySurvey:
    """The slices in which something is predicted, or might be, each predicted several times.

    Parameters
    ----------
    request : RequestStability
        What was asked for.
    predictor : Predictor
        The network; the whole survey is made with its weights as they are now.
    volume : Volume
        The case's volume, which the predictor has prepared.
    confidence_path : Path
        Confidence of each slice of the last prediction, NaN where nothing is predicted; without it all slices count.
    """

    def __init__(self, request: RequestStability, predictor: Predictor, volume: Volume, confidence_path: Path) -> None:
        self._request, self._predictor, self._volume = request, predictor, volume
        slices = list(range(volume.shape[0]))
        if confidence_path.exists():
            confidence = np.load(confidence_path, allow_pickle=False)
            slices = [int(z) for z in np.flatnonzero(np.isfinite(confidence))]
        self._left = deque(coarse_to_fine(slices))
        self._found: dict[int, float] = {}
        self._told_at = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether no slice is left."""
        return not self._left

    def advance(self) -> StabilityReady | None:
        """Predict one more slice; what to tell, once in a while and at the end."""
        request = self._request
        if self._left:
            z = self._left.popleft()
            seen = self._predictor.preview(self._volume, z, epsilon=request.epsilon, draws=request.draws, seed=z)
            self._found[z] = slice_stability(seen.labels, seen.stability)
        now = time.monotonic()
        if not self.finished and now - self._told_at < TELL_EVERY_S:
            return None
        self._told_at = now
        found, self._found = self._found, {}
        values = [None if math.isnan(value) else round(value, 4) for value in found.values()]
        return StabilityReady(
            request.request_id, request.case_id, request.epsilon, list(found), values, done=self.finished
        )
