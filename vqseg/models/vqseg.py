"""VQ-Seg's network: encoder, quantizer and the two decoders, wired.

https://arxiv.org/abs/2601.10124, section "Overall Architecture".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqseg.config import ModelConfig, PerturbationName
from vqseg.errors import ConfigError
from vqseg.models.decoders import ImageDecoder, SegmentationDecoder
from vqseg.models.encoders import create_encoder
from vqseg.models.perturbation import dropout, substitute
from vqseg.models.quantizer import VectorQuantizer

__all__ = ["Encoded", "Output", "VQSegNet"]


@dataclass
class Encoded:
    """A slice as the network holds it between encoder and decoders.

    Parameters
    ----------
    image : Tensor
        (B, in_channels, H', W') the input, padded to a multiple of the stride.
    size : tuple of int
        (H, W) of the input before padding.
    skips : list of Tensor
        The encoder's finer features, fine to coarse; empty for a single-scale encoder.
    z : Tensor
        (B, C, h, w) the encoder's coarsest features.
    projected : Tensor
        (B, code_dim, h, w) float32, `z` in the space of the codewords.
    quantized : Tensor
        (B, C, h, w) features behind the quantizer.
    indices : Tensor
        (B, h, w) int64 codes.
    commitment_loss : Tensor
        Scalar.
    """

    image: Tensor
    size: tuple[int, int]
    skips: list[Tensor]
    z: Tensor
    projected: Tensor
    quantized: Tensor
    indices: Tensor
    commitment_loss: Tensor


@dataclass
class Output:
    """What the network says about a batch of slices.

    Parameters
    ----------
    logits : Tensor
        (B, n_classes, H, W).
    encoded : Encoded
        What lies between, for reconstruction, perturbation and alignment.
    """

    logits: Tensor
    encoded: Encoded

    @property
    def quantized(self) -> Tensor:
        """(B, C, h, w) post-quantization features."""
        return self.encoded.quantized

    @property
    def indices(self) -> Tensor:
        """(B, h, w) int64 codes."""
        return self.encoded.indices

    @property
    def commitment_loss(self) -> Tensor:
        """Scalar."""
        return self.encoded.commitment_loss


class VQSegNet(nn.Module):
    """Encoder -> quantizer -> segmentation decoder and image decoder.

    Parameters
    ----------
    config : ModelConfig
        Encoder, codebook and branches.
    in_channels : int
        Channels of the input.
    n_classes : int
        Number of classes, background included.
    pretrained : bool
        Load the encoder's pretrained weights; False where a checkpoint is loaded afterwards.

    Attributes
    ----------
    blend : Tensor
        Scalar buffer, the share of quantization in [0, 1]; stored with the weights.
    class_fit : Tensor
        (n_classes,) running Dice of each class on the labelled training patches: what has been learned so far.
    stride : int
        Reduction of the quantized features, the encoder's coarsest up to the config's; other input sizes are padded
        inside and cropped back.

    Raises
    ------
    PriorError
        Where the encoder's pretrained weights can't be had.
    ConfigError
        Where the encoder has no features as fine as the config's stride.
    """

    blend: Tensor
    class_fit: Tensor

    def __init__(self, config: ModelConfig, in_channels: int, n_classes: int, *, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        path = config.prior_path if "dinov2" in config.priors else ""
        self.encoder = create_encoder(config.encoder, in_channels, pretrained=pretrained, path=path)
        self.depth = sum(reduction <= config.stride for reduction in self.encoder.reductions)
        if self.depth == 0:
            raise ConfigError(
                f"stride is {config.stride}, but the finest features of the encoder {config.encoder!r} are at "
                f"{self.encoder.reductions[0]} px; choose that or more."
            )
        self.stride = self.encoder.reductions[self.depth - 1]
        channels = self.encoder.channels[: self.depth]
        self.quantizer = VectorQuantizer(channels[-1], config.codebook_size, config.code_dim, scale=config.code_scale)
        self.segmentation_decoder = SegmentationDecoder(
            channels[-1], channels[:-1], n_classes, shape_channels=n_classes if config.shape_evidence else 0
        )
        self.image_decoder = ImageDecoder(channels[-1]) if config.image_branch else None
        self.register_buffer("blend", torch.tensor(1.0))
        self.register_buffer("class_fit", torch.zeros(n_classes))

    def set_blend(self, blend: float) -> None:
        """Set the share of quantization, in [0, 1]."""
        self.blend.fill_(blend)

    def encode(self, x: Tensor) -> Encoded:
        """From slices to codes: (B, in_channels, H, W) windowed to [0, 1] -> :class:`Encoded`."""
        height, width = x.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        image = F.pad(x, padding, mode="replicate") if any(padding) else x
        *skips, z = self.encoder(image)[: self.depth]
        q = self.quantizer(z, self.blend)
        return Encoded(image, (height, width), skips, z, q.projected, q.quantized, q.indices, q.commitment_loss)

    def decode(self, encoded: Encoded, quantized: Tensor | None = None, shape: Tensor | None = None) -> Tensor:
        """Logits (B, n_classes, H, W) from the quantized features, or from `quantized` (perturbed ones) instead.

        `shape` is (B, n_classes, H, W) shape evidence, for networks made to take it.
        """
        features = encoded.quantized if quantized is None else quantized
        if shape is not None:
            (height, width), padded = encoded.size, encoded.image.shape[-2:]
            shape = F.pad(shape, (0, padded[1] - width, 0, padded[0] - height), mode="replicate")
        logits = self.segmentation_decoder(features, encoded.skips, encoded.image.shape[-2:], shape)
        return _crop(logits, encoded.size)

    def reconstruct(self, encoded: Encoded) -> Tensor:
        """The centre slice (B, 1, H, W) from the quantized features alone.

        Raises
        ------
        RuntimeError
            Where the network was made without its image branch.
        """
        if self.image_decoder is None:
            raise RuntimeError("This network was made with image_branch=False; it cannot reconstruct.")
        return _crop(self.image_decoder(encoded.quantized, encoded.image.shape[-2:]), encoded.size)

    def perturb(
        self, encoded: Encoded, epsilon: float, generator: torch.Generator, kind: PerturbationName | None = None
    ) -> Tensor:
        """Perturbed post-quantization features (B, C, h, w), for :meth:`decode`.

        Parameters
        ----------
        encoded : Encoded
            From :meth:`encode`.
        epsilon : float
            Perturbation intensity in [0, 1]: QPM's epsilon, or the dropout rate.
        generator : torch.Generator
            Source of the draws.
        kind : {"qpm", "dropout", "none"}, optional
            What perturbs; the config's choice by default.
        """
        kind = self.config.perturbation if kind is None else kind
        if kind == "qpm":
            indices = substitute(encoded.indices, self.quantizer.codebook, epsilon, generator)
            return self.quantizer.mix(encoded.projected, indices, self.blend)
        if kind == "dropout":
            return dropout(encoded.quantized, epsilon, generator)
        return encoded.quantized

    def perturb_draws(
        self, encoded: Encoded, shape: Tensor | None, epsilon: float, draws: int, generator: torch.Generator
    ) -> Tensor:
        """Logits (draws, n_classes, H, W) of one encoded slice, each behind its own QPM draw.

        Only QPM and the decoder run `draws` times.
        """
        repeated = dataclasses.replace(
            encoded,
            projected=encoded.projected.expand(draws, -1, -1, -1),
            quantized=encoded.quantized.expand(draws, -1, -1, -1),
            indices=encoded.indices.expand(draws, -1, -1),
        )
        # Skips and shape stay single: the decoder adds them, which spreads them over the draws.
        return self.decode(encoded, self.perturb(repeated, epsilon, generator, "qpm"), shape)

    def revive(self, encoded: Encoded, generator: torch.Generator) -> Tensor:
        """Put dead codewords to use, once a step and after the optimizer's; returns (n,) which were moved."""
        return self.quantizer.revive(encoded.projected, encoded.indices, generator)

    def forward(self, x: Tensor, shape: Tensor | None = None) -> Output:
        """Slices (B, in_channels, H, W), windowed to [0, 1], and shape evidence -> :class:`Output`."""
        encoded = self.encode(x)
        return Output(self.decode(encoded, shape=shape), encoded)


def _crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x[..., : size[0], : size[1]]
