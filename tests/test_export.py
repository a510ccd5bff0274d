"""Exports: every format with its provenance, nothing of the patient but where DICOM asks for it."""

from __future__ import annotations

import csv
import hashlib
import json

import nibabel
import numpy as np
import pydicom
import pytest
from highdicom.color import CIELabColor

from vqseg.annotations import PAINTED_BACKGROUND, Annotations, Origin, SliceState
from vqseg.cli import main
from vqseg.config import preset
from vqseg.errors import GeometryError
from vqseg.export import Content, Format, Segmentation, files_of, merged, write
from vqseg.io import read_labels, read_volume
from vqseg.project import Project

NAMES = {1: "tumour", 2: "left lung", 3: "Left-Lung"}
SHAPE = (10, 12, 16)


def annotated():
    annotations = Annotations.empty(SHAPE)
    annotations.labels[2, 2:6, 2:6] = 1
    annotations.mark(2, SliceState.COMPLETE)
    annotations.labels[4, 2:6, 2:6] = 2
    annotations.mark(4, SliceState.COMPLETE, Origin.ACCEPTED)
    annotations.labels[6, 0] = PAINTED_BACKGROUND
    annotations.labels[6, 3, 3] = 1
    annotations.mark(6, SliceState.SCRIBBLED)
    return annotations


def predicted():
    prediction = np.zeros(SHAPE, np.uint8)
    prediction[1:9, 0:5, 0:5] = 2
    return prediction


@pytest.fixture(scope="module")
def project(make_ct, tmp_path_factory):
    """A project with one case, opened from a DICOM series in a folder called after the patient, and a prediction."""
    folder = tmp_path_factory.mktemp("export")
    made = Project.create(folder / "project", "Test", NAMES)
    case = made.add_case(read_volume(make_ct(folder / "Mustermann_4711")))
    case.save_annotations(annotated())
    run = made.new_run(preset("fast", seed=7), [case.id])
    path = run.prediction_path(case.id)
    path.parent.mkdir(parents=True)
    np.save(path, predicted())
    return made


def test_merged():
    labels = merged(annotated(), predicted())
    assert set(np.unique(labels[2])) == {0, 1}  # complete: as drawn, and nothing else
    assert not labels[6, 0].any()  # painted background
    assert labels[6, 3, 3] == 1 and labels[6, 2, 2] == 2
    assert labels[5, 1, 1] == 2
    assert not np.delete(merged(annotated(), None), [2, 4, 6], axis=0).any()


def export(project, folder, *options):
    return main(["export", str(project.path), "--output", str(folder), "--quiet", *options])


@pytest.mark.parametrize("wanted", list(Format))
def test_every_format_has_its_provenance(project, tmp_path, wanted):
    assert export(project, tmp_path, "--format", wanted) == 0
    [beside] = tmp_path.glob("*.provenance.json")
    origin = json.loads(beside.read_text())
    written = {path.name for path in tmp_path.iterdir()} - {beside.name}
    assert {file["name"]: file["sha256"] for file in origin["files"]} == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in written
    }
    assert origin["run"]["seed"] == origin["run"]["config"]["train"]["seed"] == 7
    assert origin["run"]["method"] == "vq-seg"
    assert origin["versions"]["napari-vqseg"]
    assert origin["classes"] == {str(value): name for value, name in NAMES.items()}
    slices = origin["slices"]
    assert (slices["drawn"], slices["accepted"], slices["partly labelled"]) == ([2], [4], [6])
    assert slices["predicted"] == [0, 1, 3, 5, 7, 8, 9]
    assert origin["source"]["format"] == "DICOM series"
    for path in tmp_path.iterdir():
        if path.suffix != ".dcm":
            content = nibabel.load(path).header.binaryblock if path.name.endswith(".gz") else path.read_bytes()
            assert b"Mustermann" not in content and b"4711" not in content


def test_nifti(project, tmp_path):
    assert export(project, tmp_path) == 0
    volume = project.cases[0].load_volume()
    found = read_labels(tmp_path / "case-001_segmentation.nii.gz", volume)
    np.testing.assert_array_equal(found.array, merged(annotated(), predicted()))
    assert found.names == NAMES


