"""Scores of newly drawn slices against what was predicted before they were seen."""

import json
import math

import numpy as np
import pytest

from vqseg.errors import ProjectError
from vqseg.metrics import evaluate_slice
from vqseg.quality import NEWEST, QualityCurve, SliceScore, score_slice

SPACING_MM = (0.5, 2.0)


def squares(*boxes, shape=(30, 30)):
    """Label value 1, 2, ... in each box (y0, y1, x0, x1)."""
    labels = np.zeros(shape, np.uint8)
    for value, (y0, y1, x0, x1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = value
    return labels


def score(z, both=80, predicted=100, drawn=100, taught=3, hd95_mm=2.0):
    return SliceScore(z, taught, 50, {1: (both, predicted, drawn)}, {1: hd95_mm})


def test_a_slice_is_scored_in_its_plane_in_mm():
    drawn = squares((5, 15, 5, 15))
    moved = squares((8, 18, 5, 15))
    scores = evaluate_slice(moved, drawn, SPACING_MM, [1])
    assert scores[1].dice == pytest.approx(0.7)
    assert scores[1].hd95_mm == pytest.approx(1.5)  # three rows of half a millimetre
    sideways = evaluate_slice(squares((5, 15, 8, 18)), drawn, SPACING_MM, [1])
    assert sideways[1].hd95_mm == pytest.approx(6.0)


def test_a_score_counts_pixels_and_leaves_undefined_distances_out():
    drawn, predicted = squares((0, 10, 0, 10)), squares((0, 10, 0, 5), (20, 22, 20, 22))
    found = score_slice(predicted, drawn, SPACING_MM, [1, 2, 3], z=7, taught=3, step=120)
    assert found.overlap == {1: (50, 50, 100), 2: (0, 4, 0)}
    assert list(found.hd95_mm) == [1]
    assert found.dice == pytest.approx((2 * 50 / 150 + 0) / 2), "a class painted where there is none costs"


def test_a_slice_empty_in_both_says_nothing():
    curve = QualityCurve()
    curve.put(score_slice(squares(), squares(), SPACING_MM, [1], z=0, taught=3, step=1))
    assert math.isnan(curve.scores[0].dice)
    assert curve.estimate is None
    assert curve.rounds == []
    assert not curve.may_count(0)


def test_the_estimate_pools_the_newest_slices():
    curve = QualityCurve()
    for z in range(NEWEST + 3):
        curve.put(score(z, both=0 if z < 3 else 90, hd95_mm=9.0 if z < 3 else 1.0))
    estimate = curve.estimate
    assert estimate is not None
    assert (estimate.n_slices, estimate.dice, estimate.hd95_mm) == (NEWEST, pytest.approx(0.9), pytest.approx(1.0))
    tiny = QualityCurve([score(0, both=1, predicted=1, drawn=9), score(1, both=900, predicted=1000, drawn=1000)])
    assert tiny.estimate is not None
    assert tiny.estimate.dice == pytest.approx(2 * 901 / 2010), "a slice counts by its size"


def test_rounds_follow_the_number_of_labelled_slices():
    curve = QualityCurve([score(4, taught=3), score(9, taught=3, both=100), score(6, taught=5, both=95)])
    assert [(item.taught, len(item.scores), item.dice) for item in curve.rounds] == [(3, 2, 0.9), (5, 1, 0.95)]
    assert curve.rounds[0].hd95_mm == 2.0


def test_accepted_slices_never_count_and_mended_ones_keep_their_place():
    curve = QualityCurve()
    curve.note_accepted(5)
    assert not curve.may_count(5)
    curve.put(score(8))
    curve.put(score(9))
    curve.put(score(8, both=100))
    assert [item.z for item in curve.scores] == [8, 9]
    assert curve.scores[0].dice == 1
    curve.note_accepted(9)
    assert curve.score_of(9) is not None, "an honest score is not lost when the slice is accepted later"
    assert curve.accepted == {5}


def test_a_curve_comes_back_from_disk(tmp_path):
    path = tmp_path / "quality.json"
    assert QualityCurve.load(path).scores == []
    curve = QualityCurve([score(4), SliceScore(5, 4, 60, {2: (0, 7, 0)}, {})], {11})
    curve.save(path)
    assert QualityCurve.load(path) == curve
    assert json.loads(path.read_text())["kind"] == "quality"


@pytest.mark.parametrize("change", [
    lambda record: record.pop("scores"),
    lambda record: record.update(accepted=None),
    lambda record: record["scores"][0].pop("taught"),
    lambda record: record["scores"][0].update(overlap=[1]),
    lambda record: record["scores"].append("junk"),
])  # fmt: skip
def test_a_damaged_curve_is_a_sentence(tmp_path, change):
    path = tmp_path / "quality.json"
    QualityCurve([score(4)], {11}).save(path)
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ProjectError, match=r"quality\.json is damaged"):
        QualityCurve.load(path)
    path.write_text("{")
    with pytest.raises(ProjectError, match="damaged"):
        QualityCurve.load(path)
