import numpy as np
import pytest
import torch
from scipy import ndimage

from vqseg.annotations import signed_distance
from vqseg.data.motion import SliceMotion
from vqseg.data.shape_prior import CAP_MM, ShapePrior, encode_shape, no_shape


def disc(radius, size=48, centre=(24, 24)):
    y, x = np.mgrid[:size, :size]
    return (np.hypot(y - centre[0], x - centre[1]) < radius).astype(np.uint8)


def prior_of(radii, spacing=(2.0, 1.0, 1.0)):
    labels = {z: disc(radius) for z, radius in radii.items()}
    return ShapePrior(labels, n_classes=1, spacing_mm=spacing, size=(48, 48))


def test_interpolates_linearly_between_labelled_slices():
    prior = prior_of({0: 8, 10: 16})
    middle = prior.at(5)
    assert middle.distance_mm == 10.0
    area = float((middle.distance_maps[0] < 0).sum())
    assert area == pytest.approx(np.pi * 12**2, rel=0.05)


def test_a_labelled_slice_is_its_own_shape_unless_left_out():
    prior = prior_of({0: 8, 5: 20, 10: 8})
    assert torch.equal(prior.at(5).distance_maps, prior.maps[5])
    left_out = prior.at(5, leave_out=5)
    assert float((left_out.distance_maps < 0).sum()) == pytest.approx(np.pi * 8**2, rel=0.07)


def test_only_slices_whose_labels_have_changed_are_measured_again(monkeypatch):
    labels = {z: disc(8 + z) for z in (0, 5, 10)}
    earlier = ShapePrior(labels, 1, (2.0, 1.0, 1.0), (48, 48))
    measured = []
    monkeypatch.setattr(
        "vqseg.data.shape_prior.signed_distance",
        lambda labels, *rest: measured.append(int(labels.sum())) or signed_distance(labels, *rest),
    )
    corrected = {0: labels[0].copy(), 5: disc(18), 12: disc(9)}  # 10 is gone, 12 is new
    prior = ShapePrior(corrected, 1, (2.0, 1.0, 1.0), (48, 48), earlier)
    assert measured == [int(disc(18).sum()), int(disc(9).sum())]
    afresh = ShapePrior(corrected, 1, (2.0, 1.0, 1.0), (48, 48))
    assert prior.slices == afresh.slices == list(prior.maps)
    for z in prior.slices:
        assert torch.equal(prior.maps[z], afresh.maps[z])
    assert torch.equal(prior.error_rate, afresh.error_rate)
    assert torch.equal(earlier.maps[5], ShapePrior(labels, 1, (2.0, 1.0, 1.0), (48, 48)).maps[5])


def test_beyond_the_outermost_slice_the_shape_shrinks_a_millimetre_a_millimetre():
    prior = prior_of({4: 12, 8: 12})
    beyond = prior.at(11)
    assert beyond.distance_mm == 6.0
    assert float((beyond.distance_maps < 0).sum()) == pytest.approx(np.pi * 6**2, rel=0.2)


def test_towards_an_empty_slice_the_structure_ends_half_way():
    prior = prior_of({0: 12, 10: 0})
    assert (prior.at(4).distance_maps < 0).any()
    assert not (prior.at(6).distance_maps < 0).any()
    assert float(prior.maps[10].min()) == CAP_MM


def test_error_rate_grows_where_the_left_out_slice_is_badly_interpolated():
    steady, jumping = prior_of({0: 10, 5: 10, 10: 10}), prior_of({0: 6, 5: 18, 10: 6})
    assert steady.error_rate.item() < 0.5 < jumping.error_rate.item()
    assert steady.spread_mm(10.0).item() < jumping.spread_mm(10.0).item()


def test_where_many_slices_are_labelled_some_are_left_out_to_measure_the_error(monkeypatch):
    left_out = []
    interpolate = ShapePrior._interpolate
    monkeypatch.setattr(
        ShapePrior, "_interpolate", lambda self, z, out: left_out.append(z) or interpolate(self, z, out)
    )
    prior_of({z: 8 + z % 5 for z in range(12)})
    assert left_out == list(range(1, 11))
    left_out.clear()
    prior_of({z: 8 + z % 5 for z in range(100)})
    assert 8 <= len(left_out) <= 16
    assert np.ptp(left_out) > 80


