"""VQ-Seg's perturbation is exchangeable, from the command line on."""

import argparse

import pytest
import torch

from vqseg.cli.parser import add_settings, config_from
from vqseg.config import preset
from vqseg.data.batch import Batch
from vqseg.methods import create_method

SMALL = ["codebook_size=32", "code_dim=4", "neighbours=0", "confidence=0", "quantization_ramp=0"]


def unlabelled_loss(*settings):
    parser = argparse.ArgumentParser()
    add_settings(parser)
    flags = [item for setting in [*SMALL, *settings] for item in ("--set", setting)]
    torch.manual_seed(0)
    method = create_method("vq-seg", config_from(parser.parse_args(flags)), 1, 3)
    image = torch.rand(2, 2, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    label = (image[0, :, 0] * 3).long()
    losses = method.losses(Batch(image[0], label, image[1], image[1]), 1.0)
    return losses["unlabelled"].item()


@pytest.mark.parametrize("kind", ["qpm", "dropout"])
def test_strength_counts_for_what_perturbs(kind):
    still, weak, strong = (unlabelled_loss(f"perturbation={kind}", f"epsilon={e}") for e in (0, 0.5, 0.9))
    assert still == pytest.approx(unlabelled_loss("perturbation=none"), rel=1e-4)
    assert len({still, weak, strong}) == 3


def test_nothing_perturbs_where_nothing_is_asked_to():
    assert unlabelled_loss("perturbation=none", "epsilon=0.9") == unlabelled_loss("perturbation=none", "epsilon=0.1")
    assert unlabelled_loss("perturbation=qpm") != unlabelled_loss("perturbation=dropout")


def test_unlabelled_slices_join_when_the_labelled_ones_are_learned_unless_the_paper_is_followed():
    settings = {"codebook_size": 32, "code_dim": 4, "encoder": "conv", "prior": "none"}
    by_evidence, at_once = (create_method("vq-seg", preset(name, **settings), 1, 3) for name in ("fast", "paper"))
    assert at_once.ready_for_unlabelled and not by_evidence.ready_for_unlabelled
    by_evidence.overlap.copy_(torch.tensor([[9.0, 8.5, 8.5], [10.0, 10.0, 10.0]]))
    by_evidence.student.class_fit.copy_(by_evidence.overlap[0] / by_evidence.overlap[1])
    assert by_evidence.ready_for_unlabelled


def test_the_teacher_takes_over_codewords_that_are_put_elsewhere():
    settings = {"codebook_size": 64, "code_dim": 4, "encoder": "conv", "prior": "none", "ema_decay": 0.99}
    method = create_method("vq-seg", preset("fast", **settings), 2, 3)
    image = torch.rand(2, 2, 48, 48, generator=torch.Generator().manual_seed(1))
    method.losses(Batch(image, (image[:, 0] * 3).long()), 1.0)
    student, teacher = method.student.quantizer, method.teacher.quantizer
    before = student.base.clone()
    method.update_teacher(1000)
    moved = (student.base != before).any(1)
    assert moved.sum() == method.codebook_state["revived"] > 0
    assert torch.equal(teacher.base[moved], student.base[moved])
    assert not torch.isclose(teacher.base[~moved], student.base[~moved]).all()
