"""Several processes that train as one: each takes its part of every batch, all hold the same weights.

The result is that of one process on the joint batch: normalisation, losses and codebook statistics are those of the
joint batch too, not of its parts. In a single process everything here hands back what it was given.
Rank r takes every n-th slice of a batch from r on, so that concatenating parts and gathering them keep the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = [
    "average_gradients",
    "averaged",
    "from_first",
    "gathered",
    "own_part",
    "rank",
    "summed",
    "synchronise_batch_norm",
    "uniform",
    "world_size",
]


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def own_part(joint: Tensor, dim: int = 0) -> Tensor:
    """The own part of what was drawn for all."""
    if world_size() == 1:
        return joint
    return joint[(slice(None),) * dim + (slice(rank(), None, world_size()),)]


def uniform(shape: Sequence[int], generator: torch.Generator, dim: int = 0) -> Tensor:
    """Uniform draws of `shape`: the own part of what all processes draw from generators in the same state."""
    joint = list(shape)
    joint[dim] *= world_size()
    return own_part(torch.rand(joint, generator=generator, device=generator.device), dim)


def gathered(part: Tensor) -> Tensor:
    """The joint tensor of all parts, in the order that :func:`own_part` split; without gradient."""
    if world_size() == 1:
        return part
    part = part.detach().contiguous()
    parts = [torch.empty_like(part) for _ in range(world_size())]
    dist.all_gather(parts, part)
    return torch.stack(parts, 1).flatten(0, 1)


class _Average(torch.autograd.Function):
    """The mean over all processes, whose gradient is the mean of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total / world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total / world_size()


def summed(part: Tensor) -> Tensor:
    """Sum of a tensor over all processes, without gradient."""
    if world_size() == 1:
        return part
    total = part.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def averaged(value: Tensor) -> Tensor:
    """Mean of a floating-point tensor over all processes, differentiable.

    The gradients are such that averaging those of the parameters (:func:`average_gradients`) gives the gradient of a
    loss that is computed from the mean.
    """
    if world_size() == 1:
        return value
    result: Tensor = _Average.apply(value)
    return result


def from_first(value: float) -> float:
    """What the first process measured, so that all decide alike."""
    if world_size() == 1:
        return value
    shared = [value]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their means over all processes."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    joint = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(joint)
    joint /= world_size()
    for gradient, mean in zip(gradients, joint.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


class _JointBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the joint batch; torch's own SyncBatchNorm has no CPU kernel.

    timm's layers go on with a dropout and an activation of their own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        if not self.training:
            return super().forward(x)
        axes = (0, 2, 3)
        mean = averaged(x.float().mean(axes))
        centred = x.float() - mean.view(1, -1, 1, 1)
        variance = averaged(centred.square().mean(axes))
        self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * world_size())
        y = centred * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)
        if self.affine:
            y = y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        y = y.to(x.dtype)
        for name in ("drop", "act"):
            y = getattr(self, name, nn.Identity())(y)
        return y

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), momentum)


def synchronise_batch_norm(module: nn.Module) -> None:
    """Let every batch normalisation in a module see the joint batch; names and weights stay as they are."""
    if world_size() == 1:
        return
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            kind = type(part)
            part.__class__ = type(f"Joint{kind.__name__}", (_JointBatchNorm, kind), {})
