"""What every method is: a student, a teacher, and a loss on a batch of labelled and unlabelled slices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vqseg.config import Config
from vqseg.data.batch import Batch
from vqseg.models.ema import update_ema

__all__ = ["Batch", "Method"]


class Method(nn.Module, ABC):
    """A way to train one network from labelled and unlabelled slices.

    Parameters
    ----------
    config : Config
        The run's settings.
    in_channels : int
        Channels of the input slices.
    n_classes : int
        Number of output classes, background included.

    Attributes
    ----------
    student : nn.Module
        The network that gradients train; ``student(x).logits`` is (B, n_classes, H, W).
    teacher : nn.Module or None
        Exponential moving average of the student, or None for methods without one.
    generator : torch.Generator
        Source of every random choice the method makes.
    """

    name: ClassVar[str]
    uses_shape: ClassVar[bool] = False
    """Whether the network takes shape evidence beside the slices."""
    unlabelled_every: ClassVar[int] = 1
    """Every how many steps the unlabelled slices take part."""
    strong_views: ClassVar[int] = 1
    """How many strong views of the unlabelled slices it wants, 1 or 2."""
    takes_prior: ClassVar[bool] = False
    """Whether it aligns its features to frozen priors: the loop then calls :meth:`align_to`."""
    rate_fall: ClassVar[float] = 0.9
    """Where the papers' protocol is followed, the learning rate falls as (1 - progress) to this power."""
    student: nn.Module
    teacher: nn.Module | None

    def __init__(self, config: Config, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.teacher = None
        self.config = config
        self.in_channels = in_channels
        self.n_classes = n_classes
        self.generator = torch.Generator().manual_seed(config.train.seed)

    @property
    def pretrained_parameters(self) -> list[nn.Parameter]:
        """Parameters that come from elsewhere and learn more slowly."""
        return []

    def align_to(self, prior_dims: Sequence[int]) -> None:
        """Prepare for priors with so many channels each, whose features fill ``batch.prior_x``; see `takes_prior`."""
        raise NotImplementedError

    @property
    def can_warm_up(self) -> bool:
        """Whether there is something to learn from slices without labels alone."""
        return False

    def warmup_losses(self, images: Tensor) -> dict[str, Tensor]:
        """Loss terms, as of :meth:`losses`, of slices (B, C, H, W), labelled or not; where it `can_warm_up`."""
        raise NotImplementedError

    @property
    def ready_for_unlabelled(self) -> bool:
        """Whether the next batch may bring unlabelled slices."""
        return True

    @property
    def codebook_state(self) -> dict[str, Any]:
        """The entries of a :class:`vqseg.step_report.StepReport` about the codebook, for methods with one."""
        return {}

    @abstractmethod
    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Loss terms of one batch, scalar each; "total" is the one to differentiate.

        Parameters
        ----------
        batch : Batch
            Labelled and unlabelled slices.
        progress : float
            Share of the training that is over, in [0, 1]; time for runs with a budget.
        """

    def update_teacher(self, step: int) -> None:
        """Let the teacher follow the student, after the optimizer's step."""
        if self.teacher is not None:
            update_ema(self.teacher, self.student, min(self.config.train.ema_decay, (1 + step) / (10 + step)))

    @property
    def network_for_prediction(self) -> nn.Module:
        """What predicts: the teacher where there is one, otherwise the student, unless a method's paper says so."""
        return self.student if self.teacher is None else self.teacher
