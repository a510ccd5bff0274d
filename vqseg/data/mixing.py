"""Mixing slices and their labels: boxes for CutMix, patches for copy-paste, and the cleaning of pseudo-labels.

Every random choice comes from a CPU ``torch.Generator``, so that a seed gives the same masks on every device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["copy_paste_mask", "cutmix_masks", "largest_components", "paste"]

BOX_CHANCE = 0.5
"""Chance that a slice gets a CutMix box at all."""
BOX_AREA, BOX_ASPECT = (0.02, 0.4), (0.3, 1 / 0.3)
"""Smallest and largest share of the slice that a box covers, and its height : width in units of the slice's own."""
PATCH_SHARE = 2 / 3
"""Share of each side that a copied patch has."""


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _start(generator: torch.Generator, room: int) -> int:
    return int(torch.randint(room + 1, (), generator=generator))


def cutmix_masks(n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """One random box in half of the slices, for CutMix.

    Parameters
    ----------
    n, height, width : int
        Number and size of the slices.
    generator : torch.Generator
        Source of the boxes, on the CPU.

    Returns
    -------
    Tensor
        (n, height, width) bool, True inside the box.
    """
    masks = torch.zeros(n, height, width, dtype=torch.bool)
    for mask in masks:
        if _uniform(generator, 0, 1) >= BOX_CHANCE:
            continue
        share, ratio = _uniform(generator, *BOX_AREA), _uniform(generator, *BOX_ASPECT)
        box_height = min(height, max(1, round(height * math.sqrt(share * ratio))))
        box_width = min(width, max(1, round(width * math.sqrt(share / ratio))))
        top, left = _start(generator, height - box_height), _start(generator, width - box_width)
        mask[top : top + box_height, left : left + box_width] = True
    return masks


def copy_paste_mask(height: int, width: int, generator: torch.Generator) -> Tensor:
    """One patch of two thirds of each side at a random place, for bidirectional copy-paste.

    Returns
    -------
    Tensor
        (height, width) bool, True inside the patch.
    """
    patch_height, patch_width = max(1, int(height * PATCH_SHARE)), max(1, int(width * PATCH_SHARE))
    top, left = _start(generator, height - patch_height), _start(generator, width - patch_width)
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top : top + patch_height, left : left + patch_width] = True
    return mask


def paste(inside: Tensor, outside: Tensor, mask: Tensor) -> Tensor:
    """`inside` where the mask is True, `outside` elsewhere; the mask is (H, W), or (B, H, W) for slices one by one."""
    if mask.ndim == 3 and inside.ndim == 4:
        mask = mask.unsqueeze(1)
    return torch.where(mask, inside, outside)


def largest_components(labels: Tensor, n_classes: int) -> Tensor:
    """Each slice's labels with only the largest connected component (8 neighbours) of each class; the rest is 0.

    Parameters
    ----------
    labels : Tensor
        (B, H, W) int64, 0 is background.
    n_classes : int
        Number of classes, background included.
    """
    cleaned = np.zeros(labels.shape, dtype=np.int64)
    for source, target in zip(labels.cpu().numpy(), cleaned, strict=True):
        for value in range(1, n_classes):
            components, count = ndimage.label(source == value, structure=np.ones((3, 3)))
            if count:
                largest = 1 + int(np.argmax(np.bincount(components.ravel())[1:]))
                target[components == largest] = value
    return torch.from_numpy(cleaned).to(labels.device)
