"""The losses that methods share: segmentation with ignored voxels, and L1 reconstruction.

MONAI's masked Dice multiplies logits by the mask *before* the softmax, so an ignored voxel still counts as a
uniform prediction; with 255 as "not known" that is not ignoring, hence the few lines of torch here.
Where several processes train as one, what is counted is averaged over them, so that the mean of their losses is the
loss of the joint batch (vqseg.distributed).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vqseg.distributed import averaged

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
    return _cross_entropy(_surprisal(logits.float().log_softmax(1), target), target, weight)


def _surprisal(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """-log p of each voxel's class (B, H, W), 0 where ignored."""
    return F.nll_loss(log_probabilities, target, ignore_index=IGNORE_LABEL, reduction="none")


def _cross_entropy(surprisal: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    weighted = surprisal if weight is None else surprisal * weight
    count = averaged((target != IGNORE_LABEL).sum().float())
    return weighted.sum() / count.clamp(min=1)


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
    log_probabilities = logits.float().log_softmax(1)
    return _soft_dice_loss(log_probabilities, _surprisal(log_probabilities, target), target, weight)


def _soft_dice_loss(log_probabilities: Tensor, surprisal: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    known = target != IGNORE_LABEL
    counted = (known.float() if weight is None else known * weight.float()).flatten()
    n_classes = log_probabilities.shape[1]
    truth = target.masked_fill(~known, 0).flatten()
    nothing = counted.new_zeros(n_classes)
    overlap = nothing.index_add(0, truth, torch.exp(-surprisal).flatten() * counted)
    true_size = nothing.index_add(0, truth, counted)
    probabilities = log_probabilities.exp().movedim(1, -1).reshape(-1, n_classes)  # a view of channels-last logits
    size = counted @ probabilities + true_size
    overlap, true_size, size = averaged(torch.stack([overlap, true_size, size]))
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
    log_probabilities = logits.float().log_softmax(1)
    surprisal = _surprisal(log_probabilities, target)
    loss = _cross_entropy(surprisal, target, weight)
    return loss if kind == "ce" else 0.5 * (loss + _soft_dice_loss(log_probabilities, surprisal, target, weight))


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
    return (difference.mean(1) * valid).sum() / averaged(valid.sum().float()).clamp(min=1)
