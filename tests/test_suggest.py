"""Which slice to label next: the one that settles most of what is open between the labelled ones."""

import numpy as np
import pytest

from vqseg.annotations import Annotations, SliceState
from vqseg.suggest import Evidence, suggest_slices, uncertainty_profile

SPACING_MM = (3.0, 1.0, 1.0)


def volume(n_slices=40, filled=range(12, 28)):
    labels = np.zeros((n_slices, 8, 8), np.uint8)
    labels[list(filled), 2:6, 2:6] = 1
    return labels


def test_nothing_labelled_starts_in_the_middle():
    found = suggest_slices(Annotations.empty((21, 4, 4)), SPACING_MM, count=3)
    assert found[0].z == 10
    assert "Nothing is labelled" in found[0].reason
    assert all("No structure is labelled" in item.reason for item in found[1:])
    assert {item.z < 10 for item in found[1:]} == {True, False}, "it looks on either side"


def test_where_the_labelled_slices_are_empty_the_structures_are_looked_for_on_either_side():
    labels = np.zeros((41, 4, 4), np.uint8)
    for drawn, sides in (([20], {"feet", "head"}), ([5, 20], {"head"}), ([20, 35], {"feet"})):
        found = suggest_slices(Annotations.from_slices(labels, drawn), SPACING_MM, count=2)
        assert {"feet" if item.z < 20 else "head" for item in found} >= sides, drawn
        assert all(0 <= item.score <= 1 for item in found)
        assert all("No structure is labelled" in item.reason for item in found)


def test_the_ends_are_asked_for_where_the_outermost_slices_hold_much():
    annotations = Annotations.from_slices(volume(), [15, 24])
    found = suggest_slices(annotations, SPACING_MM, class_names={1: "tumour"})
    ends = {item.z: item.reason for item in found[:2]}
    assert min(ends) < 15 and max(ends) > 24
    assert "tumour end towards the feet" in ends[min(ends)]
    assert "tumour end towards the head" in ends[max(ends)]


def test_beyond_the_outermost_slice_counts_more_than_as_long_a_gap_between_two():
    annotations = Annotations.from_slices(volume(filled=range(40)), [0, 13, 26])
    assert suggest_slices(annotations, SPACING_MM)[0].z > 33


def test_the_ends_wait_where_a_structure_has_all_but_ended():
    labels = volume()
    labels[[12, 27]] = 0
    labels[[12, 27], 4, 4] = 1  # a voxel of sixteen
    found = suggest_slices(Annotations.from_slices(labels, [12, 20, 27]), SPACING_MM, count=2)
    assert sorted(item.z for item in found) == [16, 23]
    assert all("end" not in item.reason for item in found)


def test_empty_slices_beyond_both_ends_settle_the_question():
    annotations = Annotations.from_slices(volume(), [8, 15, 24, 32])
    assert annotations.empty_complete == [8, 32]
    found = suggest_slices(annotations, SPACING_MM, predicted=volume())
    assert all(8 < item.z < 32 and "end" not in item.reason for item in found)


def test_the_end_is_not_asked_for_outside_the_volume():
    annotations = Annotations.from_slices(volume(filled=range(40)), [0, 39])
    assert all("end" not in item.reason for item in suggest_slices(annotations, SPACING_MM))


def test_a_single_slice_asks_on_both_sides():
    found = suggest_slices(Annotations.from_slices(volume(), [20]), (1.0, 1.0, 1.0), count=2)
    assert found[0].z < 20 < found[1].z or found[1].z < 20 < found[0].z
    assert all("end towards the" in item.reason for item in found)


def test_slices_that_lie_close_together_are_left_by_leaps():
    labels = volume(200, range(200))
    slices = [99, 100, 101]
    for _ in range(6):
        found = suggest_slices(Annotations.from_slices(labels, sorted(slices)), SPACING_MM, count=2)
        slices += [item.z for item in found]
    assert min(slices) < 40
    assert max(slices) > 160


def test_one_slice_asks_for_the_ends_of_all_structures_on_its_side():
    labels = volume()
    labels[5:28, 6:8, 6:8] = 2
    annotations = Annotations.from_slices(labels, [15, 24])
    found = suggest_slices(annotations, SPACING_MM, predicted=labels, class_names={1: "liver", 2: "aorta"}, count=2)
    assert all("Where do liver and aorta end" in item.reason for item in found)


def test_a_long_gap_comes_before_a_short_one_and_halves_follow():
    annotations = Annotations.from_slices(volume(60, range(60)), [0, 15, 59])
    assert [item.z for item in suggest_slices(annotations, SPACING_MM, count=3)] in ([37, 26, 48], [37, 48, 26])


def test_the_gap_in_which_the_structures_change_comes_first():
    labels = volume(61, range(61))
    labels[60] = np.roll(labels[60], 2, axis=1)  # as large as before, beside where it was
    found = suggest_slices(Annotations.from_slices(labels, [0, 30, 60]), SPACING_MM, count=1)[0]
    assert 30 < found.z < 60
    assert "change much around here" in found.reason
    assert "45 mm from the nearest labelled slice" in found.reason


