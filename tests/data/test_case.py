import numpy as np
import pytest
import torch

from vqseg.annotations import Annotations, SliceState, signed_distance
from vqseg.config import DataConfig
from vqseg.data import BatchSampler, PreparedCase, TrainingCase, frame_cases
from vqseg.data.framing import Framing
from vqseg.errors import AnnotationError
from vqseg.volume import StoredLayout, Volume, Window


def a_case(shape=(8, 60, 80), spacing=(4.0, 1.0, 1.0)):
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.uint8)
    labels[:, 20:40, 30:50] = 1
    labels[:, 25:30, 35:40] = 2
    array = (labels * 100 + rng.normal(0, 10, shape)).astype(np.float32)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    volume = Volume(array, StoredLayout(shape[::-1], affine))
    return TrainingCase(volume, Annotations.from_slices(labels, [1, 4, 6])), labels


def prepared(config=None, **settings):
    case, _ = a_case()
    config = config or DataConfig(**settings)
    framing = frame_cases([case], config)
    return PreparedCase(case.volume, case.annotations, framing, (1, 2)), config


@pytest.mark.parametrize("scale", [1e-5, 1.0, 100.0])
def test_the_chosen_window_shows_the_structures_on_any_scale(scale):
    case, labels = a_case()
    case = TrainingCase(Volume(case.volume.array * scale, case.volume.stored), case.annotations)
    framed = PreparedCase(case.volume, case.annotations, frame_cases([case], DataConfig()), (1, 2))
    z = case.annotations.complete[0]
    inside, outside = framed.images[z][framed.labels[z] == 1], framed.images[z][framed.labels[z] == 0]
    assert inside.mean() - outside.mean() > 0.25
    assert not framed.is_flat


def test_a_case_is_flat_where_its_window_shows_nothing():
    case, _ = a_case()
    assert PreparedCase(case.volume, case.annotations, Framing(Window(5000, 100), 1.0), (1, 2)).is_flat
    same = TrainingCase(Volume(np.full_like(case.volume.array, 7), case.volume.stored), case.annotations)
    assert PreparedCase(same.volume, same.annotations, frame_cases([same], DataConfig()), (1, 2)).is_flat


def test_frame_fits_the_size_and_keeps_the_aspect():
    case, config = prepared(size=64)
    assert max(case.size) <= 65
    y0, y1, x0, x1 = case.box
    assert case.size[0] / case.size[1] == pytest.approx((y1 - y0) / (x1 - x0), rel=0.05)
    assert case.images.min() >= 0 and case.images.max() <= 1


def test_maps_come_back_to_the_volumes_voxels():
    case, _ = prepared(size=128)
    y0, y1, x0, x1 = case.box
    label = torch.nn.functional.one_hot(case.labels[4].clamp(max=2), 3).permute(2, 0, 1).float()
    back = case.to_volume(label).argmax(0).numpy()
    truth = case.annotations.labels[4, y0:y1, x0:x1]
    assert back.shape == truth.shape
    assert (back == truth).mean() > 0.99


def test_a_narrow_frame_is_never_a_pixel_wide_inside_the_network():
    volume = Volume(np.zeros((2, 300, 8), np.float32), StoredLayout((8, 300, 2), np.diag([-1.0, -1.0, 1.0, 1.0])))
    ready = PreparedCase(volume, None, Framing(Window(0, 100), 300 / 256), (1,))
    assert ready.size == (256, 32)
    assert ready.to_volume(ready.images[:1]).shape == (1, 300, 8)


def test_an_axis_that_shrinks_is_averaged_though_the_other_grows():
    shape, spacing = (2, 20, 400), (1.0, 5.0, 0.5)
    array = np.broadcast_to(np.tile([1.0, 0.0, 0.0, 1.0], 100), shape).astype(np.float32)
    volume = Volume(array, StoredLayout(shape[::-1], np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])))
    ready = PreparedCase(volume, None, Framing(Window(0.5, 1.0), 2.0), (1,))
    assert ready.size == (50, 100)
    assert ready.images[:, :, 5:-5].numpy() == pytest.approx(0.5, abs=0.1)


def test_scribbles_are_ignored_where_nothing_is_painted():
    case, _ = a_case()
    case.annotations.mark(4, SliceState.SCRIBBLED)
    ready = PreparedCase(case.volume, case.annotations, frame_cases([case], DataConfig()), (1, 2))
    assert set(ready.labels[4].unique().tolist()) == {1, 2, 255}
    assert 4 not in ready.shape.maps


def test_a_correction_measures_the_corrected_slice_alone(monkeypatch):
    case, _ = prepared()
    before, measured = case.shape, []
    monkeypatch.setattr(
        "vqseg.data.shape_prior.signed_distance",
        lambda labels, value, *rest: measured.append(value) or signed_distance(labels, value, *rest),
    )
    annotations = case.annotations.copy()
    annotations.labels[4, 20:30, 30:50] = 0
    case.update_annotations(annotations)
    assert measured == [1, 2]
    assert not torch.equal(case.shape.maps[4], before.maps[4])
    assert case.shape.maps[1] is before.maps[1]


def test_batches_repeat_under_a_seed_and_hold_all_classes():
    case, config = prepared(size=64, batch_x=6, batch_u=2)
    first, second = (
        BatchSampler([case], config, torch.Generator().manual_seed(3)).draw(strong_views=1) for _ in range(2)
    )
    for name, value in vars(first).items():
        assert value is None or torch.equal(value, getattr(second, name)), name
    assert first.image_x.shape[:2] == (6, 2)
    assert first.shape_x.shape == (6, 3, *first.image_x.shape[-2:])
    assert first.image_u_w.shape[0] == 2
    assert set(first.label_x.unique().tolist()) == {0, 1, 2}
    assert set(range(8)) - set(case.labels) == {z for _, z in BatchSampler(
        [case], config, torch.Generator()).unlabelled}  # fmt: skip


def test_patches_show_what_their_labels_say():
    case, config = prepared(size=64, batch_x=16)
    batch = BatchSampler([case], config, torch.Generator().manual_seed(0)).draw()
    means = [batch.image_x[:, 0][batch.label_x == value].mean().item() for value in (0, 1, 2)]
    assert means[0] < means[1] < means[2]
    inside = batch.shape_x[:, 0][batch.label_x == 1].mean()
    assert inside > batch.shape_x[:, 0][batch.label_x == 0].mean()


def test_nothing_labelled_is_refused():
    case, _ = a_case()
    framing = frame_cases([case], DataConfig())
    empty = PreparedCase(case.volume, None, framing, (1, 2))
    with pytest.raises(AnnotationError, match="mark it complete"):
        BatchSampler([empty], DataConfig(), torch.Generator())
