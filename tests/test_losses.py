import pytest
import torch

from vqseg.losses import IGNORE_LABEL, cross_entropy, reconstruction_loss, segmentation_loss, soft_dice_loss


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


def test_zero_weight_equals_ignore_for_dice_but_shrinks_cross_entropy(logits, target):
    weight = torch.ones(2, 4, 5)
    weight[0] = 0
    ignored = target.clone()
    ignored[0] = IGNORE_LABEL
    torch.testing.assert_close(soft_dice_loss(logits, target, weight), soft_dice_loss(logits, ignored))
    torch.testing.assert_close(cross_entropy(logits, target, weight), cross_entropy(logits, ignored) / 2)


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


def test_reconstruction_ignores_padding():
    image = torch.zeros(1, 2, 2, 2)
    prediction = torch.ones(1, 2, 2, 2)
    prediction[..., 1] = 100.0
    valid = torch.tensor([[[True, False], [True, False]]])
    assert reconstruction_loss(prediction, image, valid) == 1
    assert reconstruction_loss(prediction, image) == 50.5
