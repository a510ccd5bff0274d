import torch

from vqseg.benchmark.codebook import measure_usage


def test_usage_is_counted_over_all_slices_and_repeats():
    images = torch.rand(6, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    labels = (images[:, 0] > 0.5).long()
    first, second = (measure_usage(images, labels, 32, steps=2) for _ in range(2))
    assert first.tokens == 6 * 3 * 3
    assert 0 < first.utilisation <= 1
    assert 1 <= first.perplexity <= 32
    assert first.perplexity == second.perplexity
