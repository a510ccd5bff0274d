"""Components: found under a voxel, kept by number and volume, their holes filled."""

import numpy as np
import pytest

from vqseg.components import CleanUp, clean_up, component_at
from vqseg.errors import ConfigError

VOXEL_ML = 0.01


@pytest.fixture
def labels():
    """Class 1: a large block with a hole, a small block, one voxel. Class 2 inside the large block, and a speck."""
    labels = np.zeros((10, 20, 20), np.uint8)
    labels[1:6, 1:8, 1:8] = 1
    labels[3, 3, 3] = 0
    labels[3, 5, 5] = 2
    labels[7:9, 12:15, 12:15] = 1
    labels[0, 19, 19] = 1
    labels[9, 0, 0] = 2
    return labels


def test_no_rule_changes_nothing(labels):
    assert not CleanUp()
    cleaned = clean_up(labels, {}, VOXEL_ML)
    assert np.array_equal(cleaned, labels)
    assert cleaned is not labels


def test_the_largest_components_stay(labels):
    one = clean_up(labels, {1: CleanUp(keep_largest=1)}, VOXEL_ML)
    assert (one == 1).sum() == 5 * 7 * 7 - 2
    assert (one == 2).sum() == 2, "other classes are left alone"
    two = clean_up(labels, {1: CleanUp(keep_largest=2)}, VOXEL_ML)
    assert (two == 1).sum() == (labels == 1).sum() - 1
    assert np.array_equal(clean_up(labels, {1: CleanUp(keep_largest=9)}, VOXEL_ML), labels)


def test_specks_below_a_volume_go(labels):
    cleaned = clean_up(labels, {1: CleanUp(min_volume_ml=0.18), 2: CleanUp(min_volume_ml=0.02)}, VOXEL_ML)
    assert (cleaned == 1).sum() == (labels == 1).sum() - 1, "18 voxels of 0.01 ml are enough"
    assert not (cleaned == 2).any()
    assert not (clean_up(labels, {1: CleanUp(min_volume_ml=0.181)}, VOXEL_ML)[7:] == 1).any()


def test_holes_are_filled_with_background_only(labels):
    filled = clean_up(labels, {1: CleanUp(fill_holes=True)}, VOXEL_ML)
    assert filled[3, 3, 3] == 1
    assert filled[3, 5, 5] == 2
    assert (filled != labels).sum() == 1
    labels[3:, 3, 3] = 0  # a channel to the outside is no hole
    assert np.array_equal(clean_up(labels, {1: CleanUp(fill_holes=True)}, VOXEL_ML), labels)


def test_a_speck_dropped_inside_another_class_is_filled(labels):
    rules = {1: CleanUp(fill_holes=True), 2: CleanUp(min_volume_ml=1)}
    assert clean_up(labels, rules, VOXEL_ML)[3, 5, 5] == 1


def test_a_class_that_is_not_there_and_a_negative_number(labels):
    assert np.array_equal(clean_up(labels, {7: CleanUp(keep_largest=1, fill_holes=True)}, VOXEL_ML), labels)
    with pytest.raises(ConfigError, match="0 or more"):
        CleanUp(min_volume_ml=-1)


def test_the_component_at_a_voxel(labels):
    found = component_at(labels, (7, 13, 13))
    assert found.value == 1
    assert found.box == (slice(7, 9), slice(12, 15), slice(12, 15))
    assert found.mask.all()
    assert list(found.slices) == [7, 8]
    assert found.volume_ml(VOXEL_ML) == pytest.approx(0.18)
    assert found.slice(8, (20, 20)).sum() == 9
    assert not found.slice(6, (20, 20)).any()
    large = component_at(labels, (2, 2, 2))
    assert large.mask.sum() == 5 * 7 * 7 - 2
    assert component_at(labels, (0, 0, 0)) is None


def test_corners_join():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[2, 2, 2] = 4
    assert component_at(labels, (0, 0, 0)).mask.sum() == 3
