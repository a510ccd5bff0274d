"""Vector quantization: every feature vector becomes the nearest of K codewords.

VQ-Seg, section "Overall Architecture", https://arxiv.org/abs/2601.10124: ``i = argmin_j ||z - c_j||``.
The codewords are a learned linear transform of a slowly changing base (SimVQ, https://arxiv.org/abs/2411.02038),
so that one gradient moves all of them, used or not; the base starts as k-means of the first features, and codewords
that nothing uses are put where tokens are badly served.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqseg.distributed import gathered, summed, world_size

__all__ = ["Quantized", "VectorQuantizer", "nearest_codewords", "rows_at_once"]

SMALL_BYTES, LARGE_BYTES = 1 << 23, 1 << 25
"""Sizes of a block of a rows x K matrix: what stays near the processor, and what is not exceeded."""
GROUP = 128
"""Codewords whose nearest is found together, before the nearest of all."""
MEMORY = 2.0
"""How long the running usage remembers, in tokens per codeword."""
LLOYD_STEPS = 5
"""Steps of Lloyd's algorithm by which the codebook begins."""


def rows_at_once(codebook: Tensor) -> int:
    """Rows of a rows x K matrix of distances to hold at once.

    At least as many as codewords are long, so that reading the codebook takes no longer than writing the block.
    """
    size, code_dim = codebook.shape
    small, large = (most // (4 * size) for most in (SMALL_BYTES, LARGE_BYTES))
    return max(1, min(large, max(small, code_dim)))


@torch.no_grad()
def nearest_codewords(tokens: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codeword (Euclidean) of every token, in bounded memory.

    Parameters
    ----------
    tokens : Tensor
        (N, code_dim) float.
    codebook : Tensor
        (K, code_dim) float.

    Returns
    -------
    Tensor
        (N,) int64; among equally near codewords the first.
    """
    tokens, codebook = tokens.float(), codebook.float()
    half_norms = codebook.square().sum(1).mul_(0.5)  # (K,)
    transposed = codebook.t()
    rows = rows_at_once(codebook)
    indices = torch.empty(len(tokens), dtype=torch.int64, device=tokens.device)
    for start in range(0, len(tokens), rows):
        part = tokens[start : start + rows]
        # ||z - c||^2 / 2 without ||z||^2, which does not change the order
        indices[start : start + rows] = _first_minimum(torch.addmm(half_norms, part, transposed, alpha=-1.0))
    return indices


def _first_minimum(rows: Tensor) -> Tensor:
    """``rows.argmin(1)``, ten times as fast on a CPU, where only plain minima use its vector units."""
    group = math.gcd(rows.shape[1], GROUP)
    grouped = rows.view(len(rows), -1, group)
    nearest_group = grouped.amin(2).argmin(1)
    within = grouped[torch.arange(len(rows), device=rows.device), nearest_group].argmin(1)
    return nearest_group * group + within


@dataclass
class Quantized:
    """What the quantizer makes of a feature map.

    Parameters
    ----------
    quantized : Tensor
        (B, C, h, w) features behind the bottleneck, with straight-through gradient.
    projected : Tensor
        (B, code_dim, h, w) float32 features in the space of the codewords, before quantization.
    indices : Tensor
        (B, h, w) int64 in [0, K).
    commitment_loss : Tensor
        Scalar: squared distance of features to codewords and of codewords to features.
    """

    quantized: Tensor
    projected: Tensor
    indices: Tensor
    commitment_loss: Tensor


class VectorQuantizer(nn.Module):
    """Quantizes feature maps with a codebook of K codewords between two 1x1 projections.

    Parameters
    ----------
    dim : int
        Channels C of the feature map.
    codebook_size : int
        Number of codewords K.
    code_dim : int
        Length of a codeword.
    scale : float
        Standard deviation of each coordinate of the code space. It sets how local the perturbation's
        ``exp(-distance)`` is: the larger, the nearer the substitutes.

    Attributes
    ----------
    usage : Tensor
        (K,) running share of tokens of each codeword; sums to 1.
    credit : Tensor
        (K,) the same, with an even share granted to revived codewords, so that they have time to prove themselves.
    """

    base: Tensor
    usage: Tensor
    credit: Tensor
    initialised: Tensor

    def __init__(self, dim: int, codebook_size: int, code_dim: int, *, scale: float = 4.0) -> None:
        super().__init__()
        self.codebook_size, self.code_dim = codebook_size, code_dim
        self.scale = scale
        self.project_in = nn.Conv2d(dim, code_dim, 1)
        self.norm = nn.BatchNorm2d(code_dim, affine=False)
        self.project_out = nn.Conv2d(code_dim, dim, 1)
        self.transform = nn.Linear(code_dim, code_dim, bias=True)
        nn.init.eye_(self.transform.weight)
        nn.init.zeros_(self.transform.bias)
        self.register_buffer("base", torch.randn(codebook_size, code_dim) * scale)
        self.register_buffer("usage", torch.zeros(codebook_size))
        self.register_buffer("credit", torch.full((codebook_size,), 1.0 / codebook_size))
        self.register_buffer("initialised", torch.tensor(False))

    @property
    def codebook(self) -> Tensor:
        """(K, code_dim) effective codewords, float32 even in mixed precision."""
        with torch.autocast(self.base.device.type, enabled=False):
            codewords: Tensor = self.transform(self.base)
        return codewords

    def project(self, z: Tensor) -> Tensor:
        """Features in the space of the codewords: (B, C, h, w) -> (B, code_dim, h, w) float32."""
        with torch.autocast(z.device.type, enabled=False):
            normalised: Tensor = self.norm(self.project_in(z.float()))
            return normalised * self.scale

    def unproject(self, codes: Tensor) -> Tensor:
        """Features behind the bottleneck: (B, code_dim, h, w) -> (B, C, h, w)."""
        features: Tensor = self.project_out(codes)
        return features

    def codes(self, indices: Tensor) -> Tensor:
        """Codewords of an index map: (B, h, w) -> (B, code_dim, h, w), differentiable in the transform."""
        with torch.autocast(self.base.device.type, enabled=False):
            codes: Tensor = self.transform(self.base[indices])
        return codes.permute(0, 3, 1, 2)  # (B, h, w, code_dim) -> (B, code_dim, h, w)

    def lookup(self, indices: Tensor) -> Tensor:
        """Features of an index map: (B, h, w) int64 -> (B, C, h, w)."""
        return self.unproject(self.codes(indices))

    def mix(self, projected: Tensor, indices: Tensor, blend: float | Tensor = 1.0) -> Tensor:
        """Features behind the bottleneck for codes `indices`, with straight-through gradient to `projected`.

        Parameters
        ----------
        projected : Tensor
            (B, code_dim, h, w) from :meth:`project`.
        indices : Tensor
            (B, h, w) codes, of `projected` or perturbed ones.
        blend : float or Tensor
            Share of quantization in [0, 1]: 0 passes the features on, 1 only the codewords.

        Returns
        -------
        Tensor
            (B, C, h, w).
        """
        with torch.autocast(projected.device.type, enabled=False):
            offset = (self.codes(indices) - projected).detach()
            return self.unproject(projected + blend * offset)

    def forward(self, z: Tensor, blend: float | Tensor = 1.0) -> Quantized:
        """Quantize a feature map.

        Parameters
        ----------
        z : Tensor
            (B, C, h, w) features of the encoder.
        blend : float or Tensor
            Share of quantization in [0, 1], so that it can be brought in gently.

        Returns
        -------
        Quantized
            Features, codes and the commitment loss; in training mode the running usage is updated.
        """
        projected = self.project(z)
        tokens = self._tokens(projected)  # (B h w, code_dim)
        with torch.autocast(z.device.type, enabled=False):
            if self.training and not self.initialised:
                self.initialise(self._tokens(gathered(projected)))
            flat = nearest_codewords(tokens, self.codebook.detach())
            indices = flat.view(len(z), *z.shape[-2:])
            codes = self.codes(indices)
            per_dim = 1.0 / self.scale**2  # in units of the code space's variance
            loss = F.mse_loss(projected, codes.detach()) + F.mse_loss(codes, projected.detach())
            quantized = self.unproject(projected + blend * (codes - projected).detach())
        if self.training:
            self._count(flat)
        return Quantized(quantized, projected, indices, loss * per_dim)

    def _tokens(self, projected: Tensor) -> Tensor:
        return projected.detach().permute(0, 2, 3, 1).reshape(-1, self.code_dim)

    @torch.no_grad()
    def _count(self, flat: Tensor) -> None:
        counts = summed(torch.bincount(flat, minlength=self.codebook_size))
        shares = counts / counts.sum()
        rate = -math.expm1(-len(flat) * world_size() / (MEMORY * self.codebook_size))
        self.credit.lerp_(shares, rate)
        # The first batch counts in full, so that the shares always sum to 1.
        self.usage.lerp_(shares, rate if self.usage.any() else 1.0)

    @torch.no_grad()
    def initialise(self, tokens: Tensor) -> None:
        """Put the codewords where the features are: k-means, started at evenly spaced tokens.

        With fewer tokens than codewords, the codewords are the tokens, repeated with a little deterministic jitter; the
        repeated ones count as dead, so that the next batches place them.

        Parameters
        ----------
        tokens : Tensor
            (N, code_dim) features in the code space.
        """
        size = self.codebook_size
        picked = torch.linspace(0, len(tokens) - 1, size, device=tokens.device).round().long()
        centres = tokens[picked].clone()  # (K, code_dim)
        if len(tokens) < size:
            jitter = torch.randn(centres.shape, generator=torch.Generator().manual_seed(0))
            centres += 0.05 * self.scale * jitter.to(centres)
            self.credit[1:].masked_fill_(picked[1:] == picked[:-1], 0.0)
        for _ in range(LLOYD_STEPS if len(tokens) >= size else 0):
            nearest = nearest_codewords(tokens, centres)
            counts = torch.bincount(nearest, minlength=size).to(tokens)
            sums = torch.zeros_like(centres).index_add_(0, nearest, tokens)
            centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
        self.base.copy_(self._inverse_transform(centres))
        self.initialised.fill_(True)

    def _inverse_transform(self, codewords: Tensor) -> Tensor:
        shifted = codewords - self.transform.bias
        base: Tensor = torch.linalg.solve(self.transform.weight, shifted.t())
        return base.t()

    @property
    def dead(self) -> Tensor:
        """(K,) bool: codewords whose credit is below a tenth of an even share."""
        return self.credit < 0.1 / self.codebook_size

    @property
    def utilisation(self) -> float:
        """Share of codewords with at least a tenth of an even share of the recent tokens, in [0, 1]."""
        return float((self.usage >= 0.1 / self.codebook_size).float().mean())

    @property
    def perplexity(self) -> float:
        """Exponential of the entropy of the running usage: the number of codewords effectively in use, in [1, K]."""
        shares = self.usage / self.usage.sum().clamp(min=1e-12)
        return float(torch.exp(-torch.xlogy(shares, shares).sum()))

    @torch.no_grad()
    def revive(self, projected: Tensor, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Move dead codewords onto tokens that the codebook serves badly, after the optimizer's step.

        Parameters
        ----------
        projected : Tensor
            (B, code_dim, h, w) features of the batch, from :class:`Quantized`.
        indices : Tensor
            (B, h, w) their codes.
        generator : torch.Generator
            Source of the choice of tokens, which is proportional to their squared distance to their codeword.

        Returns
        -------
        Tensor
            (n,) int64 codewords moved, at most one for four tokens; each gets an even share of the usage, so that it
            has time to prove itself.
        """
        dead = self.dead.nonzero().squeeze(1)
        if len(dead) == 0:
            return dead
        projected, indices = gathered(projected), gathered(indices)
        errors = (projected.detach() - self.codes(indices)).square().sum(1).flatten()  # (B h w,)
        count = min(len(dead), max(1, len(errors) // 4))
        chosen = torch.multinomial(errors.to(generator.device) + 1e-12, count, generator=generator)
        tokens = self._tokens(projected)[chosen.to(projected.device)]
        worst = dead[self.credit[dead].argsort(stable=True)[:count]]
        self.base[worst] = self._inverse_transform(tokens)
        self.credit[worst] = 1.0 / self.codebook_size
        self.credit.div_(self.credit.sum().clamp(min=1.0))  # less while codewords wait for their first place
        return worst
