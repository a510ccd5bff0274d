"""The teacher follows the student."""

import pytest
import torch
from torch import nn

from vqseg.models.ema import make_teacher, update_ema


def _student() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def test_the_teacher_is_a_frozen_copy() -> None:
    student = _student()
    teacher = make_teacher(student)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher.training
    assert all(p.requires_grad for p in student.parameters())
    assert student.training
    assert teacher[0].weight.data_ptr() != student[0].weight.data_ptr()


def test_parameters_and_floating_buffers_move_and_counters_are_copied() -> None:
    student = _student()
    teacher = make_teacher(student)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    with torch.no_grad():
        for value in student.state_dict().values():
            value.add_(1)
    update_ema(teacher, student, 0.9)
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, before[name] + 0.1)
        else:
            assert value == before[name] + 1


@pytest.mark.parametrize(("decay", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_ends_of_the_decay(decay: float, expected: float) -> None:
    teacher, student = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.zeros_(teacher.weight)
    nn.init.ones_(student.weight)
    update_ema(teacher, student, decay)
    assert teacher.weight.item() == expected
