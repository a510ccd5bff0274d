"""The teacher: an exponential moving average of the student, parameters and buffers."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["make_teacher", "update_ema"]

Network = TypeVar("Network", bound=nn.Module)


def make_teacher(student: Network) -> Network:
    """A frozen copy of the student, in evaluation mode.

    Parameters
    ----------
    student : nn.Module
        The network that gradients train.

    Returns
    -------
    nn.Module
        Same weights, own memory, no gradients.
    """
    teacher = copy.deepcopy(student)
    teacher.requires_grad_(False)
    return teacher.eval()


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Move the teacher towards the student, in place: ``teacher = decay * teacher + (1 - decay) * student``.

    Floating-point buffers (running statistics, codebooks) move like parameters; other buffers (counters, flags)
    are copied. VQ-Seg, "Loss & Training": alpha = 0.996, https://arxiv.org/abs/2601.10124.

    Parameters
    ----------
    teacher, student : nn.Module
        Two networks of the same structure.
    decay : float
        Share of the teacher that stays, in [0, 1].
    """
    targets = [*teacher.parameters(), *teacher.buffers()]
    sources = [*student.parameters(), *student.buffers()]
    moving: tuple[list[Tensor], list[Tensor]] = ([], [])
    for target, source in zip(targets, sources, strict=True):
        if target.is_floating_point():
            moving[0].append(target)
            moving[1].append(source.detach())
        else:
            target.copy_(source)
    torch._foreach_lerp_(moving[0], moving[1], 1.0 - decay)
