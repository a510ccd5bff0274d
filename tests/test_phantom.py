"""The synthetic thorax: repeatable, on the right sides, in believable HU."""

from __future__ import annotations

import numpy as np
import pytest

from vqseg.io import read_labels, read_volume, write_labels, write_map
from vqseg.phantom import CLASS_NAMES, synthetic_thorax


@pytest.fixture(scope="module")
def thorax():
    return synthetic_thorax(seed=1, shape=(40, 128, 128))


def test_every_class_is_there_and_in_its_range(thorax):
    volume, labels = thorax
    assert volume.shape == labels.array.shape == (40, 128, 128)
    assert labels.names == CLASS_NAMES
    expected = {
        1: (-50, 80),
        2: (-900, -700),
        3: (-900, -700),
        4: (80, 190),
        5: (150, 210),
        6: (150, 450),
        7: (90, 120),
    }
    for value, (low, high) in expected.items():
        assert low < np.median(volume.array[labels.array == value]) < high, CLASS_NAMES[value]


def test_sides(thorax):
    volume, labels = thorax

    def middle(value):
        index = np.argwhere(labels.array == value).mean(axis=0)
        return (volume.affine @ [*index, 1])[:3]

    assert middle(2)[0] < 0 < middle(3)[0]  # RAS: the left lung at negative x
    assert middle(4)[0] < 0 < middle(7)[0]  # heart left, liver right
    assert middle(1)[0] > 0
    assert middle(6)[1] < middle(4)[1]  # spine behind the heart
    assert middle(7)[2] < middle(4)[2] < middle(1)[2]  # liver below the heart, tumour above


def test_seeded(thorax):
    volume, labels = synthetic_thorax(seed=1, shape=(40, 128, 128))
    np.testing.assert_array_equal(volume.array, thorax[0].array)
    np.testing.assert_array_equal(labels.array, thorax[1].array)
    assert (synthetic_thorax(seed=2, shape=(40, 128, 128))[0].array != volume.array).any()


def test_travels_through_files(thorax, tmp_path):
    volume, labels = thorax
    write_map(tmp_path / "image.nii.gz", volume.array, volume)
    write_labels(tmp_path / "mask.nii.gz", labels.array, volume, labels.names)
    image = read_volume(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(image.array, volume.array)
    np.testing.assert_allclose(image.affine, volume.affine, atol=1e-4)
    again = read_labels(tmp_path / "mask.nii.gz", image)
    np.testing.assert_array_equal(again.array, labels.array)
    assert again.names == labels.names
