"""How the anatomy moves from slice to slice: each slice is registered with the next.

What is drawn on one slice can so be carried to another, as an outline is from frame to frame of a film. It takes no
label and no training. Demons registration with symmetric forces (Thirion, Medical Image Analysis 2, 1998; Vercauteren
et al., NeuroImage 45, 2009) of many pairs of slices in one tensor, seven times as fast as SimpleITK's pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["SliceMotion", "register"]

LONGEST_SIDE = 128
"""Pixels of the longer side of the slices that are registered; larger ones are shrunk."""
STEP_MM = 2.5
"""Thinner slices are registered in steps of about this length, within which the anatomy moves evenly."""
PAIRS_AT_ONCE = 16
"""As many as stay in a processor's cache."""
PYRAMID = ((4, 10), (2, 20), (1, 8))
"""Shrinkage and number of iterations of each level."""
SMALLEST_LEVEL = 8
"""Levels with a side of fewer pixels are left out."""
SMOOTHNESS = 1.0
"""Standard deviation of the Gaussian that smooths the displacements after each iteration, px."""
NEGLIGIBLE = 1e-12
"""Weights below it are none: denormal numbers, which its tails would be, slow a processor down tenfold."""


class SliceMotion:
    """Displacements between the slices of a volume, found when they are first asked for.

    Displacements are (1, 2, h', w'), along x and y, in halves of the image's width and height, so that they fit maps
    of any resolution.

    Parameters
    ----------
    images : Tensor
        (Z, h, w) float32 in about [0, 1].
    step_mm : float
        Distance of neighbouring slices, mm.
    contrast : callable, optional
        What makes of images those to be registered, such as :meth:`vqseg.data.framing.Framing.equalise`.
    """

    def __init__(self, images: Tensor, step_mm: float, contrast: Callable[[Tensor], Tensor] | None = None) -> None:
        depth, *size = images.shape
        shrinkage = max(1.0, max(size) / LONGEST_SIDE)
        self._images, self._contrast, self._size = images, contrast, [round(side / shrinkage) for side in size]
        self._stride = max(1, round(STEP_MM / step_mm))
        self._stops = [*range(0, depth - 1, self._stride), depth - 1]
        self._fields: dict[int, tuple[Tensor, Tensor]] = {}
        self._paths: dict[tuple[int, int], Tensor] = {}

    @torch.inference_mode(False)
    def carry(self, maps: Tensor, source: int, z: int) -> Tensor:
        """Maps of one slice, moved with the anatomy to another.

        Parameters
        ----------
        maps : Tensor
            (K, h, w) of slice ``source``, covering what the images cover, where they are.
        source, z : int
            The slice they belong to and the one wanted.

        Returns
        -------
        Tensor
            (K, h, w).
        """
        if source == z:
            return maps
        path = _resize(self._path(source, z).float(), maps.shape[-2:])
        return _sample(maps[None], path, _undisplaced(path))[0]

    def _path(self, source: int, z: int) -> Tensor:
        """From the pixels of slice z to where they come from in slice source, float16."""
        step = 1 if z > source else -1
        known = z
        while known != source and (source, known) not in self._paths:
            known -= step
        path = self._paths.get((source, known))
        for here in range(known + step, z + step, step):
            last = self._step(here, here - step)
            path = last if path is None else last + _sample(path.float(), last, _undisplaced(last))
            self._paths[source, here] = path = path.half()
        assert path is not None
        return path

    def _step(self, z: int, neighbour: int) -> Tensor:
        """From the pixels of slice z to where they come from in its neighbour."""
        i = min(z, neighbour) // self._stride
        if i not in self._fields:
            self._register_from(i - i % (PAIRS_AT_ONCE // 2))
        from_below, from_above = self._fields[i]
        return (from_below if neighbour < z else from_above) / (self._stops[i + 1] - self._stops[i])

    def _register_from(self, first: int) -> None:
        """Register some of the stops with their neighbours, both ways."""
        images = self._images[self._stops[first : first + PAIRS_AT_ONCE // 2 + 1]]
        images = images if self._contrast is None else self._contrast(images)
        images = _resize(images[:, None], self._size)[:, 0]
        lower, upper = images[:-1], images[1:]
        from_below, from_above = register(torch.cat([upper, lower]), torch.cat([lower, upper])).chunk(2)
        for k in range(len(lower)):
            self._fields[first + k] = from_below[k : k + 1], from_above[k : k + 1]


def register(fixed: Tensor, moving: Tensor) -> Tensor:
    """Displacements that make images look like others.

    Parameters
    ----------
    fixed, moving : Tensor
        (B, h, w) float32 in about [0, 1].

    Returns
    -------
    Tensor
        (B, 2, h, w) displacement u along x and y, in halves of width and height: ``moving`` at x + u is like
        ``fixed`` at x.
    """
    field = torch.zeros(len(fixed), 2, *fixed.shape[-2:], device=fixed.device)
    for shrinkage, iterations in PYRAMID:
        size = [round(side / shrinkage) for side in fixed.shape[-2:]]
        if shrinkage == 1 or min(size) >= SMALLEST_LEVEL:
            still, moved, field = (_resize(stack, size) for stack in (fixed[:, None], moving[:, None], field))
            field = _demons(still, moved, field, iterations)
    return field


def _demons(fixed: Tensor, moving: Tensor, field: Tensor, iterations: int) -> Tensor:
    """Better displacements (B, 2, h, w) at one resolution of the images (B, 1, h, w)."""
    rows, columns = (_gaussian(side).to(field.device) for side in field.shape[-2:])
    pixel = torch.tensor([2 / side for side in (len(columns), len(rows))]).view(1, 2, 1, 1).to(field.device)
    slope_of_fixed, places = _slope(fixed), _undisplaced(field)
    for _ in range(iterations):
        warped = _sample(moving, field, places)
        difference = warped - fixed
        slope = (slope_of_fixed + _slope(warped)) / 2
        force = difference * slope / (slope.square().sum(1, keepdim=True) + difference.square() + 1e-6)
        field = rows @ (field - force * pixel) @ columns.T
    return field


def _gaussian(side: int) -> Tensor:
    """(side, side) matrix that smooths along an axis; two small products are quicker than a convolution."""
    position = torch.arange(side, dtype=torch.float32)
    weights = (-((position[:, None] - position) / SMOOTHNESS).square() / 2).exp()
    weights[weights < NEGLIGIBLE] = 0
    return weights / weights.sum(1, keepdim=True)


def _slope(images: Tensor) -> Tensor:
    """(B, 2, h, w) central differences along x and y of images (B, 1, h, w)."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    along_x = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    along_y = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.cat([along_x, along_y], 1) / 2


def _undisplaced(field: Tensor) -> Tensor:
    """(1, h, w, 2) places of the pixels of displacements (B, 2, h, w), as ``grid_sample`` has them."""
    identity = torch.eye(2, 3, device=field.device)[None]
    return F.affine_grid(identity, [1, 1, *field.shape[-2:]], align_corners=False)


def _sample(images: Tensor, field: Tensor, places: Tensor) -> Tensor:
    """Images (B, C, h, w) at displaced places; beyond the border the edge is repeated."""
    return F.grid_sample(images, places + field.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


def _resize(images: Tensor, size: Sequence[int]) -> Tensor:
    shrinks = size[0] < images.shape[-2]
    return F.interpolate(images, list(size), mode="bilinear", antialias=shrinks, align_corners=False)
