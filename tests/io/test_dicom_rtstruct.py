"""RT structure sets: filled on the voxels of their image, refused on another."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from vqseg.cli import main
from vqseg.errors import GeometryError, VolumeError
from vqseg.io import read_labels, read_volume, write_labels


def circle(x, y, radius, z, points=60):
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn), np.full(points, z)], axis=1)


def item(**tags):
    dataset = pydicom.Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def write_structures(path, structures, frame="", kind="CLOSED_PLANAR"):
    """Structures by name: lists of contours (points, 3) in LPS mm."""
    dataset = item(SOPClassUID=RTStructureSetStorage, SOPInstanceUID=generate_uid(), Modality="RTSTRUCT",
                   PatientName="Mustermann^Erika", PatientID="4711")  # fmt: skip
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(structures.items(), start=5):
        dataset.StructureSetROISequence.append(
            item(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=frame)
        )
        dataset.ROIContourSequence.append(item(ReferencedROINumber=number, ContourSequence=[
            item(ContourGeometricType=kind if len(points) > 1 else "POINT", NumberOfContourPoints=len(points),
                 ContourData=[f"{value:.3f}" for value in points.ravel()]) for points in contours
        ]))  # fmt: skip
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def volume(make_ct, tmp_path):
    """64 x 48 voxels of 0.5 x 0.8 mm in 10 slices of 2.5 mm, from LPS (-30, -40, 100)."""
    return read_volume(make_ct(tmp_path / "ct", (10, 48, 64)))


def test_circles_are_filled_where_they_lie(volume, tmp_path):
    path = write_structures(tmp_path / "rt.dcm", {
        "Ring": [circle(-14, -20, 7, 105), circle(-14, -20, 3, 105), circle(-14, -20, 7, 110)],
        "no outline": [],
        "GTV": [circle(-18, -20, 1.2, 105)],
        "isocentre": [np.array([[-14.0, -20, 105]])],
    })  # fmt: skip
    found = read_labels(path, volume)
    assert found.names == {1: "Ring", 2: "GTV"}
    mm2 = 0.5 * 0.8
    count = [np.count_nonzero(found.array == 1, axis=(1, 2))[z] * mm2 for z in (2, 3, 4)]
    hidden = np.count_nonzero(found.array[2] == 2) * mm2
    assert count[2] == pytest.approx(np.pi * 49, rel=0.02)
    assert count[1] == 0  # nothing is made up between contours
    assert count[0] + hidden == pytest.approx(np.pi * 40, rel=0.03)
    assert hidden == pytest.approx(np.pi * 1.44, rel=0.15)
    rows, columns = np.nonzero(found.array[4])
    np.testing.assert_allclose([columns.mean() * 0.5 - 30, rows.mean() * 0.8 - 40], [-14, -20], atol=0.1)
    ring = read_labels(path, volume, only=[1])  # the one over it is not wanted and hides nothing
    assert np.count_nonzero(ring.array[2]) * mm2 == pytest.approx(np.pi * 40, rel=0.03)
    assert ring.names == {1: "Ring"}
    overlap, points = found.warnings
    assert "the smaller one was kept: GTV" in overlap
    assert points == "Points and open lines are no areas and were left out: isocentre."


def test_on_the_same_voxels_in_another_orientation(volume, tmp_path):
    path = write_structures(tmp_path / "rt.dcm", {"GTV": [circle(-18, -25, 4, 105)]})
    write_labels(tmp_path / "image.nii.gz", np.zeros(volume.shape, np.uint8), volume, {})
    image = read_volume(tmp_path / "image.nii.gz", axis=0)
    assert image.shape == (64, 10, 48)
    expected = volume.stored.to_stored(read_labels(path, volume).array)
    np.testing.assert_array_equal(image.stored.to_stored(read_labels(path, image).array), expected)
    assert expected.any()


@pytest.mark.parametrize(("contour", "words"), [
    (circle(-14, -20, 7, 106.2), "a contour of 'GTV' is 1.2 mm away from the nearest"),
    (circle(-14, -20, 7, 130), r"reach up to 7 mm outside the image \(a contour of 'GTV'\)"),
    (circle(-14, -42, 7, 105), "reach up to 8.2 mm outside"),
    (circle(-14, -20, 7, 105) + np.linspace(0, 6, 60)[:, None] * [0, 0, 1], "do not lie on the slices"),
])  # fmt: skip
def test_another_image_is_refused(volume, tmp_path, contour, words):
    path = write_structures(tmp_path / "rt.dcm", {"GTV": [contour]})
    with pytest.raises(GeometryError, match=words):
        read_labels(path, volume)


def test_another_scan_is_refused(volume, tmp_path):
    path = write_structures(tmp_path / "rt.dcm", {"GTV": [circle(-14, -20, 7, 105)]}, frame="1.2.3")
    with pytest.raises(GeometryError, match="another frame of reference"):
        read_labels(path, volume)
    own = volume.metadata["frame_of_reference"]
    assert read_labels(write_structures(path, {"GTV": [circle(-14, -20, 7, 105)]}, frame=own), volume).array.any()


def test_too_many_none_and_damaged(volume, tmp_path):
    path = tmp_path / "rt.dcm"
    write_structures(path, {f"part {n}": [circle(-14, -20, 7, 105)] for n in range(255)})
    with pytest.raises(VolumeError, match=r"255 structures.*at most 254 are possible"):
        read_labels(path, volume)
    write_structures(path, {"nothing": []})
    with pytest.raises(VolumeError, match="no structure with an outline"):
        read_labels(path, volume)
    write_structures(path, {"lines": [circle(-14, -20, 7, 105)]}, kind="OPEN_PLANAR")
    with pytest.raises(VolumeError, match="no structure with an outline"):
        read_labels(path, volume)
    dataset = pydicom.dcmread(path)
    del dataset.StructureSetROISequence
    dataset.save_as(path)
    with pytest.raises(VolumeError, match="cannot be read as an RT structure set") as caught:
        read_labels(path, volume)
    assert "Mustermann" not in str(caught.value)


def test_labels_and_reference_on_the_command_line(volume, tmp_path, capsys):
    contours = {"GTV": [circle(-14, -20, 7, z) for z in (105, 110, 115)]}
    frame, ct, mask = volume.metadata["frame_of_reference"], tmp_path / "ct", tmp_path / "whole.nii.gz"
    path = write_structures(tmp_path / "rt.dcm", contours, frame)
    quick = ["--quiet", "--set", "iterations=2", "--set", "time_budget_s=0", "--set", "size=48", "--set", "patch=48"]
    segment = ["segment", str(ct), str(path), "--output", str(mask), "--slices", "all", *quick]
    assert main(segment) == 0
    labelled = [2, 4, 6]
    np.testing.assert_array_equal(read_labels(mask, volume).array[labelled], read_labels(path, volume).array[labelled])
    assert read_labels(mask, volume).names == {1: "GTV"}
    assert main(["evaluate", str(mask), str(path)]) == 0
    assert "GTV" in capsys.readouterr().out
    write_structures(path, {"GTV": [circle(-14, -20, 7, 106)]}, frame)
    assert main(["evaluate", str(mask), str(path)]) == 2
    assert "The reference structures do not lie on the slices of the image" in capsys.readouterr().err
    write_structures(path, contours, "1.2.3")
    assert main(segment) == 2
    assert "another frame of reference" in capsys.readouterr().err
