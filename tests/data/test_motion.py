import numpy as np
import pytest
import torch
from scipy import ndimage

from vqseg.data import motion
from vqseg.data.motion import SliceMotion, register


def texture(size=64, seed=0):
    noise = np.random.default_rng(seed).normal(size=(size, size))
    smooth = ndimage.gaussian_filter(noise, 3.0, mode="wrap")
    return (0.5 + 0.2 * smooth / smooth.std()).astype(np.float32)


def drifting(depth, px_per_slice, size=64):
    """(Z, h, w) a textured body that moves along x, and the (Z, h, w) disc that moves with it."""
    y, x = np.mgrid[:size, :size]
    disc = (np.hypot(y - size / 2, x - size / 4) < 8).astype(np.float32)
    shifts = [(0.0, px_per_slice * z) for z in range(depth)]
    images = np.stack([ndimage.shift(texture(size), shift, order=1, mode="grid-wrap") for shift in shifts])
    masks = np.stack([ndimage.shift(disc, shift, order=1) for shift in shifts])
    return torch.from_numpy(images), torch.from_numpy(masks)


def dice(one, other):
    one, other = one > 0.5, other > 0.5
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_registration_finds_how_far_an_image_has_moved():
    image = torch.from_numpy(texture())
    moved = torch.roll(image, (2, -3), (0, 1))
    field = register(moved[None], image[None])[0, :, 12:-12, 12:-12]
    x, y = field.flatten(1).median(1).values * 32
    assert (x.item(), y.item()) == (pytest.approx(3, abs=0.3), pytest.approx(-2, abs=0.3))


def test_still_images_give_no_displacement():
    image = torch.from_numpy(texture())[None]
    assert float(register(image, image).abs().max()) < 0.01


@pytest.mark.parametrize(("source", "z"), [(0, 12), (12, 0)])
@pytest.mark.parametrize("step_mm", [5.0, 1.0])
def test_a_mask_follows_the_anatomy_over_many_slices(source, z, step_mm):
    images, masks = drifting(13, 1.5)
    carried = SliceMotion(images, step_mm).carry(masks[source][None], source, z)
    assert dice(masks[source], masks[z]) < 0.1
    assert dice(carried[0], masks[z]) > 0.85


def test_thin_slices_are_registered_in_longer_steps_and_only_those_that_are_asked_for(monkeypatch):
    pairs = []
    monkeypatch.setattr(motion, "register", lambda *images: pairs.append(len(images[0])) or register(*images))
    images, masks = drifting(64, 0.3)
    thin = SliceMotion(images, 0.6)  # four slices a step
    assert not pairs
    thin.carry(masks[:1], 0, 30)
    assert sum(pairs) == motion.PAIRS_AT_ONCE  # 32 slices in eight steps, both ways
    thin.carry(masks[:1], 0, 31)
    thin.carry(masks[5:6], 5, 2)
    assert sum(pairs) == motion.PAIRS_AT_ONCE
    thin.carry(masks[63:], 63, 62)
    assert sum(pairs) == 2 * motion.PAIRS_AT_ONCE


def test_maps_may_be_finer_than_the_images_that_were_registered():
    images, masks = drifting(9, 2.0, size=160)
    moves = SliceMotion(images, 5.0)
    assert moves.carry(masks[:1], 0, 8).shape == (1, 160, 160)
    finer = torch.nn.functional.interpolate(masks[None], scale_factor=2.0)[0]
    assert dice(moves.carry(finer[:1], 0, 8)[0], finer[8]) > 0.85


def test_a_volume_of_one_slice_has_nothing_to_register():
    maps = torch.rand(2, 40, 40)
    assert torch.equal(SliceMotion(torch.rand(1, 40, 40), 5.0).carry(maps, 0, 0), maps)


def test_what_a_prediction_has_found_serves_training_too():
    images, masks = drifting(3, 1.0)
    moves = SliceMotion(images, 5.0)
    with torch.inference_mode():
        assert not moves.carry(masks[:1], 0, 2).is_inference()
    weight = torch.ones(1, requires_grad=True)
    (moves.carry(masks[:1], 0, 1) * weight).square().sum().backward()
    assert weight.grad is not None
