"""UniMatch: from weak to strong, in the image twice and in the features once (Yang et al., CVPR 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from vqseg.config import Config
from vqseg.data.mixing import cutmix_masks, paste
from vqseg.losses import IGNORE_LABEL, segmentation_loss, soft_dice_loss
from vqseg.methods.base import Batch, Method
from vqseg.models.unet import UNet

__all__ = ["UniMatch"]

CHANNEL_DROPOUT = 0.5
STREAM_WEIGHTS = {"strong_1": 0.25, "strong_2": 0.25, "features": 0.5}


class UniMatch(Method):
    """Unified dual-stream perturbations.

    The network's own prediction on the weak view is the pseudo-label, where it is confident (0.95), for two strong
    views with CutMix (weight 1/4 each) and for the weak view behind channel dropout at every level of the encoder
    (1/2). The sum weighs as much as the labelled slices. There is no teacher.

    Where this differs from the paper: the CutMix partner is another slice of the same batch, not of a second one, so
    that every method sees the same batches; its pseudo-labels come from the same pass. With "ce+dice" the unlabelled
    terms are Dice alone, as in the authors' release for medical images; with "ce", cross-entropy, as in the paper.
    """

    name = "unimatch"
    strong_views = 2
    student: UNet

    def __init__(self, config: Config, in_channels: int, n_classes: int) -> None:
        super().__init__(config, in_channels, n_classes)
        self.student = UNet(in_channels, n_classes)

    def losses(self, batch: Batch, step: int, progress: float) -> dict[str, Tensor]:
        """Segmentation loss of the labelled slices, and of three perturbed views of the unlabelled ones."""
        labelled = segmentation_loss(self.student(batch.image_x).logits, batch.label_x, self.config.loss.segmentation)
        if batch.image_u_w is None:
            return {"labelled": labelled, "total": labelled}
        assert batch.image_u_s1 is not None
        assert batch.image_u_s2 is not None

        encoded = self.student.encode(batch.image_u_w)
        pseudo_label = self._trusted(self.student.decode(encoded).detach(), batch.valid_u)

        views = {"features": (self.student.decode(self.student.perturb(encoded, CHANNEL_DROPOUT)), pseudo_label)}
        for stream, image in (("strong_1", batch.image_u_s1), ("strong_2", batch.image_u_s2)):
            mixed_image, mixed_label = self._cutmix(image, pseudo_label)
            views[stream] = (self.student(mixed_image).logits, mixed_label)

        loss = soft_dice_loss if self.config.loss.segmentation == "ce+dice" else segmentation_loss
        terms = [STREAM_WEIGHTS[stream] * loss(logits, target) for stream, (logits, target) in views.items()]
        unlabelled = torch.stack(terms).sum()
        return {
            "labelled": labelled,
            "unlabelled": unlabelled,
            "total": (labelled + unlabelled) / 2,
            "confident_share": (pseudo_label != IGNORE_LABEL).float().mean(),
        }

    def _trusted(self, logits: Tensor, valid: Tensor | None) -> Tensor:
        """The classes (B, H, W), ``IGNORE_LABEL`` where the network is not confident or the slice is padded."""
        confidence, label = logits.float().softmax(1).max(1)
        trusted = confidence >= self.config.train.confidence
        if valid is not None:
            trusted = trusted & valid
        return label.masked_fill(~trusted, IGNORE_LABEL)

    def _cutmix(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes of other slices of the batch, pasted into image and label alike."""
        partner = torch.randperm(len(image), generator=self.generator).to(image.device)
        boxes = cutmix_masks(len(image), image.shape[-2], image.shape[-1], self.generator).to(image.device)
        return paste(image[partner], image, boxes), paste(label[partner], label, boxes)
