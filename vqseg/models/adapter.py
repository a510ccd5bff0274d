"""Alignment of the codes to frozen priors, patch by patch (PFA).

VQ-Seg, section "Foundation-Model-Guided Post-quantization Feature Adapter", https://arxiv.org/abs/2601.10124:
resize and 1x1 convolution, then patch-wise contrastive learning; with several priors, the mean over them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FeatureAdapter", "alignment_loss"]

TEMPERATURE = 0.1


class FeatureAdapter(nn.Module):
    """Brings post-quantization features to the shape of the priors' patch features.

    Parameters
    ----------
    in_channels : int
        Channels C of the post-quantization features.
    prior_dims : sequence of int
        Channels of each prior's features, D in all. Each has channels, and so a 1x1 convolution, of its own.
    """

    def __init__(self, in_channels: int, prior_dims: Sequence[int]) -> None:
        super().__init__()
        self.prior_dims = list(prior_dims)
        self.project = nn.Conv2d(in_channels, sum(self.prior_dims), 1)

    def forward(self, quantized: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features on the priors' patch grid: (B, C, h, w) -> (B, D, *grid)."""
        if quantized.shape[-2:] != grid:
            quantized = F.interpolate(quantized, size=grid, mode="bilinear", align_corners=False)
        result: Tensor = self.project(quantized)
        return result

    def loss(self, quantized: Tensor, prior_features: Tensor) -> Tensor:
        """Alignment loss L_align of post-quantization features (B, C, h, w) to the priors' (B, D, h', w')."""
        height, width = prior_features.shape[-2:]
        ours = self(quantized, (height, width)).split(self.prior_dims, 1)
        theirs = prior_features.split(self.prior_dims, 1)
        pairs = zip(ours, theirs, strict=True)
        return torch.stack([alignment_loss(*pair) for pair in pairs]).mean()


def alignment_loss(adapted: Tensor, prior_features: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Patch-wise InfoNCE: each patch should find its own prior feature among those of all patches of its image.

    Parameters
    ----------
    adapted, prior_features : Tensor
        (B, D, h, w).
    temperature : float
        Divides the cosine similarities, > 0; smaller is stricter.

    Returns
    -------
    Tensor
        Scalar; log(h w) where the two know nothing of each other, 0 at best.
    """
    with torch.autocast(adapted.device.type, enabled=False):
        ours = F.normalize(adapted.float().flatten(2), dim=1)  # (B, D, P)
        theirs = F.normalize(prior_features.detach().float().flatten(2), dim=1)
        similarity = ours.transpose(1, 2) @ theirs / temperature  # (B, P, P)
        target = torch.arange(similarity.shape[-1], device=similarity.device).expand(len(similarity), -1)
        return F.cross_entropy(similarity.transpose(1, 2), target)
