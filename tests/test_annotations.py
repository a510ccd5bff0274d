"""Slices and their states, and the shape between them."""

import time

import numpy as np
import pytest

from vqseg.annotations import (
    DISTANCE_CAP_MM,
    PAINTED_BACKGROUND,
    Annotations,
    Origin,
    SliceRecord,
    SliceState,
    interpolate_labels,
    interpolate_signed_distance,
    signed_distance,
)
from vqseg.errors import AnnotationError

SPACING_MM = (3.0, 1.0, 1.0)


def disc(shape, centre, radius):
    y, x = np.indices(shape)
    return (((y - centre[0]) ** 2 + (x - centre[1]) ** 2) <= radius**2).astype(np.uint8)


def test_states_are_listed_in_order():
    annotations = Annotations.empty((6, 4, 4))
    annotations.set_slice(4, np.ones((4, 4), np.uint8), SliceState.COMPLETE)
    annotations.mark(1, SliceState.COMPLETE)
    annotations.mark(2, SliceState.SCRIBBLED)
    annotations.mark(3, SliceState.DRAFT)
    assert annotations.complete == [1, 4]
    assert annotations.empty_complete == [1]
    assert annotations.scribbled == [2]
    assert annotations.draft == [3]
    assert annotations.used == [1, 2, 4]
    assert annotations.classes == [1]
    assert annotations.state(0) is None


def test_a_slice_painted_with_background_only_is_an_empty_one():
    annotations = Annotations.empty((2, 3, 3))
    annotations.set_slice(0, np.full((3, 3), PAINTED_BACKGROUND, np.uint8), SliceState.COMPLETE)
    assert annotations.empty_complete == [0]


def test_from_slices_hides_all_other_labels():
    annotations = Annotations.from_slices(np.ones((3, 2, 2), np.int64), [2], Origin.ACCEPTED)
    assert annotations.labels.sum() == 4
    assert annotations.records == {2: SliceRecord(SliceState.COMPLETE, Origin.ACCEPTED)}


def test_target_says_what_is_unknown():
    annotations = Annotations.empty((3, 1, 3))
    painted = np.array([[0, 7, PAINTED_BACKGROUND]], np.uint8)
    annotations.set_slice(0, painted, SliceState.COMPLETE)
    annotations.set_slice(1, painted, SliceState.SCRIBBLED)
    annotations.set_slice(2, painted, SliceState.DRAFT)
    np.testing.assert_array_equal(annotations.target(0), [[0, 7, 0]])
    np.testing.assert_array_equal(annotations.target(1), [[255, 7, 0]])
    np.testing.assert_array_equal(annotations.target(2), [[255, 255, 255]])


def test_clear_and_copy():
    annotations = Annotations.from_slices(np.ones((2, 2, 2), np.uint8), [0, 1])
    other = annotations.copy()
    annotations.clear(0)
    assert annotations.complete == [1]
    assert not annotations.labels[0].any()
    assert other.complete == [0, 1]
    assert other.labels.all()


@pytest.mark.parametrize("z", [-1, 2])
def test_a_slice_outside_the_volume_is_named(z):
    with pytest.raises(AnnotationError, match="run from 0 to 1"):
        Annotations.empty((2, 2, 2)).mark(z, SliceState.COMPLETE)


def test_labels_of_another_kind_are_refused():
    with pytest.raises(AnnotationError, match="uint8"):
        Annotations(np.zeros((2, 2, 2), np.int32))
    with pytest.raises(AnnotationError, match="254 classes"):
        Annotations.from_slices(np.full((1, 2, 2), 300), [0])
    with pytest.raises(AnnotationError, match="shape"):
        Annotations.empty((1, 2, 2)).set_slice(0, np.zeros((3, 3)), SliceState.COMPLETE)


def test_signed_distance_is_in_mm_and_symmetric_at_the_edge():
    labels = np.zeros((1, 9), np.uint8)
    labels[0, 3:6] = 2
    distance = signed_distance(np.repeat(labels, 9, axis=0), 2, (1.0, 2.0), cap_mm=4.0)
    assert distance.dtype == np.float32
    np.testing.assert_allclose(distance[4], [4, 3.5, 1.5, -1.5, -3.5, -1.5, 1.5, 3.5, 4])
    assert (signed_distance(labels, 9, (1, 1)) == DISTANCE_CAP_MM).all()


