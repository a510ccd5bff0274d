"""Frozen foundation models that the codes are aligned to (VQ-Seg, section PFA, https://arxiv.org/abs/2601.10124).

Where their weights come from: vqseg.models.weight_files.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn
from torch.nn import functional as F

from vqseg.config import ModelConfig, PriorPolicy
from vqseg.errors import PriorError
from vqseg.models.weight_files import find_weights, read_weights

__all__ = [
    "PRIORS",
    "Prior",
    "PriorSpec",
    "PriorWarning",
    "Priors",
    "load_prior",
    "load_priors",
    "load_weights",
]


class PriorWarning(UserWarning):
    """Training goes on without the prior that was asked for."""


@dataclass(frozen=True)
class PriorSpec:
    """Where a prior's weights are and how it wants its images.

    Parameters
    ----------
    architecture : str
        timm's name of the vision transformer.
    hub : str
        Repository on the Hugging Face hub.
    filename : str
        File in the repository.
    patch : int
        Side of a patch in pixels.
    mean, std : tuple of float
        Normalisation per colour channel, for images in [0, 1].
    options : mapping
        Further arguments of timm's ``create_model``.
    """

    architecture: str
    hub: str
    filename: str = "model.safetensors"
    patch: int = 16
    mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, ...] = IMAGENET_DEFAULT_STD
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """The vision transformer with random weights, for images of any size."""
        return timm.create_model(
            self.architecture, pretrained=False, num_classes=0, dynamic_img_size=True, **self.options
        )


PRIORS: dict[str, PriorSpec] = {
    "dinov2": PriorSpec(
        "vit_small_patch14_dinov2", "timm/vit_small_patch14_dinov2.lvd142m", patch=14, options={"img_size": 518}
    ),
    "clip": PriorSpec(
        "vit_base_patch16_clip_quickgelu_224", "timm/vit_base_patch16_clip_224.openai",
        mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD,
    ),
    "biomedclip": PriorSpec(
        "vit_base_patch16_224", "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        filename="open_clip_pytorch_model.bin", mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD,
    ),
    "mae": PriorSpec("vit_base_patch16_224", "timm/vit_base_patch16_224.mae"),
    "rad-dino": PriorSpec(
        "vit_base_patch14_dinov2", "microsoft/rad-dino", patch=14,
        mean=(0.5307,) * 3, std=(0.2583,) * 3, options={"img_size": 518},
    ),
}  # fmt: skip
"""Every prior by its public name."""


class Prior(nn.Module):
    """A frozen vision transformer that turns slices into patch features.

    Parameters
    ----------
    spec : PriorSpec
        Which model, and its normalisation.
    vit : nn.Module
        The transformer with its weights.

    Attributes
    ----------
    dim : int
        Channels D of the features.
    patch : int
        Side of a patch in pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: PriorSpec, vit: Any) -> None:
        super().__init__()
        self.vit: Any = vit
        self.dim, self.patch = int(vit.num_features), spec.patch
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Prior:
        """Stay in evaluation mode, whatever is asked."""
        return super().train(False)

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Patches (h, w) of an image of (H, W) pixels."""
        return max(1, round(size[0] / self.patch)), max(1, round(size[1] / self.patch))

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Patch features of slices.

        Parameters
        ----------
        x : Tensor
            (B, 1, H, W) windowed to [0, 1]; resized to whole patches.

        Returns
        -------
        Tensor
            (B, D, h, w) with (h, w) = :meth:`grid` of (H, W).
        """
        height, width = self.grid(x.shape[-2:])
        size = (height * self.patch, width * self.patch)
        if x.shape[-2:] != size:
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        x = (x.expand(-1, 3, -1, -1) - self.mean) / self.std  # (B, 3, H', W')
        tokens: Tensor = self.vit.forward_features(x)[:, self.vit.num_prefix_tokens :]
        return tokens.transpose(1, 2).reshape(len(x), self.dim, height, width)  # (B, h w, D) -> (B, D, h, w)


