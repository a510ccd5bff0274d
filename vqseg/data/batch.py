"""The tensors of one training step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from vqseg.distributed import own_part

__all__ = ["Batch"]


@dataclass
class Batch:
    """Slices of one training step, on the method's device.

    Parameters
    ----------
    image_x : Tensor
        (B, C, H, W) float, labelled slices, weakly augmented; C = ``Framing.channels``, the slice at C // 2.
    label_x : Tensor
        (B, H, W) int64, classes 0..K, or ``IGNORE_LABEL``.
    image_u_w, image_u_s1, image_u_s2 : Tensor or None
        (B', C, H, W): the weak view of unlabelled slices and two strong views of the same geometry
        (intensity changes only, so labels carry over voxel by voxel).
    valid_u : Tensor or None
        (B', H, W) bool, False where the weak view was padded.
    shape_x, shape_u : Tensor or None
        (B, K + 1, H, W) what geometry says about the slices (vqseg.data.shape_prior); methods may ignore it.
    prior_x : Tensor or None
        (B, D, h, w) features of the frozen foundation models, one after the other, for the labelled slices.
    """

    image_x: Tensor
    label_x: Tensor
    image_u_w: Tensor | None = None
    image_u_s1: Tensor | None = None
    image_u_s2: Tensor | None = None
    valid_u: Tensor | None = None
    shape_x: Tensor | None = None
    shape_u: Tensor | None = None
    prior_x: Tensor | None = None

    def own_part(self) -> Batch:
        """The slices of this process, where several train as one."""
        parts = {name: own_part(value) for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(self, **parts)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(self, **moved)
