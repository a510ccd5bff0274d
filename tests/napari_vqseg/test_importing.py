"""Labels from elsewhere in the session: structures and slices by choice, nothing overwritten, refused elsewhere."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_vqseg.session import Session
from vqseg.annotations import Origin, SliceState
from vqseg.io import read_volume, write_labels, write_segmentation

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)


@pytest.fixture
def session(make_ct, tmp_path):
    made = Session(fakes.FakeView(), fakes.FakeScheduler(), fakes.FakeWorker)
    made.heard, made.offers = [], []
    made.notified.connect(lambda text, level: made.heard.append((level, text)))
    made.importing.found.connect(made.offers.append)
    made.open_volume(make_ct(tmp_path / "ct"))
    yield made
    made.close()


@pytest.fixture
def labels():
    array = np.zeros((10, 12, 16), np.uint8)
    array[2:6, 2:8, 2:8] = 1
    array[3:5, 4:6, 4:6] = 2
    return array


def test_what_is_found_is_offered_and_taken_over(session, labels, tmp_path):
    write_segmentation(tmp_path / "seg.dcm", labels, session.volume, {1: "lung", 2: "Tumour"})
    session.view.stroke(3, value=1, where=(slice(0, 2), slice(0, 2)))
    session.importing.read(tmp_path / "seg.dcm")
    [found] = session.offers
    assert found.names == {1: "lung", 2: "Tumour"}
    assert (found.slices_of([1, 2]), found.slices_of([2]), found.slices_of([])) == ([2, 3, 4, 5], [3, 4], [])
    session.importing.take_over(found, found.names)
    assert session.classes.names == {1: "tumour", 2: "lung"}
    annotations = session.annotations
    assert annotations.complete == [2, 4, 5]
    assert {annotations.records[z].origin for z in (2, 4, 5)} == {Origin.IMPORTED}
    np.testing.assert_array_equal(annotations.labels[4] == 1, labels[4] == 2)
    np.testing.assert_array_equal(annotations.labels[4] == 2, labels[4] == 1)
    assert annotations.state(3) is SliceState.DRAFT and annotations.labels[3].sum() == 4
    assert (
        "Imported 3 slices" in session.heard[-1][1] and "1 that you have labelled already stays" in session.heard[-1][1]
    )
    session.view.stroke(4, value=1)  # painted over: a person's own from now on
    assert annotations.records[4].origin is Origin.DRAWN


def test_one_structure_of_a_range_with_empty_slices(session, labels, tmp_path):
    write_labels(tmp_path / "labels.nii.gz", labels, session.volume, {})
    session.importing.read(tmp_path / "labels.nii.gz")
    [found] = session.offers
    assert found.names == {1: "tumour", 2: "label 2"}
    session.importing.take_over(found, {2: "vessel"}, range(1, 5))
    assert session.annotations.complete == [1, 2, 3, 4]
    assert session.annotations.empty_complete == [1, 2]
    assert session.classes.names == {1: "tumour", 2: "vessel"}


def test_labels_drawn_across_the_slices_are_warned_of(session, labels, tmp_path):
    write_labels(tmp_path / "axial.nii.gz", labels, session.volume, {})
    session.importing.read(tmp_path / "axial.nii.gz")
    assert not session.heard
    labels[:, :, [2, 4, 6, 7]] = 0
    write_labels(tmp_path / "sagittal.nii.gz", labels, session.volume, {})
    session.importing.read(tmp_path / "sagittal.nii.gz")
    [(level, text)] = session.heard
    assert level == "warning" and "drawn in sagittal or coronal slices" in text
    assert len(session.offers) == 2, "a person decides"


def test_another_image_and_nothing_to_import(session, labels, make_ct, tmp_path):
    other = read_volume(make_ct(tmp_path / "other"))
    write_segmentation(tmp_path / "seg.dcm", labels, other, {})
    session.importing.read(tmp_path / "seg.dcm")
    assert session.heard[-1] == ("error", session.heard[-1][1]) and "another frame of reference" in session.heard[-1][1]
    write_labels(tmp_path / "empty.nii.gz", np.zeros_like(labels), session.volume, {})
    session.importing.read(tmp_path / "empty.nii.gz")
    assert "holds no label" in session.heard[-1][1]
    assert not session.offers and not session.annotations.records


def test_what_was_read_for_a_case_that_is_closed_since_is_not_offered(session, labels, make_ct, tmp_path, monkeypatch):
    write_labels(tmp_path / "mask.nii.gz", labels, session.volume, {1: "lung", 2: "Tumour"})
    later = []
    with monkeypatch.context() as slow:
        slow.setattr(session._scheduler, "aside", lambda *job: later.append(job))
        session.importing.read(tmp_path / "mask.nii.gz")
    session.open_volume(make_ct(tmp_path / "the next patient"))
    [(work, done, _)] = later
    done(work())
    assert session.offers == []
