"""Exporting and measuring without a window: what is written, what it says of where it comes from."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_vqseg.classes import CLASS_SETS, class_set
from napari_vqseg.session import Session
from vqseg import protocol
from vqseg.annotations import SliceState
from vqseg.export import Format
from vqseg.io import read_labels, read_volume, write_map
from vqseg.project import Run

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)


@pytest.fixture
def open_session():
    sessions = []

    def make(path):
        session = Session(fakes.FakeView(), fakes.FakeScheduler(), fakes.FakeWorker)
        sessions.append(session)
        session.heard = []
        session.notified.connect(lambda text, level: session.heard.append((level, text)))
        session.open_volume(path)
        assert session.is_open, session.heard
        return session

    yield make
    for session in sessions:
        session.close()


def predict(session):
    """Let a run of the project have predicted the case."""
    run = session.case.project.new_run(session.settings.config, [session.case.case.id])
    path = run.prediction_path(session.case.case.id)
    path.parent.mkdir(parents=True)
    np.save(path, np.ones(session.volume.shape, np.uint8))
    np.save(run.uncertainty_path(session.case.case.id), np.zeros(session.volume.shape, np.float16))
    session.engine.send(protocol.LoadCheckpoint("x"))
    session.engine.worker.message.emit(
        protocol.PredictionReady(
            None, session.case.case.id, 7, str(path), str(run.uncertainty_path(session.case.case.id))
        )
    )
    return run


def test_the_prediction_of_another_case_is_not_where_this_one_comes_from(open_session, image, tmp_path):
    session = open_session(image)
    run = predict(session)
    other = session.case.project.new_run(session.settings.config, [session.case.case.id])
    places = other.prediction_path("case-002"), other.uncertainty_path("case-002")
    session.engine.worker.message.emit(protocol.PredictionReady(None, "case-002", 9, *map(str, places)))
    session.exporting.export(tmp_path / "out.nii.gz")
    assert json.loads((tmp_path / "out.provenance.json").read_text())["run"]["id"] == run.id


def test_a_dicom_segmentation_with_its_provenance(open_session, make_ct, tmp_path):
    session = open_session(make_ct(tmp_path / "ct"))
    run = predict(session)
    session.annotating.mark(SliceState.COMPLETE, 2)  # empty: a true negative
    assert session.exporting.from_dicom
    written = []
    session.exporting.exported.connect(written.append)
    session.exporting.export(tmp_path / "seg.dcm", Format.DICOM_SEG)
    names = [[path.name for path in paths] for paths in written]
    assert names == [["seg.dcm", "seg.dcm.provenance.json"]], session.heard
    found = read_labels(tmp_path / "seg.dcm", read_volume(tmp_path / "ct"))
    assert not found.array[2].any() and (np.delete(found.array, 2, axis=0) == 1).all()
    origin = json.loads((tmp_path / "seg.dcm.provenance.json").read_text())
    assert origin["run"]["id"] == run.id == Run(run.path).id
    assert origin["slices"]["drawn"] == [2]
    assert session.exporting.existing(tmp_path / "seg.dcm", Format.DICOM_SEG) == written[0]


def test_many_files_are_not_all_named(open_session, image, tmp_path):
    session = open_session(image)
    predict(session)
    session.classes.use_set(class_set(CLASS_SETS["Lungs and tumour"]))
    session.exporting.export(tmp_path / "out.nii.gz", Format.NIFTI_PER_CLASS)
    assert session.heard[-1] == (
        "info", "Exported out_tumour.nii.gz, out_tumour.json, out_left-lung.nii.gz and 4 more files."
    )  # fmt: skip


def test_measurements(open_session, make_ct, tmp_path):
    session = open_session(make_ct(tmp_path / "ct"))
    predict(session)
    session.view.stroke(3, value=1, where=(slice(2, 6), slice(2, 6)))
    heard = []
    session.exporting.measured.connect(heard.append)
    session.exporting.measure()
    [[tumour]] = heard
    assert tumour.name == "tumour" and tumour.slices == 10
    assert tumour.volume_ml == pytest.approx(10 * 12 * 16 * 2.5 * 0.8 * 0.5 / 1000)
    assert tumour.drawn == pytest.approx(16 / 1920)


def test_a_volume_that_is_no_series_and_another_case(open_session, make_ct, tmp_path):
    write_map(tmp_path / "ct.nii.gz", fakes.make_volume().array, fakes.make_volume())
    session = open_session(tmp_path / "ct.nii.gz")
    assert not session.exporting.from_dicom
    predict(session)
    session.exporting.export(tmp_path / "seg.dcm", Format.DICOM_SEG)
    assert "export NIfTI instead" in session.heard[-1][1]
    assert not (tmp_path / "seg.dcm").exists()
    session.open_volume(make_ct(tmp_path / "other"))
    session.annotating.mark(SliceState.COMPLETE, 1)
    session.exporting.export(tmp_path / "table.csv", Format.CSV)
    assert json.loads((tmp_path / "table.csv.provenance.json").read_text())["run"] is None


def test_what_was_measured_of_a_case_that_is_closed_since_is_not_shown(open_session, make_ct, tmp_path, monkeypatch):
    session, heard, later = open_session(make_ct(tmp_path / "ct")), [], []
    session.exporting.measured.connect(heard.append)
    session.annotating.mark(SliceState.COMPLETE, 3)
    with monkeypatch.context() as slow:
        slow.setattr(session._scheduler, "aside", lambda *job: later.append(job))
        session.exporting.measure()
    session.open_volume(make_ct(tmp_path / "the next patient"))
    [(work, done, _)] = later
    done(work())
    assert heard == [], "figures of one patient must not stand beside the images of another"
