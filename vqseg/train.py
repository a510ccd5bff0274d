"""The one training loop: draw a batch, take a step, let the teacher follow, until the time is up."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqseg import __version__
from vqseg.annotations import Annotations
from vqseg.checkpoint import read_checkpoint, restore_settings, restore_weights, write_checkpoint
from vqseg.codebook import LOOK_EVERY, CodeDrift
from vqseg.config import Config
from vqseg.data.case import PreparedCase
from vqseg.data.framing import Framing, TrainingCase, frame_cases
from vqseg.data.sampling import BatchSampler
from vqseg.device import (
    choose_device,
    compile_networks,
    gains_from_bfloat16,
    has_room,
    random_states,
    restore_random_states,
)
from vqseg.distributed import average_gradients, averaged, from_first, own_part, synchronise_batch_norm
from vqseg.errors import AnnotationError, ConfigError, TrainingError
from vqseg.methods import create_method
from vqseg.methods.base import Method
from vqseg.models.feature_cache import FeatureCache
from vqseg.models.pausing import pausing
from vqseg.models.priors import Priors, load_priors
from vqseg.models.vqseg import VQSegNet
from vqseg.predict import Predictor
from vqseg.schedule import Schedule
from vqseg.step_report import StepReport

__all__ = ["Trainer"]

PRETRAINED_SHARE = 0.3
"""Learning rate of a pretrained encoder, as a share of the others'."""
LARGEST_GRADIENT = 5.0


