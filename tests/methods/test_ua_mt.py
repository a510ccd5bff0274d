"""UA-MT by its paper: whom the student follows, where, and how much."""

import math

import pytest
import torch

from vqseg.config import Config
from vqseg.data.batch import Batch
from vqseg.methods.ua_mt import UAMT, ramp_up


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 2, 1, 32, 32, generator=generator)
    return Batch(image[0], (image[0, :, 0] > 0.5).long(), image[1])


@pytest.fixture
def method():
    torch.manual_seed(0)
    return UAMT(Config(), 1, 2)


def weight(losses):
    return float((losses["total"] - losses["labelled"]) / losses["unlabelled"])


def test_the_weight_rises_to_a_tenth(method, batch, monkeypatch):
    certain = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(2, 2, 32, 32), torch.zeros(2, 32, 32)
    monkeypatch.setattr(method, "_ask_teacher", lambda image: certain)
    assert weight(method.losses(batch, 0.0)) == pytest.approx(0.1 * math.exp(-5), rel=0.05)
    assert weight(method.losses(batch, 1.0)) == pytest.approx(0.1, rel=1e-3)
    assert ramp_up(-1) == ramp_up(0) < ramp_up(0.5) < ramp_up(1) == ramp_up(2) == 1


def test_uncertain_pixels_do_not_count(method, batch, monkeypatch):
    uncertainty = torch.full((2, 32, 32), 0.8 * math.log(2))  # between the first threshold, 3/4 of U_max, and the last
    target = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(2, 2, 32, 32)
    monkeypatch.setattr(method, "_ask_teacher", lambda image: (target, uncertainty))
    early, late = method.losses(batch, 0.0), method.losses(batch, 1.0)
    assert early["confident_share"] == 0
    assert early["unlabelled"] == 0
    assert late["confident_share"] == 1
    assert late["unlabelled"] > 0


def test_uncertainty_comes_from_noise_and_dropout(method, batch):
    target, uncertainty = method._ask_teacher(batch.image_u_w)
    again, _ = method._ask_teacher(batch.image_u_w)
    assert not torch.equal(target, again)
    torch.testing.assert_close(target.sum(1), torch.ones(2, 32, 32))
    assert uncertainty.min() > 0
    assert uncertainty.max() < math.log(2) + 1e-4
    assert not any(module.training for module in method.teacher.modules())


def test_the_teacher_is_the_true_mean_at_first(method):
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.zero_()
    before = next(method.teacher.parameters()).clone()
    method.update_teacher(1)
    torch.testing.assert_close(next(method.teacher.parameters()), 0.5 * before)
    method.update_teacher(10_000)
    torch.testing.assert_close(next(method.teacher.parameters()), 0.99 * 0.5 * before)
