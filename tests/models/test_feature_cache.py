"""Features of frozen models, computed once a slice."""

import torch
from torch import Tensor

from vqseg.models.feature_cache import FeatureCache


def test_the_cache_computes_each_slice_once() -> None:
    calls: list[int] = []

    def compute(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.mean((2, 3), keepdim=True).expand(-1, 4, 2, 2)

    cache, images = FeatureCache(), torch.rand(3, 1, 8, 8)
    first = cache.features(["a", "b", "c"], images, compute)
    again = cache.features(["c", "a"], images[[2, 0]], compute)
    assert calls == [3]
    assert first.dtype == torch.float32
    assert torch.equal(again, first[[2, 0]])
    small = FeatureCache(capacity=2)
    small.features(["a", "b", "c"], images, compute)
    assert len(small) == 2
