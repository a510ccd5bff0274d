"""Whole slices as napari's history keeps them: small, and exactly what they were."""

import numpy as np
import pytest

from napari_vqseg.layers.history import Step, slices_of

BLANK = np.zeros((40, 50), np.uint8)
BLOCKS = np.kron(np.arange(20, dtype=np.uint8).reshape(4, 5), np.ones((10, 10), np.uint8))
NOISE = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)


@pytest.mark.parametrize("before", [BLANK, BLOCKS, NOISE, BLOCKS[:, ::-1]])
@pytest.mark.parametrize("after", [BLANK, BLOCKS, NOISE, np.where(NOISE < 9, NOISE, BLOCKS)])
def test_a_slice_comes_back_as_it_was(before, after):
    labels = np.stack([BLANK, before, BLANK])
    step = Step(1, labels[1], after)
    where, old, new = step
    labels[1] = 255 - labels[1]  # the step holds no view of what is painted on
    labels[1] = before
    labels[where] = new
    assert np.array_equal(labels, np.stack([BLANK, after, BLANK]))
    labels[where] = old
    assert np.array_equal(labels, np.stack([BLANK, before, BLANK]))
    assert slices_of([step]) == {1}


def test_large_areas_take_little_memory():
    large = np.zeros((512, 512), np.uint8)
    large[50:450, 60:400] = 3
    _, before, after = Step(7, np.zeros_like(large), large)
    assert sum(part.starts.nbytes + part.values.nbytes for part in (before, after)) < large.nbytes / 1000


def test_noise_takes_no_more_than_itself():
    _, before, after = Step(0, NOISE, 255 - NOISE)
    assert before.nbytes + after.nbytes == 2 * NOISE.nbytes
