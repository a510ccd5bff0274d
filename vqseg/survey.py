"""Surveys of a volume that proceed slice by slice, while nobody asks for anything else.

How stable the prediction of each slice is behind QPM, and which slices are worth labelling next.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from vqseg.evidence import EvidenceSurvey
from vqseg.profiles import coarse_to_fine, slice_stability
from vqseg.protocol import Message, RequestStability, RequestSuggestions, StabilityReady, SuggestionsReady
from vqseg.suggest import suggest_slices, uncertainty_profile

if TYPE_CHECKING:
    from vqseg.data import TrainingCase
    from vqseg.predict import Predictor
    from vqseg.volume import Volume

__all__ = ["StabilitySurvey", "SuggestionSurvey", "Survey"]

TELL_EVERY_S = 0.5


class Survey(Protocol):
    """Work that can be left and taken up again between two slices."""

    @property
    def finished(self) -> bool:
        """Whether no slice is left."""

    def advance(self) -> Message | None:
        """Do one more slice; what to tell, if anything."""


class StabilitySurvey:
    """The slices in which something is predicted, each predicted several times.

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


class SuggestionSurvey:
    """Slices worth labelling: told at once from the prediction's uncertainty, again once a spread of slices is seen.

    Parameters
    ----------
    request : RequestSuggestions
        What was asked for.
    predictor : Predictor
        The network.
    case : TrainingCase
        The case, which the predictor has prepared; its annotations count as they are when something is told.
    predicted, uncertainty : ndarray
        (z, y, x) the prediction of the case and its uncertainty; may be memory maps.
    class_names : mapping of int to str
        Names for the reasons.
    """

    def __init__(
        self,
        request: RequestSuggestions,
        predictor: Predictor,
        case: TrainingCase,
        predicted: npt.NDArray[np.uint8],
        uncertainty: npt.NDArray[np.float16],
        class_names: Mapping[int, str],
    ) -> None:
        self._request, self._case, self._predicted, self._class_names = request, case, predicted, class_names
        self._gathering = EvidenceSurvey(
            predictor, case.volume, case.annotations.used, predicted, uncertainty_profile(uncertainty)
        )
        self._told = False

    @property
    def finished(self) -> bool:
        """Whether the last answer is out."""
        return self._told and self._gathering.finished

    def advance(self) -> SuggestionsReady | None:
        """Tell what is known without looking, then look at one slice after the other, then tell again."""
        if self._told:
            self._gathering.advance()
            return self._answer() if self._gathering.finished else None
        self._told = True
        return self._answer()

    def _answer(self) -> SuggestionsReady:
        found = suggest_slices(
            self._case.annotations,
            self._case.volume.spacing_mm,
            count=self._request.count,
            evidence=self._gathering.evidence,
            predicted=self._predicted,
            class_names=self._class_names,
        )
        suggestions = [{"z": item.z, "score": item.score, "reason": item.reason} for item in found]
        return SuggestionsReady(self._request.request_id, self._request.case_id, suggestions, final=self.finished)
