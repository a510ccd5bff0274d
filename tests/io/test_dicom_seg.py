"""DICOM segmentations: written for the series they belong to, read from any program, refused on another image."""

from __future__ import annotations

import json
import shutil

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from vqseg.colours import colour_of
from vqseg.errors import GeometryError, VolumeError
from vqseg.io import is_label_object, read_labels, read_volume, write_labels, write_segmentation
from vqseg.io.terms import term_for

NAMES = {1: "tumour", 4: "left lung", 7: "whatever", 9: "nowhere"}


def some_labels(shape=(10, 12, 16)):
    """Three of four classes, none in the first and last slice; one in a single voxel."""
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 2:9, 3:11] = 4
    labels[3:4, 4:6, 5:8] = 1
    labels[-2, -1, -1] = 7
    return labels


@pytest.fixture(scope="module")
def original(make_ct, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    volume = read_volume(make_ct(folder / "ct"))
    assert write_segmentation(folder / "seg.dcm", some_labels(), volume, NAMES) == ()
    return folder


@pytest.fixture
def written(original, tmp_path):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return read_volume(tmp_path / "ct"), tmp_path / "seg.dcm"


def test_written_and_read_back_by_highdicom_alone(written):
    volume, path = written
    segmentation = hd.seg.segread(path)
    assert [item.segment_label for item in segmentation.SegmentSequence] == ["tumour", "left lung", "whatever"]
    found = segmentation.get_volume(combine_segments=True)
    expected = volume.stored.to_stored(some_labels()).transpose(2, 1, 0)
    corners = found.map_indices_to_reference(np.array([[index, 0, 0] for index in range(len(found.array))]))
    np.testing.assert_allclose(corners[:, :2], [[-30, -40]] * len(corners), atol=1e-4)
    filled = np.zeros_like(expected)
    filled[np.rint((corners[:, 2] - 100) / 2.5).astype(int)] = np.array([0, 1, 4, 7])[found.array]
    np.testing.assert_array_equal(filled, expected)
    assert found.spacing == pytest.approx((2.5, 0.8, 0.5))


def test_it_belongs_to_its_series_and_carries_no_more_of_the_patient_than_it_must(written):
    volume, path = written
    made, source = pydicom.dcmread(path), pydicom.dcmread(next((path.parent / "ct").iterdir()))
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert str(made[keyword].value) == str(source[keyword].value)
    referenced = made.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    instances = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert len(instances) == 10
    for keyword in ("PatientAddress", "InstitutionName"):
        assert keyword not in made
    assert str(made.ReferringPhysicianName) == ""
    assert made.SpecificCharacterSet == "ISO_IR 192"


def as_hex(rgb):
    return "#{:02X}{:02X}{:02X}".format(*rgb)


def test_segments_have_the_colours_of_the_classes(written, tmp_path):
    volume, path = written

    def colours_in(file):
        stored = [item.RecommendedDisplayCIELabValue for item in pydicom.dcmread(file).SegmentSequence]
        return [as_hex(hd.color.CIELabColor.from_dicom_value(value).to_rgb()) for value in stored]

    assert colours_in(path) == [colour_of(value) for value in (1, 4, 7)]
    write_segmentation(tmp_path / "own.dcm", some_labels(), volume, NAMES, colours={4: "#0A64C8"})
    assert colours_in(tmp_path / "own.dcm") == [colour_of(1), "#0A64C8", colour_of(7)]


def test_the_reader_of_3d_slicer_finds_every_voxel_where_it_was(written, tmp_path):
    """3D Slicer's module DCMQI reads segmentations with dcmqi; names and colours come with them."""
    dcmqi = pytest.importorskip("dcmqi", reason="needs the package dcmqi, of the extra test")
    volume, path = written
    arguments = ["--inputDICOM", str(path), "--outputDirectory", str(tmp_path), "--mergeSegments", "-t", "nrrd"]
    assert dcmqi._program("segimage2itkimage", arguments) == 0
    found = read_volume(tmp_path / "1.nrrd")
    numbered = np.searchsorted([0, 1, 4, 7], some_labels())  # segments are numbered from 1
    corner = np.linalg.inv(volume.affine) @ found.affine @ [0, 0, 0, 1]
    start = np.rint(corner[:3]).astype(int)
    assert corner[:3] == pytest.approx(start, abs=1e-3)
    whole = np.zeros_like(numbered)
    z, y, x = (slice(first, first + count) for first, count in zip(start, found.shape, strict=True))
    whole[z, y, x] = found.array
    np.testing.assert_array_equal(whole, numbered)
    told = json.loads((tmp_path / "meta.json").read_text())["segmentAttributes"]
    listed = [segment for file in told for segment in file]
    assert [segment["SegmentLabel"] for segment in listed] == ["tumour", "left lung", "whatever"]
    colours = [as_hex(segment["recommendedDisplayRGBValue"]) for segment in listed]
    assert colours == [colour_of(value) for value in (1, 4, 7)]


def test_segments_say_what_they_are(written):
    _, path = written
    tumour, lung, other = pydicom.dcmread(path).SegmentSequence
    kind = [item.SegmentedPropertyTypeCodeSequence[0] for item in (tumour, lung, other)]
    assert [item.CodeValue for item in kind] == ["108369006", "39607008", "85756007"]
    assert kind[1].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert tumour.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Morphologically Abnormal Structure"
    assert tumour.SegmentAlgorithmType == "SEMIAUTOMATIC"


@pytest.mark.parametrize(("name", "meaning", "side"), [
    ("kidney_right", "Kidney", "Right"),
    ("Lungs", "Lung", None),
    ("LUNG_L", "Lung", "Left"),
    ("left ventricle", "Left ventricle", None),
    ("GTV-1", "Neoplasm", None),
    ("oesophagus", "Esophagus", None),
    ("vertebrae_L1", "Tissue", None),
    ("Structure 12", "Tissue", None),
])  # fmt: skip
def test_common_names_have_codes(name, meaning, side):
    term = term_for(name)
    assert term.kind.meaning == meaning
    assert (term.side.meaning if term.side else None) == side


def test_read_where_it_belongs(written, tmp_path):
    volume, path = written
    found = read_labels(path, volume)
    np.testing.assert_array_equal(found.array, some_labels())  # with the label values it was written from
    assert found.names == {1: "tumour", 4: "left lung", 7: "whatever"}
    assert np.unique(read_labels(path, volume, only=[4]).array).tolist() == [0, 4]
    assert is_label_object(path)
    # The same voxels in another orientation, as a NIfTI of the series would have them.
    write_labels(tmp_path / "image.nii.gz", np.zeros(volume.shape, np.uint8), volume, {})
    np.testing.assert_array_equal(read_labels(path, read_volume(tmp_path / "image.nii.gz")).array, found.array)
    folder = tmp_path / "exported"
    folder.mkdir()
    path.rename(folder / "IM0001")
    np.testing.assert_array_equal(read_labels(folder, volume).array, found.array)


def test_slices_stored_downwards(make_ct, tmp_path):
    volume = read_volume(make_ct(tmp_path / "ct", downwards=True))
    write_segmentation(tmp_path / "seg.dcm", some_labels(), volume, NAMES)
    np.testing.assert_array_equal(read_labels(tmp_path / "seg.dcm", volume).array > 0, some_labels() > 0)


def test_another_image_is_refused(written, make_ct, tmp_path):
    volume, path = written
    frame = pydicom.dcmread(path).FrameOfReferenceUID
    other = make_ct(tmp_path / "other")
    with pytest.raises(GeometryError, match="another frame of reference"):
        read_labels(path, read_volume(other))
    for file in other.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.FrameOfReferenceUID = frame
        dataset.ImagePositionPatient[0] += 0.25
        dataset.save_as(file)
    with pytest.raises(GeometryError, match=r"up to 0.25 mm off the voxels.*pixels of 0.5 x 0.8 mm, the image has 0.5"):
        read_labels(path, read_volume(other))
    for file in sorted(other.iterdir())[:4]:
        file.unlink()
    for file in other.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.ImagePositionPatient[0] -= 0.25
        dataset.save_as(file)
    with pytest.raises(GeometryError, match=r"reach outside the image: 'left lung'.*the image has \(6, 12, 16\)"):
        read_labels(path, read_volume(other))


def describe(number, name):
    return hd.seg.SegmentDescription(number, name, codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_what_other_programs_write(make_ct, tmp_path, kind):
    """Some slices only, in another order; overlapping segments; probabilities; label maps."""
    folder = make_ct(tmp_path / "ct")
    volume = read_volume(folder)
    sources = [pydicom.dcmread(file) for file in sorted(folder.iterdir(), reverse=True)][2:6]
    lung = np.zeros((4, 12, 16), np.float32)
    lung[:, 2:9, 3:11] = 1
    tumour = np.zeros_like(lung)
    tumour[1, 4:6, 5:8] = 0.6
    tumour[2, 4:6, 5:8] = 0.3
    if kind == "LABELMAP":
        pixels = np.where(tumour > 0.5, 2, lung > 0).astype(np.uint8)
    else:
        pixels = np.stack([lung, tumour], axis=-1)
        pixels = pixels if kind == "FRACTIONAL" else (pixels > 0.5).astype(np.uint8)
    segmentation = hd.seg.Segmentation(
        sources, pixels, kind, [describe(1, "lung"), describe(2, "tumour")], hd.UID(), 1, hd.UID(), 1,
        "other", "program", "1", "1",
    )  # fmt: skip
    segmentation.save_as(tmp_path / "other.dcm")
    found = read_labels(tmp_path / "other.dcm", volume)
    expected = np.zeros(volume.shape, np.uint8)
    expected[[7, 6, 5, 4]] = np.where(tumour > 0.5, 2, lung > 0.5)
    np.testing.assert_array_equal(found.array, expected)
    assert found.names == {1: "lung", 2: "tumour"}
    overlap = "Some structures overlap; there the smaller one was kept: tumour (6 voxels)."
    assert found.warnings == (() if kind == "LABELMAP" else (overlap,))


def test_what_cannot_be_written(make_ct, tmp_path, written):
    volume, path = written
    before = path.read_bytes()
    with pytest.raises(VolumeError, match="No voxel is labelled"):
        write_segmentation(path, np.zeros(volume.shape, np.uint8), volume, NAMES)
    with pytest.raises(VolumeError, match=r"have shape \(1, 12, 16\)"):
        write_segmentation(path, some_labels()[:1], volume, NAMES)
    with pytest.raises(VolumeError, match=r"output end in \.dcm"):
        write_segmentation(tmp_path / "seg.nii.gz", some_labels(), volume, NAMES)
    slice_file = tmp_path / "ct" / "003.dcm"
    with pytest.raises(VolumeError, match="no segmentation"):
        write_segmentation(slice_file, some_labels(), volume, NAMES)
    write_labels(tmp_path / "image.nii.gz", some_labels(), volume, {})
    with pytest.raises(VolumeError, match="export NIfTI instead"):
        write_segmentation(path, some_labels(), read_volume(tmp_path / "image.nii.gz"), NAMES)
    for file in (tmp_path / "ct").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.ImagePositionPatient[0] += 3
        dataset.save_as(file)
    with pytest.raises(GeometryError, match="slices on disk lie up to 3 mm away"):
        write_segmentation(path, some_labels(), volume, NAMES)
    assert path.read_bytes() == before


def test_a_series_stripped_of_its_uids_and_full_of_leftovers(make_ct, tmp_path):
    folder = make_ct(
        tmp_path / "ct", StudyInstanceUID="", FrameOfReferenceUID="", PatientSex="unknown", SeriesNumber=None,
    )  # fmt: skip
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.SOPInstanceUID = dataset.SOPClassUID = ""
        del dataset.PatientName
        dataset.save_as(file)
    volume = read_volume(folder)
    [warning] = write_segmentation(tmp_path / "seg.dcm", some_labels(), volume, NAMES)
    assert "no StudyInstanceUID and no FrameOfReferenceUID" in warning
    made = pydicom.dcmread(tmp_path / "seg.dcm")
    assert made.PatientSex == "" and str(made.PatientName) == ""
    np.testing.assert_array_equal(read_labels(tmp_path / "seg.dcm", volume).array > 0, some_labels() > 0)


def test_a_damaged_file_gets_a_sentence(written, tmp_path):
    volume, path = written
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VolumeError, match="export") as caught:
        read_labels(path, volume)
    assert "Mustermann" not in str(caught.value)


def test_the_real_series(test_data, tmp_path):
    """JPEG 2000, stripped of its study's UID."""
    folder = test_data / "dicom_jpeg2000"
    volume = read_volume(folder / "series")
    labels = read_labels(folder / "mask.nii.gz", volume).array
    kept = np.where(np.isin(labels, [1, 5]), labels, 0)
    write_segmentation(tmp_path / "seg.dcm", kept, volume, {1: "spleen", 5: "liver"})
    np.testing.assert_array_equal(read_labels(tmp_path / "seg.dcm", volume).array, kept)
