"""UniMatch: from weak to strong, in the image twice and in the features once (Yang et al., CVPR 2023).

https://arxiv.org/abs/2208.09910, https://github.com/LiheYoung/UniMatch (more-scenarios/medical).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqseg.config import Config
from vqseg.data.mixing import cutmix_masks, paste
from vqseg.losses import IGNORE_LABEL, segmentation_loss, soft_dice_loss
from vqseg.methods.base import Batch, Method
from vqseg.models.unet import UNet, UNetEncoded

__all__ = ["UniMatch"]

CHANNEL_DROPOUT = 0.5
STRONG_WEIGHT = 0.25
FEATURE_WEIGHT = 0.5


class UniMatch(Method):
    """Unified dual-stream perturbations.

    The network's own prediction on the weak view is the pseudo-label, where it is confident (0.95), for two strong
    views with CutMix (weight 1/4 each) and for the weak view behind channel dropout at every level of the encoder
    (1/2). The sum weighs as much as the labelled slices. There is no teacher. Labelled slices, weak views and perturbed
    features share one pass and its batch statistics, the two strong views another, as in the authors' release.

    Where this differs from the paper: the CutMix partner is another slice of the same batch, not of a second one, so
    that every method sees the same batches; its pseudo-labels come from the same pass. Perturbed features of labelled
    slices, which the release decodes and throws away, are not decoded. Strong views change gamma,
    contrast, brightness and noise (``vqseg.data.augment``), not colour and blur. With "ce+dice" the unlabelled terms
    are Dice alone, as in the authors' release for medical images; with "ce", cross-entropy, as in the paper.
    """

    name = "unimatch"
    strong_views = 2
    student: UNet

    def __init__(self, config: Config, in_channels: int, n_classes: int) -> None:
        super().__init__(config, in_channels, n_classes)
        self.student = UNet(in_channels, n_classes)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation loss of the labelled slices, and of three perturbed views of the unlabelled ones."""
        kind = self.config.loss.segmentation
        if batch.image_u_w is None:
            labelled = segmentation_loss(self.student(batch.image_x).logits, batch.label_x, kind)
            return {"labelled": labelled, "total": labelled}
        assert batch.image_u_s1 is not None
        assert batch.image_u_s2 is not None

        logits_x, logits_w, logits_features = self._weak_pass(batch.image_x, batch.image_u_w)
        pseudo_label = self._trusted(logits_w.detach(), batch.valid_u)
        image_1, label_1 = self._cutmix(batch.image_u_s1, pseudo_label)
        image_2, label_2 = self._cutmix(batch.image_u_s2, pseudo_label)
        logits_1, logits_2 = self.student(torch.cat([image_1, image_2])).logits.chunk(2)

        loss = soft_dice_loss if kind == "ce+dice" else segmentation_loss
        labelled = segmentation_loss(logits_x, batch.label_x, kind)
        unlabelled = (
            STRONG_WEIGHT * loss(logits_1, label_1)
            + STRONG_WEIGHT * loss(logits_2, label_2)
            + FEATURE_WEIGHT * loss(logits_features, pseudo_label)
        )
        return {
            "labelled": labelled,
            "unlabelled": unlabelled,
            "total": (labelled + unlabelled) / 2,
            "confident_share": (pseudo_label != IGNORE_LABEL).float().mean(),
        }

    def _weak_pass(self, image_x: Tensor, image_u: Tensor) -> tuple[Tensor, ...]:
        """Logits of the labelled slices, of the unlabelled ones, and of the unlabelled ones behind channel dropout."""
        encoded = self.student.encode(torch.cat([image_x, image_u]))
        unlabelled = UNetEncoded([feature[len(image_x) :] for feature in encoded.features], encoded.size)
        perturbed = self.student.perturb(unlabelled, CHANNEL_DROPOUT)
        pairs = zip(encoded.features, perturbed.features, strict=True)
        logits = self.student.decode(UNetEncoded([torch.cat(pair) for pair in pairs], encoded.size))
        return logits.split([len(image_x), len(image_u), len(image_u)])

    def _trusted(self, logits: Tensor, valid: Tensor | None) -> Tensor:
        """The classes (B, H, W), ``IGNORE_LABEL`` where the network is not confident or the slice is padded."""
        confidence, label = logits.float().softmax(1).max(1)
        trusted = confidence >= self.config.train.confidence
        if valid is not None:
            trusted = trusted & valid
        return label.masked_fill(~trusted, IGNORE_LABEL)

    def _cutmix(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes of other slices of the batch, pasted into image and label alike."""
        n, height, width = label.shape
        shift = 1 + int(torch.randint(max(1, n - 1), (), generator=self.generator))
        boxes = cutmix_masks(n, height, width, self.generator).to(image.device)
        return paste(image.roll(shift, 0), image, boxes), paste(label.roll(shift, 0), label, boxes)
