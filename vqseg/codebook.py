"""What the codebook holds: how a volume uses it, and each codeword by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqseg.data.case import PreparedCase
from vqseg.models.perturbation import substitution_probabilities
from vqseg.models.quantizer import VectorQuantizer
from vqseg.models.vqseg import VQSegNet
from vqseg.predict import Predictor
from vqseg.tokens import HISTORY_COLUMNS, CodebookReport, CodebookSurvey, Codeword, Substitutes, TokenGrid
from vqseg.volume import Volume

__all__ = [
    "LOOK_EVERY",
    "CodeDrift",
    "codeword",
    "decode_codes",
    "substitutes",
    "survey_codebook",
    "token_grid",
    "usage_report",
]

AT_ONCE = 4
"""Slices encoded at once."""
LOOK_EVERY, LOOKED_AT = 50, 3
"""Steps between two looks at how far the codes have settled, and slices looked at."""


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


def token_grid(predictor: Predictor, volume: Volume) -> TokenGrid:
    """Where the codes of :meth:`Predictor.codes` lie on the volume's voxels.

    Raises
    ------
    ConfigError
        If the predictor's method has no codebook.
    """
    case, stride = predictor.prepare(volume), predictor.codebook_network.stride
    (height, width), (y0, y1, x0, x1) = case.size, case.box
    step = stride * (y1 - y0) / height, stride * (x1 - x0) / width
    return TokenGrid(case.box, step, (-(-height // stride), -(-width // stride)))


def survey_codebook(
    predictor: Predictor,
    volume: Volume,
    labels: npt.NDArray[np.uint8],
    *,
    history: Sequence[Sequence[float | None]] = (),
    on_progress: Callable[[float], None] | None = None,
) -> CodebookSurvey:
    """The codes of all slices, and what they fall in, as the predictor's network encodes them now.

    Parameters
    ----------
    predictor : Predictor
        The network.
    volume : Volume
        The image, HU.
    labels : ndarray
        (z, y, x) uint8 labels of the volume, such as a prediction; may be a memory map.
    history : sequence of rows
        How the codebook was used over the training, by :data:`vqseg.tokens.HISTORY_COLUMNS`.
    on_progress : callable, optional
        Told the share that is done, in [0, 1].

    Raises
    ------
    ConfigError
        If the predictor's method has no codebook.
    """
    grid, depth = token_grid(predictor, volume), volume.shape[0]
    y0, y1, x0, x1 = grid.box
    size = predictor.config.model.codebook_size
    highest = max(predictor.values)
    n_labels = highest + 1
    codes = np.zeros((depth, *grid.shape_yx), np.uint16)
    flat = np.zeros(size * n_labels, np.int64)  # voxels by code and label
    sums = np.zeros((2, size))
    for start in range(0, depth, AT_ONCE):
        slices = list(range(start, min(start + AT_ONCE, depth)))
        codes[slices] = predictor.codes(volume, slices)
        for z in slices:
            under = grid.on_voxels(codes[z]).astype(np.int64).ravel()
            label = np.minimum(labels[z, y0:y1, x0:x1], highest).ravel()
            flat += np.bincount(under * n_labels + label, minlength=size * n_labels)
            hu = np.asarray(volume.slice(z)[y0:y1, x0:x1], np.float64).ravel()
            sums += [np.bincount(under, weights=weights, minlength=size) for weights in (hu, hu * hu)]
        if on_progress is not None:
            on_progress(slices[-1] / max(1, depth - 1))
    class_voxels = flat.reshape(size, n_labels)
    counts = class_voxels.sum(1)
    mean, square = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    codewords = predictor.codebook_network.quantizer.codebook.detach().float().cpu().numpy()
    places, explained = _principal_plane(codewords, np.bincount(codes.ravel(), minlength=size) > 0)
    return CodebookSurvey(
        codes, grid, class_voxels, mean.astype(np.float32),
        np.sqrt(np.maximum(square - mean * mean, 0)).astype(np.float32), places, explained,
        np.array(history, np.float32).reshape(-1, len(HISTORY_COLUMNS)),
    )  # fmt: skip


def _principal_plane(
    codebook: npt.NDArray[np.float32], used: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], float]:
    """The used codewords on their first two principal components (K, 2), NaN elsewhere; the variance shown, 0..1."""
    places = np.full((len(codebook), 2), np.nan, np.float32)
    chosen = codebook[used].astype(np.float64)
    if len(chosen) == 0:
        return places, 0.0
    centred = chosen - chosen.mean(0)
    variances, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    axes = axes[:, :-3:-1] * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])[:-3:-1]  # a fixed sign
    places[used] = centred @ axes
    total = float(variances.sum())
    return places, float(variances[-2:].sum()) / total if total > 0 else 0.0


class CodeDrift:
    """Share of tokens whose code has changed from one look to the next, on a few slices that stay the same.

    A codebook that has settled gives the same patch the same code again.

    Parameters
    ----------
    case : PreparedCase
        Where the slices are, evenly spaced.

    Attributes
    ----------
    share : float or None
        In [0, 1]; None before the second look.
    """

    def __init__(self, case: PreparedCase) -> None:
        places = torch.linspace(0, len(case.images) - 1, LOOKED_AT + 2)[1:-1]
        self._images = case.input(places.round().long().tolist())
        self._codes: Tensor | None = None
        self.share: float | None = None

    @torch.inference_mode()
    def look(self, network: VQSegNet) -> None:
        """Encode the slices with a network in evaluation mode."""
        codes = network.encode(self._images.to(network.blend.device)).indices
        if self._codes is not None:
            self.share = float((codes != self._codes).float().mean())
        self._codes = codes


def codeword(predictor: Predictor, code: int, top: int = 7) -> Codeword:
    """One codeword: what it looks like, and what QPM makes of it.

    Parameters
    ----------
    predictor : Predictor
        The network.
    code : int
        Code in [0, K).
    top : int
        Number of substitutes.

    Raises
    ------
    ConfigError
        If the predictor's method has no codebook.
    """
    likely = substitutes(predictor.codebook_network.quantizer, code, top)
    return Codeword(code, likely, decode_codes(predictor, [code, *likely.codes.tolist()]))


@torch.inference_mode()
def decode_codes(predictor: Predictor, codes: Sequence[int]) -> npt.NDArray[np.float32]:
    """What codes look like, each by itself: (n, p, p) HU, the image decoder's view of a field of one codeword.

    p is 0 where the network was made without its image decoder.

    Raises
    ------
    ConfigError
        If the predictor's method has no codebook.
    """
    network = predictor.codebook_network
    if network.image_decoder is None:
        return np.zeros((len(codes), 0, 0), np.float32)
    side = network.stride
    field = torch.as_tensor(codes, device=predictor.device)[:, None, None].expand(-1, 3, 3)  # neighbours of its kind
    image = network.image_decoder(network.quantizer.lookup(field), (3 * side, 3 * side))
    low, high = predictor.framing.window.limits_hu
    centre = image[:, 0, side : 2 * side, side : 2 * side].float().cpu().numpy()
    return np.asarray(low + centre * (high - low), np.float32)


def substitutes(quantizer: VectorQuantizer, code: int, top: int) -> Substitutes:
    """The `top` codes that most likely replace a code, were it always replaced."""
    codes, shares = substitution_probabilities(code, quantizer.codebook, 1.0, top + 1)
    others = codes != code  # it is never its own substitute, but the last of equals where all are far
    return Substitutes(codes[others][:top].cpu().numpy(), shares[others][:top].cpu().numpy())
