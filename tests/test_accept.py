"""Accepting: whose labels stand, which state a slice gets, what is never replaced."""

import numpy as np
import pytest

from vqseg.accept import accept_component, accept_filling, accept_slices
from vqseg.annotations import PAINTED_BACKGROUND, Annotations, Origin, SliceRecord, SliceState
from vqseg.between import fill_between
from vqseg.components import component_at

ACCEPTED = SliceRecord(SliceState.COMPLETE, Origin.ACCEPTED)


@pytest.fixture
def annotations():
    made = Annotations.empty((10, 16, 16))
    made.labels[2, 4:8, 4:8] = 1
    made.labels[6, 4:10, 4:10] = 1
    made.mark(2, SliceState.COMPLETE)
    made.mark(6, SliceState.COMPLETE)
    return made


@pytest.fixture
def prediction():
    made = np.zeros((10, 16, 16), np.uint8)
    made[1:8, 3:9, 3:9] = 1
    made[5:, 14, 14] = 2
    return made


def test_slices_become_complete_and_drawn_ones_are_left(annotations, prediction):
    changes = accept_slices(annotations, prediction, range(1, 9))
    assert sorted(changes) == [1, 3, 4, 5, 7, 8]
    assert all(change.record == ACCEPTED for change in changes.values())
    assert np.array_equal(changes[3].labels, prediction[3])
    assert annotations.complete == [2, 6], "nothing is changed yet"


def test_painted_corrections_stand_over_the_prediction(annotations, prediction):
    annotations.labels[4, 3, 3] = PAINTED_BACKGROUND
    annotations.labels[4, 0, 0] = 2
    annotations.mark(4, SliceState.DRAFT)
    labels = accept_slices(annotations, prediction, [4])[4].labels
    assert (labels[3, 3], labels[0, 0], labels[5, 5]) == (PAINTED_BACKGROUND, 2, 1)


def test_an_earlier_accepted_slice_gives_way_to_a_better_prediction(annotations, prediction):
    annotations.set_slice(4, np.full((16, 16), 2, np.uint8), SliceState.COMPLETE, Origin.ACCEPTED)
    assert np.array_equal(accept_slices(annotations, prediction, [4])[4].labels, prediction[4])


def test_a_filling_is_accepted_slice_by_slice(annotations):
    filling = fill_between(annotations, (2, 6), (1.0, 1.0, 1.0))
    changes = accept_filling(annotations, filling, [1, 2, 4])
    assert list(changes) == [4]
    assert changes[4].record == ACCEPTED
    assert changes[4].labels[5, 5] == 1


def test_a_component_completes_only_slices_that_hold_nothing_else(annotations, prediction):
    changes = accept_component(annotations, prediction, component_at(prediction, (4, 5, 5)), (3.0, 1.0, 1.0))
    assert sorted(changes) == [1, 3, 4, 5, 7], "not the drawn slices 2 and 6"
    assert changes[4].record == ACCEPTED
    assert set(np.unique(changes[4].labels)) == {0, 1}
    beside = changes[5]
    assert beside.record == SliceRecord(SliceState.SCRIBBLED, Origin.ACCEPTED)
    assert beside.labels[14, 14] == 0, "the other class stays unknown"
    assert beside.labels[5, 10] == PAINTED_BACKGROUND, "the background close by is known"
    assert beside.labels[5, 15] == 0, "far away it is not"


def take(annotations, prediction, index):
    for z, change in accept_component(
        annotations, prediction, component_at(prediction, index), (3.0, 1.0, 1.0)
    ).items():
        annotations.set_slice(z, change.labels, change.record.state, change.record.origin)


def test_a_slice_is_complete_once_all_that_is_predicted_in_it_is_accepted(annotations, prediction):
    prediction[5, 1, 14] = 3
    take(annotations, prediction, (4, 5, 5))
    take(annotations, prediction, (5, 14, 14))
    assert annotations.records[7] == annotations.records[8] == ACCEPTED
    assert annotations.state(5) is SliceState.SCRIBBLED, "the third structure is still open"
    assert annotations.labels[5, 5, 5] == 1, "what was accepted before stays"
    assert annotations.labels[5, 14, 14] == 2
    take(annotations, prediction, (5, 1, 14))
    assert annotations.records[5] == ACCEPTED
    assert np.array_equal(annotations.labels[5], prediction[5])
    assert annotations.state(6) is SliceState.COMPLETE
    assert annotations.labels[6, 14, 14] == 0, "a drawn slice stays as it is"


def test_a_component_joins_a_slice_that_was_accepted_as_a_whole(annotations, prediction):
    annotations.set_slice(4, prediction[4], SliceState.COMPLETE, Origin.ACCEPTED)
    better = prediction.copy()
    better[4, 3:9, 9] = 1
    better[4, 12, 12] = 2
    take(annotations, better, (4, 5, 5))
    assert annotations.records[4] == ACCEPTED, "its background was accepted too"
    assert annotations.labels[4, 5, 9] == 1


def test_a_component_leaves_what_a_person_has_painted(annotations, prediction):
    annotations.mark(4, SliceState.DRAFT)
    annotations.labels[4, 5, 5], annotations.labels[4, 5, 6] = 3, PAINTED_BACKGROUND
    take(annotations, prediction, (4, 4, 4))
    assert (annotations.labels[4, 5, 5], annotations.labels[4, 5, 6]) == (3, PAINTED_BACKGROUND)
    assert annotations.labels[4, 4, 4] == 1


@pytest.mark.parametrize("again", [accept_slices, lambda *given: accept_component(
    *given[:2], component_at(given[1], (4, 4, 4)), (3.0, 1.0, 1.0)
)])  # fmt: skip
def test_strokes_outlast_a_second_acceptance(annotations, prediction, again):
    annotations.mark(4, SliceState.SCRIBBLED)
    annotations.labels[4, 5, 5], annotations.labels[4, 5, 6] = 3, PAINTED_BACKGROUND
    change = accept_slices(annotations, prediction, [4])[4]
    assert change.record == SliceRecord(SliceState.COMPLETE, Origin.MIXED)
    annotations.set_slice(4, change.labels, change.record.state, change.record.origin)
    changes = again(annotations, prediction, [4])
    kept = changes[4].labels if 4 in changes else annotations.labels[4]
    assert (kept[5, 5], kept[5, 6]) == (3, PAINTED_BACKGROUND)
