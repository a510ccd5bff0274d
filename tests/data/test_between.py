"""Filling between with shapes that follow the anatomy, on a body that drifts from slice to slice."""

import numpy as np
import pytest
from scipy import ndimage

from vqseg.annotations import Annotations, SliceState
from vqseg.between import fill_between
from vqseg.data import TrainingCase
from vqseg.data.between import fill_along
from vqseg.errors import AnnotationError
from vqseg.volume import StoredLayout, Volume

SPACING_MM = (5.0, 1.0, 0.8)
GAP = list(range(5, 9))


def drifting(px_per_slice, complete, depth=13, size=(72, 96)):
    """A case with two structures, of values 3 and 7, in a textured body that moves along x; and the whole labels."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.normal(size=size), 3.0, mode="wrap")
    y, x = np.mgrid[: size[0], : size[1]]
    disc = np.where(np.hypot(y - 30, x - 30) < 9, 3, 0) + np.where(np.hypot(y - 48, x - 38) < 6, 7, 0)
    shifts = [(0, px_per_slice * z) for z in range(depth)]
    hu = np.stack([ndimage.shift(texture / texture.std(), shift, order=1, mode="grid-wrap") for shift in shifts])
    labels = np.stack([ndimage.shift(disc, shift, order=0) for shift in shifts]).astype(np.uint8)
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    volume = Volume((100 * hu).astype(np.int16), StoredLayout((size[1], size[0], depth), affine))
    return TrainingCase(volume, Annotations.from_slices(labels, complete)), labels


def test_shapes_that_follow_the_anatomy_are_closer_to_the_truth():
    case, labels = drifting(2.0, [0, 4, 9, 12])
    before = case.annotations.labels.copy()
    along = fill_along(case, GAP)
    straight = fill_between(case.annotations, (4, 9), SPACING_MM).labels
    assert along.shape == straight.shape
    assert along.dtype == np.uint8
    for value in (3, 7):
        truth = labels[GAP] == value
        assert ((along == value) != truth).sum() < 0.3 * ((straight == value) != truth).sum()
    assert np.array_equal(case.annotations.labels, before)


def test_where_nothing_moves_the_shapes_stay_on_their_voxels_and_what_is_painted_stands():
    case, labels = drifting(0.0, [0, 4, 9, 12])
    case.annotations.labels[6, 0, 0] = 3
    case.annotations.labels[6, 28:32, 28:32] = 255
    case.annotations.mark(6, SliceState.DRAFT)
    expected = np.where(case.annotations.labels > 0, case.annotations.labels, labels)[[8, 6]]
    filled = fill_along(case, [8, 6])
    assert (filled != expected).mean() < 0.002
    assert filled[1, 0, 0] == 3, "what is painted between stands"
    assert (filled[1, 28:32, 28:32] == 255).all()


def test_complete_slices_farther_off_change_nothing():
    case, labels = drifting(1.5, [1, 2, 4, 9, 11, 12])
    far = Annotations.from_slices(labels, [1, 2, 4, 9, 11, 12])
    far.labels[[1, 12]] = 0
    assert np.array_equal(fill_along(case, GAP), fill_along(TrainingCase(case.volume, far), GAP))


def test_without_a_complete_slice_it_is_said_what_to_do():
    case, _ = drifting(1.5, [])
    with pytest.raises(AnnotationError, match="complete one on either side"):
        fill_along(case, GAP)