class Priors(nn.Module):
    """Frozen priors whose features stand side by side.

    Parameters
    ----------
    priors : sequence of Prior
        At least one.

    Attributes
    ----------
    dims : list of int
        Channels of each prior's features.
    """

    def __init__(self, priors: Sequence[Prior]) -> None:
        super().__init__()
        self.members = nn.ModuleList(priors)
        self.dims = [prior.dim for prior in priors]

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Patch features of slices by every prior, one after the other, on the first one's grid.

        Parameters
        ----------
        x : Tensor
            (B, 1, H, W) windowed to [0, 1].

        Returns
        -------
        Tensor
            (B, sum of :attr:`dims`, h, w) with (h, w) = :meth:`Prior.grid` of the first.
        """
        first, *others = (prior.features(x) for prior in self.members)  # type: ignore[operator]
        size = first.shape[-2:]
        resized = [F.interpolate(one, size=size, mode="bilinear", align_corners=False) for one in others]
        return torch.cat([first, *resized], 1)


def load_prior(name: str, path: str | Path = "", policy: PriorPolicy = "required") -> Prior | None:
    """A frozen prior by its public name.

    Parameters
    ----------
    name : {"dinov2", "clip", "biomedclip", "mae", "rad-dino"}
        Which foundation model.
    path : str or Path
        Local weights file (.safetensors, .pth, .bin), or a folder that holds one named after the prior; empty for the
        hub and its cache.
    policy : {"auto", "required"}
        Without weights: warn and return None, or raise.

    Returns
    -------
    Prior or None
        None under "auto" where the weights can't be had.

    Raises
    ------
    PriorError
        Under "required" where the weights can't be had or do not fit.
    """
    try:
        weights = load_weights(name, path)
    except PriorError as error:
        if policy == "required":
            raise
        warnings.warn(f"{error} Training goes on without alignment to it.", PriorWarning, stacklevel=2)
        return None
    vit = PRIORS[name].build()
    vit.load_state_dict(weights)
    return Prior(PRIORS[name], vit)


def load_priors(model: ModelConfig) -> Priors | None:
    """The frozen priors that a config names.

    Returns
    -------
    Priors or None
        Without those whose weights can't be had under "auto"; None where none is left.

    Raises
    ------
    PriorError
        Under "required" where the weights can't be had or do not fit, and for one file given for several priors.
    """
    names, path = model.priors, model.prior_path
    if len(names) > 1 and path and not Path(path).expanduser().is_dir():
        raise PriorError(
            f"prior_path is {path}, one file, but there are {len(names)} priors; give a folder that holds a file named "
            f"after each, such as {names[0]}.safetensors."
        )
    loaded = [load_prior(name, path, model.prior_policy) for name in names]
    there = [prior for prior in loaded if prior is not None]
    return Priors(there) if there else None


def load_weights(name: str, path: str | Path = "") -> dict[str, Tensor]:
    """A prior's weights under timm's names.

    Parameters
    ----------
    name : str
        Public name of the prior.
    path : str or Path
        Local weights file, or a folder that holds one named after the prior; empty for the hub and its cache.

    Returns
    -------
    dict of str to Tensor
        A complete state dict of the transformer.

    Raises
    ------
    PriorError
        Where the weights can't be had or do not fit.
    """
    spec = _spec(name)
    file = find_weights(name, spec.hub, spec.filename, path)
    stored = read_weights(name, file)
    with torch.device("meta"):
        vit = spec.build()  # its names and shapes only
    expected = vit.state_dict()
    try:
        weights = {key: value for key, value in checkpoint_filter_fn(stored, vit).items() if key in expected}
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        raise PriorError(f"{file} does not hold weights of {name} ({error}); download it again.") from None
    wrong = [key for key in expected if key not in weights or weights[key].shape != expected[key].shape]
    if wrong:
        raise PriorError(
            f"{file} does not fit {name} ({spec.architecture}): {len(wrong)} of {len(expected)} tensors are missing or"
            f" of another shape, the first is {wrong[0]!r}; give the weights of {spec.hub}."
        )
    return weights


def _spec(name: str) -> PriorSpec:
    if name not in PRIORS:
        raise PriorError(f"Unknown prior {name!r}; choose one of {', '.join(PRIORS)}, or none.")
    return PRIORS[name]
