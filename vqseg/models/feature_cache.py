"""Features of frozen models, computed once a slice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

__all__ = ["FeatureCache"]


class FeatureCache:
    """The priors' features, computed once per slice and kept in memory as float16.

    Parameters
    ----------
    capacity : int
        Largest number of slices; the oldest ones go first.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self._stored: OrderedDict[Hashable, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stored)

    def features(self, keys: Sequence[Hashable], images: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Features of a batch of slices: stored ones, and new ones for the slices not seen before.

        Parameters
        ----------
        keys : sequence of hashable
            What tells slices apart, for example (case, z, window); one for each image.
        images : Tensor
            (B, 1, H, W), all of one size.
        compute : callable
            :meth:`vqseg.models.priors.Priors.features`.

        Returns
        -------
        Tensor
            (B, D, h, w) float32 on the images' device.
        """
        found = {key: self._stored[key] for key in keys if key in self._stored}
        missing = [i for i, key in enumerate(keys) if key not in found]
        if missing:
            for i, feature in zip(missing, compute(images[missing]).half().cpu(), strict=True):
                found[keys[i]] = self._stored[keys[i]] = feature
        while len(self._stored) > self.capacity:
            self._stored.popitem(last=False)
        return torch.stack([found[key] for key in keys]).to(images.device).float()
