"""Scores against shapes whose answer is known, and against MONAI where the definitions meet."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vqseg.errors import GeometryError
from vqseg.metrics import ClassScores, evaluate, summarise

SPACING_MM = (3.0, 1.0, 0.5)


def box(z, y, x, shape=(12, 20, 24)):
    labels = np.zeros(shape, np.uint8)
    labels[slice(*z), slice(*y), slice(*x)] = 1
    return labels


def test_perfect():
    labels = box((2, 6), (3, 9), (4, 12))
    assert evaluate(labels, labels, SPACING_MM, [1])[1] == ClassScores(1, 1, 0, 0)


@pytest.mark.parametrize(("axis", "step_mm"), list(enumerate(SPACING_MM)))
def test_a_shift_of_one_voxel(axis, step_mm):
    reference = box((2, 6), (3, 9), (4, 12))
    prediction = np.roll(reference, 1, axis)
    scores = evaluate(prediction, reference, SPACING_MM, [1])[1]
    length = (4, 6, 8)[axis]
    assert scores.dice == pytest.approx((length - 1) / length)
    assert scores.jaccard == pytest.approx((length - 1) / (length + 1))
    assert scores.hd95_mm == pytest.approx(step_mm)
    assert 0 < scores.asd_mm < step_mm


def test_asd_goes_from_prediction_to_reference():
    reference = box((2, 6), (3, 9), (4, 12))
    prediction = reference.copy()
    prediction[2:6, 15, 4:12] = 1  # an island 7 mm away
    assert evaluate(prediction, reference, SPACING_MM, [1])[1].asd_mm > 1
    assert evaluate(reference, prediction, SPACING_MM, [1])[1].asd_mm == 0


def test_undefined_scores_and_their_count():
    reference = box((2, 6), (3, 9), (4, 12)) * 2
    prediction = box((2, 6), (3, 9), (4, 12)) * 3
    reference[0, 0, 0] = prediction[0, 0, 0] = 1
    scores = evaluate(prediction, reference, SPACING_MM, [1, 2, 3, 4])
    assert list(scores) == [1, 2, 3, 4]
    for value in (2, 3):
        assert (scores[value].dice, scores[value].jaccard) == (0, 0)
        assert math.isnan(scores[value].hd95_mm)
        assert math.isnan(scores[value].asd_mm)
    assert math.isnan(scores[4].dice)
    summary = summarise(scores)
    assert summary.mean == ClassScores(1 / 3, 1 / 3, 0, 0)
    assert summary.undefined == {"dice": 1, "jaccard": 1, "hd95_mm": 3, "asd_mm": 3}
    assert math.isnan(summarise([scores[4]]).mean.dice)


def test_excluded_slices_do_not_count():
    reference = box((2, 8), (3, 9), (4, 12))
    prediction = reference.copy()
    prediction[4] = 0
    prediction[4, 15:18, 4:12] = 1
    assert evaluate(prediction, reference, SPACING_MM, [1])[1].hd95_mm > 3
    scores = evaluate(prediction, reference, SPACING_MM, [1], exclude_slices=[4])[1]
    assert (scores.dice, scores.jaccard) == (1, 1)
    whole = evaluate(reference, reference, SPACING_MM, [1], exclude_slices=[4])[1]
    assert whole == ClassScores(1, 1, 0, 0)
    nothing = evaluate(reference, reference, SPACING_MM, [1], exclude_slices=range(12))[1]
    assert math.isnan(nothing.dice)


def test_agrees_with_slow_definitions():
    rng = np.random.default_rng(0)
    prediction, reference = rng.random((2, 6, 9, 8)) > 0.6
    scores = evaluate(prediction.astype(np.uint8), reference.astype(np.uint8), SPACING_MM, [1])[1]

    def surface(mask):
        padded = np.pad(mask, 1)
        inside = np.ones_like(mask)
        for axis in range(3):
            for step in (-1, 1):
                inside &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inside) * SPACING_MM

    points_p, points_r = surface(prediction), surface(reference)
    apart = np.linalg.norm(points_p[:, None] - points_r[None], axis=-1)
    assert scores.asd_mm == pytest.approx(apart.min(axis=1).mean())
    pooled = np.concatenate([apart.min(axis=1), apart.min(axis=0)])
    assert scores.hd95_mm == pytest.approx(np.percentile(pooled, 95))


def test_shapes_must_match():
    with pytest.raises(GeometryError, match="same voxels"):
        evaluate(np.zeros((2, 3, 4)), np.zeros((2, 3, 5)), SPACING_MM, [1])
