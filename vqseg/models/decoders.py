"""Decoders on the shared post-quantization space: classes with skips, the image without.

VQ-Seg, section "Dual-Branch Shared Post-Quantization Space", https://arxiv.org/abs/2601.10124.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ImageDecoder", "SegmentationDecoder"]


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class _Merge(nn.Module):
    """Brings coarse features to a skip's resolution, adds the skip and the shape evidence, then one 3x3 convolution."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, shape_channels: int = 0) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(in_channels, out_channels, 1)
        self.fine = nn.Conv2d(skip_channels, out_channels, 1) if skip_channels else None
        self.shape = nn.Conv2d(shape_channels, out_channels, 1) if shape_channels else None
        self.conv = _conv(out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor | None, shape: Tensor | None = None) -> Tensor:
        x = self.coarse(x)  # narrow before it is enlarged
        if skip is None or self.fine is None:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        else:
            x = _resize(x, skip.shape[-2:]) + self.fine(skip)
        if self.shape is not None and shape is not None:
            x = x + self.shape(_resize(shape, x.shape[-2:]))
        result: Tensor = self.conv(x)
        return result


class SegmentationDecoder(nn.Module):
    """Post-quantization features (and the encoder's finer features) to class logits (D_s).

    Parameters
    ----------
    in_channels : int
        Channels C of the post-quantization features.
    skip_channels : sequence of int
        Channels of the encoder's finer features, fine to coarse; empty for a single-scale encoder.
    n_classes : int
        Number of classes, background included.
    widths : sequence of int
        Channels after each doubling of the resolution; the last ones are those at the finest features.
    shape_channels : int
        Channels of the shape evidence (vqseg.data.shape_prior) that joins at every resolution; 0 for none.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: Sequence[int],
        n_classes: int,
        widths: Sequence[int] = (64, 48, 32),
        shape_channels: int = 0,
    ) -> None:
        super().__init__()
        self.start = _conv(in_channels, widths[0])
        skips = list(reversed(skip_channels)) or [0] * len(widths)
        outs = [*widths, *[widths[-1]] * len(skips)][: len(skips)]
        ins = [widths[0], *outs]
        self.merges = nn.ModuleList(_Merge(a, s, b, shape_channels) for a, s, b in zip(ins, skips, outs, strict=False))
        self.head = nn.Conv2d(outs[-1], n_classes, 3, padding=1)

    def forward(
        self, features: Tensor, skips: Sequence[Tensor], size: Sequence[int], shape: Tensor | None = None
    ) -> Tensor:
        """Logits, computed at the finest features and enlarged to the image.

        Parameters
        ----------
        features : Tensor
            (B, C, h, w) post-quantization features.
        skips : sequence of Tensor
            The encoder's finer features, fine to coarse, of B slices or of one; may be empty.
        size : sequence of int
            (H, W) of the image.
        shape : Tensor, optional
            (B or 1, shape_channels, H, W) shape evidence.

        Returns
        -------
        Tensor
            (B, n_classes, H, W).
        """
        x = self.start(features)  # (B, 64, h, w)
        ordered: list[Tensor | None] = [*reversed(skips)] or [None] * len(self.merges)
        for merge, skip in zip(self.merges, ordered, strict=True):
            x = merge(x, skip, shape)  # doubles h and w
        return _resize(self.head(x), size)


class ImageDecoder(nn.Module):
    """Post-quantization features to the image, without skips (D_i): what the codes alone know of the slice.

    Parameters
    ----------
    in_channels : int
        Channels C of the post-quantization features.
    widths : sequence of int
        Channels after each doubling of the resolution; the last map is enlarged to the image.
    """

    def __init__(self, in_channels: int, widths: Sequence[int] = (48, 24)) -> None:
        super().__init__()
        ins = [in_channels, *widths]
        self.merges = nn.ModuleList(_Merge(a, 0, b) for a, b in zip(ins, widths, strict=False))
        self.head = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """The image: (B, C, h, w) -> (B, 1, H, W) with (H, W) = `size`."""
        x = features
        for merge in self.merges:
            x = merge(x, None)  # doubles h and w
        return _resize(self.head(x), size)
