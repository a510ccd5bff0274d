"""Which slice to label next: ends first, then where errors are to be expected."""

import numpy as np
import pytest

from vqseg.annotations import Annotations, SliceState
from vqseg.suggest import REACH_MM, Evidence, suggest_slices, uncertainty_profile

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


def test_one_slice_asks_for_the_ends_of_all_structures_on_its_side():
    labels = volume()
    labels[5:28, 6:8, 6:8] = 2
    annotations = Annotations.from_slices(labels, [15, 24])
    found = suggest_slices(annotations, SPACING_MM, predicted=labels, class_names={1: "liver", 2: "aorta"})
    assert [item.z for item in found if item.score > 1] == [3, 29]
    assert all("liver and aorta" in item.reason for item in found[:2])


def test_an_unsure_slice_is_chosen_and_its_neighbours_are_not():
    annotations = Annotations.from_slices(volume(), [8, 32])
    uncertainty = np.full(40, 0.1)
    uncertainty[22:25] = (0.9, 1.0, 0.9)
    found = suggest_slices(annotations, SPACING_MM, evidence=Evidence(uncertainty), count=2)
    assert found[0].z == 23
    assert "times the usual" in found[0].reason
    assert "27 mm from the nearest labelled slice" in found[0].reason
    assert abs(found[1].z - 23) > 3


def test_many_doubtful_slices_weigh_more_than_a_single_one():
    annotations = Annotations.from_slices(volume(60, range(60)), [0, 59])
    uncertainty = np.full(60, 0.01)
    uncertainty[12] = 1.0
    uncertainty[35:46] = 0.5
    assert 37 <= suggest_slices(annotations, SPACING_MM, evidence=Evidence(uncertainty), count=1)[0].z <= 43


def test_flips_behind_perturbed_codes_count():
    annotations = Annotations.from_slices(volume(60, range(60)), [0, 59])
    flips = {z: 300.0 if z == 40 else 5.0 for z in range(5, 60, 5)}
    found = suggest_slices(annotations, SPACING_MM, evidence=Evidence(flips_mm2=flips), count=1)[0]
    assert 38 <= found.z <= 42
    assert "flips here" in found.reason


def test_codes_that_labelled_slices_hardly_show_count_until_they_are_shown():
    annotations = Annotations.from_slices(volume(80, range(80)), [0, 79])
    codes = {z: np.array([50, 0, 0]) for z in range(0, 80, 4)} | {79: np.array([50, 0, 0])}
    codes |= {z: np.array([10, 40, 0]) for z in (20, 24, 28)} | {z: np.array([10, 0, 40]) for z in (52, 56)}
    found = suggest_slices(annotations, SPACING_MM, evidence=Evidence(codes=codes), count=2)
    assert 18 <= found[0].z <= 30, "the new code of most tokens"
    assert "unlike the labelled slices" in found[0].reason
    assert 50 <= found[1].z <= 58, "the other one, once that is shown"


def test_a_slice_near_a_labelled_one_is_worth_little():
    annotations = Annotations.from_slices(volume(), [8, 20, 32])
    uncertainty = np.full(40, 0.2)
    uncertainty[21] = 1.0
    found = suggest_slices(annotations, SPACING_MM, evidence=Evidence(uncertainty), count=1)[0]
    assert abs(found.z - 20) * SPACING_MM[0] > REACH_MM / 2


def test_labelled_and_draft_slices_are_never_suggested():
    annotations = Annotations.from_slices(volume(6, [2]), [0, 2, 5])
    annotations.mark(3, SliceState.DRAFT)
    annotations.mark(4, SliceState.SCRIBBLED)
    assert [item.z for item in suggest_slices(annotations, SPACING_MM, count=9)] == [1]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_profile_without_information_falls_back_to_distance(value):
    annotations = Annotations.from_slices(volume(), [0, 39])
    assert suggest_slices(annotations, SPACING_MM, evidence=Evidence(np.full(40, value)), count=1)[0].z in (19, 20)


def test_profile_of_half_floats_does_not_overflow():
    profile = uncertainty_profile(np.ones((2, 400, 400), np.float16))
    np.testing.assert_allclose(profile, 160)
