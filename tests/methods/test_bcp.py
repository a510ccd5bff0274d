"""BCP by its paper: what is pasted where, and what each side weighs."""

import pytest
import torch

from vqseg.config import Config
from vqseg.data.batch import Batch
from vqseg.losses import segmentation_loss
from vqseg.methods.bcp import BCP

SIZE = 30


@pytest.fixture
def batch():
    """Labelled slices 0 and 1 are constant, unlabelled ones 10 and 11, so that a mixed slice tells where it is from."""
    value = torch.tensor([0.0, 1.0, 10.0, 11.0]).view(4, 1, 1, 1).expand(4, 1, SIZE, SIZE)
    return Batch(value[:2], torch.ones(2, SIZE, SIZE).long(), value[2:])


@pytest.fixture
def method():
    torch.manual_seed(0)
    return BCP(Config(), 1, 2)


def inputs(method, batch, progress):
    seen = []
    method.student.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    method.losses(batch, progress)
    return seen


def test_labelled_slices_are_mixed_with_each_other_for_a_quarter_of_the_training(method, batch):
    (mixed,) = inputs(method, batch, 0.24)
    assert set(mixed.unique().tolist()) == {0.0, 1.0}
    assert (mixed == 1).sum() == (2 * SIZE // 3) ** 2


def test_then_patches_go_both_ways(method, batch):
    inwards, outwards = inputs(method, batch, 0.25)
    assert set(inwards.unique().tolist()) == {0.0, 10.0}
    assert set(outwards.unique().tolist()) == {1.0, 11.0}
    patch = (2 * SIZE // 3) ** 2
    assert (inwards == 0).sum() == patch  # the labelled slice is inside
    assert (outwards == 11).sum() == patch  # the unlabelled one is
    assert torch.equal(inwards == 0, outwards == 11)


def test_pseudo_labelled_sides_weigh_half(method):
    image, mask = torch.rand(1, 1, SIZE, SIZE), torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[:10] = True
    label = torch.ones(1, SIZE, SIZE).long()
    method.eval()
    loss = method._mixed_loss((image, label, 1.0), (image, label, 0.5), mask)
    logits = method.student(image).logits
    sides = [segmentation_loss(logits, label.masked_fill(~side, 255), "ce+dice") for side in (mask, ~mask)]
    torch.testing.assert_close(loss, sides[0] + 0.5 * sides[1])


def test_pseudo_labels_are_single_components(method, monkeypatch):
    logits = torch.zeros(1, 2, SIZE, SIZE)
    logits[0, 1, :5, :5], logits[0, 1, 20:22, 20:22] = 9, 9
    logits[0, 0] = 1
    monkeypatch.setattr(method.teacher, "decode", lambda encoded: logits)
    label = method._ask_teacher(torch.zeros(1, 1, SIZE, SIZE), None)
    assert label.sum() == 25
    assert label[0, :5, :5].all()


def test_the_teacher_starts_as_the_student_and_follows_at_099(method, batch):
    method.losses(batch, 0.1)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(1.0)
    student, teacher = next(method.student.parameters()), next(method.teacher.parameters())
    method.update_teacher(0)
    assert torch.equal(student, teacher)
    method.losses(batch, 0.5)
    with torch.no_grad():
        student.add_(1.0)
    method.update_teacher(1)
    torch.testing.assert_close(student - teacher, torch.full_like(student, 0.99))


def test_its_learning_rate_does_not_fall(method):
    assert method.rate_fall == 0
