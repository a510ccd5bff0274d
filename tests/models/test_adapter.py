"""Alignment of the codes to a prior."""

import math

import pytest
import torch

from vqseg.models.adapter import FeatureAdapter, alignment_loss


def test_the_loss_is_infonce_over_the_patches_of_an_image() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    expected = 0.0
    for b in range(2):
        a, t = ours[b].flatten(1).T, theirs[b].flatten(1).T  # (12, 5)
        for p in range(12):
            logits = torch.cosine_similarity(a[p][None], t) / 0.2
            expected -= float(torch.log_softmax(logits, 0)[p]) / 24
    assert alignment_loss(ours, theirs, 0.2).item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_log_patches_where_nothing_is_known_and_small_where_all_is() -> None:
    theirs = torch.randn(1, 64, 4, 4, generator=torch.Generator().manual_seed(0))
    assert alignment_loss(torch.ones(1, 64, 4, 4), torch.ones(1, 64, 4, 4)).item() == pytest.approx(math.log(16))
    assert alignment_loss(theirs, theirs, 0.05) < 0.01


def test_the_adapter_resizes_projects_and_learns() -> None:
    torch.manual_seed(0)
    adapter = FeatureAdapter(8, [16])
    quantized, theirs = torch.randn(2, 8, 6, 5), torch.randn(2, 16, 4, 7)
    assert adapter(quantized, (4, 7)).shape == (2, 16, 4, 7)
    optimizer = torch.optim.Adam(adapter.parameters(), 0.05)
    first = adapter.loss(quantized, theirs).item()
    for _ in range(40):
        optimizer.zero_grad()
        loss = adapter.loss(quantized, theirs)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8 * first


def test_each_of_several_priors_has_a_head_and_the_loss_is_their_mean() -> None:
    torch.manual_seed(0)
    both = FeatureAdapter(8, [16, 6])
    heads = [FeatureAdapter(8, [16]), FeatureAdapter(8, [6])]
    for name in ("weight", "bias"):
        for head, part in zip(heads, getattr(both.project, name).split([16, 6]), strict=True):
            getattr(head.project, name).data.copy_(part)
    quantized, theirs = torch.randn(2, 8, 4, 5), [torch.randn(2, 16, 4, 5), torch.randn(2, 6, 4, 5)]
    apart = [head.loss(quantized, one).item() for head, one in zip(heads, theirs, strict=True)]
    assert both.loss(quantized, torch.cat(theirs, 1)).item() == pytest.approx(sum(apart) / 2)


def test_no_gradient_reaches_the_prior() -> None:
    theirs = torch.randn(1, 4, 2, 2, requires_grad=True)
    ours = torch.randn(1, 4, 2, 2, requires_grad=True)
    alignment_loss(ours, theirs).backward()
    assert theirs.grad is None
    assert ours.grad is not None
