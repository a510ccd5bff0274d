"""Random warps and intensity changes of a batch, from one generator, without loops over slices.

What is drawn for a slice or a control point is drawn on the CPU, so that a seed means the same everywhere; what is
computed for each pixel is computed where the images are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Warp", "change_intensity", "displace", "random_warp", "smooth_field", "warp_features"]

CPU = torch.device("cpu")
ELASTIC_CELL = 32
"""Pixels between the control points of the elastic warp."""
FEATURE_CELL = 16
"""Pixels of a patch, per axis, that one feature of a frozen model stands for."""


@dataclass(frozen=True)
class Warp:
    """Where each pixel of the output comes from: (B, h, w) row and column in pixels of the source."""

    rows: Tensor
    columns: Tensor

    def sample(self, sources: Tensor, *, nearest: bool = False) -> Tensor:
        """Draw from (B, C, H, W); beyond the border the edge is repeated. Returns (B, C, h, w)."""
        height, width = sources.shape[-2:]
        grid = torch.stack([self.columns * (2 / width) - 1, self.rows * (2 / height) - 1], -1)
        mode = "nearest" if nearest else "bilinear"
        return F.grid_sample(sources, grid, mode=mode, padding_mode="border", align_corners=False)


def warp_features(warp: Warp, features: Tensor, size: Sequence[int]) -> Tensor:
    """Coarse features where a warp of their slices has moved them.

    Parameters
    ----------
    warp : Warp
        (B, h, w), from slices of `size`.
    features : Tensor
        (B, D, h', w') on a grid that covers the slices.
    size : sequence of int
        (H, W) of the slices.

    Returns
    -------
    Tensor
        (B, D, ceil(h / 16), ceil(w / 16)), a feature for each ``FEATURE_CELL`` x ``FEATURE_CELL`` pixels.
    """
    maps = (warp.rows, warp.columns)
    rows, columns = (F.avg_pool2d(part[:, None], FEATURE_CELL, ceil_mode=True)[:, 0] for part in maps)
    height, width = (cells / side for cells, side in zip(features.shape[-2:], size, strict=True))
    return Warp(rows * height, columns * width).sample(features)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


@functools.cache
def _bicubic(cells: int, size: int, device: torch.device) -> Tensor:
    """Weights (size, cells) of the control points at each pixel."""
    points = torch.eye(cells)[:, None, :, None]
    weights = F.interpolate(points, size=(size, 1), mode="bicubic", align_corners=False)[:, 0, :, 0]
    return weights.T.contiguous().to(device)


def smooth_field(batch: int, channels: int, size: Sequence[int], cells: Sequence[int],
                 generator: torch.Generator, device: torch.device = CPU) -> Tensor:  # fmt: skip
    """A smooth random field (batch, channels, *size) of about unit deviation.

    Bicubic between `cells` control points; as two matrix products, which cost a tenth of ``interpolate``.
    """
    coarse = _normal((batch, channels, *cells), generator).to(device)
    return _bicubic(cells[0], size[0], device) @ coarse @ _bicubic(cells[1], size[1], device).T


def random_warp(
    centres: Tensor,
    size: tuple[int, int],
    generator: torch.Generator,
    *,
    device: torch.device = CPU,
) -> Warp:
    """Rotation, scaling and an elastic warp round a centre each.

    Their standard deviations are 9 degrees and 12 % in size; the elastic displacement is up to 3 pixels.

    Parameters
    ----------
    centres : Tensor
        (B, 2) row and column in the source that the output is centred on.
    size : tuple of int
        (h, w) of the output.
    generator : torch.Generator
        Source of the draws, on the CPU.
    device : torch.device
        Where the images are.
    """
    batch = len(centres)
    angle = _normal((batch, 1, 1), generator) * 0.15
    zoom = torch.exp(_normal((batch, 1, 1), generator) * 0.12)
    rows = torch.arange(size[0], dtype=torch.float32, device=device).view(1, -1, 1) - (size[0] - 1) / 2
    columns = torch.arange(size[1], dtype=torch.float32, device=device).view(1, 1, -1) - (size[1] - 1) / 2
    cos, sin = (torch.cos(angle) * zoom).to(device), (torch.sin(angle) * zoom).to(device)
    cells = tuple(math.ceil(side / ELASTIC_CELL) + 2 for side in size)
    elastic = smooth_field(batch, 2, size, cells, generator, device)
    elastic *= (3.0 * torch.rand((batch, 1, 1, 1), generator=generator)).to(device)
    centres = centres.to(device)
    return Warp(
        cos * rows - sin * columns + centres[:, :1, None] + 0.5 + elastic[:, 0],
        sin * rows + cos * columns + centres[:, 1:, None] + 0.5 + elastic[:, 1],
    )


def displace(warp: Warp, amplitude_px: Tensor, generator: torch.Generator) -> Warp:
    """`warp` followed by a smooth displacement of (B,) pixels' standard deviation: a shape drawn elsewhere."""
    (batch, *size), device = warp.rows.shape, warp.rows.device
    field = smooth_field(batch, 2, size, (3, 3), generator, device) * amplitude_px.view(-1, 1, 1, 1).to(device)
    return Warp(warp.rows + field[:, 0], warp.columns + field[:, 1])


def change_intensity(images: Tensor, generator: torch.Generator, *, strength: float = 1.0) -> Tensor:
    """Gamma, contrast, brightness and noise, another draw for each slice.

    Parameters
    ----------
    images : Tensor
        (B, C, h, w) in [0, 1].
    generator : torch.Generator
        Source of the draws, on the CPU; the noise of images that are elsewhere is drawn there, without it.
    strength : float
        1 is the weak view (gamma 20 %, contrast 15 %, brightness 0.05); strong views use 2 and more.
    """
    each = (len(images), 1, 1, 1)
    gamma = torch.exp(_normal(each, generator) * (0.2 * strength)).to(images.device)
    contrast = torch.exp(_normal(each, generator) * (0.15 * strength)).to(images.device)
    brightness = (_normal(each, generator) * (0.05 * strength)).to(images.device)
    noise = (torch.rand(each, generator=generator) * (0.03 * strength)).to(images.device)
    changed = (images.clamp(0, 1) ** gamma - 0.5) * contrast + 0.5 + brightness
    grain = _normal(tuple(images.shape), generator) if images.device == generator.device else torch.randn_like(images)
    return changed + noise * grain
