"""How long a training lasts, where it stands, how fast it learns by then, and when it is banked."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vqseg.config import TrainConfig
from vqseg.errors import ConfigError

__all__ = ["CheckpointTimer", "Schedule"]

RISE_STEPS = 20
"""Steps over which the learning rate rises."""
CHECKPOINT_EVERY_S = 20.0
CHECKPOINT_SHARE = 0.05
"""Of the time, at most, that goes into writing checkpoints on the way."""


class Schedule:
    """A warm-up, then a time budget or a number of steps.

    Parameters
    ----------
    config : TrainConfig
        What it goes by; may be replaced while training.

    Attributes
    ----------
    step_index : int
        Steps taken, those of the warm-up left out.

    Raises
    ------
    ConfigError
        If there is neither a time budget nor a number of steps.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.step_index = 0
        self._elapsed_s = self._warmup_elapsed_s = 0.0

    @property
    def config(self) -> TrainConfig:
        """What it goes by."""
        return self._config

    @config.setter
    def config(self, config: TrainConfig) -> None:
        if config.time_budget_s == 0 and config.iterations == 0:
            raise ConfigError("Both time_budget_s and iterations are 0; give one of them.")
        self._config = config

    @property
    def warming_up(self) -> bool:
        """Whether the volume is still being learned without labels."""
        return self._warmup_elapsed_s < self.config.warmup_s

    @property
    def progress(self) -> float:
        """Share of the training that is over, the warm-up left out, in [0, 1]."""
        budget_s = self.config.time_budget_s
        return min(1.0, self._elapsed_s / budget_s if budget_s else self.step_index / self.config.iterations)

    @property
    def time_left_s(self) -> float:
        """Estimated seconds to go, warm-up included; not a number before the first of a number of steps."""
        warmup_s = max(0.0, self.config.warmup_s - self._warmup_elapsed_s)
        if self.config.time_budget_s:
            return warmup_s + max(0.0, self.config.time_budget_s - self._elapsed_s)
        per_step_s = self._elapsed_s / self.step_index if self.step_index else math.nan
        return warmup_s + per_step_s * (self.config.iterations - self.step_index)

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self.progress >= 1.0 and not self.warming_up

    @property
    def rate(self) -> float:
        """The learning rate as a share of the largest: a short rise, then half a cosine to 0; 1 during warm-up."""
        if self.warming_up:
            return 1.0
        rise = min(1.0, (self.step_index + 1) / RISE_STEPS)
        fall = 0.5 * (1 + math.cos(math.pi * self.progress))
        return rise * fall

    def advance(self, seconds: float) -> None:
        """Count a step that took so long."""
        if self.warming_up:
            self._warmup_elapsed_s += seconds
        else:
            self.step_index += 1
            self._elapsed_s += seconds

    @property
    def state(self) -> dict[str, Any]:
        """Where it stands, as :meth:`restore` takes it."""
        return {"step": self.step_index, "elapsed_s": self._elapsed_s, "warmup_elapsed_s": self._warmup_elapsed_s}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a :attr:`state`; other entries are passed over."""
        self.step_index = int(state["step"])
        self._elapsed_s, self._warmup_elapsed_s = float(state["elapsed_s"]), float(state["warmup_elapsed_s"])


class CheckpointTimer:
    """When the next checkpoint is due: in a while, later where writing one takes long or the disk refuses it."""

    def __init__(self) -> None:
        self._written_at = time.monotonic()
        self._cost_s = 0.0

    @property
    def due(self) -> bool:
        """Whether to write one now."""
        return time.monotonic() - self._written_at >= max(CHECKPOINT_EVERY_S, self._cost_s / CHECKPOINT_SHARE)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the writing of a checkpoint, due or not; the wait begins anew."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._written_at = time.monotonic()
            self._cost_s = self._written_at - start
