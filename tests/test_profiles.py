"""Profiles along the slices: means where it counts, not over the background."""

import math

import numpy as np
import pytest

from vqseg.profiles import class_means, coarse_to_fine, confidence_profile, slice_stability, wavering_mm2


def test_confidence_is_judged_within_structures_and_where_they_may_go_on():
    labels = np.zeros((5, 100, 100), np.uint8)
    uncertainty = np.zeros(labels.shape, np.float16)
    labels[:3, :10, :10] = 1
    uncertainty[0, :10, :10] = 0.4
    uncertainty[2, 10:15, :20] = 0.75
    uncertainty[3, :5, :5] = 0.75  # nothing is predicted here
    profile = confidence_profile(labels, uncertainty)
    assert profile.dtype == np.float32
    assert profile[:3] == pytest.approx([0.6, 1.0, 1 - 0.75 / 2], abs=1e-3)
    assert np.isnan(profile[3:]).all()


def test_stability_counts_the_structure_and_what_flips():
    labels, stability = np.zeros((20, 20), np.uint8), np.ones((20, 20), np.float32)
    assert math.isnan(slice_stability(labels, stability))
    labels[:4, :4] = 1
    assert slice_stability(labels, stability) == 1
    stability[4, :4] = 0.5  # flips just outside
    assert slice_stability(labels, stability) == pytest.approx((16 + 2) / 20)
    assert wavering_mm2(stability, (5.0, 0.5, 2.0)) == pytest.approx(4.0)


def test_means_of_each_class():
    labels = np.array([[0, 1, 1, 3]], np.uint8)
    assert class_means(labels, np.array([[0.1, 0.5, 1.0, 0.25]], np.float16)) == {1: 0.75, 3: 0.25}
    assert class_means(np.zeros((2, 2), np.uint8), np.ones((2, 2))) == {}


def test_the_whole_range_comes_first():
    order = coarse_to_fine(range(10, 50))
    assert order[:3] == [10, 26, 42]
    assert sorted(order) == list(range(10, 50))
    assert coarse_to_fine([]) == []
