"""What labelling one more slice would settle: gaps, what is expected in them, how structures run along the volume."""

import numpy as np
import pytest

from vqseg.annotations import Annotations, SliceState
from vqseg.gain import EXTRAPOLATION, LEAP, Gap, course, expected_errors, gaps, settled

SPACING_MM = (2.0, 1.0, 1.0)


def cylinder(n_slices=30, filled=range(30)):
    labels = np.zeros((n_slices, 12, 12), np.uint8)
    labels[list(filled), 2:10, 2:10] = 1
    return labels


def test_gaps_end_at_labelled_slices_and_where_structures_may_go_on():
    annotations = Annotations.from_slices(cylinder(filled=range(5, 25)), [8, 9, 20])
    assert gaps(annotations, annotations.used, (3, 4)) == [(4, 8, -1), (9, 20, 0), (20, 25, 1)]
    assert gaps(annotations, annotations.used, (30, 30)) == [(-1, 8, -1), (9, 20, 0), (20, 30, 1)]
    assert gaps(annotations, [2, *annotations.used, 15], (3, 4)) == [
        (2, 8, 0), (9, 15, 0), (15, 20, 0), (20, 25, 1),
    ]  # fmt: skip


def test_an_empty_complete_slice_closes_its_side_and_a_scribbled_one_does_not():
    annotations = Annotations.from_slices(cylinder(filled=range(5, 25)), [2, 20])
    assert gaps(annotations, annotations.used, (3, 3)) == [(2, 20, 0), (20, 24, 1)]
    annotations.mark(2, SliceState.SCRIBBLED)
    assert gaps(annotations, annotations.used, (3, 3)) == [(-1, 2, -1), (2, 20, 0), (20, 24, 1)]


def test_the_gain_is_what_two_shorter_gaps_leave():
    prone = np.random.default_rng(0).random(20)
    spans = [Gap(-1, 4, -1), Gap(4, 15), Gap(15, 20, 1)]
    gain = settled(spans, prone)
    assert gain[4] == gain[15] == 0
    for z in (0, 2, 9, 14, 19):
        gap = next(gap for gap in spans if gap.low < z < gap.high)
        halves = [Gap(gap.low, z, min(0, gap.open_towards)), Gap(z, gap.high, max(0, gap.open_towards))]
        expected = expected_errors([gap], prone) - expected_errors(halves, prone)
        assert gain[z] == pytest.approx(expected)


def test_the_middle_of_an_even_gap_settles_most():
    gain = settled([Gap(0, 10)], np.ones(11))
    assert gain.argmax() == 5
    assert gain[5] > gain[3] > gain[1] > 0


def test_beyond_the_outermost_slice_more_errors_are_expected_and_a_far_slice_settles_most():
    prone = np.ones(11)
    inner, beyond = Gap(0, 10), Gap(0, 10, 1)
    assert expected_errors([beyond], prone) == EXTRAPOLATION * expected_errors([inner], prone)
    assert settled([beyond], prone).argmax() > settled([inner], prone).argmax()


def test_a_slice_settles_most_beside_what_weighs_most():
    prone = np.full(41, 0.1)
    prone[28:34] = 5
    assert 26 <= settled([Gap(0, 40)], prone).argmax() <= 34


def test_structures_count_the_same_whatever_their_size():
    labels = cylinder()
    labels[:, 0, 0] = 2
    found = course(Annotations.from_slices(labels, [0, 29]), None, SPACING_MM)
    np.testing.assert_allclose(found.area, 2 / 30)
    np.testing.assert_allclose(found.change, 0)


def test_what_differs_between_two_slices_is_spread_over_those_between():
    labels = cylinder(filled=range(10))
    found = course(Annotations.from_slices(labels, [4, 14]), None, SPACING_MM)
    np.testing.assert_allclose(np.diff(found.change[5:14]), 0, atol=1e-12)
    assert found.change[9] == pytest.approx(found.area[4] / 10)
    assert (np.diff(found.area[4:15]) < 0).all()


def test_a_prediction_tells_where_they_change():
    labels = cylinder(filled=range(10))
    found = course(Annotations.from_slices(labels, [4, 14]), labels, SPACING_MM)
    assert found.change[9] == found.change[10] == pytest.approx(found.area[4] / 2)
    assert found.change[5:9].max() == found.change[11:14].max() == 0


def test_a_structure_may_go_on_as_it_shrinks_or_as_it_is_wide():
    labels = np.zeros((60, 12, 12), np.uint8)
    labels[30:36, 1:11, 1:11] = 1  # 100 voxels: a radius of 5.6 mm, 3 slices of 2 mm
    labels[30, 6:11] = 0  # half of it, gone within 5 slices
    assert course(Annotations.from_slices(labels, [32]), None, SPACING_MM).beyond == (3, 3)
    assert course(Annotations.from_slices(labels, [30, 35]), None, SPACING_MM).beyond == (5, round(5 * LEAP + 0.5))
    assert course(Annotations.from_slices(labels, [20, 35]), None, SPACING_MM).beyond[0] == 0


def test_without_complete_slices_the_prediction_is_all_there_is():
    annotations = Annotations.empty((30, 12, 12))
    assert not course(annotations, None, SPACING_MM).area.any()
    found = course(annotations, cylinder(filled=range(5, 25)), SPACING_MM)
    np.testing.assert_allclose(found.area[5:25], 1 / 20)
    assert found.beyond == (30, 30)
