import numpy as np
import pytest
import torch

from vqseg.annotations import Annotations
from vqseg.config import DataConfig
from vqseg.data import PreparedCase, TrainingCase, frame_cases
from vqseg.data.framing import Framing, region_of_interest
from vqseg.volume import StoredLayout, Volume, Window

LUNG, MUSCLE, CORD = -850, 50, 20


def a_chest(labelled=(1, 4)):
    """A large lung beside muscle, in which a small cord differs by 30 HU."""
    labels = np.zeros((6, 80, 120), np.uint8)
    labels[:, 10:70, 5:75] = 1
    labels[:, 36:44, 96:104] = 2
    array = np.array([MUSCLE, LUNG, CORD], np.float32)[labels]
    array += np.random.default_rng(0).normal(0, 8, array.shape).astype(np.float32)
    volume = Volume(array, StoredLayout(array.shape[::-1], np.diag([-1.0, -1.0, 4.0, 1.0])))
    return TrainingCase(volume, Annotations.from_slices(labels, list(labelled))), labels


def test_region_holds_the_structures_with_room_and_stays_inside():
    case, _ = a_chest()
    assert region_of_interest(case.annotations, case.volume.spacing_mm) == (0, 80, 0, 120)
    small = Annotations.from_slices(np.pad(np.ones((1, 4, 6), np.uint8), ((0, 0), (40, 56), (50, 64))), [0])
    assert region_of_interest(small, (1, 1, 1)) == (15, 69, 25, 81)
    assert region_of_interest(Annotations.empty((3, 10, 20)), (1, 1, 1)) == (0, 10, 0, 20)


def test_window_is_chosen_from_the_labelled_structures_or_given():
    case, _ = a_chest()
    assert frame_cases([case], DataConfig(window_level_hu=40, window_width_hu=400)).window == Window(40, 400)
    low, high = frame_cases([case], DataConfig()).window.limits_hu
    assert low < LUNG and MUSCLE < high < 200


def test_equalisation_gives_a_small_structure_contrast_that_the_window_lacks():
    case, labels = a_chest()
    framing = frame_cases([case], DataConfig())
    image = torch.from_numpy(framing.window.apply(case.volume.slice(2)))
    linear, equalised = (
        (of[labels[2] == 0].mean() - of[labels[2] == 2].mean()) for of in (image, framing.equalise(image))
    )
    assert linear < 0.05
    assert equalised > 5 * linear


def test_equalisation_rises_from_0_to_1_and_lies_between_its_steps():
    case, _ = a_chest()
    framing = frame_cases([case], DataConfig())
    table = np.array(framing.equalisation)
    assert table[0] == 0 and table[-1] == pytest.approx(1) and (np.diff(table) >= 0).all()
    values = torch.rand(2, 3, 50, generator=torch.Generator().manual_seed(0))
    expected = np.interp(values.numpy(), np.linspace(0, 1, len(table)), table)
    np.testing.assert_allclose(framing.equalise(values).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(framing.equalise(torch.tensor([0.0, 1.0])), [0, 1], atol=1e-6)


def test_classes_count_alike_however_large_they_are():
    case, _ = a_chest()
    framing = frame_cases([case], DataConfig())
    between = torch.tensor((np.array([LUNG + 100, CORD - 60]) - framing.window.limits_hu[0]) / framing.window.width_hu)
    share = framing.equalise(between.float()).tolist()
    # The lung fills two thirds of its own surroundings and none of the cord's.
    assert share[0] == pytest.approx(0.5 * 2 / 3, abs=0.02)
    assert share[1] == pytest.approx(share[0], abs=0.01)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_the_network_sees_the_equalised_slice_and_the_slice_in_the_middle(neighbours):
    case, _ = a_chest()
    framing = frame_cases([case], DataConfig(), neighbours)
    prepared = PreparedCase(case.volume, case.annotations, framing, [1, 2])
    shown = prepared.input([0, 3])
    assert shown.shape == (2, framing.channels, *prepared.size)
    assert torch.equal(shown[:, framing.channels // 2], prepared.images[[0, 3]])
    assert torch.equal(shown[:, 0], framing.equalise(prepared.images[[0, 3]]))
    if neighbours:
        assert torch.equal(shown[1, 1], prepared.images[2]) and torch.equal(shown[1, 3], prepared.images[4])
        assert torch.equal(shown[0, 1], prepared.images[0])  # the end is repeated


def test_nothing_is_equalised_where_nothing_is_painted_or_it_is_not_wanted():
    case, labels = a_chest()
    assert frame_cases([case], DataConfig(equalise=False)).channels == 1
    empty = TrainingCase(case.volume, Annotations.from_slices(np.zeros_like(labels), [2]))
    framing = frame_cases([empty], DataConfig())
    assert framing.equalisation == ()
    prepared = PreparedCase(empty.volume, empty.annotations, framing, [1])
    assert torch.equal(prepared.input([1])[0, 0], prepared.images[1])


def test_a_framing_without_equalisation_has_a_channel_for_each_slice():
    assert Framing(Window(0, 100), 1.0, neighbours=2).channels == 5
