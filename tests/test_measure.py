"""Measurements on bodies whose volume and surface are known."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from vqseg.annotations import Origin
from vqseg.errors import VolumeError
from vqseg.measure import MAKERS, PREDICTED, as_csv, measure
from vqseg.volume import StoredLayout, Volume

SPACING_MM = (2.0, 1.0, 0.5)


def make_volume(array):
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    return Volume(array, StoredLayout(array.shape[::-1], affine))


def predicted(labels):
    return lambda z: np.full(labels.shape[1:], PREDICTED, np.uint8)


def test_a_ball():
    z, y, x = np.meshgrid(
        *(np.arange(n) * size for n, size in zip((32, 64, 128), SPACING_MM, strict=True)), indexing="ij"
    )
    labels = ((z - 31) ** 2 + (y - 32) ** 2 + (x - 32) ** 2 <= 20**2).astype(np.uint8) * 2
    image = np.where(labels, 40, -900).astype(np.int16)
    image[labels > 0] += np.random.default_rng(0).normal(0, 10, int((labels > 0).sum())).astype(np.int16)
    [ball] = measure(labels, make_volume(image), {2: "ball"}, predicted(labels))
    assert ball.volume_ml == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.01)
    surface = 4 * np.pi * 20**2
    assert ball.surface_mm2 == pytest.approx(surface, rel=0.1)
    assert (ball.mean_hu, ball.sd_hu, ball.median_hu) == pytest.approx((40, 10, 40), abs=0.6)
    assert ball.slices == np.count_nonzero(labels.any(axis=(1, 2))) == 20
    assert (ball.drawn, ball.accepted, ball.imported, ball.predicted) == (0, 0, 0, 1)


def test_voxels_that_are_sheared_are_no_larger():
    array = np.ones((4, 5, 6), np.uint8)
    affine = np.diag([-0.5, -1.0, 2.0, 1.0])
    affine[1, 2] = 1.5  # each slice 1.5 mm further to the front
    [box] = measure(array, Volume(array, StoredLayout((6, 5, 4), affine)), {1: "box"}, predicted(array))
    assert box.volume_ml == pytest.approx(120 / 1000)


def test_whatever_a_person_has_looked_at_is_checked():
    labels = np.ones((len(MAKERS), 5, 6), np.uint8)
    [box] = measure(labels, make_volume(labels), {1: "box"}, lambda z: np.full((5, 6), z, np.uint8))
    assert [getattr(box, str(maker)) for maker in MAKERS] == pytest.approx([1 / len(MAKERS)] * len(MAKERS))
    assert box.checked == pytest.approx(1 - box.predicted)


def test_a_box_at_the_edge_of_the_image():
    labels = np.ones((4, 5, 6), np.uint8)
    image = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    [box] = measure(labels, make_volume(image), {1: "box"}, predicted(labels))
    assert box.volume_ml == pytest.approx(120 / 1000)
    sides = 2 * (8 * 5 + 8 * 3 + 5 * 3)
    assert 0.75 * sides < box.surface_mm2 < sides  # closed at the image's sides; marching cubes cuts the edges
    assert (box.mean_hu, box.median_hu) == (59.5, 59.5)
    assert box.sd_hu == pytest.approx(image.std())


def test_who_made_it_and_a_class_that_is_nowhere():
    labels = np.zeros((3, 4, 4), np.uint8)
    labels[:, 1:3, 1:3] = 1
    makers = np.full((3, 4, 4), PREDICTED, np.uint8)
    makers[0] = MAKERS.index(Origin.DRAWN)
    makers[1, :2] = MAKERS.index(Origin.ACCEPTED)
    body, nothing = measure(labels, make_volume(labels), {1: "body", 5: "nothing"}, makers.__getitem__)
    assert (body.drawn, body.accepted, body.predicted) == pytest.approx((4 / 12, 2 / 12, 6 / 12))
    assert (nothing.volume_ml, nothing.surface_mm2, nothing.slices, nothing.predicted) == (0, 0, 0, 0)
    assert np.isnan([nothing.mean_hu, nothing.sd_hu, nothing.median_hu]).all()
    with pytest.raises(VolumeError, match="have shape"):
        measure(labels[:2], make_volume(labels), {1: "body"}, makers.__getitem__)


def test_the_table():
    labels = np.zeros((3, 4, 4), np.uint8)
    labels[0, 0, 0] = 1
    names = {1: "=HYPERLINK(1)", 2: 'Lunge, "links"'}
    rows = list(csv.DictReader(io.StringIO(as_csv(measure(labels, make_volume(labels), names, predicted(labels))))))
    assert list(rows[0]) == [
        "class", "value", "volume_ml", "mean_hu", "sd_hu", "median_hu", "surface_mm2", "slices",
        "share_drawn", "share_accepted", "share_mixed", "share_imported", "share_predicted",
    ]  # fmt: skip
    assert rows[0]["class"] == "'=HYPERLINK(1)"
    assert rows[1] == {**rows[1], "class": 'Lunge, "links"', "value": "2", "mean_hu": "", "slices": "0"}
    assert float(rows[0]["volume_ml"]) == pytest.approx(0.001)
