"""The gate of all painting: locks, HU range, and the flood that both bound."""

import numpy as np

from vqseg.painting import SPECK_MM2, flood, in_range, protect


def test_locked_classes_stay():
    old = np.array([[0, 1], [2, 3]], np.uint8)
    assert protect(old, 4, {2}).tolist() == [[4, 4], [2, 4]]
    assert protect(old, 0, (1, 3)).tolist() == [[0, 1], [0, 3]], "nor are they erased"
    new = np.array([[9, 9], [9, 9]], np.uint8)
    painted = protect(old, new, ())
    assert np.array_equal(painted, new)
    assert painted is not new


def test_the_range_holds_both_ends():
    hu = np.array([-101, -100, 0, 50, 51])
    assert in_range(hu, (-100, 50)).tolist() == [False, True, True, True, False]
    assert in_range(hu, None).all()


def test_the_flood_stays_in_range_joined_and_off_locked_classes():
    hu = np.full((20, 20), -800.0)
    hu[5:15, 5:15] = 40
    hu[0:3, 0:3] = 40
    labels = np.zeros((20, 20), np.uint8)
    limits = (0.0, 100.0)
    assert flood(hu, labels, (10, 10), limits).sum() == 100, "the other bright part is not joined"
    labels[:, 10] = 2
    assert flood(hu, labels, (10, 6), limits).sum() == 100, "an unlocked class is painted over"
    part = flood(hu, labels, (10, 6), limits, locked={2})
    assert part.sum() == 50
    assert not part[:, 10:].any()
    assert not flood(hu, labels, (10, 10), limits, locked={2}).any()
    assert not flood(hu, labels, (18, 18), limits).any()


def test_the_flood_fills_the_specks_that_it_encloses_and_nothing_larger():
    hu = np.full((30, 30), 40.0)
    hu[5, 5:8] = hu[20:24, 20:24] = 500
    labels = np.zeros((30, 30), np.uint8)
    limits, pixel_mm2 = (0.0, 100.0), SPECK_MM2 / 4
    part = flood(hu, labels, (10, 10), limits, pixel_mm2=pixel_mm2)
    assert part[5, 5:8].all(), "three voxels are noise"
    assert not part[20:24, 20:24].any(), "sixteen are a vessel"
    assert flood(hu, labels, (10, 10), limits, pixel_mm2=pixel_mm2 / 4)[20:24, 20:24].all(), "in mm², not in voxels"
    assert not flood(hu, labels, (10, 10), limits, pixel_mm2=SPECK_MM2)[5, 5:8].any()
    labels[5, 6] = 2
    assert not flood(hu, labels, (10, 10), limits, {2}, pixel_mm2)[5, 5:8].any(), "a locked class stays"
