"""Two trainings against each other: where they differ, and what each was worth on slices that neither had seen."""

import math

import numpy as np
import pytest

from vqseg.comparison import (
    ANOTHER_CLASS,
    ONLY_FIRST,
    ONLY_SECOND,
    compare,
    difference,
    score_unseen,
    trained_runs,
    unseen,
)
from vqseg.config import preset
from vqseg.project import Project
from vqseg.run import RunState
from vqseg.volume import StoredLayout, Volume

SHAPE = (4, 6, 6)


def test_a_difference_says_which_of_the_two():
    first, second = np.array([0, 1, 1, 2, 2, 0], np.uint8), np.array([0, 1, 0, 0, 1, 3], np.uint8)
    assert difference(first, second).tolist() == [0, 0, ONLY_FIRST, ONLY_FIRST, ANOTHER_CLASS, ONLY_SECOND]


def test_dice_between_two_predictions_leaves_labelled_slices_out():
    first, second = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    first[1, :4], second[1, 2:] = 1, 1  # 24 and 24 voxels, 12 of them shared
    first[2], second[2, :3] = 2, 2
    first[3] = 1  # drawn since
    found = compare(first, second, [1, 2, 3], left_out=[3])
    assert found.overlap == {1: (12, 24, 24), 2: (18, 36, 18)}
    assert found.dice == {1: pytest.approx(0.5), 2: pytest.approx(2 / 3)}
    assert found.differing.tolist() == [0, 24, 18, 0]
    assert found.most == 1
    assert compare(first, first, [1, 2]).most is None


def save_array(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


@pytest.fixture
def project(tmp_path):
    """Two runs that have ended, with and without unlabelled slices, and one that goes on; slice 0 was learnt."""
    made = Project.create(tmp_path / "project", "ct", ["tumour"])
    layout = StoredLayout(SHAPE[::-1], np.diag([-1.0, -1.0, 3.0, 1.0]), slice_axis=2)
    made.add_case(Volume(np.zeros(SHAPE, np.int16), layout))
    for unlabelled, state in ((True, RunState.FINISHED), (False, RunState.STOPPED), (True, RunState.RUNNING)):
        config = preset("fast").replace(use_unlabelled=unlabelled)
        run = made.new_run(config, ["case-001"])
        run.note_learnt("case-001", [0])
        run.set_state(state, step=10)
        labels = np.zeros(SHAPE, np.uint8)
        labels[:, : 4 if unlabelled else 2] = 1
        save_array(run.prediction_path("case-001"), labels)
    return made


def test_trainings_tell_what_they_learnt_from(project):
    running, without, with_them = trained_runs(project, "case-001")
    assert (with_them.unlabelled, without.unlabelled) == (True, False)
    assert without.learnt == {0}
    running.run.append_metrics({"step": 5, "settings": {"use_unlabelled": False}})
    assert trained_runs(project, "case-001")[0].unlabelled is None, "switched on the way"
    save_array(without.run.rests_on_path("case-001"), np.array([0, 2]))
    assert trained_runs(project, "case-001")[1].learnt == {0, 2}
    assert trained_runs(project, "case-002") == []


def test_only_slices_that_neither_had_seen_count(project):
    running, without, with_them = (trained.run for trained in trained_runs(project, "case-001"))
    drawn = np.zeros(SHAPE[1:], np.uint8)
    drawn[:4] = 1
    score = lambda z: score_unseen(project, "case-001", z, drawn, (1.0, 1.0), [1])  # noqa: E731
    assert score(0) == [], "learnt"
    assert score(1) == [with_them.id, without.id], "nothing of a run that goes on"
    found = unseen(with_them, without, "case-001")
    assert found.slices == [1]
    assert found.dice == (pytest.approx(1.0), pytest.approx(2 / 3))
    save_array(without.rests_on_path("case-001"), np.array([0, 2]))
    assert score(2) == [with_them.id], "slice 2 stands in the other prediction"
    assert unseen(with_them, without, "case-001").slices == [1]
    drawn[:] = 0
    score(1)
    assert unseen(with_them, without, "case-001").dice == (0.0, 0.0), "a mended slice is scored anew"
    assert math.isnan(unseen(with_them, running, "case-001").dice[1])
