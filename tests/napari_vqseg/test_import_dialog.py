"""Importing in the real window: drop a file, choose by clicks, undo by keys."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_vqseg.panels import annotate
from napari_vqseg.widget import VQSegWidget
from vqseg.io import read_volume, write_segmentation

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)


def drop(widget, path):
    """A file manager's drag onto a widget, as Qt delivers it."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    enter = QDragEnterEvent(QPoint(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
                            Qt.KeyboardModifier.NoModifier)  # fmt: skip
    QApplication.sendEvent(widget, enter)
    assert enter.isAccepted()
    place = QPointF(5, 5)
    QApplication.sendEvent(widget, QDropEvent(place, Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
                                              Qt.KeyboardModifier.NoModifier))  # fmt: skip


def test_drop_choose_import_undo(make_napari_viewer, make_ct, qtbot, tmp_path, monkeypatch):
    viewer = make_napari_viewer()
    widget = VQSegWidget(viewer, fakes.FakeWorker)
    viewer.window.add_dock_widget(widget, name="VQ-Seg")
    session, panel = widget.session, widget.panel("Annotate")
    ct = make_ct(tmp_path / "ct")
    labels = np.zeros((10, 12, 16), np.uint8)
    labels[2:6, 2:8, 2:8] = 1
    labels[3:5, 4:6, 4:6] = 2
    write_segmentation(tmp_path / "seg.dcm", labels, read_volume(ct), {1: "lung", 2: "tumour"})
    drop(widget, ct)
    qtbot.waitUntil(lambda: session.is_open, timeout=30000)

    for paths in ([ct], [tmp_path / "seg.dcm", tmp_path / "seg.dcm"]):  # volumes, for the window around the section
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        enter = QDragEnterEvent(QPoint(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
                                Qt.KeyboardModifier.NoModifier)  # fmt: skip
        enter.accept()
        panel.dragEnterEvent(enter)
        assert not enter.isAccepted()
    drop(widget, tmp_path / "seg.dcm")  # anywhere: a segmentation is no image
    qtbot.waitUntil(lambda: hasattr(panel, "dialog"), timeout=30000)
    dialog = panel.dialog
    assert [dialog.structures.item(n).text() for n in range(2)] == ["lung", "tumour"]
    assert "4 slices with a label" in dialog.labelled.text()
    assert dialog.all.isChecked()
    dialog.all.click()
    assert not dialog.take.isEnabled()
    dialog.structures.item(1).setCheckState(Qt.CheckState.Checked)
    assert "2 slices with a label" in dialog.labelled.text()
    assert not dialog.all.isChecked()
    dialog.all.click()
    assert "4 slices with a label" in dialog.labelled.text()
    dialog.structures.item(0).setCheckState(Qt.CheckState.Unchecked)
    dialog.structures.item(1).setText("nodule")
    dialog.last.setValue(6)
    assert dialog.range.isChecked()
    QTest.mouseClick(dialog.take, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(session.annotations.records), timeout=30000)
    assert session.annotations.complete == [2, 3, 4, 5, 6]
    assert session.annotations.empty_complete == [2, 5, 6]
    layer = viewer.layers["annotation"]
    np.testing.assert_array_equal(layer.data == 2, labels == 2)
    assert session.classes.names == {1: "tumour", 2: "nodule"}
    viewer.layers.selection.active = layer
    handler = viewer.window._qt_viewer._key_map_handler
    handler.press_key("Control-Z")
    assert not session.annotations.records and not layer.data.any()

    monkeypatch.setattr(annotate.QFileDialog, "getOpenFileName", lambda *a, **k: (str(tmp_path / "seg.dcm"), ""))
    del panel.dialog
    QTest.mouseClick(panel.load, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: hasattr(panel, "dialog"), timeout=30000)
    panel.dialog.reject()
    assert not session.annotations.records
    widget.release()
