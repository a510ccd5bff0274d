"""The quantizer: nearest codewords, gradients, blending, usage, revival."""

import math

import pytest
import torch
from torch import Tensor

from vqseg.models import quantizer
from vqseg.models.quantizer import VectorQuantizer, nearest_codewords


def _features(seed: int = 0, batch: int = 4) -> Tensor:
    return torch.randn(batch, 8, 6, 5, generator=torch.Generator().manual_seed(seed))


def _quantizer(size: int = 16) -> VectorQuantizer:
    torch.manual_seed(0)
    return VectorQuantizer(8, size, 4)


def test_nearest_codewords_are_the_nearest_in_any_chunking(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, codebook = torch.randn(100, 5), torch.randn(33, 5)
    expected = torch.cdist(tokens, codebook).argmin(1)
    assert torch.equal(nearest_codewords(tokens, codebook), expected)
    monkeypatch.setattr(quantizer, "rows_at_once", lambda codebook: 7)
    assert torch.equal(nearest_codewords(tokens, codebook), expected)


def test_among_equally_near_codewords_the_first_is_taken_whatever_their_number() -> None:
    for size in (1, 31, 96, 256, 1000):
        rows = torch.randint(5, (40, size), generator=torch.Generator().manual_seed(size)).float()
        first = torch.stack([(row == row.min()).nonzero()[0, 0] for row in rows])
        assert torch.equal(quantizer._first_minimum(rows), first)


def test_blocks_of_distances_stay_small() -> None:
    for size, code_dim in ((1024, 16), (16384, 32), (16384, 384), (65536, 768), (16, 2)):
        rows = quantizer.rows_at_once(torch.empty(size, code_dim))
        assert rows >= 1
        assert rows * size * 4 <= max(1 << 25, size * 4)
    assert quantizer.rows_at_once(torch.empty(16384, 384)) == 384


def test_shapes_and_ranges() -> None:
    q = _quantizer()
    out = q(_features())
    assert out.quantized.shape == (4, 8, 6, 5)
    assert out.projected.shape == (4, 4, 6, 5)
    assert out.indices.shape == (4, 6, 5)
    assert out.indices.dtype == torch.int64
    assert out.commitment_loss.ndim == 0
    assert out.commitment_loss >= 0
    assert q.codebook.shape == (16, 4)
    torch.testing.assert_close(q.lookup(out.indices), out.quantized)


def test_blend_goes_from_the_features_to_the_codewords() -> None:
    q = _quantizer()
    q(_features())
    q.eval()
    plain, half, full = (q(_features(), blend) for blend in (0.0, 0.5, 1.0))
    torch.testing.assert_close(plain.quantized, q.unproject(plain.projected))
    torch.testing.assert_close(half.quantized, (plain.quantized + full.quantized) / 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(q.mix(half.projected, half.indices, 0.5), half.quantized)


def test_gradients_pass_straight_through_and_reach_the_codebook() -> None:
    q = _quantizer()
    z = _features().requires_grad_()
    q(z).quantized.sum().backward()
    assert z.grad is not None
    assert z.grad.abs().sum() > 0
    assert q.transform.weight.grad is None
    q(z).commitment_loss.backward()
    assert q.transform.weight.grad is not None
    assert q.transform.weight.grad.abs().sum() > 0


def test_the_first_batch_places_the_codewords() -> None:
    kinds = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    z = kinds[torch.arange(120) % 5].view(4, 6, 5, 8).permute(0, 3, 1, 2)  # only five different features
    q = _quantizer()
    q.initialised.fill_(True)
    unplaced = q(z).commitment_loss
    q.initialised.fill_(False)
    assert q(z).commitment_loss < 1e-3 < unplaced
    assert q.initialised


def test_more_codewords_than_tokens_start_on_the_tokens() -> None:
    q = _quantizer(1024)
    out = q(_features())
    assert out.commitment_loss < 0.05
    assert q.codebook.unique(dim=0).shape[0] == 1024


def test_codewords_that_the_first_batch_could_not_place_are_placed_by_the_next() -> None:
    q, generator = _quantizer(1024), torch.Generator().manual_seed(0)
    steps = 0
    while not q.initialised or q.dead.any():
        kinds = torch.Generator().manual_seed(steps)
        out = q(torch.randn(4, 8, 6, 5, generator=kinds))  # 120 tokens, others each time
        moved = q.revive(out.projected, out.indices, generator)
        assert 0 < len(moved) <= 30
        steps += 1
    assert steps < 50  # by 30 a step; they had been forgotten only after 40 steps, ten thousand tokens
    assert q.credit.sum() <= 1 + 1e-5


def test_dead_codewords_are_told_and_revived() -> None:
    q = _quantizer()
    out = q(_features())
    with torch.no_grad():
        q.base[:10] = 1e3
    for _ in range(20):
        out = q(_features())
    assert q.dead[:10].all()
    assert q.utilisation == pytest.approx(6 / 16, abs=0.26)
    before, loss = q.base.clone(), out.commitment_loss.item()
    n_dead = int(q.dead.sum())
    assert len(q.revive(out.projected, out.indices, torch.Generator().manual_seed(0))) == n_dead
    assert (q.base != before).any(1).sum() == n_dead
    assert not q.dead.any()
    assert q.utilisation < 1  # revived codewords are told as used only once they are
    assert q.usage.sum().item() == pytest.approx(1, abs=1e-5)
    assert q(_features()).commitment_loss < loss
    assert len(q.revive(out.projected, out.indices, torch.Generator().manual_seed(0))) == 0


def test_revival_is_repeatable_and_respects_the_transform() -> None:
    revived = []
    for _ in range(2):
        q = _quantizer()
        out = q(_features())
        with torch.no_grad():
            q.transform.weight.add_(0.1 * torch.eye(4))
        q.credit[:3] = 0
        q.revive(out.projected, out.indices, torch.Generator().manual_seed(3))
        revived.append(q.codebook.detach()[:3])
    assert torch.equal(*revived)
    tokens = out.projected.detach().permute(0, 2, 3, 1).reshape(-1, 4)
    assert torch.cdist(revived[0], tokens).amin(1).max() < 1e-3


def test_usage_counts_only_while_training() -> None:
    q = _quantizer()
    q(_features())
    usage = q.usage.clone()
    q.eval()
    q(_features(1))
    assert torch.equal(q.usage, usage)
    assert 1 <= q.perplexity <= 16
    q.usage.fill_(1 / 16)
    assert q.perplexity == pytest.approx(16)
    q.usage.zero_()[3] = 1
    assert q.perplexity == pytest.approx(1)


def test_mixed_precision_does_not_touch_the_codes() -> None:
    q = _quantizer()
    q(_features())
    q.eval()
    plain = q(_features())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = q(_features())
        assert q.codebook.dtype == q.codes(mixed.indices).dtype == torch.float32
    assert torch.equal(plain.indices, mixed.indices)
    assert mixed.projected.dtype == torch.float32


def test_the_forward_pass_is_deterministic() -> None:
    first, second = (_quantizer()(_features()) for _ in range(2))
    assert torch.equal(first.quantized, second.quantized)
    assert torch.equal(first.indices, second.indices)
    assert math.isfinite(first.commitment_loss.item())
