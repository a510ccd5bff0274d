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

__all__ = ["IGNORE_LABEL", "reconstruction_loss", "segmentation_loss", "soft_dice_loss"]

IGNORE_LABEL = 255
"""Label of voxels that no loss may see."""


def _surprisal(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """-log p of each voxel's class (B, H, W), 0 where ignored."""
    return F.nll_loss(log_probabilities, target, ignore_index=IGNORE_LABEL, reduction="none")


def soft_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus soft Dice, computed over the whole batch and averaged over the classes present in `target`.

    A class that no counted voxel of the batch has is left out of the mean: its Dice is 0 whatever the network
    predicts and its gradient only pushes every small class down; cross-entropy already speaks against it.
    Parameters as in :func:`segmentation_loss`.

    Returns
    -------
    Tensor
        Scalar in [0, 1]; 0 where no voxel counts.
    """
    log_probabilities = logits.float().log_softmax(1)
    return _soft_dice_loss(log_probabilities, _surprisal(log_probabilities, target), target)


def _soft_dice_loss(log_probabilities: Tensor, surprisal: Tensor, target: Tensor) -> Tensor:
    known = target != IGNORE_LABEL
    counted = known.float().flatten()
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


def segmentation_loss(logits: Tensor, target: Tensor, kind: Literal["ce", "ce+dice"] = "ce") -> Tensor:
    """Mean cross-entropy over the voxels that are not ignored, or the mean of that and soft Dice.

    Parameters
    ----------
    logits : Tensor
        (B, K, H, W).
    target : Tensor
        (B, H, W) int64, classes 0..K-1 or ``IGNORE_LABEL``.
    kind : {"ce", "ce+dice"}
        The config's ``loss.segmentation``.

    Returns
    -------
    Tensor
        Scalar; 0 (still differentiable) where every voxel is ignored.
    """
    log_probabilities = logits.float().log_softmax(1)
    surprisal = _surprisal(log_probabilities, target)
    count = averaged((target != IGNORE_LABEL).sum().float())
    loss = surprisal.sum() / count.clamp(min=1)
    return loss if kind == "ce" else 0.5 * (loss + _soft_dice_loss(log_probabilities, surprisal, target))


def reconstruction_loss(prediction: Tensor, image: Tensor) -> Tensor:
    """Mean absolute difference of two images (B, C, H, W)."""
    return F.l1_loss(prediction.float(), image.float())