def test_one_file_a_class(project, tmp_path):
    assert export(project, tmp_path, "--format", "nifti-per-class") == 0
    masks = sorted(path.name for path in tmp_path.glob("*.nii.gz"))
    assert masks == [f"case-001_segmentation_{name}.nii.gz" for name in ("Left-Lung-3", "left-lung-2", "tumour")]
    volume = project.cases[0].load_volume()
    labels = merged(annotated(), predicted())
    lung = read_labels(tmp_path / masks[1], volume)
    np.testing.assert_array_equal(lung.array, labels == 2)
    assert lung.names == {1: "left lung"}
    assert not read_labels(tmp_path / masks[0], volume).array.any()


def test_dicom_segmentation(project, tmp_path):
    assert export(project, tmp_path, "--format", "dicom-seg") == 0
    path = tmp_path / "case-001_segmentation.dcm"
    found = read_labels(path, project.cases[0].load_volume())
    np.testing.assert_array_equal(found.array, merged(annotated(), predicted()))
    assert found.names == {1: "tumour", 2: "left lung"}  # the empty class is left out
    assert {item.SegmentAlgorithmType for item in pydicom.dcmread(path).SegmentSequence} == {"SEMIAUTOMATIC"}
    assert str(pydicom.dcmread(path).PatientID) == "4711"


def test_dicom_segments_have_the_colours_chosen_in_the_window(project, tmp_path):
    project.info["colours"] = {"2": "#0A64C8", "1": "no colour"}
    project.save()
    try:
        assert export(project, tmp_path, "--format", "dicom-seg") == 0
    finally:
        project.info.pop("colours")
        project.save()
    stored = pydicom.dcmread(tmp_path / "case-001_segmentation.dcm").SegmentSequence
    found = [CIELabColor.from_dicom_value(item.RecommendedDisplayCIELabValue).to_rgb() for item in stored]
    assert found[:2] == [(0xE8, 0x60, 0x1C), (0x0A, 0x64, 0xC8)]


def test_drawn_alone_is_manual(project, tmp_path):
    case = project.cases[0]
    drawn = Annotations.from_slices(annotated().labels, [2])
    segmentation = Segmentation(case, case.load_volume(), drawn, NAMES)
    write(segmentation, tmp_path / "seg.dcm", Format.DICOM_SEG)
    [tumour] = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert tumour.SegmentAlgorithmType == "MANUAL"


