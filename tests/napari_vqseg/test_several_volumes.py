"""Several volumes with a real engine and no viewer: train on all that are labelled, predict one that is not."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_vqseg.cases import Source
from napari_vqseg.classes import class_set
from napari_vqseg.session import Session, TrainingState
from napari_vqseg.timers import QtScheduler
from napari_vqseg.worker import EngineWorker
from vqseg.annotations import SliceState
from vqseg.io import write_map
from vqseg.phantom import synthetic_thorax
from vqseg.project import Project

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHAPE, LUNGS = (16, 48, 48), (2, 3)
SMALL = {"time_budget_s": 0.0, "iterations": 60, "size": 48, "patch": 48, "batch_u": 2, "codebook_size": 64}
WAIT_MS = 300_000


def test_a_network_learns_from_two_volumes_and_segments_a_third(qtbot, tmp_path):
    references, sources = [], []
    for seed, name in enumerate(["first", "second", "third"]):
        volume, reference = synthetic_thorax(seed=seed, shape=SHAPE)
        references.append(np.where(np.isin(reference.array, LUNGS), 1, 0).astype(np.uint8))
        sources.append(Source(tmp_path / f"{name}.nii.gz"))
        write_map(sources[-1].path, np.asarray(volume.array), volume)
    session = Session(fakes.FakeView(), QtScheduler(), EngineWorker)
    told = []
    session.notified.connect(lambda text, level: told.append((level, text)))
    try:
        session.cases.add(sources)
        qtbot.waitUntil(lambda: session.is_open, timeout=60_000)
        session.classes.use_set(class_set(["lungs"]))
        session.windowing.choose("lung")
        for number in (0, 1):
            session.cases.open_case(f"case-00{number + 1}")
            qtbot.waitUntil(
                lambda number=number: session.is_open and session.case.case.id == f"case-00{number + 1}", timeout=60_000
            )
            for z in range(2, SHAPE[0], 4):
                session.annotations.set_slice(z, references[number][z], SliceState.COMPLETE)
                session.annotating.mark(SliceState.COMPLETE, z)
        session.training.use_all(True)
        session.settings.replace(**SMALL)
        session.training.start()
        qtbot.waitUntil(lambda: session.training.state is TrainingState.RUNNING, timeout=WAIT_MS)
        qtbot.waitUntil(lambda: session.training.is_idle, timeout=WAIT_MS)
        assert told[-1][0] == "info", told
        run = Project.open(session.case.project.path).runs[-1]
        assert run.case_ids == ["case-002", "case-001"]
        assert all(run.prediction_path(case_id).exists() for case_id in run.case_ids)
        assert dice(session.reviewing.prediction, references[1]) > 0.7

        # The engine follows to another case of the run, and to one that has no label at all.
        session.cases.open_case("case-001")
        qtbot.waitUntil(lambda: session.reviewing.prediction is not None and session.case.case.id == "case-001",
                        timeout=WAIT_MS)  # fmt: skip
        assert dice(session.reviewing.prediction, references[0]) > 0.7
        session.cases.open_case("case-003")
        qtbot.waitUntil(lambda: session.is_open and session.case.case.id == "case-003", timeout=60_000)
        assert session.case.other_run == run.path
        session.reviewing.predict_with(session.case.other_run)
        qtbot.waitUntil(lambda: session.reviewing.prediction is not None, timeout=WAIT_MS)
        assert dice(session.reviewing.prediction, references[2]) > 0.5
    finally:
        session.close()


def dice(one, other):
    return 2 * ((one > 0) & (other > 0)).sum() / ((one > 0).sum() + (other > 0).sum())
