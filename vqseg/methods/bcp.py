"""BCP: labelled patches into unlabelled slices and back (Bai et al., CVPR 2023).

https://arxiv.org/abs/2305.00673, https://github.com/DeepMed-Lab-ECNU/BCP.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqseg.config import Config
from vqseg.data.mixing import copy_paste_mask, largest_components, paste
from vqseg.losses import IGNORE_LABEL, segmentation_loss
from vqseg.methods.base import Batch, Method
from vqseg.models.ema import make_teacher, update_ema
from vqseg.models.unet import UNet

__all__ = ["BCP"]

PRETRAINING = 0.25
PSEUDO_WEIGHT = 0.5
EMA_DECAY = 0.99


class BCP(Method):
    """Bidirectional copy-paste.

    For the first quarter of the training (10 000 of 40 000 iterations in the release), labelled slices are mixed with
    each other: a patch of 2/3 of each side comes from one, the rest from another. Then the teacher starts as a copy
    of the student and labels unlabelled slices (largest component of each class), and patches go both ways: the inside
    of a labelled slice with the outside of an unlabelled one, and the other way round. Each side of a mixed slice has
    its own cross-entropy and Dice, pseudo-labelled sides at half weight. The learning rate stays as it is.

    Where this differs from the paper: the student goes on as it stands after the pre-training instead of from its best
    checkpoint on validation data, which few-slice training does not have, and predicts as it stands in the end; the
    teacher labels by its running statistics and without dropout; Dice as in ``vqseg.losses``. Batches without
    unlabelled slices always train as in the pre-training.
    """

    name = "bcp"
    rate_fall = 0.0
    student: UNet
    teacher: UNet

    def __init__(self, config: Config, in_channels: int, n_classes: int) -> None:
        super().__init__(config, in_channels, n_classes)
        self.student = UNet(in_channels, n_classes)
        self.teacher = make_teacher(self.student)
        self.pretraining = True

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation loss of mixed slices: labelled with labelled at first, labelled with unlabelled then."""
        self.pretraining = progress < PRETRAINING
        mask = copy_paste_mask(batch.image_x.shape[-2], batch.image_x.shape[-1], self.generator).to(
            batch.image_x.device
        )
        if self.pretraining or batch.image_u_w is None:
            first, second = _halves(len(batch.image_x), len(batch.image_x) // 2, batch.image_x.device)
            labelled = self._mixed_loss(
                (batch.image_x[second], batch.label_x[second], 1.0), (batch.image_x[first], batch.label_x[first], 1.0),
                mask,
            )  # fmt: skip
            return {"labelled": labelled, "total": labelled}

        pseudo_label = self._ask_teacher(batch.image_u_w, batch.valid_u)
        n = min(len(batch.image_x), len(batch.image_u_w)) // 2
        x_a, x_b = _halves(len(batch.image_x), n, mask.device)
        u_a, u_b = _halves(len(batch.image_u_w), n, mask.device)

        inwards = self._mixed_loss(
            (batch.image_x[x_a], batch.label_x[x_a], 1.0), (batch.image_u_w[u_a], pseudo_label[u_a], PSEUDO_WEIGHT),
            mask,
        )  # fmt: skip
        outwards = self._mixed_loss(
            (batch.image_u_w[u_b], pseudo_label[u_b], PSEUDO_WEIGHT), (batch.image_x[x_b], batch.label_x[x_b], 1.0),
            mask,
        )  # fmt: skip
        return {"inwards": inwards, "outwards": outwards, "total": inwards + outwards}

    @torch.no_grad()
    def _ask_teacher(self, image: Tensor, valid: Tensor | None) -> Tensor:
        """The teacher's classes (B, H, W), cleaned; ``IGNORE_LABEL`` where the slice is padded."""
        label = largest_components(self.teacher(image).logits.max(1).indices, self.n_classes)
        return label if valid is None else label.masked_fill(~valid, IGNORE_LABEL)

    def _mixed_loss(
        self, inside: tuple[Tensor, Tensor, float], outside: tuple[Tensor, Tensor, float], mask: Tensor
    ) -> Tensor:
        """Loss of slices mixed from (image, label, weight) inside and outside the mask, each side on its own."""
        logits = self.student(paste(inside[0], outside[0], mask)).logits
        one, other = (
            weight * segmentation_loss(logits, label.masked_fill(~side, IGNORE_LABEL), self.config.loss.segmentation)
            for (_, label, weight), side in ((inside, mask), (outside, ~mask))
        )
        return one + other

    def update_teacher(self, step: int) -> None:
        """A copy of the student while pre-training; then follow it at 0.99."""
        update_ema(self.teacher, self.student, 0.0 if self.pretraining else EMA_DECAY)

    @property
    def network_for_prediction(self) -> UNet:
        """The student."""
        return self.student


def _halves(n: int, half: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of two disjoint groups of `half` among `n` slices; the same slice twice where there is only one."""
    half = max(1, half)
    index = torch.arange(2 * half, device=device) % n
    return index[:half], index[half:]
