"""Perturbation of features: by similar codes (QPM), or by dropout, its rival.

VQ-Seg, section "Quantization Perturbation Module", https://arxiv.org/abs/2601.10124: code i is kept with probability
1 - eps and otherwise replaced by j != i with ``pi(j|i) = eps exp(-d(c_i, c_j)) / Z_i``,
``Z_i = sum_{k != i} exp(-d(c_i, c_k))``, where d is the Euclidean distance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vqseg.distributed import uniform
from vqseg.models.quantizer import rows_at_once

__all__ = [
    "dropout",
    "dropout_divergence",
    "qpm_divergence",
    "substitute",
    "substitution_probabilities",
]

BLOCK = 128
"""Codewords summed together before one of them is drawn."""


def _similarities(rows: Tensor, codebook: Tensor, norms: Tensor) -> Tensor:
    """(R, K) ``exp(-d(c_i, c_j))`` for the codes in `rows` (R,), scaled by row, exactly 0 at j = i.

    `norms` are the squared lengths of the codewords (K,).
    """
    chosen = codebook[rows]
    distances = torch.addmm(norms, chosen, codebook.t(), alpha=-2.0).add_(norms[rows, None])
    distances.clamp_(min=0.0).sqrt_()
    own = rows[:, None]
    distances.scatter_(1, own, math.inf)
    nearest = distances.amin(1, keepdim=True)  # Z_i cancels any factor per row; this one avoids 0 / 0
    return distances.neg_().add_(nearest).exp_()


def _draw(weights: Tensor, share: Tensor) -> Tensor:
    """First index where the running sum of `weights` (N, M) exceeds `share` (N,) of its total: (N,) int64."""
    running = weights.cumsum(1)
    total = running[:, -1]
    below_total = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(share * total, below_total)
    return torch.searchsorted(running, target[:, None], right=True).squeeze(1)


@torch.no_grad()
def substitute(indices: Tensor, codebook: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """Replace codes by similar ones (QPM, the formula above).

    Only the distinct codes that are replaced get a row of distances, a block of rows at a time; a substitute is drawn
    by inverse transform, first among blocks of codewords, then within the block.

    Parameters
    ----------
    indices : Tensor
        Codes in [0, K), int64, any shape.
    codebook : Tensor
        (K, code_dim) codewords, K >= 2.
    epsilon : float
        Chance that a code is replaced, in [0, 1].
    generator : torch.Generator
        Source of the draws; its device may differ from that of `indices`.

    Returns
    -------
    Tensor
        Codes of the same shape.
    """
    flat = indices.reshape(-1)
    draws = uniform((3, *indices.shape), generator, dim=1).to(flat.device).flatten(1)
    replaced = (draws[0] >= 1.0 - epsilon).nonzero().squeeze(1)
    if len(replaced) == 0:
        return indices.clone()
    codebook = codebook.detach().float()
    size = len(codebook)
    codes, order = flat[replaced].sort()
    replaced = replaced[order]  # tokens in the order of their codes, so that a block of codes is a block of tokens
    distinct, counts = torch.unique_consecutive(codes, return_counts=True)
    ends = counts.cumsum(0).tolist()
    rows, norms = rows_at_once(codebook), codebook.square().sum(1)
    result = flat.clone()
    for first in range(0, len(distinct), rows):
        last = min(first + rows, len(distinct))
        tokens = replaced[(ends[first - 1] if first else 0) : ends[last - 1]]
        owner = torch.repeat_interleave(counts[first:last])  # (N,) row of each token
        weights = _similarities(distinct[first:last], codebook, norms)
        if size % BLOCK:
            weights = F.pad(weights, (0, -size % BLOCK))
        weights = weights.view(last - first, -1, BLOCK)  # (R, K / BLOCK, BLOCK)
        block = _draw(weights.sum(2)[owner], draws[1, tokens])
        within = _draw(weights[owner, block], draws[2, tokens])
        result[tokens] = block * BLOCK + within
    return result.view_as(indices)


@torch.no_grad()
def substitution_probabilities(
    code: int, codebook: Tensor, epsilon: float, top: int | None = None
) -> tuple[Tensor, Tensor]:
    """What a code may become, the likeliest first.

    Parameters
    ----------
    code : int
        Code i in [0, K).
    codebook : Tensor
        (K, code_dim) codewords.
    epsilon : float
        Chance that a code is replaced, in [0, 1].
    top : int, optional
        Number of entries; all K by default.

    Returns
    -------
    codes : Tensor
        (top,) int64; the code itself is among them, with probability 1 - epsilon.
    probabilities : Tensor
        (top,) float64, descending; they sum to 1 over all K.
    """
    codebook = codebook.detach().double()
    distances = (codebook - codebook[code]).norm(dim=1)
    distances[code] = math.inf
    probabilities = epsilon * torch.softmax(-distances, 0)
    probabilities[code] = 1.0 - epsilon
    values, codes = probabilities.sort(descending=True, stable=True)
    return codes[:top], values[:top]


def dropout(features: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Dropout with an explicit generator: each value is zeroed with probability p, the rest scaled by 1 / (1 - p).

    Parameters
    ----------
    features : Tensor
        (B, C, h, w).
    p : float
        Dropout rate in [0, 1]; at 1 everything is zero.
    generator : torch.Generator
        Source of the draws.

    Returns
    -------
    Tensor
        (B, C, h, w).
    """
    keep = uniform(features.shape, generator).to(features.device) >= p
    return features * keep / max(1.0 - p, 1e-12)


def dropout_divergence(p: float) -> float:
    """KL divergence of dropout at rate p: ``1/2 (p / (1 - p) + log(1 - p))`` nats; infinite at p = 1.

    VQ-Seg, section "Background & Motivation".

    Parameters
    ----------
    p : float
        Dropout rate in [0, 1].
    """
    return math.inf if p >= 1.0 else 0.5 * (p / (1.0 - p) + math.log1p(-p))


@torch.no_grad()
def qpm_divergence(codebook: Tensor, epsilons: list[float], usage: Tensor | None = None) -> tuple[list[float], float]:
    """KL divergence between the codes before and after QPM, and its bound.

    With P the distribution of the codes in use, ``Q(j | eps) = (1 - eps) P(j) + eps sum_i P(i) pi_1(j|i)`` is what
    QPM makes of it. KL is convex, so ``KL(P || Q(eps)) <= eps KL(P || Q(1))``: finite for every eps.

    Parameters
    ----------
    codebook : Tensor
        (K, code_dim) codewords.
    epsilons : list of float
        Perturbation intensities in [0, 1].
    usage : Tensor, optional
        (K,) non-negative usage of the codes; even by default.

    Returns
    -------
    divergences : list of float
        KL(P || Q(eps)) in nats, one for each epsilon.
    bound : float
        KL(P || Q(1)), the largest of them.
    """
    codebook = codebook.detach().float()
    size = len(codebook)
    before = torch.ones(size) if usage is None else usage.detach().cpu()
    before = before.double() / before.double().sum()
    used = before.nonzero().squeeze(1)
    after = torch.zeros(size, dtype=torch.float64)
    rows, norms = rows_at_once(codebook), codebook.square().sum(1)
    for part in torch.split(used, rows):
        weights = _similarities(part.to(codebook.device), codebook, norms)
        shares = before[part].to(codebook.device).float() / weights.sum(1)
        after += (shares @ weights).double().cpu()

    def divergence(epsilon: float) -> float:
        mixed = (1.0 - epsilon) * before[used] + epsilon * after[used]
        return float((before[used] * (before[used] / mixed).log()).sum())

    return [divergence(epsilon) for epsilon in epsilons], divergence(1.0)
