"""NIfTI in and out: geometry bit for bit in every orientation, and one sentence for every bad file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import dask.array
import nibabel as nib
import numpy as np
import pytest

from vqseg.errors import GeometryError, VolumeError
from vqseg.io import atomic_path, read_labels, read_volume, write_labels, write_map

SHAPE = (7, 6, 5)
RNG = np.random.default_rng(0)
VOXELS = RNG.integers(-1000, 1000, SHAPE).astype(np.int16)


def _rotation(x, y, z):
    angles = np.radians([x, y, z])
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    return (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )


def _affine(columns, spacing=(0.7, 0.8, 2.5), origin=(-11.3, 47.11, -803.7)):
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(columns, float).T * spacing
    affine[:3, 3] = origin
    return affine


X, Y, Z = np.eye(3)
AFFINES = {
    "RAS": _affine([X, Y, Z]),
    "LPS": _affine([-X, -Y, Z]),
    "LAS": _affine([-X, Y, Z]),
    "RAI": _affine([X, Y, -Z]),
    "ASL, permuted": _affine([Y, Z, -X]),
    "SRP, slices first": _affine([Z, X, -Y]),
    "oblique": _affine(_rotation(20, -15, 10).T),
    "oblique LPS": _affine((_rotation(10, 25, -20) @ np.diag([-1, -1, 1])).T),
    "anisotropic": _affine([-X, Y, Z], spacing=(0.31, 0.62, 10)),
}


@pytest.fixture(params=AFFINES)
def affine(request):
    return AFFINES[request.param]


def save(path, array, affine, kind=nib.Nifti1Image, codes=(1, 1), **header):
    image = kind(array, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1], strip_shears=True)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def raw_header(path, size=348):
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data)[:size]


def canonical(array, affine):
    """(z, y, x), slowly and by nibabel alone."""
    image = nib.Nifti1Image(array, affine)
    current, wanted = nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS")
    turned = image.as_reoriented(nib.orientations.ornt_transform(current, wanted))
    return np.asarray(turned.dataobj).transpose(2, 1, 0)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_reads_canonical_voxels(tmp_path, affine, suffix):
    path = save(tmp_path / f"image{suffix}", VOXELS, affine)
    volume = read_volume(path)
    np.testing.assert_array_equal(np.asarray(volume.array), canonical(VOXELS, affine))
    assert isinstance(volume.array, dask.array.Array) == (suffix == ".nii")
    assert volume.array.dtype == np.int16
    assert volume.warnings == ()
    # Towards head, back and left hand
    assert [int(np.argmax(np.abs(column))) for column in volume.affine[:3, :3].T] == [2, 1, 0]
    assert np.all(np.array([1, -1, -1]) * np.diag(volume.affine[:3, [2, 1, 0]])[[2, 1, 0]] > 0)


def test_each_voxel_keeps_its_place_in_the_patient(tmp_path, affine):
    volume = read_volume(save(tmp_path / "image.nii.gz", VOXELS, affine))
    world = {}
    for index in np.ndindex(SHAPE):
        world[tuple(np.round(affine @ [*index, 1], 3)[:3])] = VOXELS[index]
    for index in np.ndindex(volume.shape):
        place = tuple(np.round(volume.affine @ [*index, 1], 3)[:3])
        assert world.get(place) == volume.array[index] or min(
            np.abs(np.array(place) - np.array(list(world))).max(axis=1)
        ) < 2e-3  # fmt: skip


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (4, 3)])
def test_masks_carry_the_geometry_bit_for_bit(tmp_path, affine, kind, codes):
    path = save(tmp_path / "image.nii.gz", VOXELS, affine, kind, codes, xyzt_units=10, descrip=b"name of a person",
                **({} if kind is nib.Nifti2Image else {"db_name": b"name of a person"}))  # fmt: skip
    volume = read_volume(path)
    labels = (np.asarray(volume.array) > 0).astype(np.int64) * 3
    written = write_labels(tmp_path / "mask.nii.gz", labels, volume, {3: "Lungentumor, größer"})
    assert written == [tmp_path / "mask.nii.gz", tmp_path / "mask.json"]
    mask, image = nib.load(written[0]), nib.load(path)
    assert type(mask) is type(image)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(mask.dataobj), (VOXELS > 0) * 3)
    assert mask.affine.tobytes() == image.affine.tobytes()
    ours, theirs = (
        type(image.header)(raw_header(item, image.header.sizeof_hdr), check=False) for item in (written[0], path)
    )
    for name in ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                 "qoffset_z", "sform_code", "qform_code", "pixdim", "xyzt_units", "dim"):  # fmt: skip
        assert ours[name].tobytes() == theirs[name].tobytes(), name
    assert b"person" not in raw_header(written[0], 540)
    again = read_labels(written[0], volume)
    np.testing.assert_array_equal(again.array, labels)
    assert again.names == {3: "Lungentumor, größer"}


def test_sizes_of_axes_that_are_not_there_stay_as_some_programs_leave_them(tmp_path):
    path = save(tmp_path / "image.nii", VOXELS, _affine(np.eye(3)))
    raw = bytearray(path.read_bytes())
    raw[92:108] = bytes(16)  # pixdim[4:], 0 as converters leave it
    path.write_bytes(raw)
    volume = read_volume(path)
    write_labels(tmp_path / "mask.nii", np.zeros(volume.shape, np.uint8), volume, {})
    assert raw_header(tmp_path / "mask.nii")[76:108] == raw[76:108]


def test_labels_stored_in_another_orientation_land_on_the_same_voxels(tmp_path, affine):
    volume = read_volume(save(tmp_path / "image.nii.gz", VOXELS, affine))
    labels = (VOXELS > 0).astype(np.uint8)
    for turn in ("LAS", "SPR", "AIL"):
        image = nib.Nifti1Image(labels, affine)
        ornt = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(turn))
        nib.save(image.as_reoriented(ornt), tmp_path / "mask.nii.gz")
        read = read_labels(tmp_path / "mask.nii.gz", volume)
        np.testing.assert_array_equal(read.array, np.asarray(volume.array) > 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_axis_can_be_chosen(tmp_path, affine, axis):
    path = save(tmp_path / "image.nii.gz", VOXELS, affine)
    volume = read_volume(path, axis=axis)
    assert volume.shape[0] == SHAPE[axis]
    for z in (0, 1):
        stored = np.take(VOXELS, volume.to_stored_index(z), axis=axis)
        assert sorted(volume.slice(z).ravel()) == sorted(stored.ravel())
    labels = (np.asarray(volume.array) > 0).astype(np.uint8)
    write_labels(tmp_path / "mask.nii", labels, volume, {})
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "mask.nii").dataobj), VOXELS > 0)
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.nii", volume).array, labels)
    np.testing.assert_array_equal(
        read_labels(tmp_path / "mask.nii", read_volume(path)).array, np.asarray(read_volume(path).array) > 0
    )


def test_writing_twice_gives_the_same_bytes(tmp_path):
    volume = read_volume(save(tmp_path / "image.nii", VOXELS, AFFINES["LPS"]))
    labels = (np.asarray(volume.array) > 0).astype(np.uint8)
    write_labels(tmp_path / "a.nii.gz", labels, volume, {})
    write_labels(tmp_path / "b.nii.gz", labels, volume, {})
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.json", "a.nii.gz", "b.json", "b.nii.gz", "image.nii"]


def test_maps_of_one_and_several_channels(tmp_path, affine):
    volume = read_volume(save(tmp_path / "image.nii.gz", VOXELS, affine))
    channels = RNG.random((3, *volume.shape)).astype(np.float16)
    write_map(tmp_path / "one.nii.gz", channels[1], volume)
    write_map(tmp_path / "all.nii", channels, volume)
    one, several = nib.load(tmp_path / "one.nii.gz"), nib.load(tmp_path / "all.nii")
    assert several.shape == (*SHAPE, 3)
    assert several.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(several.dataobj)[..., 1])
    np.testing.assert_array_equal(volume.stored.to_canonical(np.asarray(one.dataobj)), channels[1].astype(np.float32))
    assert several.affine.tobytes() == volume.stored.affine.tobytes()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaling_and_byte_order(tmp_path, suffix):
    header = nib.Nifti1Header(endianness=">")
    image = nib.Nifti1Image((VOXELS + 1000).astype(">i2"), AFFINES["RAS"], header)
    image.header.set_slope_inter(0.5, -1024)
    nib.save(image, tmp_path / f"image{suffix}")
    stored = np.asarray(nib.load(tmp_path / f"image{suffix}").dataobj)
    volume = read_volume(tmp_path / f"image{suffix}")
    assert volume.array.dtype == np.float32
    assert volume.array.dtype.isnative
    np.testing.assert_allclose(np.asarray(volume.stored.to_stored(volume.array)), stored)
    write_labels(tmp_path / "mask.nii.gz", (np.asarray(volume.array) > 0).astype(np.uint8), volume, {})
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj), stored > 0)


def test_big_endian_integers_become_native(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(VOXELS, AFFINES["RAS"], header), tmp_path / "image.nii")
    assert raw_header(tmp_path / "image.nii")[:4] == (348).to_bytes(4, "big")
    volume = read_volume(tmp_path / "image.nii")
    assert volume.array.dtype == np.dtype("=i2")
    np.testing.assert_array_equal(np.asarray(volume.stored.to_stored(volume.array)), VOXELS)


def test_one_slice_is_read_at_a_time(tmp_path, monkeypatch):
    volume = read_volume(save(tmp_path / "image.nii", VOXELS, AFFINES["SRP, slices first"]))
    reads = []
    original = nib.arrayproxy.ArrayProxy.__getitem__
    monkeypatch.setattr(
        nib.arrayproxy.ArrayProxy, "__getitem__", lambda self, key: reads.append(key) or original(self, key)
    )
    assert volume.slice(2).shape == volume.shape[1:]
    assert len(reads) == 1
    np.testing.assert_array_equal(volume.slice(2), canonical(VOXELS, AFFINES["SRP, slices first"])[2])


def test_trailing_single_axes_are_dropped(tmp_path):
    volume = read_volume(save(tmp_path / "image.nii.gz", VOXELS[..., None], AFFINES["LPS"]))
    assert volume.shape == SHAPE[::-1]


def test_values_that_are_not_numbers_become_the_smallest(tmp_path):
    voxels = VOXELS.astype(np.float32)
    voxels[0, 0, 0], voxels[1, 1, 1] = np.nan, np.inf
    for name in ("image.nii", "image.nii.gz"):
        volume = read_volume(save(tmp_path / name, voxels, AFFINES["RAS"]))
        stored = np.asarray(volume.stored.to_stored(volume.array))
        assert np.isfinite(stored).all()
        whole = voxels if name.endswith(".gz") else voxels[:, :, 1]  # slice by slice, where it is read so
        assert stored[1, 1, 1] == np.nanmin(whole)
        assert ("2 voxels are not numbers" in " ".join(volume.warnings)) == name.endswith(".gz")


@pytest.mark.parametrize(("unit", "factor", "word"), [(1, 1e-3, "metres"), (3, 1e3, "micrometres")])
def test_units_are_converted(tmp_path, unit, factor, word):
    affine = AFFINES["LPS"].copy()
    affine[:3] *= factor
    path = save(tmp_path / "image.nii.gz", VOXELS, affine, xyzt_units=unit)
    volume = read_volume(path)
    assert volume.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert word in volume.warnings[0]
    write_labels(tmp_path / "mask.nii.gz", np.zeros(volume.shape, np.uint8), volume, {})
    assert nib.load(tmp_path / "mask.nii.gz").affine.tobytes() == nib.load(path).affine.tobytes()


def test_an_impossible_unit_is_read_as_mm(tmp_path):
    volume = read_volume(save(tmp_path / "image.nii.gz", VOXELS, AFFINES["LPS"], xyzt_units=1))
    assert volume.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert "claims metres" in volume.warnings[0]


def test_an_image_without_any_number_is_refused(tmp_path):
    path = save(tmp_path / "image.nii.gz", np.full(SHAPE, np.nan, np.float32), AFFINES["RAS"])
    with pytest.raises(VolumeError, match="No voxel of"):
        read_volume(path)


@pytest.mark.parametrize(("codes", "warned"), [((1, 1), True), ((2, 0), False), ((0, 1), False)])
def test_a_qform_that_says_otherwise_warns(tmp_path, codes, warned):
    path = tmp_path / "image.nii.gz"
    image = nib.Nifti1Image(VOXELS, AFFINES["RAS"])
    image.set_sform(AFFINES["RAS"], codes[0])
    image.set_qform(AFFINES["LPS"], codes[1])
    nib.save(image, path)
    volume = read_volume(path)
    assert ("sform and qform" in " ".join(volume.warnings)) == warned
    np.testing.assert_array_equal(volume.stored.affine, nib.load(path).affine)


def test_sheared_slices_are_told(tmp_path):
    affine = AFFINES["RAS"].copy()
    affine[1, 2] = 2.5 * np.tan(np.radians(12))
    assert "sheared by 12 degrees" in read_volume(save(tmp_path / "a.nii.gz", VOXELS, affine, codes=(1, 0))).warnings[0]


def test_a_qform_that_agrees_does_not_warn(tmp_path, affine):
    assert not read_volume(save(tmp_path / "image.nii.gz", VOXELS, affine)).warnings


def test_a_file_without_orientation_warns(tmp_path):
    volume = read_volume(save(tmp_path / "image.nii.gz", VOXELS, AFFINES["RAS"], codes=(0, 0)))
    assert "no orientation" in volume.warnings[0]


# ----------------------------------------------------------------------------------------------- bad files


def _truncated(path, keep, name):
    save(path / "whole.nii.gz", RNG.integers(0, 9999, (40, 40, 40)).astype(np.int16), AFFINES["LPS"])
    if not name.endswith("gz"):
        save(path / "whole.nii", RNG.integers(0, 9999, (40, 40, 40)).astype(np.int16), AFFINES["LPS"])
    data = (path / f"whole{''.join(Path(name).suffixes)}").read_bytes()
    (path / name).write_bytes(data[: int(len(data) * keep)])
    return path / name


def _flipped_byte(path):
    file = _truncated(path, 1, "bad.nii.gz")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(bytes(data))
    return file


def _bytes(path, name, content):
    (path / name).write_bytes(content)
    return path / name


def _header_change(path, **fields):
    file = save(path / "bad.nii", VOXELS, AFFINES["RAS"], codes=(0, 0))
    header = nib.Nifti1Header(raw_header(file), check=False)
    for name, value in fields.items():
        header[name] = value
    file.write_bytes(header.binaryblock + file.read_bytes()[348:])
    return file


def _bad_sform(path, change):
    affine = AFFINES["RAS"].copy()
    change(affine)
    image = nib.Nifti1Image(VOXELS, None)
    image.header["sform_code"] = 1
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = affine[row]
    nib.save(image, path / "bad.nii.gz")
    return path / "bad.nii.gz"


def _nan(affine):
    affine[1, 1] = np.nan


def _zero(affine):
    affine[:, 1] = 0


def _flat(affine):
    affine[:3, 1] = affine[:3, 0]


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
BAD = {
    "missing": (lambda path: path / "nowhere.nii.gz", "does not exist"),
    "empty": (lambda path: _bytes(path, "bad.nii.gz", b""), "empty"),
    "truncated gzip": (lambda path: _truncated(path, 0.6, "bad.nii.gz"), "cut short"),
    "truncated gzip header": (lambda path: _bytes(path, "bad.nii.gz", gzip.compress(b"a" * 900)[:15]), "cut short"),
    "damaged gzip": (_flipped_byte, "damaged"),
    "truncated nii": (lambda path: _truncated(path, 0.6, "bad.nii"), "cut short"),
    "short header": (lambda path: _bytes(path, "bad.nii", b"\x5c\x01\x00\x00" + b"0" * 50), "not a NIfTI"),
    "text": (lambda path: _bytes(path, "bad.nii", b"hello" * 200), "not a NIfTI"),
    "not gzip": (lambda path: _bytes(path, "bad.nii.gz", b"hello" * 200), "not compressed"),
    "gzip without suffix": (lambda path: _bytes(path, "bad.nii", gzip.compress(b"hello" * 200)), "rename"),
    "2D": (lambda path: save(path / "bad.nii.gz", VOXELS[..., 0], AFFINES["RAS"]), "2D image"),
    "one slice": (lambda path: save(path / "bad.nii.gz", VOXELS[..., :1], AFFINES["RAS"]), "2D image"),
    "time": (lambda path: save(path / "bad.nii.gz", np.stack([VOXELS] * 4, -1), AFFINES["RAS"]), "4 volumes"),
    "complex": (lambda path: save(path / "bad.nii.gz", VOXELS.astype(np.complex64), AFFINES["RAS"]), "complex"),
    "colour": (lambda path: save(path / "bad.nii.gz", np.zeros(SHAPE, RGB), AFFINES["RAS"]), "colours"),
    "unknown type": (lambda path: _header_change(path, datatype=7777), "unknown type"),
    "NaN affine": (lambda path: _bad_sform(path, _nan), "not numbers"),
    "zero spacing": (lambda path: _bad_sform(path, _zero), "zero spacing along axis 1"),
    "singular affine": (lambda path: _bad_sform(path, _flat), "one plane"),
    "zero pixdim": (lambda path: _header_change(path, pixdim=[1, 1, 0, 1, 0, 0, 0, 0]), "zero spacing"),
    "negative size": (lambda path: _header_change(path, dim=[3, 7, -6, 5, 1, 1, 1, 1]), "no valid size"),
    "no size": (lambda path: _header_change(path, dim=[0] * 8), "no valid size"),
    "NaN quaternion": (lambda path: _header_change(path, qform_code=1, quatern_b=np.nan), "not numbers"),
    "other format": (lambda path: _bytes(path, "bad.png", b"\x89PNG" + b"0" * 200), "no known format"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_one_sentence(tmp_path, name):
    make, expected = BAD[name]
    path = make(tmp_path)
    with pytest.raises(VolumeError, match=expected) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert any(sign in message for sign in (";", ","))


def test_an_axis_out_of_range(tmp_path):
    with pytest.raises(VolumeError, match="choose 0, 1 or 2"):
        read_volume(save(tmp_path / "image.nii", VOXELS, AFFINES["RAS"]), axis=3)


# -------------------------------------------------------------------------------------------------- labels


@pytest.fixture
def volume(tmp_path):
    return read_volume(save(tmp_path / "image.nii.gz", VOXELS, AFFINES["LPS"]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full(SHAPE, 255, np.uint8), "values from 255 to 255 in the labels; renumber"),
        (np.full(SHAPE, -1, np.int16), "-1"),
        (np.full(SHAPE, 0.5, np.float32), "fractions"),
        (np.full(SHAPE, np.nan, np.float32), "not numbers"),
    ],
)
def test_unusable_label_values(tmp_path, volume, values, expected):
    with pytest.raises(VolumeError, match=expected):
        read_labels(save(tmp_path / "mask.nii.gz", values, AFFINES["LPS"]), volume)


def test_float_labels_with_whole_numbers_are_fine(tmp_path, volume):
    path = save(tmp_path / "mask.nii.gz", (VOXELS > 0).astype(np.float64), AFFINES["LPS"])
    labels = read_labels(path, volume)
    assert labels.array.dtype == np.uint8
    assert labels.array.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_labels_that_were_stored_as_scaled_integers_are_whole_numbers(tmp_path, volume, dtype):
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 8
    image = nib.Nifti1Image(labels.astype(np.float64), AFFINES["LPS"])
    image.header.set_data_dtype(dtype)
    nib.save(image, tmp_path / "mask.nii.gz")
    stored = nib.load(tmp_path / "mask.nii.gz").get_fdata()
    assert 0 < np.abs(stored - labels).max() < 0.02
    found = volume.stored.to_stored(read_labels(tmp_path / "mask.nii.gz", volume).array)
    np.testing.assert_array_equal(found, labels)


def test_a_mask_of_0_and_255_is_one_class(tmp_path, volume):
    mask = np.where(VOXELS % 2, 255, 0).astype(np.uint8)
    found = read_labels(save(tmp_path / "mask.nii.gz", mask, AFFINES["LPS"]), volume)
    np.testing.assert_array_equal(volume.stored.to_stored(found.array), mask // 255)
    assert "255 was read as 1" in found.warnings[0]


def test_labels_elsewhere_are_refused(tmp_path, volume):
    shifted = AFFINES["LPS"].copy()
    shifted[0, 3] += 1
    with pytest.raises(GeometryError, match="voxels of the reference lie up to 1 mm"):
        read_labels(save(tmp_path / "mask.nii.gz", VOXELS * 0, shifted), volume, "reference")
    with pytest.raises(GeometryError, match="shape"):
        read_labels(save(tmp_path / "mask.nii.gz", VOXELS[1:] * 0, AFFINES["LPS"]), volume)
    with pytest.raises(GeometryError):
        read_labels(save(tmp_path / "mask.nii.gz", VOXELS * 0, AFFINES["oblique"]), volume)


def test_rounded_affines_are_the_same_place(tmp_path, volume):
    path = save(tmp_path / "mask.nii.gz", VOXELS * 0, np.round(AFFINES["LPS"], 3))
    assert read_labels(path, volume).array.shape == volume.shape


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('{"labels": {"1": "liver", "2": "spleen"}}', {1: "liver", 2: "spleen"}),
        ('{"labels": {"background": 0, "liver": 1}}', {1: "liver"}),
        ('{"1": "liver"}', {1: "liver"}),
        ('{"Modality": "CT", "SeriesNumber": 3, "AcquisitionNumber": 1, "ImageType": ["ORIGINAL"]}', {}),
    ],
)
def test_names_beside_the_labels(tmp_path, volume, content, names):
    path = save(tmp_path / "mask.nii.gz", VOXELS * 0, AFFINES["LPS"])
    (tmp_path / "mask.json").write_text(content)
    assert read_labels(path, volume).names == names


def test_damaged_names_warn(tmp_path, volume):
    path = save(tmp_path / "mask.nii.gz", VOXELS * 0, AFFINES["LPS"])
    (tmp_path / "mask.json").write_text("[1, 2")
    labels = read_labels(path, volume)
    assert labels.names == {}
    assert "could not be read" in labels.warnings[0]


def test_another_programs_file_beside_the_labels_is_not_replaced(tmp_path, volume):
    labels, protocol = np.zeros(volume.shape, np.uint8), '{"Modality": "CT", "SeriesNumber": 3}'
    (tmp_path / "mask.json").write_text(protocol)
    with pytest.raises(VolumeError, match=r"mask\.json would be replaced"):
        write_labels(tmp_path / "mask.nii.gz", labels, volume, {1: "liver"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.nii.gz", "mask.json"]
    assert (tmp_path / "mask.json").read_text() == protocol
    for _ in range(2):  # our own may be
        write_labels(tmp_path / "other.nii.gz", labels, volume, {1: "liver"})


@pytest.mark.parametrize(("largest", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16), (70000, np.uint32)])
def test_smallest_dtype(tmp_path, volume, largest, dtype):
    labels = np.zeros(volume.shape, np.int64)
    labels[1, 2, 3] = largest
    write_labels(tmp_path / "mask.nii.gz", labels, volume, {})
    image = nib.load(tmp_path / "mask.nii.gz")
    assert image.get_data_dtype() == dtype
    assert np.asarray(image.dataobj).max() == largest


def test_bad_outputs(tmp_path, volume):
    labels = np.zeros(volume.shape, np.uint8)
    with pytest.raises(VolumeError, match="let the output end in"):
        write_labels(tmp_path / "mask.nrrd", labels, volume, {})
    with pytest.raises(VolumeError, match="does not exist; create"):
        write_labels(tmp_path / "nowhere" / "mask.nii.gz", labels, volume, {})
    with pytest.raises(VolumeError, match="is the image itself"):
        write_labels(tmp_path / "image.nii.gz", labels, volume, {})
    with pytest.raises(VolumeError, match="shape"):
        write_labels(tmp_path / "mask.nii.gz", labels[1:], volume, {})
    with pytest.raises(VolumeError, match="fractions"):
        write_labels(tmp_path / "mask.nii.gz", labels + 0.5, volume, {})
    with pytest.raises(VolumeError, match="outside"):
        write_labels(tmp_path / "mask.nii.gz", labels.astype(int) - 1, volume, {})
    with pytest.raises(VolumeError, match="axes"):
        write_map(tmp_path / "map.nii.gz", np.zeros((1, 1, *volume.shape)), volume)
    assert [item.name for item in tmp_path.iterdir()] == ["image.nii.gz"]


def test_a_failed_write_leaves_the_old_file(tmp_path, volume, monkeypatch):
    labels = np.zeros(volume.shape, np.uint8)
    write_labels(tmp_path / "mask.nii.gz", labels, volume, {1: "old"})
    before = {item.name: item.read_bytes() for item in tmp_path.iterdir()}

    def lose_a_voxel(file, block, data):
        file.write(block + data.tobytes(order="F")[:-1] + b"\x07")

    monkeypatch.setattr("vqseg.io.nifti._write_blocks", lose_a_voxel)
    with pytest.raises(VolumeError, match="does not read back"):
        write_labels(tmp_path / "mask.nii.gz", labels, volume, {1: "new"})
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before
    monkeypatch.undo()

    def no_space(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vqseg.io.nifti._write_blocks", no_space)
    with pytest.raises(VolumeError, match="No space left"):
        write_labels(tmp_path / "mask.nii.gz", labels, volume, {1: "new"})
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before


def test_atomic_path_keeps_suffixes_and_cleans_up(tmp_path):
    target = tmp_path / "a.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    with pytest.raises(ValueError, match="stop"), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise ValueError("stop")
    assert [item.name for item in tmp_path.iterdir()] == ["a.nii.gz"]
    assert target.read_text() == "new"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_that_is_replaced_stays_readable_by_whom_it_was(tmp_path, mode):
    target = tmp_path / "annotations.npz"
    target.touch()
    target.chmod(mode)
    with atomic_path(target) as temporary:
        temporary.write_text("new")
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", mode)


@pytest.mark.parametrize("name", ["lung1_nsclc", "abdomen_3mm"])
def test_real_masks_come_back_bit_for_bit(tmp_path, test_data, name):
    volume = read_volume(test_data / name / "image.nii.gz")
    source = test_data / name / "mask.nii.gz"
    labels = read_labels(source, volume)
    path, sidecar = write_labels(tmp_path / "mask.nii.gz", labels.array, volume, {1: "one"})
    ours, theirs = nib.load(path), nib.load(source)
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
    assert ours.affine.tobytes() == theirs.affine.tobytes()
    assert json.loads(sidecar.read_text()) == {"labels": {"1": "one"}}
