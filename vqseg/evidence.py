"""What a network says about the slices that might be labelled next, gathered slice by slice."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqseg.profiles import coarse_to_fine
from vqseg.suggest import Evidence

if TYPE_CHECKING:
    from vqseg.predict import Predictor
    from vqseg.volume import Volume

__all__ = ["EvidenceSurvey"]

MEASURED = 24
"""Unlabelled slices that are looked at, spread over where something is predicted, and as many labelled ones."""
EPSILON = 0.7
DRAWS = 4


class EvidenceSurvey:
    """Looks at a spread of slices, one at a time.

    Parameters
    ----------
    predictor : Predictor
        The network.
    volume : Volume
        The image, which the predictor has prepared with its annotations.
    used : sequence of int
        The labelled slices.
    predicted : ndarray
        (z, y, x) uint8 prediction; may be a memory map.
    uncertainty : ndarray
        (z,) uncertainty of each slice's prediction, from :func:`vqseg.suggest.uncertainty_profile`.
    """

    def __init__(
        self,
        predictor: Predictor,
        volume: Volume,
        used: Sequence[int],
        predicted: npt.NDArray[np.uint8],
        uncertainty: npt.NDArray[np.float32],
    ) -> None:
        self._predictor, self._volume = predictor, volume
        self._uncertainty = uncertainty
        self._flips_mm2: dict[int, float] = {}
        self._codes: dict[int, npt.NDArray[np.int64]] = {}
        self._left: deque[tuple[int, bool]] = deque()
        if not predictor.has_codebook:
            return  # without a codebook there is nothing to perturb
        found = [z for z in range(len(predicted)) if z not in used and predicted[z].any()]
        unlabelled = found or [z for z in range(len(predicted)) if z not in used]
        self._left.extend((z, False) for z in _spread(used))
        self._left.extend((z, True) for z in coarse_to_fine(_spread(unlabelled)))

    @property
    def finished(self) -> bool:
        """Whether no slice is left."""
        return not self._left

    @property
    def evidence(self) -> Evidence:
        """What is known so far."""
        return Evidence(self._uncertainty, dict(self._flips_mm2), dict(self._codes))

    def advance(self) -> None:
        """Look at one more slice."""
        z, shake = self._left.popleft()
        size = self._predictor.config.model.codebook_size
        self._codes[z] = np.bincount(self._predictor.codes(self._volume, [z]).ravel(), minlength=size)
        if shake:
            seen = self._predictor.preview(self._volume, z, epsilon=EPSILON, draws=DRAWS, seed=z)
            _, dy, dx = self._volume.spacing_mm
            self._flips_mm2[z] = float((1.0 - seen.stability).sum(dtype=np.float64)) * dy * dx


def _spread(slices: Sequence[int]) -> list[int]:
    """At most ``MEASURED`` of the slices, evenly spread."""
    chosen = np.linspace(0, len(slices) - 1, min(MEASURED, len(slices))).round().astype(int)
    return [int(slices[index]) for index in chosen]
