"""Which slice to label next: ends first, then unsure and far."""

import numpy as np
import pytest

from vqseg.annotations import Annotations, SliceState
from vqseg.suggest import suggest_slices, uncertainty_profile

SPACING_MM = (3.0, 1.0, 1.0)


def volume(n_slices=40, filled=range(12, 28)):
    labels = np.zeros((n_slices, 8, 8), np.uint8)
    labels[list(filled), 2:6, 2:6] = 1
    return labels


def test_nothing_labelled_starts_in_the_middle():
    found = suggest_slices(Annotations.empty((21, 4, 4)), SPACING_MM, count=3)
    assert found[0].z == 10
    assert "Nothing is labelled" in found[0].reason
    assert len({item.z for item in found}) == 3


def test_the_ends_of_structures_come_first():
    annotations = Annotations.from_slices(volume(), [15, 24])
    found = suggest_slices(annotations, SPACING_MM, predicted=volume(), class_names={1: "tumour"})
    ends = {item.z: item.reason for item in found[:2]}
    assert sorted(ends) == [10, 29]
    assert "tumour end towards the feet" in ends[10]
    assert "towards the head" in ends[29]
    assert all(10 < item.z < 29 for item in found[2:5] if "Far" not in item.reason)


def test_empty_slices_beyond_both_ends_settle_the_question():
    annotations = Annotations.from_slices(volume(), [8, 15, 24, 32])
    assert annotations.empty_complete == [8, 32]
    assert all(item.score <= 1 for item in suggest_slices(annotations, SPACING_MM, predicted=volume()))


def test_the_end_is_not_asked_for_outside_the_volume():
    annotations = Annotations.from_slices(volume(filled=range(40)), [0, 39])
    assert all("end" not in item.reason for item in suggest_slices(annotations, SPACING_MM))
    one_before = Annotations.from_slices(volume(filled=range(40)), [1, 38])
    assert sorted(item.z for item in suggest_slices(one_before, SPACING_MM)[:2]) == [0, 39]


def test_an_unsure_slice_is_chosen_and_its_neighbours_are_not():
    annotations = Annotations.from_slices(volume(), [8, 32])
    uncertainty = np.full(40, 0.1)
    uncertainty[22:25] = (0.9, 1.0, 0.9)
    found = suggest_slices(annotations, SPACING_MM, uncertainty=uncertainty, count=2)
    assert found[0].z in (22, 23)
    assert "times the usual" in found[0].reason
    assert abs(found[1].z - 23) > 3


def test_labelled_and_draft_slices_are_never_suggested():
    annotations = Annotations.from_slices(volume(6, [2]), [0, 2, 5])
    annotations.mark(3, SliceState.DRAFT)
    annotations.mark(4, SliceState.SCRIBBLED)
    assert [item.z for item in suggest_slices(annotations, SPACING_MM, count=9)] == [1]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_profile_without_information_falls_back_to_distance(value):
    annotations = Annotations.from_slices(volume(), [0, 39])
    assert suggest_slices(annotations, SPACING_MM, uncertainty=np.full(40, value), count=1)[0].z in (19, 20)


def test_profile_of_half_floats_does_not_overflow():
    profile = uncertainty_profile(np.ones((2, 400, 400), np.float16))
    np.testing.assert_allclose(profile, 160)
