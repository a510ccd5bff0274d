"""What the codebook holds: usage, perplexity, dead codewords, each code's likely substitutes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqseg.models.perturbation import substitution_probabilities
from vqseg.models.vqseg import VQSegNet
from vqseg.predict import Predictor
from vqseg.volume import Volume

__all__ = ["CodebookReport", "Substitutes", "codebook_report", "substitutes", "usage_report"]


@dataclass(frozen=True)
class CodebookReport:
    """How evenly a set of tokens uses the codebook.

    Parameters
    ----------
    usage : ndarray of int64
        (K,) number of tokens of each codeword.
    """

    usage: npt.NDArray[np.int64]

    @property
    def codebook_size(self) -> int:
        """Number of codewords K."""
        return len(self.usage)

    @property
    def dead(self) -> int:
        """Number of codewords that no token uses."""
        return int((self.usage == 0).sum())

    @property
    def utilisation(self) -> float:
        """Share of codewords that at least one token uses, in [0, 1]."""
        return 1.0 - self.dead / self.codebook_size

    @property
    def perplexity(self) -> float:
        """Codewords effectively in use, in [1, K]: the exponential of the usage's entropy; NaN without tokens."""
        if self.usage.sum() == 0:
            return float("nan")
        shares = self.usage[self.usage > 0] / self.usage.sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))

    @property
    def sorted_usage(self) -> npt.NDArray[np.int64]:
        """(K,) usage, largest first, for the histogram."""
        return np.sort(self.usage)[::-1]


@dataclass(frozen=True)
class Substitutes:
    """What QPM may make of one code, the likeliest first; the code itself is kept with probability 1 - epsilon.

    Parameters
    ----------
    codes : ndarray of int64
        (top,) codes.
    probabilities : ndarray of float64
        (top,) probabilities in [0, 1], descending.
    """

    codes: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


def usage_report(indices: Iterable[npt.NDArray[np.int64]], codebook_size: int) -> CodebookReport:
    """Count the codes in arrays of any shape.

    Parameters
    ----------
    indices : iterable of ndarray of int64
        Codes in [0, codebook_size), for example one array a slice.
    codebook_size : int
        Number of codewords K.
    """
    usage = np.zeros(codebook_size, dtype=np.int64)
    for part in indices:
        usage += np.bincount(np.asarray(part).ravel(), minlength=codebook_size)
    return CodebookReport(usage)


def codebook_report(predictor: Predictor, volume: Volume) -> CodebookReport:
    """Codebook usage over all slices of a volume, as the predictor's network encodes them now.

    Raises
    ------
    ConfigError
        If the predictor's method has no codebook.
    """
    codes = (predictor.codes(volume, [z]) for z in range(volume.shape[0]))
    return usage_report(codes, predictor.config.model.codebook_size)


def substitutes(network: VQSegNet, code: int, epsilon: float, top: int = 10) -> Substitutes:
    """The likeliest results of perturbing one code with intensity `epsilon` in [0, 1]."""
    codes, probabilities = substitution_probabilities(code, network.quantizer.codebook, epsilon, top)
    return Substitutes(codes.cpu().numpy(), probabilities.cpu().numpy())