def test_an_unsure_gap_comes_first_and_is_split():
    annotations = Annotations.from_slices(volume(61, range(61)), [0, 30, 60])
    uncertainty = np.where(np.arange(61) > 30, 0.4, 0.1)
    found = suggest_slices(annotations, SPACING_MM, evidence=Evidence(uncertainty), predicted=volume(61, range(61)))
    assert found[0].z in (44, 45, 46)
    assert "The network is unsure around here (1.6 times the usual), 45 mm from" in found[0].reason
    assert abs(found[1].z - found[0].z) > 5


def test_many_doubtful_slices_weigh_more_than_a_single_one():
    annotations = Annotations.from_slices(volume(60, range(60)), [0, 30, 59])
    uncertainty = np.full(60, 0.01)
    uncertainty[12] = 1.0
    uncertainty[38:52] = 0.5
    assert 38 <= suggest_slices(annotations, SPACING_MM, evidence=Evidence(uncertainty), count=1)[0].z <= 51


def test_flips_behind_perturbed_codes_count():
    annotations = Annotations.from_slices(volume(61, range(61)), [0, 30, 60])
    flips = {z: 300.0 if z > 30 else 5.0 for z in range(5, 60, 5)}
    found = suggest_slices(annotations, SPACING_MM, evidence=Evidence(flips_mm2=flips), count=1)[0]
    assert found.z > 30
    assert "flips around here" in found.reason


def test_codes_that_labelled_slices_hardly_show_count_until_they_are_shown():
    labelled = [0, 40, 80]
    annotations = Annotations.from_slices(volume(81, range(81)), labelled)
    codes = {z: np.array([50, 0]) for z in range(0, 81, 4)} | {z: np.array([10, 40]) for z in range(44, 80, 4)}
    found = suggest_slices(annotations, SPACING_MM, evidence=Evidence(codes=codes), count=2)
    assert 50 <= found[0].z <= 70
    assert "unlike the labelled slices" in found[0].reason
    assert found[1].z < 40, "the new code has been shown"


def test_slices_where_nothing_is_expected_come_last_and_far_ones_first():
    annotations = Annotations.from_slices(volume(), [8, 20, 32])
    found = suggest_slices(annotations, SPACING_MM, count=40)
    assert len(found) == 37
    outside = [item for item in found if not 8 < item.z < 32]
    assert found[-len(outside) :] == outside
    assert outside[0].z == 0
    assert all(item.score == 0 and "Far from" in item.reason for item in outside)
    assert np.diff([item.score for item in found]).max() < 1e-9, "best first"
    assert found[0].score <= 1


def test_labelled_and_draft_slices_are_never_suggested():
    annotations = Annotations.from_slices(volume(6, [2]), [0, 2, 5])
    annotations.mark(3, SliceState.DRAFT)
    annotations.mark(4, SliceState.SCRIBBLED)
    assert [item.z for item in suggest_slices(annotations, SPACING_MM, count=9)] == [1]


def test_scribbles_alone_leave_it_to_the_prediction():
    annotations = Annotations.empty((40, 8, 8))
    annotations.labels[20, 3:5, 3:5] = 1
    annotations.mark(20, SliceState.SCRIBBLED)
    found = suggest_slices(annotations, SPACING_MM, predicted=volume(filled=range(5, 38)), count=2)
    assert sorted(item.z < 20 for item in found) == [False, True]
    assert all(min(abs(item.z - end) for end in (5, 37)) <= 1 for item in found)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_profile_without_information_changes_nothing(value):
    annotations = Annotations.from_slices(volume(), [0, 39])
    assert suggest_slices(annotations, SPACING_MM, evidence=Evidence(np.full(40, value)), count=1)[0].z in (19, 20)


def test_profile_of_half_floats_does_not_overflow():
    profile = uncertainty_profile(np.ones((2, 400, 400), np.float16))
    np.testing.assert_allclose(profile, 160)


@pytest.mark.parametrize("spacing_mm", [2.0, 5.0])
def test_a_neighbour_of_a_labelled_slice_waits_where_it_shows_almost_the_same(spacing_mm):
    labels = volume(filled=range(40))
    unsure = np.zeros(40, np.float32)
    unsure[16] = 1e6  # between 15 and 17: by its gain alone the third
    annotations = Annotations.from_slices(labels, [0, 15, 17, 25, 39])
    found = suggest_slices(annotations, (spacing_mm, 1, 1), evidence=Evidence(unsure), predicted=labels, count=40)
    assert (16 in [item.z for item in found[:3]]) is (spacing_mm > 4)
    taken = list(annotations.used)
    near = []
    for item in found:
        near.append(min(abs(item.z - z) for z in taken) * spacing_mm < 4)
        taken.append(item.z)
    assert near == sorted(near), "first all that are not near"
    assert 16 in [item.z for item in found], "nothing is left out"
