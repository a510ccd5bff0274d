"""NRRD and MetaImage: the patient's directions survive, and bad files get one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from vqseg.errors import VolumeError
from vqseg.io import read_labels, read_volume, write_labels

VOXELS = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)


def save(path, array=VOXELS, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), compress=False):
    image = SimpleITK.GetImageFromArray(array)
    if image.GetDimension() == 3:
        image.SetDirection(np.asarray(direction, float).ravel())
        image.SetSpacing((0.5, 0.8, 2.5))
        image.SetOrigin((-30, -40, 100))
    SimpleITK.WriteImage(image, str(path), compress)
    return path


def test_lps_voxels_are_canonical_as_they_are(tmp_path):
    volume = read_volume(save(tmp_path / "image.nrrd", compress=True))
    np.testing.assert_array_equal(volume.array, VOXELS)
    np.testing.assert_allclose(volume.stored.affine[:3, 3], [30, 40, 100])
    assert volume.spacing_mm == pytest.approx((2.5, 0.8, 0.5))
    assert volume.warnings == ()


def test_turned_axes(tmp_path):
    volume = read_volume(save(tmp_path / "image.nrrd", direction=np.diag([-1, -1, 1])))  # RAS
    np.testing.assert_array_equal(volume.array, VOXELS[:, ::-1, ::-1])
    np.testing.assert_allclose(volume.stored.affine @ [0, 0, 0, 1], [30, 40, 100, 1])


def test_ras_headers_mean_the_same_place(tmp_path):
    header = (
        "NRRD0005\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 7 6 5\n"
        "space directions: (0.5,0,0) (0,0.8,0) (0,0,2.5)\nspace origin: (1,2,3)\nendian: little\nencoding: raw\n\n"
    )
    (tmp_path / "image.nrrd").write_bytes(header.encode() + VOXELS.tobytes())
    volume = read_volume(tmp_path / "image.nrrd")
    np.testing.assert_allclose(volume.stored.affine @ [1, 1, 1, 1], [1.5, 2.8, 5.5, 1])
    np.testing.assert_array_equal(volume.array, VOXELS[:, ::-1, ::-1])


def test_a_file_without_orientation_warns(tmp_path):
    header = "NRRD0005\ntype: short\ndimension: 3\nsizes: 7 6 5\nspacings: 1 1 2\nendian: little\nencoding: raw\n\n"
    (tmp_path / "image.nrrd").write_bytes(header.encode() + VOXELS.tobytes())
    assert "no orientation" in read_volume(tmp_path / "image.nrrd").warnings[0]


@pytest.mark.parametrize("name", ["image.mha", "image.mhd"])
def test_meta_images_are_read_alike(tmp_path, name):
    volume = read_volume(save(tmp_path / name, direction=np.diag([-1, -1, 1]), compress=True))
    np.testing.assert_array_equal(volume.array, VOXELS[:, ::-1, ::-1])
    np.testing.assert_allclose(volume.stored.affine @ [0, 0, 0, 1], [30, 40, 100, 1])
    assert volume.spacing_mm == pytest.approx((2.5, 0.8, 0.5))
    assert volume.warnings == ()
    mask, sidecar = write_labels(tmp_path / "mask.nii.gz", volume.array > 0, volume, {1: "high"})
    labels = read_labels(mask, volume)
    np.testing.assert_array_equal(labels.array, volume.array > 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "not of the kind"),
        (
            "NDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = gone.raw\n",
            "damaged",
        ),
    ],
)
def test_broken_meta_images(tmp_path, text, words):
    (tmp_path / "image.mhd").write_text(text)
    with pytest.raises(VolumeError, match=words):
        read_volume(tmp_path / "image.mhd")


def test_labels(tmp_path):
    volume = read_volume(save(tmp_path / "image.nrrd"))
    labels = read_labels(save(tmp_path / "mask.seg.nrrd", (VOXELS > 0).astype(np.uint8)), volume)
    np.testing.assert_array_equal(labels.array, VOXELS > 0)


def _truncated(path):
    save(path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_truncated, "damaged, cut short"),
        (lambda path: path.write_bytes(b"hello" * 50), "not of the kind"),
        (lambda path: path.write_bytes(b"NRRD0004\ntype: nonsense\n\n"), "damaged"),
        (lambda path: save(path, VOXELS[0]), "2D image"),
        (lambda path: save(path, VOXELS[:1]), "2D image"),
        (lambda path: SimpleITK.WriteImage(SimpleITK.Image([4, 4, 4, 3], SimpleITK.sitkInt16), str(path)), "4 axes"),
        (lambda path: SimpleITK.WriteImage(SimpleITK.Image([4, 4, 4], SimpleITK.sitkVectorUInt8, 3), str(path)),
         "3 numbers a voxel"),
    ],
)  # fmt: skip
def test_bad_files_get_one_sentence(tmp_path, make, expected):
    make(tmp_path / "bad.nrrd")
    with pytest.raises(VolumeError, match=expected) as caught:
        read_volume(tmp_path / "bad.nrrd")
    assert "\n" not in str(caught.value)


def test_segments_of_slicer_keep_their_names(tmp_path):
    volume = read_volume(save(tmp_path / "image.nrrd"))
    labels = (VOXELS > 500).astype(np.uint8) * 3
    image = SimpleITK.GetImageFromArray(labels)
    image.CopyInformation(SimpleITK.ReadImage(str(tmp_path / "image.nrrd")))
    for key, value in {"Segment0_LabelValue": "3", "Segment0_Name": "Left lung", "Segment0_Layer": "0"}.items():
        image.SetMetaData(key, value)
    SimpleITK.WriteImage(image, str(tmp_path / "labels.seg.nrrd"))
    found = read_labels(tmp_path / "labels.seg.nrrd", volume)
    assert found.names == {3: "Left lung"}
    np.testing.assert_array_equal(found.array, labels)
    assert not read_labels(tmp_path / "labels.seg.nrrd", volume, only=[1]).array.any()
