"""UniMatch by its paper: three views, one pseudo-label."""

import pytest
import torch

from vqseg.config import Config
from vqseg.data.batch import Batch
from vqseg.losses import IGNORE_LABEL, soft_dice_loss
from vqseg.methods import unimatch
from vqseg.methods.unimatch import UniMatch


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(4, 3, 1, 32, 32, generator=generator)
    return Batch(image[0], (image[0, :, 0] > 0.5).long(), image[1], image[2], image[3])


def make(confidence=0.0):
    torch.manual_seed(0)
    return UniMatch(Config().replace(confidence=confidence, segmentation="ce+dice"), 1, 2)


def test_two_strong_views_weigh_as_much_as_the_features(batch, monkeypatch):
    method, seen = make(), []

    def recorded(logits, target, *rest):
        seen.append(soft_dice_loss(logits, target))
        return seen[-1]

    monkeypatch.setattr(unimatch, "soft_dice_loss", recorded)
    losses = method.losses(batch, 0.5)
    strong_1, strong_2, features = seen
    torch.testing.assert_close(losses["unlabelled"], 0.25 * strong_1 + 0.25 * strong_2 + 0.5 * features)
    torch.testing.assert_close(losses["total"], (losses["labelled"] + losses["unlabelled"]) / 2)


def test_what_it_is_not_confident_of_teaches_nothing(batch):
    losses = make(confidence=1.0).losses(batch, 0.5)
    assert losses["confident_share"] == 0
    assert losses["unlabelled"] == 0
    assert make().losses(batch, 0.5)["confident_share"] == 1


def test_pseudo_labels_pass_no_gradient(batch):
    method = make()
    logits = method.student(batch.image_u_w).logits
    label = method._trusted(logits, None)
    assert not label.requires_grad
    assert torch.equal(label, logits.argmax(1))
    padding = torch.zeros(3, 32, 32, dtype=torch.bool)
    assert (method._trusted(logits, padding) == IGNORE_LABEL).all()


def test_boxes_come_from_another_slice_with_its_label():
    method = make()
    image = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 32, 32)
    label = torch.arange(3).view(3, 1, 1).expand(3, 32, 32)
    foreign = 0
    for _ in range(20):
        mixed, mixed_label = method._cutmix(image, label)
        assert torch.equal(mixed[:, 0].long(), mixed_label)
        foreign += int((mixed_label != label).any((1, 2)).sum())
    assert 20 < foreign < 40  # every second slice gets a box


def test_the_feature_view_alone_loses_channels(batch):
    method = make().eval()
    _, plain, perturbed = method._weak_pass(batch.image_x, batch.image_u_w)
    torch.testing.assert_close(plain, method.student(batch.image_u_w).logits)
    assert not torch.allclose(plain, perturbed)