def test_signed_distance_of_a_full_slice_is_finite():
    assert np.isfinite(signed_distance(np.ones((5, 5), np.uint8), 1, (1, 1))).all()


def test_the_same_disc_on_both_sides_makes_a_cylinder():
    labels = np.zeros((9, 40, 40), np.uint8)
    labels[[0, 8]] = disc((40, 40), (20, 20), 9)
    between = interpolate_labels(Annotations.from_slices(labels, [0, 8]), [1], SPACING_MM)
    assert (between == labels[0]).all()


def test_two_discs_make_a_cone():
    labels = np.zeros((9, 60, 60), np.uint8)
    labels[0], labels[8] = disc((60, 60), (30, 30), 20), disc((60, 60), (30, 30), 10)
    between = interpolate_labels(Annotations.from_slices(labels, [0, 8]), [1], SPACING_MM)
    radii = np.sqrt(between.sum(axis=(1, 2)) / np.pi)
    np.testing.assert_allclose(radii, np.linspace(20, 10, 9), atol=0.5)


def test_complete_slices_come_back_and_nothing_lies_beyond_them():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (12, 20, 20)).astype(np.uint8)
    slices = [2, 3, 7, 9]
    between = interpolate_labels(Annotations.from_slices(labels, slices), [1, 2, 3], SPACING_MM)
    np.testing.assert_array_equal(between[slices], labels[slices])
    assert not between[:2].any()
    assert not between[10:].any()


def test_beside_an_empty_slice_a_structure_ends_half_way():
    labels = np.zeros((11, 40, 40), np.uint8)
    labels[0] = disc((40, 40), (20, 20), 9)
    areas = interpolate_labels(Annotations.from_slices(labels, [0, 10]), [1], SPACING_MM).sum(axis=(1, 2))
    assert (np.diff(areas[:6].astype(int)) < 0).all()
    assert areas[4] > 0
    assert not areas[5:].any()


def test_maps_agree_with_labels_and_are_capped():
    labels = np.zeros((13, 50, 50), np.uint8)
    labels[2] = disc((50, 50), (15, 15), 8) + 2 * disc((50, 50), (35, 35), 8)
    labels[10] = disc((50, 50), (20, 20), 5)
    annotations = Annotations.from_slices(labels, [2, 7, 10])
    annotations.set_slice(7, labels[2], SliceState.COMPLETE)
    maps = interpolate_signed_distance(annotations, [1, 2], SPACING_MM, cap_mm=6.0)
    assert maps.dtype == np.float32
    assert maps.shape == (2, 13, 50, 50)
    assert maps.max() == 6
    expected = np.where(maps.min(axis=0) < 0, maps.argmin(axis=0) + 1, 0)
    np.testing.assert_array_equal(interpolate_labels(annotations, [1, 2], SPACING_MM), expected)
    assert (maps[:, :2] == 6).all()
    assert (maps[1, 10] == 6).all()


def test_scribbles_and_drafts_are_not_interpolated():
    annotations = Annotations(np.ones((5, 6, 6), np.uint8))
    annotations.mark(0, SliceState.SCRIBBLED)
    annotations.mark(4, SliceState.DRAFT)
    assert not interpolate_labels(annotations, [1], SPACING_MM).any()


def test_no_complete_slice_and_one():
    labels = np.ones((3, 6, 6), np.uint8)
    assert not interpolate_labels(Annotations.empty((3, 6, 6)), [1], SPACING_MM).any()
    one = interpolate_labels(Annotations.from_slices(labels, [1]), [1], SPACING_MM)
    assert one[1].all()
    assert not one[[0, 2]].any()
    assert (interpolate_signed_distance(Annotations.from_slices(labels, [1]), [1], SPACING_MM)[0, 1] < 0).all()


def test_it_is_fast():
    labels = np.zeros((100, 400, 300), np.uint8)
    for value, (y, x, radius) in enumerate([(100, 80, 60), (100, 220, 60), (280, 150, 90), (350, 60, 20)], 1):
        labels[:, disc((400, 300), (y, x), radius) > 0] = value
    annotations = Annotations.from_slices(labels, np.linspace(0, 99, 10).astype(int))
    start = time.process_time()
    between = interpolate_labels(annotations, [1, 2, 3, 4], (3.0, 0.8, 0.8))
    elapsed_s = time.process_time() - start
    np.testing.assert_array_equal(between, labels)
    assert elapsed_s < 2, f"{elapsed_s:.2f} s; the target is 1 s on an idle machine"
