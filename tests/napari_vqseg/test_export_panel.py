"""The section Export in the real window, by clicks and keys."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_vqseg.panels import export
from napari_vqseg.widget import VQSegWidget
from vqseg import protocol
from vqseg.annotations import SliceState
from vqseg.io import read_labels, write_map

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)


def click(widget):
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)


def open_window(viewer, qtbot, path):
    widget = VQSegWidget(viewer, fakes.FakeWorker)
    viewer.window.add_dock_widget(widget, name="VQ-Seg")
    widget.session.open_volume(path)
    qtbot.waitUntil(lambda: widget.session.is_open, timeout=30000)
    return widget


def predict(session, tmp_path):
    session.engine.send(protocol.LoadCheckpoint("x"))
    np.save(tmp_path / "l.npy", np.ones(session.volume.shape, np.uint8))
    np.save(tmp_path / "u.npy", np.zeros(session.volume.shape, np.float16))
    session.engine.worker.message.emit(
        protocol.PredictionReady(None, session.case.case.id, 3, str(tmp_path / "l.npy"), str(tmp_path / "u.npy"))
    )


def test_measure_choose_write_and_be_asked(make_napari_viewer, make_ct, qtbot, tmp_path, monkeypatch):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    widget = open_window(viewer, qtbot, make_ct(tmp_path / "ct", SeriesDescription="Thorax 1/2, venös"))
    panel, session = widget.panel("Export"), widget.session
    session.annotating.mark(SliceState.COMPLETE, 3)
    announced = []
    session.reviewing.prediction_changed.connect(lambda: announced.append(session.reviewing.prediction))
    predict(session, tmp_path)
    qtbot.waitUntil(lambda: bool(announced), timeout=20000)
    for section, _ in widget.sections.values():
        section.expand()
    widget.scroll_area.verticalScrollBar().setValue(0)

    click(panel.measure)
    qtbot.waitUntil(lambda: not panel.figures.visibleRegion().isEmpty(), timeout=20000)
    shown = [panel.figures.item(0, column).text() for column in range(6)]
    assert shown[:2] == ["tumour", "1.73"] and shown[4:] == ["9", "0"]  # the empty slice is drawn, and no tumour
    assert sum(panel.figures.columnWidth(column) for column in range(6)) < 345, "the dock of a small screen"
    assert panel.figures.isEnabled()
    click(panel.copy)
    table = [line.split("\t") for line in QApplication.clipboard().text().splitlines()]
    assert [row[0] for row in table] == ["class", "tumour"]
    viewer.layers["annotation"].paint((5, 5, 5), 1)
    session.annotating.mark(SliceState.COMPLETE, 5)
    assert not panel.figures.isEnabled()  # greyed: of labels that have changed since

    panel.format.setFocus()
    while panel.wanted is not export.Format.DICOM_SEG:
        QTest.keyClick(panel.format, Qt.Key.Key_Down)
    assert "patient's name" in panel.words.text()
    target, asked = tmp_path / "seg.dcm", []
    proposed = []

    def choose(_, title, path, *rest, **options):
        proposed.append(path)
        return str(target.with_suffix("")), ""

    monkeypatch.setattr(export.QFileDialog, "getSaveFileName", choose)
    click(panel.export)
    assert proposed == [str(tmp_path / "ct-Thorax-1-2-venös-segmentation.dcm")]
    qtbot.waitUntil(lambda: "seg.dcm.provenance.json" in panel.words.text(), timeout=60000)
    assert (read_labels(target, session.volume).array == 1).sum() == session.exporting.result().sum()

    def answer(_, title, text):
        asked.append(text)
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(export.QMessageBox, "question", answer)
    before = target.read_bytes()
    click(panel.export)
    assert "seg.dcm\nseg.dcm.provenance.json" in asked[0]
    qtbot.wait(100)
    assert target.read_bytes() == before
    widget.release()


def test_without_a_series_there_is_no_dicom_segmentation(make_napari_viewer, qtbot, tmp_path, monkeypatch):
    write_map(tmp_path / "ct.nii.gz", fakes.make_volume().array, fakes.make_volume())
    widget = open_window(make_napari_viewer(), qtbot, tmp_path / "ct.nii.gz")
    panel = widget.panel("Export")
    position = panel.format.findData(export.Format.DICOM_SEG)
    assert position == 2
    assert not panel.format.model().item(position).isEnabled()
    assert "opened as DICOM" in panel.format.model().item(position).toolTip()
    assert panel.wanted is export.Format.NIFTI
    widget.session.annotating.mark(SliceState.COMPLETE, 3)
    panel.format.setCurrentIndex(panel.format.findData(export.Format.NIFTI_PER_CLASS))
    monkeypatch.setattr(export.QFileDialog, "getSaveFileName", lambda *a, **k: (str(tmp_path / "out"), ""))
    panel.ask()
    qtbot.waitUntil((tmp_path / "out.per-class.provenance.json").exists, timeout=20000)
    assert (tmp_path / "out_tumour.nii.gz").exists()
    widget.release()