class Trainer:
    """Trains one method on the labelled slices of some cases, and on their other slices.

    Parameters
    ----------
    config : Config
        Settings; `time_budget_s` or, where that is 0, `iterations` says how long.
    cases : sequence of TrainingCase
        Volumes and their labels; at least one used slice in all.
    class_names : mapping of int to str
        Name of each class by its label value; values may leave gaps.
    clock : callable
        Seconds; a paused clock pauses the budget.

    Raises
    ------
    AnnotationError
        If no slice is labelled, or a label has no class.
    ConfigError
        If there is neither a time budget nor a number of iterations, or a warm-up that the method cannot take.
    DeviceError, PriorError
        If what the config requires is not there.
    """

    def __init__(
        self,
        config: Config,
        cases: Sequence[TrainingCase],
        class_names: Mapping[int, str],
        *,
        clock: Callable[[], float] = time.monotonic,
        _framing: Framing | None = None,
        _pretrained: bool = True,
    ) -> None:
        self.config = config
        self.schedule = Schedule(config.train)
        self.class_names = {value: str(class_names[value]) for value in sorted(class_names)}
        self._clock = clock
        self.device = choose_device(config.train.device)
        self.warnings: list[str] = []
        self._require_classes([case.annotations for case in cases])
        torch.manual_seed(config.train.seed)
        self.framing = frame_cases(cases, config.data, config.model.neighbours) if _framing is None else _framing
        self.cases = self._prepare(cases)
        self.method = self._make_method(_pretrained)
        self._priors = self._load_priors()
        self._features = FeatureCache()
        self._generator = torch.Generator().manual_seed(config.train.seed)
        self.sampler = BatchSampler(
            self.cases, config.data, self._generator,
            self._prior_features if self._priors is not None else None,
        )  # fmt: skip
        self.method.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        synchronise_batch_norm(self.method)
        if config.train.compile:
            compile_networks(self.method.student, self.method.teacher)
        self._optimizer = self._make_optimizer()
        self._bfloat16 = config.train.mixed_precision and gains_from_bfloat16(self.device)
        self._drift = CodeDrift(self.cases[0])

    # ------------------------------------------------------------ making

    def _require_classes(self, labelled: Sequence[Annotations]) -> None:
        if not any(annotations.used for annotations in labelled):
            raise AnnotationError("No slice is labelled yet; paint one and mark it complete before training.")
        painted = {value for annotations in labelled for value in annotations.classes}
        if unknown := sorted(value for value in painted if not self.class_names.get(value)):
            raise AnnotationError(
                f"The labels hold class {unknown[0]}, which this training has no name for; name it and start a new "
                "training, or relabel."
            )

    def _prepare(self, cases: Sequence[TrainingCase]) -> list[PreparedCase]:
        """The cases in the network's frame, on the device where that has room; warns where they teach nothing."""
        prepared = [PreparedCase(case.volume, case.annotations, self.framing, list(self.class_names)) for case in cases]
        if all(case.is_flat for case in prepared):
            low, high = self.framing.window.limits_hu
            self.warnings.append(
                f"In the training window ({low:.6g} to {high:.6g}) the labelled slices look the same everywhere, so "
                "that the image teaches nothing; choose another window, or check the image."
            )
        if has_room(self.device, sum(case.bytes for case in prepared)):
            for case in prepared:
                case.to(self.device)
        return prepared

    def _make_method(self, pretrained: bool) -> Method:
        config = self.config
        method = create_method(
            config.train.method, config, self.framing.channels, len(self.class_names) + 1, pretrained=pretrained
        )
        if config.train.warmup_s and not method.can_warm_up:
            raise ConfigError("A warm-up needs vq-seg with its image branch; set warmup_s to 0, or choose these.")
        return method

    def _load_priors(self) -> Priors | None:
        if not self.method.takes_prior:
            return None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            priors = load_priors(self.config.model)
        self.warnings += [str(warning.message) for warning in caught]
        if priors is not None:
            self.method.align_to(priors.dims)
            priors.to(self.device)
        return priors

    def _prior_features(self, case_index: int, z: int) -> Tensor:
        assert self._priors is not None
        image = self.cases[case_index].images[z][None, None].to(self.device)
        features = self._features.features([(case_index, z)], image, self._priors.features)[0]
        return features.to(self.cases[case_index].device)

    def _make_optimizer(self) -> torch.optim.AdamW:
        train = self.config.train
        slow = set(self.method.pretrained_parameters)
        trained = [p for p in self.method.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p not in slow], "share": 1.0},
            {"params": [p for p in trained if p in slow], "share": PRETRAINED_SHARE},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=train.learning_rate, weight_decay=train.weight_decay, fused=self.device.type in ("cpu", "cuda"),
        )  # fmt: skip

    # ------------------------------------------------------------ time

    @property
    def step_index(self) -> int:
        """Steps taken, those of the warm-up left out."""
        return self.schedule.step_index

    @property
    def progress(self) -> float:
        """Share of the training that is over, in [0, 1]."""
        return self.schedule.progress

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self.schedule.finished

    # ------------------------------------------------------------ training

    def step(self, pause: Callable[[], None] | None = None) -> StepReport:
        """Take one step and report on it.

        Parameters
        ----------
        pause : callable, optional
            Called in the midst of the step, again and again; must leave weights and torch's random numbers alone.

        Raises
        ------
        TrainingError
            If a gradient is not finite; the weights stay as they were.
        """
        start = self._clock()
        with pausing(self.method, None if self.config.train.compile else pause):
            terms = self._differentiated()
        average_gradients(self.method.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.method.student.parameters(), LARGEST_GRADIENT)
        if not norm.isfinite():
            raise TrainingError(
                f"The training came to numbers that are not finite at step {self.step_index + 1}; start it again with "
                "a smaller learning_rate, or with mixed_precision=false."
            )
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.train.learning_rate * group["share"] * self.schedule.rate
        self._optimizer.step()
        self.method.update_teacher(self.step_index)
        if self.step_index % LOOK_EVERY == 0 and not self.schedule.warming_up:
            self._look_at_codes()
        report = self._report(terms)
        self.schedule.advance(from_first(self._clock() - start))
        return report

    def _differentiated(self) -> dict[str, Tensor]:
        """Loss terms of a new batch, and in the parameters their gradients."""
        self.method.train()
        if self.method.teacher is not None:
            self.method.teacher.eval()
        terms = self._warmup_losses() if self.schedule.warming_up else self._training_losses()
        self._optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        return terms

    def _training_losses(self) -> dict[str, Tensor]:
        strong_views = self.method.strong_views if self._wants_unlabelled else 0
        batch = self.sampler.draw(strong_views=strong_views).own_part().to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            return self.method.losses(batch, self.progress)

    def _look_at_codes(self) -> None:
        network = self.method.network_for_prediction
        if isinstance(network, VQSegNet):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
                self._drift.look(network)

    @property
    def _wants_unlabelled(self) -> bool:
        due = self.step_index % self.method.unlabelled_every == 0
        return self.config.train.use_unlabelled and due and self.method.ready_for_unlabelled

    def _warmup_losses(self) -> dict[str, Tensor]:
        images = own_part(self.sampler.draw_unlabelled(self.config.data.batch_x)).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            return self.method.warmup_losses(images)

    def _report(self, terms: Mapping[str, Tensor]) -> StepReport:
        means = averaged(torch.stack([term.detach().float() for term in terms.values()]))
        values = dict(zip(terms, means.tolist(), strict=True))
        return StepReport(
            step=self.step_index + 1, progress=self.progress, time_left_s=self.schedule.time_left_s,
            confident_share=values.pop("confident_share", None), losses=values, drift=self._drift.share,
            **self.method.codebook_state,
        )  # fmt: skip

    # ------------------------------------------------------------ changes while training

    def update_settings(self, **settings: Any) -> None:
        """Change live settings between two steps.

        Raises
        ------
        ConfigError
            For a setting that is unknown, out of range or not live, or a training that would have no end.
        """
        fixed = [name for name in settings if name not in _live_settings()]
        if fixed:
            raise ConfigError(f"{', '.join(fixed)} cannot change while training; stop and start again.")
        config = self.config.replace(**settings)
        self.schedule.config = config.train
        self.config = self.method.config = config

    def update_annotations(self, case_index: int, annotations: Annotations) -> None:
        """Use changed labels from the next step on; new classes need a new run.

        Raises
        ------
        AnnotationError
            If no slice of any case is labelled any more, or a label has no class; all stays as it was then.
        """
        others = [case.annotations for index, case in enumerate(self.cases) if index != case_index]
        self._require_classes([annotations, *others])
        self.cases[case_index].update_annotations(annotations)
        self.sampler.refresh()

    # ------------------------------------------------------------ results

    @property
    def untaught(self) -> list[str]:
        """Names of the labelled classes that the network has not learned; a prediction leaves them to geometry."""
        labelled = {value for case in self.cases for value in case.annotations.classes}
        return [self.class_names[value] for value in self.predictor().untaught if value in labelled]

    def predictor(self) -> Predictor:
        """A predictor on the weights as they are now and will be; copy it (deepcopy) to keep them as they are."""
        predictor = Predictor(
            self.method.network_for_prediction, self.config, self.framing, self.class_names,
            uses_shape=self.method.uses_shape, device=self.device,
        )  # fmt: skip
        for case in self.cases:
            predictor.adopt(case)
        return predictor

    def save(self, path: Path | str, **notes: Any) -> None:
        """Write a checkpoint folder from which :meth:`load` goes on exactly; `notes` join its description."""
        state = self._optimizer.state_dict()["state"]
        description = {
            "config": self.config.to_dict(),
            "classes": {str(value): name for value, name in self.class_names.items()},
            "window": {"level_hu": self.framing.window.level_hu, "width_hu": self.framing.window.width_hu},
            "pixel_mm": self.framing.pixel_mm,
            "equalisation": list(self.framing.equalisation),
            "spacing_mm": [list(case.volume.spacing_mm) for case in self.cases],
            "seed": self.config.train.seed,
            **self.schedule.state,
            "device": self.device.type,
            "versions": {"napari-vqseg": __version__} | {name: version(name) for name in ("torch", "numpy", "timm")},
            **notes,
        }
        write_checkpoint(Path(path), description, {
            "model": self.method.state_dict(),
            "optimizer": {f"{index}.{name}": value for index, item in state.items() for name, value in item.items()},
            "random": {
                "sampler": self._generator.get_state(),
                "method": self.method.generator.get_state(),
                **random_states(self.device),
            },
        })  # fmt: skip

    @classmethod
    def load(
        cls,
        path: Path | str,
        cases: Sequence[TrainingCase],
        *,
        config: Config | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Trainer:
        """The trainer in a checkpoint folder, ready for the next step.

        Parameters
        ----------
        path : str or path-like
            The folder.
        cases : sequence of TrainingCase
            The cases it learns from.
        config : Config, optional
            Settings to go on with, by default the checkpoint's; other sizes of batches and slices fit its weights.
        clock : callable
            Seconds; a paused clock pauses the budget.

        Raises
        ------
        CheckpointError
            If the checkpoint is damaged or was made for other classes.
        """
        description, tensors = read_checkpoint(Path(path), ("model", "optimizer", "random"))
        before, framing, class_names = restore_settings(description)
        config = config or before
        coarser = before.data.size / config.data.size
        framing = dataclasses.replace(framing, pixel_mm=framing.pixel_mm * coarser)
        trainer = cls(config, cases, class_names, clock=clock, _framing=framing, _pretrained=False)
        restore_weights(trainer.method, tensors["model"])
        trainer._load_optimizer(tensors["optimizer"])
        trainer._generator.set_state(tensors["random"]["sampler"])
        trainer.method.generator.set_state(tensors["random"]["method"])
        restore_random_states(tensors["random"], trainer.device)
        trainer.schedule.restore(description)
        return trainer

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            index, name = int(key.split(".")[0]), key.split(".", 1)[1]
            like = parameters[index]  # the fused kernel walks both in memory order, so their strides must agree
            laid_out = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            state.setdefault(index, {})[name] = laid_out
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})


def _live_settings() -> set[str]:
    groups = [getattr(Config(), group.name) for group in dataclasses.fields(Config) if group.name != "preset"]
    return {item.name for group in groups for item in dataclasses.fields(group) if item.metadata["live"]}
