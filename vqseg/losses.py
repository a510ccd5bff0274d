"""The losses that methods share: segmentation with ignored voxels, and L1 reconstruction.

MONAI's masked Dice multiplies logits by the mask *before* the softmax, so an ignored voxel still counts as a
uniform prediction; with 255 as "not known" that is not ignoring, hence the few lines of torch here.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["IGNORE_LABEL", "cross_entropy", "reconstruction_loss", "segmentation_loss", "soft_dice_loss"]

IGNORE_LABEL = 255
"""Label of voxels that no loss may see."""


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the voxels that are not ignored.

    Parameters
    ----------
    logits : Tensor
        (B, K, H, W).
    target : Tensor
        (B, H, W) int64, classes 0..K-1 or ``IGNORE_LABEL``.
    weight : Tensor, optional
        (B, H, W), at least 0. The sum is divided by the number of voxels that are not ignored, not by the weights'
        sum: a batch whose pseudo-labels are mostly untrusted (weight 0) has a small loss.

    Returns
    -------
    Tensor
        Scalar; 0 (still differentiable) where every voxel is ignored.
    """
    per_voxel = F.cross_entropy(logits.float(), target, ignore_index=IGNORE_LABEL, reduction="none")
    if weight is not None:
        per_voxel = per_voxel * weight
    return per_voxel.sum() / (target != IGNORE_LABEL).sum().clamp(min=1)


def soft_dice_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """One minus soft Dice, computed over the whole batch and averaged over the classes present in `target`.

    A class that no counted voxel of the batch has is left out of the mean: its Dice is 0 whatever the network
    predicts and its gradient only pushes every small class down; cross-entropy already speaks against it.
    Parameters as in :func:`cross_entropy`; ignored voxels count as weight 0.

    Returns
    -------
    Tensor
        Scalar in [0, 1]; 0 where no voxel counts.
    """
    known = target != IGNORE_LABEL
    counted = known.float() if weight is None else known * weight.float()
    probabilities = logits.float().softmax(1)
    truth = F.one_hot(target.masked_fill(~known, 0), logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
    counted = counted.unsqueeze(1)
    over = (0, 2, 3)
    overlap = (probabilities * truth * counted).sum(over)
    true_size = (truth * counted).sum(over)
    size = (probabilities * counted).sum(over) + true_size
    present = true_size > 0
    dice = torch.where(present, 2 * overlap / size.clamp(min=1e-6), 0)
    n_present = present.sum()
    return (n_present - dice.sum()) / n_present.clamp(min=1)


def segmentation_loss(
    logits: Tensor, target: Tensor, kind: Literal["ce", "ce+dice"] = "ce", weight: Tensor | None = None
) -> Tensor:
    """Cross-entropy, or the mean of cross-entropy and soft Dice.

    Parameters
    ----------
    logits : Tensor
        (B, K, H, W).
    target : Tensor
        (B, H, W) int64, classes 0..K-1 or ``IGNORE_LABEL``.
    kind : {"ce", "ce+dice"}
        The config's ``loss.segmentation``.
    weight : Tensor, optional
        (B, H, W), at least 0: how much each voxel counts.

    Returns
    -------
    Tensor
        Scalar.
    """
    loss = cross_entropy(logits, target, weight)
    return loss if kind == "ce" else 0.5 * (loss + soft_dice_loss(logits, target, weight))


def reconstruction_loss(prediction: Tensor, image: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean absolute difference of two images.

    Parameters
    ----------
    prediction, image : Tensor
        (B, C, H, W).
    valid : Tensor, optional
        (B, H, W) bool, False where the image was padded.

    Returns
    -------
    Tensor
        Scalar; 0 (still differentiable) where nothing is valid.
    """
    difference = (prediction.float() - image.float()).abs()
    if valid is None:
        return difference.mean()
    return (difference.mean(1) * valid).sum() / valid.sum().clamp(min=1)