def test_table(project, tmp_path):
    assert export(project, tmp_path, "--format", "csv") == 0
    with (tmp_path / "case-001_segmentation.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    labels = merged(annotated(), predicted())
    assert float(rows["tumour"]["volume_ml"]) == pytest.approx(17 * 0.001, rel=1e-4)
    assert rows["tumour"]["share_drawn"] == "1"
    of_lung = labels == 2
    assert float(rows["left lung"]["share_accepted"]) == pytest.approx(of_lung[4].sum() / of_lung.sum(), rel=1e-4)
    hu = np.asarray(project.cases[0].load_volume().array)[of_lung]
    assert float(rows["left lung"]["median_hu"]) == pytest.approx(np.median(hu))
    assert rows["Left-Lung"]["volume_ml"] == "0"


def test_nothing_is_overwritten_without_being_told(project, tmp_path, capsys):
    assert export(project, tmp_path) == 0
    for path in tmp_path.iterdir():
        path.write_text("mine")
    for beside in ("case-001_segmentation.nii.gz", "case-001_segmentation.json"):
        (tmp_path / beside).unlink()
        assert export(project, tmp_path) == 2
        assert "exists already; choose another folder, or say --overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["case-001_segmentation.provenance.json"]
    assert export(project, tmp_path, "--overwrite") == 0
    assert len(list(tmp_path.iterdir())) == 3


def test_all_formats_lie_beside_one_another_each_with_its_provenance(project, tmp_path):
    for wanted in Format:
        assert export(project, tmp_path, "--format", wanted) == 0
    ends = (".provenance.json", ".per-class.provenance.json", ".dcm.provenance.json", ".csv.provenance.json")
    mask, masks, segmentation, table = (
        {item["name"] for item in json.loads((tmp_path / f"case-001_segmentation{end}").read_text())["files"]}
        for end in ends
    )
    assert mask == {"case-001_segmentation.nii.gz", "case-001_segmentation.json"}
    assert len(masks) == 2 * len(NAMES) and "case-001_segmentation_tumour.nii.gz" in masks
    assert (segmentation, table) == ({"case-001_segmentation.dcm"}, {"case-001_segmentation.csv"})


def test_what_is_exported(project, tmp_path):
    volume = project.cases[0].load_volume()
    expected = {"labels": merged(annotated(), None), "prediction": predicted()}
    for what, labels in expected.items():
        assert export(project, tmp_path, "--what", what) == 0
        np.testing.assert_array_equal(read_labels(tmp_path / f"case-001_{what}.nii.gz", volume).array, labels)
    origin = json.loads((tmp_path / "case-001_labels.provenance.json").read_text())
    assert origin["run"] is None and origin["slices"]["predicted"] == []


def test_the_prediction_is_cleaned_up_as_in_the_window(project, tmp_path):
    project.info["clean_up"] = {"2": {"min_volume_ml": 1.0}}
    project.save()
    try:
        assert export(project, tmp_path) == 0
    finally:
        project.info.pop("clean_up")
        project.save()
    volume = project.cases[0].load_volume()
    found = read_labels(tmp_path / "case-001_segmentation.nii.gz", volume).array
    np.testing.assert_array_equal(found, merged(annotated(), np.zeros(SHAPE, np.uint8)))
    origin = json.loads((tmp_path / "case-001_segmentation.provenance.json").read_text())
    assert origin["clean_up"]["2"]["min_volume_ml"] == 1.0


def test_clean_up_flags_go_on_top_of_the_window(project, tmp_path, capsys):
    name = project.class_names[2]
    project.info["clean_up"] = {"2": {"min_volume_ml": 1.0}}
    project.save()
    try:
        assert export(project, tmp_path, "--min-volume", f"{name}=0", "--fill-holes", "all") == 0
    finally:
        project.info.pop("clean_up")
        project.save()
    found = read_labels(tmp_path / "case-001_segmentation.nii.gz", project.cases[0].load_volume()).array
    np.testing.assert_array_equal(found, merged(annotated(), predicted()))
    origin = json.loads((tmp_path / "case-001_segmentation.provenance.json").read_text())
    assert origin["clean_up"]["2"] == {"keep_largest": 0, "min_volume_ml": 0.0, "fill_holes": True}
    assert export(project, tmp_path, "--what", "prediction", "--keep-largest", "1") == 2
    assert "choose --what segmentation" in capsys.readouterr().err


def test_another_shape_is_refused(project):
    case = project.cases[0]
    with pytest.raises(GeometryError, match=r"shape of the prediction of case-001 is \(9, 12, 16\)"):
        Segmentation(case, case.load_volume(), annotated(), NAMES, predicted()[:9])


def test_a_prediction_counts_as_drawn_where_it_is_what_was_drawn(project):
    case = project.cases[0]
    prediction = predicted()
    prediction[2] = annotated().labels[2]
    segmentation = Segmentation(case, case.load_volume(), annotated(), NAMES, prediction, content=Content.PREDICTION)
    tumour, lung, _ = segmentation.measure()
    assert tumour.drawn == 1
    assert 0 < lung.accepted < lung.predicted


def test_the_files_that_will_be_written(tmp_path):
    names = {path.name for path in files_of(tmp_path / "x.nii.gz", Format.NIFTI_PER_CLASS, {1: "a b", 2: "c"})}
    assert names == {"x_a-b.nii.gz", "x_a-b.json", "x_c.nii.gz", "x_c.json", "x.per-class.provenance.json"}
    alike = files_of(tmp_path / "x.nii.gz", Format.NIFTI_PER_CLASS, {1: "lung", 2: "Lung", 3: "lung-1"})
    masks = [path.name.lower() for path in alike if path.name.endswith(".gz")]
    assert len(set(masks)) == 3, "no class may take another's file"
    listed = files_of(tmp_path / "x.dcm", Format.DICOM_SEG, {})
    assert [path.name for path in listed] == ["x.dcm", "x.dcm.provenance.json"]
