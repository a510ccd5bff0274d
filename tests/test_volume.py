"""The canonical orientation and the way back, for all 48 ways of storing voxels."""

from __future__ import annotations

import itertools

import dask.array
import numpy as np
import pytest

from vqseg.errors import GeometryError, VolumeError
from vqseg.volume import StoredLayout, Volume, Window

SHAPE = (4, 5, 6)
VOXELS = np.arange(120).reshape(SHAPE)


def affines():
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((-1, 1), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = np.eye(3)[:, list(order)] * signs * (0.7, 0.8, 2.5)
            affine[:3, 3] = (3, -7, 11)
            yield affine


def layout(affine, axis=None):
    if axis is None:
        axis = int(np.argmax(np.abs(affine[2, :3])))
    return StoredLayout(SHAPE, affine, slice_axis=axis)


@pytest.mark.parametrize("affine", list(affines()))
def test_canonical_runs_to_head_back_and_left(affine):
    stored = layout(affine)
    steps = stored.index_to_ras[:3, :3]
    assert steps[2, 0] > 0  # z to the head
    assert steps[1, 1] < 0  # y to the back
    assert steps[0, 2] < 0  # x to the left
    np.testing.assert_array_equal(stored.to_stored(stored.to_canonical(VOXELS)), VOXELS)
    array = stored.to_canonical(VOXELS)
    for index in itertools.product(*(range(size) for size in array.shape)):
        place = stored.index_to_ras @ [*index, 1]
        i, j, k = np.rint(np.linalg.solve(affine, place)[:3]).astype(int)
        assert VOXELS[i, j, k] == array[index]


def test_the_orientation_names_each_axis_of_the_body_once():
    assert layout(np.diag([-1.0, -1.0, 2.0, 1.0])).orientation == "LPS"
    sheared = np.eye(4)
    sheared[:3, 1] = 0.75, -0.66, 0.0  # nearest to the right as well, which the first axis is nearer to
    assert layout(sheared).orientation == "RPS"


@pytest.mark.parametrize("affine", list(affines())[::7])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_slice_axis_comes_back(affine, axis):
    stored = layout(affine, axis)
    volume = Volume(stored.to_canonical(VOXELS), stored)
    assert volume.shape[0] == SHAPE[axis]
    np.testing.assert_array_equal(stored.to_stored(volume.array), VOXELS)
    for z in range(SHAPE[axis]):
        index = volume.to_stored_index(z)
        assert volume.to_stored_index(index) == z
        assert set(volume.slice(z).ravel()) == set(np.take(VOXELS, index, axis).ravel())
    if axis != int(np.argmax(np.abs(affine[2, :3]))):
        assert volume.affine[2, 1] < 0 or volume.affine[2, 2] < 0  # the head is up (or left, never right)


def test_dask_stays_lazy():
    stored = layout(np.diag([-1.0, -1, 2, 1]))
    volume = Volume(stored.to_canonical(dask.array.from_array(VOXELS, chunks=(4, 5, 1))), stored)
    assert isinstance(volume.array, dask.array.Array)
    assert isinstance(volume.slice(0), np.ndarray)
    assert isinstance(volume.load().array, np.ndarray)
    assert volume.spacing_mm == (2, 1, 1)


def test_shape_must_fit_the_layout():
    with pytest.raises(VolumeError, match="expects"):
        Volume(VOXELS, layout(np.eye(4)))


def test_geometry_tolerance():
    def volume(shift):
        affine = np.diag([-1.0, -1, 2, 1])
        affine[0, 3] = shift
        stored = layout(affine)
        return Volume(stored.to_canonical(VOXELS), stored)

    volume(0).require_same_geometry(volume(0.04))
    with pytest.raises(GeometryError, match=r"voxels of the reference lie up to 0\.06 mm"):
        volume(0).require_same_geometry(volume(0.06), "reference")
    with pytest.raises(GeometryError, match="nan mm"):
        volume(0).require_same_geometry(volume(np.nan))


def test_window():
    window = Window(40, 400)
    assert window.limits_hu == (-160, 240)
    np.testing.assert_allclose(window.apply([-1000, 40, 240, 3000]), [0, 0.5, 1, 1])


@pytest.mark.parametrize(("modality", "lowest", "in_hu"), [
    ("CT", 0, True), ("MR", -1000, False), ("", -1000, True), ("", 0, False), ("", -3, False),
])  # fmt: skip
def test_what_is_not_told_to_be_in_hu_is_recognised_by_its_air(modality, lowest, in_hu):
    layout = StoredLayout((2, 2, 3), np.eye(4))
    array = np.zeros((3, 2, 2), np.float32)
    array[1] = [[lowest, np.nan], [10, 1234.5]]
    volume = Volume(array, layout, modality=modality)
    assert volume.value_range == (lowest, 1234.5)
    assert volume.in_hu is in_hu
    assert [volume.reading(value) for value in (1234.5, 0.12345)] == (
        ["1234 HU", "0 HU"] if in_hu else ["1234", "0.1235"]
    )
