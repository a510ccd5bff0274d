"""What a network says about a volume, or about one slice, and how it comes into accord with what is labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations
from vqseg.extent import keep_reachable

__all__ = ["Prediction", "SlicePreview"]

UNKNOWN = 255
"""What training is told about voxels that nobody has labelled."""


@dataclass
class Prediction:
    """A labelled volume.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8; labelled slices are as the person left them.
    uncertainty : ndarray
        (z, y, x) float16, entropy of the class probabilities over its largest value, in [0, 1]; 0 on complete slices.
    probabilities : ndarray or None
        (K + 1, z, y, x) float16, background first, where they were asked for.
    """

    labels: npt.NDArray[np.uint8]
    uncertainty: npt.NDArray[np.float16]
    probabilities: npt.NDArray[np.float16] | None = None

    @classmethod
    def background(cls, shape: Sequence[int], n_classes: int, *, keep_probabilities: bool) -> Prediction:
        """Certain background everywhere in a volume (z, y, x), to be filled in; for K classes."""
        prediction = cls(np.zeros(shape, np.uint8), np.zeros(shape, np.float16))
        if keep_probabilities:
            prediction.probabilities = np.zeros((n_classes + 1, *shape), np.float16)
            prediction.probabilities[0] = 1
        return prediction

    def tidy(
        self, annotations: Annotations, values: Sequence[int], spacing_mm: Sequence[float], *, keep_connected: bool
    ) -> None:
        """Bring it into accord with what is labelled on the volume; changes it.

        Parameters
        ----------
        annotations : Annotations
            What is labelled: complete slices come back unchanged, painted voxels of scribbled ones too.
        values : sequence of int
            Label value of each class 1..K, rising.
        spacing_mm : sequence of float
            Along (z, y, x), mm.
        keep_connected : bool
            Drop first what lies out of reach (vqseg.extent); of the labels only, not of the probabilities.
        """
        if keep_connected:
            keep_reachable(self.labels, annotations, max(values), spacing_mm)
        for z in annotations.used:
            drawn = annotations.target(z, UNKNOWN)
            known = drawn != UNKNOWN
            self.labels[z][known] = drawn[known]
            self.uncertainty[z][known] = 0
            if self.probabilities is not None:
                self.probabilities[:, z][:, known] = np.array([0, *values])[:, None] == drawn[known]


@dataclass
class SlicePreview:
    """What the network says about one slice.

    Parameters
    ----------
    labels : ndarray
        (y, x) uint8, the plain prediction, whatever the epsilon.
    confidence : ndarray
        (y, x) float32, probability of that label; 1 outside the network's frame.
    stability : ndarray
        (y, x) float32, share of the draws behind the perturbation that agree, on the image alone; 1 at epsilon 0.
    """

    labels: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    stability: npt.NDArray[np.float32]

    @classmethod
    def background(cls, shape_yx: Sequence[int]) -> SlicePreview:
        """Certain background everywhere in a slice (y, x), to be filled in."""
        return cls(np.zeros(shape_yx, np.uint8), np.ones(shape_yx, np.float32), np.ones(shape_yx, np.float32))