def test_log_odds_point_inside_and_weaken_with_distance():
    prior = prior_of({0: 12, 20: 12})
    near, far = (prior.log_odds(prior.at(z))[0] for z in (1, 10))
    assert near[24, 24] > far[24, 24] > 0
    assert near[0, 0] < far[0, 0] < 0


def test_far_from_the_labelled_slices_geometry_says_little_however_deep():
    prior = prior_of({0: 12, 80: 12})
    far, near = (prior.discount(prior.log_odds(at), at.distance_mm)[0] for at in (prior.at(40), prior.at(1)))
    assert 0 < far[24, 24] < 0.2 < near[24, 24]
    assert near[0, 0] < -0.2 < far[0, 0] < 0


def test_encoded_channels_are_bounded_and_say_when_nothing_is_known():
    prior = prior_of({0: 12, 20: 12})
    evidence = prior.at(3)
    encoded = encode_shape(evidence.distance_maps[None], torch.tensor([evidence.distance_mm]))
    assert encoded.shape == (1, 2, 48, 48)
    assert encoded[:, 0].abs().max() <= 1
    nothing = no_shape(1, 2, (48, 48))
    assert nothing.shape == encoded.shape
    assert nothing[0, -1].unique().tolist() == [-1.0]


def drifting_disc(shifts):
    """A disc in a textured body; both are shifted along x, in each slice by as many px."""
    rng = np.random.default_rng(0)
    body = ndimage.gaussian_filter(rng.normal(size=(48, 48)), 3.0, mode="wrap")
    body = 0.5 + 0.2 * body / body.std()
    images = [ndimage.shift(body, (0, shift), order=1, mode="grid-wrap") for shift in shifts]
    return torch.from_numpy(np.stack(images)).float(), [disc(6, centre=(24, 12 + shift)) for shift in shifts]


def test_shapes_follow_the_anatomy_where_that_predicts_the_left_out_slices():
    images, masks = drifting_disc([1.5 * z for z in range(11)])
    labels = {z: masks[z] for z in (0, 5, 10)}
    still = ShapePrior(labels, 1, (5.0, 1.0, 1.0), (48, 48))
    follows = ShapePrior(labels, 1, (5.0, 1.0, 1.0), (48, 48), motion=SliceMotion(images, 5.0))
    assert follows.followed.item() == 1
    assert follows.error_rate.item() < still.error_rate.item()
    wrong = {name: int(((prior.at(7).distance_maps[0] < 0).numpy() != (masks[7] > 0)).sum())
             for name, prior in {"still": still, "follows": follows}.items()}  # fmt: skip
    assert wrong["follows"] < 0.4 * wrong["still"]


def test_shapes_stand_still_where_the_images_mislead():
    images, _ = drifting_disc([0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0])
    labels = dict.fromkeys((0, 3, 6, 9), disc(10))
    prior = ShapePrior(labels, 1, (5.0, 1.0, 1.0), (48, 48), motion=SliceMotion(images, 5.0))
    assert prior.followed.item() == 0
    still = ShapePrior(labels, 1, (5.0, 1.0, 1.0), (48, 48))
    assert torch.equal(prior.at(4).distance_maps, still.at(4).distance_maps)


def test_the_outermost_shape_follows_the_anatomy_outwards_while_it_shrinks():
    images, masks = drifting_disc([1.5 * z for z in range(11)])
    labels = {z: masks[z] for z in (0, 4)}
    prior = ShapePrior(labels, 1, (1.0, 1.0, 1.0), (48, 48), motion=SliceMotion(images, 1.0))
    there = prior.at(7).distance_maps[0] < 0
    columns = there.nonzero()[:, 1].float()
    assert columns.mean().item() == pytest.approx(12 + 7 * 1.5, abs=1.0)
    assert int(there.sum()) < masks[7].sum()
