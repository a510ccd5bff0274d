"""Supervised training on the labelled slices alone: what every other method has to beat."""

from __future__ import annotations

from torch import Tensor

from vqseg.config import Config
from vqseg.losses import segmentation_loss
from vqseg.methods.base import Batch, Method
from vqseg.models.unet import UNet

__all__ = ["Supervised"]


class Supervised(Method):
    """UNet-S: a U-Net that sees labelled slices only; UNet-F where all slices are labelled.

    There is no teacher: the network that is trained is the one that predicts.
    """

    name = "supervised"

    def __init__(self, config: Config, in_channels: int, n_classes: int) -> None:
        super().__init__(config, in_channels, n_classes)
        self.student = UNet(in_channels, n_classes)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation loss of the labelled slices; the unlabelled are not looked at."""
        labelled = segmentation_loss(self.student(batch.image_x).logits, batch.label_x, self.config.loss.segmentation)
        return {"labelled": labelled, "total": labelled}
