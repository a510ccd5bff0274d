import math

import pytest
import torch

from vqseg.losses import IGNORE_LABEL, segmentation_loss, soft_dice_loss


@pytest.fixture
def logits():
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def target():
    return torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["ce", "ce+dice"])
def test_ignored_voxels_have_no_influence(logits, target, kind):
    target[0, :2] = IGNORE_LABEL
    other = logits.detach().clone()
    other[0, :, :2] = 50 * torch.randn(3, 2, 5)
    loss = segmentation_loss(logits, target, kind)
    torch.testing.assert_close(loss, segmentation_loss(other, target, kind))
    loss.backward()
    assert logits.grad[0, :, :2].abs().max() == 0
    assert logits.grad[1].abs().max() > 0


@pytest.mark.parametrize("kind", ["ce", "ce+dice"])
def test_all_ignored_is_zero_and_differentiable(logits, target, kind):
    loss = segmentation_loss(logits, torch.full_like(target, IGNORE_LABEL), kind)
    loss.backward()
    assert loss == 0
    assert torch.isfinite(logits.grad).all()


def test_cross_entropy_by_hand():
    logits = torch.log(torch.tensor([[0.9, 0.2, 0.5], [0.1, 0.8, 0.5]])).reshape(1, 2, 1, 3)
    target = torch.tensor([[[0, 1, IGNORE_LABEL]]])
    expected = -(math.log(0.9) + math.log(0.8)) / 2
    assert segmentation_loss(logits, target, "ce") == pytest.approx(expected, rel=1e-5)
    both = segmentation_loss(logits, target, "ce+dice")
    assert both == pytest.approx((expected + float(soft_dice_loss(logits, target))) / 2, rel=1e-5)


def test_dice_of_absent_classes_is_left_out(logits):
    target = torch.zeros(2, 4, 5, dtype=torch.int64)
    perfect = torch.zeros(2, 3, 4, 5)
    perfect[:, 0] = 100.0
    assert soft_dice_loss(perfect, target) == pytest.approx(0, abs=1e-6)
    loss = soft_dice_loss(logits, target)
    loss.backward()
    assert 0 < loss < 1
    assert torch.isfinite(logits.grad).all()


def test_dice_by_hand():
    logits = torch.log(torch.tensor([[0.9, 0.2], [0.1, 0.8]])).reshape(1, 2, 1, 2)
    target = torch.tensor([[[0, 1]]])
    expected = 1 - (2 * 0.9 / (1.1 + 1) + 2 * 0.8 / (0.9 + 1)) / 2
    assert soft_dice_loss(logits, target) == pytest.approx(expected, rel=1e-5)
