"""UA-MT: a mean teacher that is followed only where it is certain (Yu et al., MICCAI 2019).

https://arxiv.org/abs/1907.07034, https://github.com/yulequan/UA-MT; for two dimensions and four classes
https://github.com/HiLab-git/SSL4MIS.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vqseg.config import Config
from vqseg.losses import segmentation_loss
from vqseg.methods.base import Batch, Method
from vqseg.models.ema import make_teacher, update_ema
from vqseg.models.unet import UNet

__all__ = ["UAMT"]

CONSISTENCY = 0.1
N_PASSES = 8
NOISE = 0.1
EMA_DECAY = 0.99


def ramp_up(progress: float) -> float:
    """The Gaussian ramp of mean teachers, from exp(-5) at the start to 1 at the end of the training."""
    return math.exp(-5 * (1 - min(max(progress, 0.0), 1.0)) ** 2)


class UAMT(Method):
    """Uncertainty-aware mean teacher.

    The teacher sees unlabelled slices under noise and dropout eight times; the entropy of the mean prediction is its
    uncertainty. The student is drawn to the teacher's prediction under one more noise (squared difference of the
    softmax, halved) where the uncertainty lies below a threshold that rises from 3/4 of U_max to U_max; the term's
    weight rises to 0.1. As in the authors' release, both ramps last as long as the training (there 40 epochs of 150
    steps of 6000), and U_max stays ln 2 and the half stays a half for any number of classes, as in SSL4MIS.

    Where this differs from the paper: a 2D U-Net instead of the V-Net; the ramps follow the progress of the training
    step by step, so that they also fit a time budget; the teacher normalises by its running statistics, not by the
    batch's. The student predicts, as there.
    """

    name = "ua-mt"
    student: UNet
    teacher: UNet

    def __init__(self, config: Config, in_channels: int, n_classes: int) -> None:
        super().__init__(config, in_channels, n_classes)
        self.student = UNet(in_channels, n_classes)
        self.teacher = make_teacher(self.student)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation loss of the labelled slices and masked consistency of the unlabelled ones."""
        n, kind = len(batch.image_x), self.config.loss.segmentation
        if batch.image_u_w is None:
            labelled = segmentation_loss(self.student(batch.image_x).logits, batch.label_x, kind)
            return {"labelled": labelled, "total": labelled}

        target, uncertainty = self._ask_teacher(batch.image_u_w)
        certain = uncertainty < (0.75 + 0.25 * ramp_up(progress)) * math.log(2)
        if batch.valid_u is not None:
            certain = certain & batch.valid_u

        logits = self.student(torch.cat([batch.image_x, batch.image_u_w])).logits
        labelled = segmentation_loss(logits[:n], batch.label_x, kind)
        distance = (logits[n:].float().softmax(1) - target).square().sum(1) / 2
        consistency = (distance * certain).sum() / certain.sum().clamp(min=1)
        return {
            "labelled": labelled,
            "unlabelled": consistency,
            "total": labelled + CONSISTENCY * ramp_up(progress) * consistency,
            "confident_share": certain.float().mean(),
        }

    @torch.no_grad()
    def _ask_teacher(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's prediction (B, K, H, W) and the entropy (B, H, W) of its mean over noise and dropout."""
        dropouts = [module for module in self.teacher.modules() if isinstance(module, nn.Dropout)]
        for module in dropouts:
            module.train()
        passes = [self.teacher(self._noisy(image)).logits.float().softmax(1) for _ in range(N_PASSES + 1)]
        for module in dropouts:
            module.eval()
        mean = torch.stack(passes[1:]).mean(0)
        return passes[0], -(mean * torch.log(mean + 1e-6)).sum(1)

    def _noisy(self, image: Tensor) -> Tensor:
        noise = torch.randn(image.shape, generator=self.generator) * NOISE
        return image + noise.clamp(-2 * NOISE, 2 * NOISE).to(image)

    def update_teacher(self, step: int) -> None:
        """Follow the student at 0.99, faster in the first hundred steps."""
        update_ema(self.teacher, self.student, min(1 - 1 / (step + 1), EMA_DECAY))

    @property
    def network_for_prediction(self) -> UNet:
        """The student."""
        return self.student
