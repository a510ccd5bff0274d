"""The plain U-Net of the rivals: MONAI's BasicUNet, split into encoder and decoder.

Features 16 to 256, and dropout between the two convolutions of each encoder level, are those of the network that the
field's ACDC comparisons share (https://github.com/HiLab-git/SSL4MIS, BCP, UniMatch's release for medical images).
The rest is MONAI's: transposed convolutions, a slope of 0.1, a 1x1 head; theirs has bilinear upsampling, 0.01, 3x3.
"""

from __future__ import annotations

from dataclasses import dataclass

from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["UNet", "UNetEncoded", "UNetOutput"]

STRIDE = 16
DROPOUT = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Dropout rates of the encoder's levels, fine to coarse."""


@dataclass
class UNetEncoded:
    """Encoder features, fine to coarse (reductions 1, 2, 4, 8, 16), and the size before padding."""

    features: list[Tensor]
    size: tuple[int, int]


@dataclass
class UNetOutput:
    """Logits (B, n_classes, H, W) and the encoder features behind them."""

    logits: Tensor
    encoded: UNetEncoded


class UNet(nn.Module):
    """2D U-Net with four poolings; input sizes that 16 does not divide are padded inside and cropped back.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    n_classes : int
        Number of classes, background included.
    """

    def __init__(self, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.net = BasicUNet(
            spatial_dims=2, in_channels=in_channels, out_channels=n_classes, features=(16, 32, 64, 128, 256, 16),
            norm=("batch", {"affine": True}),
        )  # fmt: skip
        for rate, level in zip(DROPOUT, ("conv_0", *(f"down_{i}.convs" for i in range(1, 5))), strict=True):
            self.net.get_submodule(f"{level}.conv_0").add_module("dropout", nn.Dropout(rate))

    def encode(self, x: Tensor) -> UNetEncoded:
        """Encoder features: (B, in_channels, H, W) windowed to [0, 1] -> :class:`UNetEncoded`."""
        height, width = x.shape[-2:]
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        features = [self.net.conv_0(F.pad(x, padding, mode="replicate") if any(padding) else x)]
        for down in (self.net.down_1, self.net.down_2, self.net.down_3, self.net.down_4):
            features.append(down(features[-1]))  # halves H and W
        return UNetEncoded(features, (height, width))

    def decode(self, encoded: UNetEncoded) -> Tensor:
        """Logits (B, n_classes, H, W)."""
        *skips, x = encoded.features
        for up in (self.net.upcat_4, self.net.upcat_3, self.net.upcat_2, self.net.upcat_1):
            x = up(x, skips.pop())  # doubles H and W
        logits: Tensor = self.net.final_conv(x)
        return logits[..., : encoded.size[0], : encoded.size[1]]

    def perturb(self, encoded: UNetEncoded, p: float = 0.5) -> UNetEncoded:
        """Channel dropout on all encoder features, UniMatch's feature perturbation (https://arxiv.org/abs/2208.09910)."""
        return UNetEncoded([F.dropout2d(feature, p) for feature in encoded.features], encoded.size)

    def forward(self, x: Tensor) -> UNetOutput:
        """Slices (B, in_channels, H, W) -> :class:`UNetOutput`."""
        encoded = self.encode(x)
        return UNetOutput(self.decode(encoded), encoded)
