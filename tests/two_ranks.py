"""One of two processes that take some steps together and compare the outcome with a single process's.

``python tests/two_ranks.py RANK MEETING SETTING=VALUE...``; the exit code is 0 where they agree.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from vqseg.annotations import Annotations
from vqseg.config import preset
from vqseg.data import TrainingCase
from vqseg.train import Trainer
from vqseg.volume import StoredLayout, Volume

STEPS = 3
SETTINGS = {"device": "cpu", "size": 64, "patch": 32, "time_budget_s": 0, "iterations": 20, "confidence": 0.4,
            "mixed_precision": False}  # fmt: skip


def make_trainer(settings):
    """A trainer on a ball and a bar, which counts both as learned, so that pseudo-labels take part at once."""
    shape = (10, 40, 40)
    z, y, x = np.indices(shape)
    labels = np.zeros(shape, np.uint8)
    labels[np.hypot(z - 5, np.hypot(y - 20, x - 20) / 3) < 4] = 1
    labels[4:6, 4:9, 30:38] = 2
    array = (labels * 100 + np.random.default_rng(0).normal(0, 20, shape)).astype(np.float32)
    volume = Volume(array, StoredLayout(shape[::-1], np.diag([-1.0, -1.0, 2.0, 1.0])))
    case = TrainingCase(volume, Annotations.from_slices(labels, [1, 4, 8]))
    trainer = Trainer(preset("fast", **SETTINGS, **settings), [case], {1: "ball", 2: "bar"})
    if hasattr(trainer.method, "overlap"):
        trainer.method.overlap.fill_(1e5)
        trainer.method.student.class_fit.fill_(1)
    return trainer


def train(settings):
    """Weights and reports after some steps."""
    trainer = make_trainer(settings)
    seen = []
    draw = trainer.method.losses
    trainer.method.losses = lambda batch, *args: seen.append(len(batch.image_x)) or draw(batch, *args)
    reports = [trainer.step() for _ in range(STEPS)]
    return trainer.method.state_dict(), reports, seen


def main():
    rank, meeting, *arguments = sys.argv[1:]
    settings = dict(item.split("=") for item in arguments)
    torch.set_num_threads(1)
    alone, alone_reports, alone_seen = train(settings)
    dist.init_process_group("gloo", init_method=Path(meeting).as_uri(), rank=int(rank), world_size=2)
    together, reports, seen = train(settings)
    assert (alone_seen, seen) == ([4] * STEPS, [2] * STEPS), "each must see half of the batch"
    for name, value in alone.items():
        difference = float((together[name].float() - value.float()).abs().max())
        assert torch.allclose(together[name], value, rtol=1e-3, atol=2e-4), f"{name} differs by {difference}"
    for one, other in zip(alone_reports, reports, strict=True):
        assert one.losses.keys() == other.losses.keys()
        np.testing.assert_allclose(list(one.losses.values()), list(other.losses.values()), rtol=1e-3)
    assert "unlabelled" in reports[0].losses
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
