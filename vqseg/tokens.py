"""What the codes of a volume are and where they lie: the codebook as people look at it, without a network.

The engine makes these and writes them as files of plain arrays; the window reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqseg.errors import EngineError
from vqseg.io.atomic import atomic_path

__all__ = ["HISTORY_COLUMNS", "CodebookReport", "CodebookSurvey", "Codeword", "Occurrence", "Substitutes", "TokenGrid"]

HISTORY_COLUMNS = ("step", "utilisation", "perplexity", "revived", "drift")
"""What is told of the codebook over the training, as the metrics name it."""


@dataclass(frozen=True)
class TokenGrid:
    """Where the tokens of a slice lie on the volume's voxels.

    Parameters
    ----------
    box : tuple of int
        y0, y1, x0, x1: rows and columns that the network sees.
    step_yx : tuple of float
        Voxels that a token covers along (y, x).
    shape_yx : tuple of int
        Number of tokens along (y, x); the last ones may reach beyond the box.
    """

    box: tuple[int, int, int, int]
    step_yx: tuple[float, float]
    shape_yx: tuple[int, int]

    @property
    def first_centre_yx(self) -> tuple[float, float]:
        """Centre of the first token in voxel indices (whole numbers are voxel centres)."""
        return self.box[0] - 0.5 + self.step_yx[0] / 2, self.box[2] - 0.5 + self.step_yx[1] / 2

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        """(y1 - y0,) token row of each voxel row of the box."""
        return _tokens_of(self.box[1] - self.box[0], self.step_yx[0])

    @property
    def columns(self) -> npt.NDArray[np.intp]:
        """(x1 - x0,) token column of each voxel column of the box."""
        return _tokens_of(self.box[3] - self.box[2], self.step_yx[1])

    def token_at(self, y: int, x: int) -> tuple[int, int] | None:
        """Row and column of the token that covers a voxel; None outside the box."""
        y0, y1, x0, x1 = self.box
        if not (y0 <= y < y1 and x0 <= x < x1):
            return None
        return int(self.rows[y - y0]), int(self.columns[x - x0])

    def voxels_of(self, row: int, column: int) -> tuple[slice, slice]:
        """Rows and columns of the volume's slices that a token covers, within the box."""
        y, x = np.flatnonzero(self.rows == row), np.flatnonzero(self.columns == column)
        y0, _, x0, _ = self.box
        return slice(y0 + int(y[0]), y0 + int(y[-1]) + 1), slice(x0 + int(x[0]), x0 + int(x[-1]) + 1)

    def on_voxels(self, tokens_yx: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of the tokens (h, w) on the voxels of the box (y1 - y0, x1 - x0)."""
        return tokens_yx[self.rows[:, np.newaxis], self.columns]


def _tokens_of(n_voxels: int, step: float) -> npt.NDArray[np.intp]:
    return np.floor((np.arange(n_voxels) + 0.5) / step).astype(np.intp)


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


@dataclass(frozen=True)
class Occurrence:
    """Where a code occurs: number of tokens, slices with it, and the slice with most."""

    tokens: int
    slices: int
    most_in: int


@dataclass(frozen=True, eq=False)
class CodebookSurvey:
    """The codebook over one volume.

    Parameters
    ----------
    codes : ndarray of uint16
        (z, h, w) code of each token.
    grid : TokenGrid
        Where the tokens lie.
    class_voxels : ndarray of int64
        (K, V + 1) voxels of each label value 0..V under the tokens of each code.
    hu_mean, hu_sd : ndarray of float32
        (K,) mean and standard deviation under the tokens of each code, HU; NaN where it has none.
    places : ndarray of float32
        (K, 2) the codewords in use, projected on their two principal components; NaN for dead ones.
    explained : float
        Share of the codewords' variance that the two components show, in [0, 1].
    history : ndarray of float32
        (n, 5) the training over time, by :data:`HISTORY_COLUMNS`; NaN where something was not measured.
    """

    codes: npt.NDArray[np.uint16]
    grid: TokenGrid
    class_voxels: npt.NDArray[np.int64]
    hu_mean: npt.NDArray[np.float32]
    hu_sd: npt.NDArray[np.float32]
    places: npt.NDArray[np.float32]
    explained: float
    history: npt.NDArray[np.float32]

    @cached_property
    def report(self) -> CodebookReport:
        """How often each code is used."""
        return CodebookReport(np.bincount(self.codes.ravel(), minlength=len(self.class_voxels)).astype(np.int64))

    @cached_property
    def owner(self) -> npt.NDArray[np.uint8]:
        """(K,) the label value that most voxels of each code have."""
        return self.class_voxels.argmax(1).astype(np.uint8)

    def occurrence(self, code: int) -> Occurrence:
        """Where a code occurs."""
        per_slice = (self.codes == code).sum((1, 2))
        return Occurrence(int(per_slice.sum()), int((per_slice > 0).sum()), int(per_slice.argmax()))

    def save(self, path: Path) -> None:
        """Write an .npz of plain arrays, whole or not at all."""
        grid = np.array([*self.grid.box, *self.grid.step_yx, *self.grid.shape_yx], dtype=np.float64)
        _save(
            path, codes=self.codes, grid=grid, class_voxels=self.class_voxels, hu_mean=self.hu_mean, hu_sd=self.hu_sd,
            places=self.places, explained=np.float64(self.explained), history=self.history,
        )  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> CodebookSurvey:
        """The survey that :meth:`save` wrote.

        Raises
        ------
        EngineError
            If the file is gone or damaged.
        """
        values = _load(path)
        y0, y1, x0, x1, step_y, step_x, h, w = values["grid"].tolist()
        grid = TokenGrid((int(y0), int(y1), int(x0), int(x1)), (step_y, step_x), (int(h), int(w)))
        return cls(
            values["codes"], grid, values["class_voxels"], values["hu_mean"], values["hu_sd"], values["places"],
            float(values["explained"]), values["history"],
        )  # fmt: skip


@dataclass(frozen=True)
class Substitutes:
    """What QPM may make of one code: itself with probability 1 - epsilon, another with epsilon times its share.

    Parameters
    ----------
    codes : ndarray of int64
        (n,) the nearest codes, likeliest first.
    shares : ndarray of float64
        (n,) their probabilities at epsilon = 1, descending; the rest of 1 is spread over all other codes.
    """

    codes: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]

    def at(self, epsilon: float) -> tuple[float, npt.NDArray[np.float64], float]:
        """Probabilities at `epsilon` in [0, 1]: of keeping the code, of each of `codes`, of any other code."""
        return 1.0 - epsilon, epsilon * self.shares, epsilon * max(0.0, 1.0 - float(self.shares.sum()))


@dataclass(frozen=True, eq=False)
class Codeword:
    """One codeword by itself.

    Parameters
    ----------
    code : int
        Its index in [0, K).
    substitutes : Substitutes
        Its nearest codewords.
    decoded_hu : ndarray of float32
        (1 + n, p, p) the codeword and its substitutes as the image decoder paints them, HU; n = 0 and p = 0 where the
        network has no image decoder.
    """

    code: int
    substitutes: Substitutes
    decoded_hu: npt.NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write an .npz of plain arrays, whole or not at all."""
        _save(path, code=np.int64(self.code), codes=self.substitutes.codes, shares=self.substitutes.shares,
              decoded_hu=self.decoded_hu)  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> Codeword:
        """The codeword that :meth:`save` wrote.

        Raises
        ------
        EngineError
            If the file is gone or damaged.
        """
        values = _load(path)
        substitutes = Substitutes(values["codes"], values["shares"])
        return cls(int(values["code"]), substitutes, values["decoded_hu"])


def _save(path: Path, **arrays: Any) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _load(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"The codebook could not be read ({type(error).__name__}); press Measure again.") from None
