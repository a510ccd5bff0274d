"""Training on a cohort by the protocol that the papers' tables share.

2D slices resized to one square size; a batch is half labelled, half unlabelled slices; random quarter turns, flips
and rotations up to 20 degrees; whole volumes are predicted slice by slice, resized back and scored as volumes. The
network after the last iteration is scored, not the best on validation data. Rivals train by SGD (0.01, momentum 0.9,
weight decay 1e-4), VQ-Seg by AdamW; the learning rate falls as (1 - t)^0.9, that of BCP not at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqseg.benchmark.cohort import Cohort, CohortCase, Labels
from vqseg.benchmark.variants import parse_variant
from vqseg.codebook import usage_report
from vqseg.config import Config, preset
from vqseg.data.augment import Warp, change_intensity, warp_features
from vqseg.data.batch import Batch
from vqseg.device import gains_from_bfloat16
from vqseg.io.atomic import atomic_path
from vqseg.methods import create_method
from vqseg.models.feature_cache import FeatureCache
from vqseg.models.priors import Priors, load_priors
from vqseg.models.vqseg import VQSegNet
from vqseg.tokens import CodebookReport

__all__ = ["CohortRun", "predict", "stack_slices"]

PREDICTED_AT_ONCE = 24


def stack_slices(cases: Sequence[CohortCase], size: int) -> tuple[Tensor, Tensor]:
    """Every slice of some cases at one size: images and labels, (N, 1, size, size) float32 each."""
    images, labels = [], []
    for case in cases:
        images.append(_resize(torch.from_numpy(case.image).unsqueeze(1), size))
        label = torch.from_numpy(case.label).unsqueeze(1).float()
        labels.append(F.interpolate(label, (size, size), mode="nearest-exact"))
    return torch.cat(images), torch.cat(labels)


class _Slices:
    """The slices of some cases, on the device."""

    def __init__(self, cases: Sequence[CohortCase], size: int, device: torch.device) -> None:
        images, labels = stack_slices(cases, size)
        self.images, self.labels = images.to(device), labels.to(device)


def _resize(image: Tensor, size: int) -> Tensor:
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False, antialias=True)


def _random_turns(n: int, size: int, generator: torch.Generator) -> Warp:
    """Half of the slices: quarter turns and a flip; a quarter: up to 20 degrees; a quarter: as they are."""
    draw = torch.rand(4, n, generator=generator)
    turned, tilted = draw[0] < 0.5, (draw[0] >= 0.5) & (draw[0] < 0.75)
    angle = torch.where(turned, torch.floor(draw[1] * 4) * (math.pi / 2), 0.0)
    angle = torch.where(tilted, (draw[2] - 0.5) * math.radians(40), angle).view(-1, 1, 1)
    mirrored = torch.where(turned & (draw[3] < 0.5), -1.0, 1.0).view(-1, 1, 1)
    centre = (size - 1) / 2
    rows = (torch.arange(size, dtype=torch.float32) - centre).view(1, -1, 1)
    columns = (torch.arange(size, dtype=torch.float32) - centre).view(1, 1, -1) * mirrored
    cos, sin = torch.cos(angle), torch.sin(angle)
    return Warp(cos * rows - sin * columns + centre + 0.5, sin * rows + cos * columns + centre + 0.5)


class CohortRun:
    """One method trained with one seed; stops and goes on exactly.

    Parameters
    ----------
    variant : str
        Method and settings, as in :func:`vqseg.benchmark.variants.parse_variant`.
    cohort : Cohort
        The patients.
    n_classes : int
        Classes, background included.
    seed, iterations, batch, size : int
        Seed, steps, labelled slices per batch (as many unlabelled), side of the slices.
    device : torch.device
        Where to train.

    Raises
    ------
    ConfigError
        For an unknown method or setting.
    PriorError
        If the variant asks for a prior whose weights can't be had.
    """

    def __init__(
        self, variant: str, cohort: Cohort, n_classes: int, *, seed: int, iterations: int, batch: int, size: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        name, settings = parse_variant(variant)
        self.variant = variant
        self.config = _config(name, settings, seed=seed, iterations=iterations, batch=batch, size=size)
        self.iterations, self.batch_size, self.size, self.device = iterations, batch, size, device
        torch.manual_seed(seed)
        self.method = create_method(name, self.config, 1, n_classes)
        self.priors = self._load_priors()
        self.method.to(device)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = self._make_optimizer()
        self.base_rate = self.optimizer.param_groups[0]["lr"]
        self.labelled = _Slices(cohort.labelled, size, device)
        self.unlabelled = _Slices(cohort.unlabelled, size, device) if cohort.unlabelled else None
        self.step_index, self.seconds = 0, 0.0
        self._features = FeatureCache()

    def _load_priors(self) -> Priors | None:
        """The frozen models that the method aligns its codes to, where the variant names some."""
        priors = load_priors(self.config.model) if self.method.takes_prior else None
        if priors is not None:
            self.method.align_to(priors.dims)
            priors.to(self.device)
        return priors

    def _make_optimizer(self) -> torch.optim.Optimizer:
        weights = [parameter for parameter in self.method.parameters() if parameter.requires_grad]
        train = self.config.train
        if self.method.name == "vq-seg":
            return torch.optim.AdamW(weights, lr=train.learning_rate, weight_decay=train.weight_decay)
        return torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=1e-4)

    @property
    def finished(self) -> bool:
        """Whether all iterations are done."""
        return self.step_index >= self.iterations

    def step(self) -> dict[str, float]:
        """One batch; the losses."""
        start = time.monotonic()
        progress = self.step_index / self.iterations
        self.method.train()
        if self.method.teacher is not None:
            self.method.teacher.eval()
        batch = self._batch()
        with self._autocast():
            losses = self.method.losses(batch, progress)
        self.optimizer.param_groups[0]["lr"] = self.base_rate * (1 - progress) ** self.method.rate_fall
        self.optimizer.zero_grad()
        losses["total"].backward()
        self.optimizer.step()
        self.method.update_teacher(self.step_index)
        self.step_index += 1
        self.seconds += time.monotonic() - start
        return {name: value.item() for name, value in losses.items()}

    def _autocast(self) -> torch.autocast:
        bfloat16 = self.config.train.mixed_precision and gains_from_bfloat16(self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16)

    def _batch(self) -> Batch:
        chosen, warp = self._draw(len(self.labelled.images))
        batch = Batch(
            image_x=warp.sample(self.labelled.images[chosen]),
            label_x=warp.sample(self.labelled.labels[chosen], nearest=True).squeeze(1).long(),
            prior_x=self._prior_features(chosen, warp),
        )
        if self.unlabelled is not None and self.config.train.use_unlabelled and self.method.ready_for_unlabelled:
            chosen, warp = self._draw(len(self.unlabelled.images))
            batch.image_u_w = warp.sample(self.unlabelled.images[chosen])
            batch.image_u_s1 = change_intensity(batch.image_u_w, self.generator, strength=2.0)
            batch.image_u_s2 = change_intensity(batch.image_u_w, self.generator, strength=2.0)
        return batch

    def _draw(self, n_slices: int) -> tuple[Tensor, Warp]:
        """Indices of a batch of slices, and how each is turned."""
        chosen = torch.randint(n_slices, (self.batch_size,), generator=self.generator)
        warp = _random_turns(self.batch_size, self.size, self.generator)
        return chosen.to(self.device), Warp(warp.rows.to(self.device), warp.columns.to(self.device))

    def _prior_features(self, chosen: Tensor, warp: Warp) -> Tensor | None:
        """The priors' features (B, D, h, w) of labelled slices, turned as they are; computed once a slice."""
        if self.priors is None:
            return None
        features = self._features.features(chosen.tolist(), self.labelled.images[chosen], self.priors.features)
        return warp_features(warp, features, (self.size, self.size))

    @torch.inference_mode()
    def codebook_report(self) -> CodebookReport | None:
        """The codes of all training slices, labelled or not; None for methods without a codebook."""
        network = self.method.network_for_prediction.eval()
        if not isinstance(network, VQSegNet):
            return None
        parts = [self.labelled] if self.unlabelled is None else [self.labelled, self.unlabelled]
        with self._autocast():
            codes = [
                network.encode(images).indices.cpu().numpy()
                for part in parts
                for images in part.images.split(PREDICTED_AT_ONCE)
            ]
        return usage_report(codes, network.quantizer.codebook_size)

    def save(self, path: Path) -> None:
        """Everything that the next step depends on."""
        state = {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step_index,
            "seconds": self.seconds,
            "generators": [self.generator.get_state(), self.method.generator.get_state(), torch.get_rng_state()],
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on from :meth:`save`."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step_index, self.seconds = state["step"], state["seconds"]
        self.generator.set_state(state["generators"][0])
        self.method.generator.set_state(state["generators"][1])
        torch.set_rng_state(state["generators"][2])
        if state["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)


def _config(name: str, settings: dict[str, Any], *, seed: int, iterations: int, batch: int, size: int) -> Config:
    """The paper's settings, but from scratch and without a prior unless the variant asks for them.

    A prior that is asked for is required: a row must be what its name says. An encoder from scratch has nothing to
    teach at first, so the unlabelled slices wait until the labelled ones are half learned (docs/benchmarks.md).
    """
    scratch: dict[str, Any] = {
        "encoder": "conv", "prior": "none", "prior_policy": "required", "code_dim": 16, "learning_rate": 1e-3,
        "unlabelled_from": 0.6,
    }  # fmt: skip
    given: dict[str, Any] = {
        "method": name, "seed": seed, "iterations": iterations, "batch_x": batch, "batch_u": batch, "size": size,
        "neighbours": 0, "segmentation": "ce+dice",
    }  # fmt: skip
    return preset("paper", **{**scratch, **given, **settings})


@torch.inference_mode()
def predict(network: nn.Module, case: CohortCase, size: int, device: torch.device) -> Labels:
    """The volume's labels (z, y, x) uint8, predicted at the network's size and brought back to the volume's."""
    network.eval()
    labels = []
    for part in torch.from_numpy(case.image).unsqueeze(1).split(PREDICTED_AT_ONCE):
        logits = network(_resize(part, size).to(device)).logits.float()
        logits = F.interpolate(logits, case.image.shape[1:], mode="bilinear", align_corners=False)
        labels.append(logits.max(1).indices.byte().cpu())
    return torch.cat(labels).numpy()
