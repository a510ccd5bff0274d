"""The section Annotate in the real window: threshold brush, bucket, filling between, copying, the strip, undo.

One person does it all with a real engine, which learns from a correction while it trains; the others' engine is a fake.
"""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_vqseg.session import TrainingState
from napari_vqseg.widget import VQSegWidget
from napari_vqseg.worker import EngineWorker
from vqseg import protocol
from vqseg.annotations import Origin, SliceState
from vqseg.io import write_map

for name in ("fakes", "canvas"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
import canvas  # noqa: E402
import fakes  # noqa: E402

BLOCK = (slice(8, 20), slice(6, 18))
"""Where the volume is bright, (y, x), in slices 2 to 9."""


WAIT_MS = 300_000
QUICK = {"time_budget_s": 5.0, "size": 48, "patch": 48, "codebook_size": 64, "device": "cpu"}


@pytest.fixture
def window(make_napari_viewer, qtbot, tmp_path, request):
    hu = np.full(fakes.SHAPE, -800, np.int16)
    hu[2:10, BLOCK[0], BLOCK[1]] = 40
    volume = replace(fakes.make_volume(), array=hu)
    write_map(tmp_path / "ct.nii.gz", volume.array, volume)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    widget = VQSegWidget(viewer, getattr(request, "param", fakes.FakeWorker))
    viewer.window.add_dock_widget(widget, name="VQ-Seg", area="right")
    widget.panel("Data").open(tmp_path / "ct.nii.gz")
    qtbot.waitUntil(lambda: widget.session.is_open, timeout=60000)
    qtbot.wait(200)
    yield widget, viewer
    widget.release()


def click(button):
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def undo(viewer):
    canvas.press(viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("window", [EngineWorker], indirect=True, ids=["real engine"])
def test_a_person_annotates(window, qtbot):
    widget, viewer = window
    panel, session, layer = widget.panel("Annotate"), widget.session, viewer.layers["annotation"]
    labels, annotations = session.annotations.labels, session.annotations
    outside = np.ones(labels.shape[1:], bool)
    outside[BLOCK] = False

    # The threshold brush paints across the border of the bright block, and stays inside of it.
    session.go_to(3)
    canvas.press(viewer, Qt.Key.Key_1)
    assert panel.tools.buttons["paint"].isChecked()
    canvas.press(viewer, Qt.Key.Key_R)
    assert panel.tools.ranged.isChecked()
    panel.tools.range.setValue((0, 100))
    canvas.drag(viewer, layer, (3, 9, 2), (3, 9, 22))
    assert labels[3].any()
    assert not labels[3][outside].any()
    assert annotations.state(3) is SliceState.DRAFT

    # The bucket fills the rest of the block; out of the range it says why it does nothing.
    canvas.press(viewer, Qt.Key.Key_B)
    assert panel.tools.buttons["fill"].isChecked()
    canvas.drag(viewer, layer, (3, 2, 2), (3, 2, 2))
    assert "widen the range" in widget.messages.words.text()
    canvas.drag(viewer, layer, (3, 15, 12), (3, 15, 12))
    assert (labels[3] == 1).sum() == 12 * 12
    canvas.press(viewer, Qt.Key.Key_C)
    session.go_to(9)
    canvas.drag(viewer, layer, (9, 15, 12), (9, 15, 12))
    canvas.press(viewer, Qt.Key.Key_C)
    session.go_to(11)
    canvas.press(viewer, Qt.Key.Key_C)
    assert annotations.complete == [3, 9, 11]
    assert annotations.empty_complete == [11]

    # Undo goes back over slices to where the last stroke was.
    undo(viewer)
    assert session.z == 9
    assert not labels[9].any()
    canvas.press(viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert (labels[9] == 1).sum() == 12 * 12

    # Fill between shows the shape first, then, though nothing is trained yet, the one that follows the anatomy.
    session.go_to(1)
    canvas.press(viewer, Qt.Key.Key_F)
    assert "does not lie between" in widget.messages.words.text()
    session.go_to(6)
    assert not widget.messages.isVisible(), "that was about another slice"
    viewer.window.resize(1280, 600)
    widget.scroll_area.verticalScrollBar().setValue(0)
    canvas.press(viewer, Qt.Key.Key_F)
    qtbot.waitUntil(lambda: bool(session.filling.proposals), timeout=20000)
    assert viewer.layers["fill between"].visible
    qtbot.waitUntil(lambda: widget.scroll_area.verticalScrollBar().value() > 0, timeout=5000)
    assert not panel.accept_all.visibleRegion().isEmpty(), "what was asked for comes into sight"
    assert "between slices 3 and 9" in panel.proposed.text()
    assert annotations.complete == [3, 9, 11]
    widget.scroll_area.verticalScrollBar().setValue(0)
    qtbot.waitUntil(lambda: "following the anatomy" in panel.proposed.text(), timeout=WAIT_MS)
    qtbot.wait(300)
    assert widget.scroll_area.verticalScrollBar().value() == 0, "a late answer leaves the sections where they are"
    viewer.window.resize(1280, 800)
    assert session.filling.left == [4, 5, 6, 7, 8]
    shown = np.asarray(viewer.layers["fill between"].data)
    assert (shown[4:9, BLOCK[0], BLOCK[1]] == 1).all()
    assert not shown[4:9, outside].any()
    assert panel.proposed.height() >= panel.proposed.heightForWidth(panel.proposed.width())

    # Esc takes it away, A takes one slice over, Shift+A the others.
    canvas.press(viewer, Qt.Key.Key_Escape)
    assert not session.filling.proposals
    assert not viewer.layers["fill between"].visible
    canvas.press(viewer, Qt.Key.Key_F)
    qtbot.waitUntil(lambda: bool(session.filling.proposals), timeout=20000)
    canvas.press(viewer, Qt.Key.Key_A)
    assert annotations.records[6].origin is Origin.ACCEPTED
    assert (labels[6][BLOCK] == 1).all()
    canvas.press(viewer, Qt.Key.Key_A, Qt.KeyboardModifier.ShiftModifier)
    assert annotations.complete == [3, 4, 5, 6, 7, 8, 9, 11]
    assert not panel.proposal.isVisible()
    undo(viewer)
    assert annotations.complete == [3, 6, 9, 11], "what Shift+A took over is one step"
    assert not labels[4].any()

    # Every gap at once: one press shows them all, one accepts, one takes them back.
    canvas.press(viewer, Qt.Key.Key_F, Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: bool(session.filling.proposals), timeout=20000)
    assert session.filling.left == [4, 5, 7, 8, 10]
    assert "in 3 gaps, from slice 3 to 11" in panel.proposed.text()
    canvas.press(viewer, Qt.Key.Key_Escape)
    click(panel.between_all)
    qtbot.waitUntil(lambda: bool(session.filling.proposals), timeout=20000)
    assert viewer.layers["fill between"].visible
    click(panel.accept_all)
    assert annotations.complete == [*range(3, 12)]
    undo(viewer)
    assert annotations.complete == [3, 6, 9, 11]
    assert not labels[[4, 5, 7, 8, 10]].any()

    # The strip says what is what, by colour and shape and in numbers, and jumps.
    assert panel.strip.marks == {3: "complete", 6: "accepted", 9: "complete", 11: "empty"}
    for words in ("2&nbsp;complete", "1&nbsp;accepted", "1&nbsp;empty, complete"):
        assert words in panel.counts.text()
    place = QPoint(round(panel.strip.x_of(9)), panel.strip.height() // 2)
    QTest.mouseClick(panel.strip, Qt.MouseButton.LeftButton, pos=place)
    assert session.z == 9

    # Copying takes the nearest complete slice; a brush without the range paints anywhere.
    session.go_to(8)
    click(panel.copy)
    assert np.array_equal(labels[8], labels[9])
    assert annotations.state(8) is SliceState.DRAFT
    canvas.press(viewer, Qt.Key.Key_R)
    click(panel.tools.buttons["paint"])
    before = layer.brush_size
    canvas.press(viewer, Qt.Key.Key_BracketRight)
    assert layer.brush_size > before
    assert panel.tools.brush.value() == pytest.approx(layer.brush_size * 0.8)
    canvas.drag(viewer, layer, (8, 26, 5), (8, 26, 10))
    assert labels[8][outside].any()
    assert widget.sections["Annotate"][0].minimumSizeHint().width() <= widget.scroll_area.viewport().width()

    # What is corrected while a real engine trains shapes what it predicts in the end, without a restart.
    for name, value in QUICK.items():
        session.settings.update(name, value)
    click(widget.panel("Train").start)
    qtbot.waitUntil(lambda: session.training.state is TrainingState.RUNNING, timeout=WAIT_MS)
    undo(viewer)
    assert not labels[8][outside].any()
    canvas.press(viewer, Qt.Key.Key_C)
    assert annotations.complete == [3, 6, 8, 9, 11]
    qtbot.waitUntil(lambda: session.training.is_idle and session.reviewing.prediction is not None, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.reviewing.learnt == {3, 6, 8, 9, 11}, timeout=WAIT_MS)
    session.go_to(5)
    canvas.press(viewer, Qt.Key.Key_A)
    assert panel.strip.marks[5] in ("accepted", "accepted empty")
    assert np.array_equal(labels[5], session.reviewing.prediction[5])


def test_components_accepted_one_after_the_other_complete_their_slices(window, qtbot, tmp_path):
    widget, viewer = window
    session, annotations = widget.session, widget.session.annotations
    labels = np.zeros(fakes.SHAPE, np.uint8)
    labels[3:6, 8:14, 6:12] = 1
    labels[5:8, 22:26, 14:20] = 1
    np.save(tmp_path / "labels.npy", labels)
    session.engine.send(protocol.LoadCheckpoint("x"))
    path = str(tmp_path / "labels.npy")
    session.engine.worker.message.emit(protocol.PredictionReady(None, session.case.case.id, 3, path, path))
    qtbot.waitUntil(lambda: session.reviewing.prediction is not None, timeout=5000)

    def accept_component_at(z, y, x):
        session.go_to(z)
        QTest.mouseMove(canvas.native(viewer), canvas.point(viewer, viewer.layers["annotation"], (z, y, x)))
        QApplication.processEvents()
        before = dict(annotations.records)
        canvas.press(viewer, Qt.Key.Key_A, Qt.KeyboardModifier.ShiftModifier)
        qtbot.waitUntil(lambda: annotations.records != before, timeout=20000)

    marks = widget.panel("Annotate").strip
    accept_component_at(4, 10, 8)
    assert marks.marks == {3: "accepted", 4: "accepted", 5: "scribbled"}
    accept_component_at(6, 24, 16)
    assert marks.marks == dict.fromkeys(range(3, 8), "accepted")
    assert np.array_equal(annotations.labels, labels)
    undo(viewer)
    assert marks.marks == {3: "accepted", 4: "accepted", 5: "scribbled"}


def test_painting_on_another_layer_is_said_once_and_a_class_leads_back(window):
    widget, viewer = window
    session, heard = widget.session, []
    session.notified.connect(lambda text, level: heard.append((level, text)))
    session.go_to(5)
    viewer.window._qt_viewer.viewerButtons  # noqa: B018 - builds napari's own buttons
    QTest.mouseClick(viewer.window._qt_viewer.layerButtons.newLabelsButton, Qt.MouseButton.LeftButton)
    other = viewer.layers.selection.active
    assert other is not viewer.layers["annotation"]
    other.mode = "paint"
    for _ in range(2):
        canvas.drag(viewer, viewer.layers["annotation"], (5, 8, 8), (5, 8, 16))
    assert np.asarray(other.data).any()
    assert not session.annotations.labels.any()
    assert [level for level, text in heard if "is not the annotation" in text] == ["warning"]
    tree = widget.panel("Classes").tree
    QTest.mouseClick(tree.viewport(), Qt.MouseButton.LeftButton, pos=tree.visualItemRect(tree.topLevelItem(0)).center())
    canvas.drag(viewer, viewer.layers["annotation"], (5, 8, 8), (5, 8, 16))
    assert session.annotations.labels[5].any()
    assert len(heard) == 1


def test_in_another_plane_strokes_are_undone_in_sight_and_no_slice_is_changed_unseen(window, qtbot):
    widget, viewer = window
    session, annotations, layer = widget.session, widget.session.annotations, viewer.layers["annotation"]
    axial, coronal, sagittal = widget.bar.planes.buttons()
    session.go_to(3)
    canvas.press(viewer, Qt.Key.Key_1)
    canvas.drag(viewer, layer, (3, 9, 8), (3, 9, 14))

    # A stroke in the coronal plane makes drafts; undo takes it back there, and from elsewhere goes to it.
    click(coronal)
    canvas.drag(viewer, layer, (6, 15, 8), (8, 15, 14))
    drafts = annotations.draft
    assert set(drafts) > {3, 6, 8}
    undo(viewer)
    assert annotations.draft == [3]
    assert coronal.isChecked()
    viewer.dims.set_current_step(1, 25)
    undo(viewer)
    assert annotations.draft == []
    assert coronal.isChecked()
    assert abs(viewer.dims.current_step[1] - 9) <= 7, "where the stroke of slice 3 is cut"
    canvas.press(viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert annotations.draft == [3]

    # C turns to the slice first and says so; once more completes it. So do the buttons.
    canvas.press(viewer, Qt.Key.Key_C)
    assert axial.isChecked()
    assert annotations.complete == []
    assert "Here is slice 3" in widget.messages.words.text()
    canvas.press(viewer, Qt.Key.Key_C)
    assert annotations.complete == [3]
    click(sagittal)
    for made in (widget.panel("Annotate").clear, widget.panel("Annotate").copy):
        click(made)
        assert axial.isChecked()
        assert labels_of(annotations) == [3]
        click(sagittal)

    # The strip, and what else leads to a slice, show it. A hint goes with its slice; a warning stays until read.
    strip = widget.panel("Annotate").strip
    QTest.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(round(strip.x_of(8)), strip.height() // 2))
    assert session.z == 8
    assert axial.isChecked()
    click(coronal)
    canvas.press(viewer, Qt.Key.Key_C)
    assert widget.messages.isVisible()
    session.go_to(2)
    assert not widget.messages.isVisible()
    session.notified.emit("A first warning.", "warning")
    session.notified.emit("Another one, " + 12 * "which is long, " + "and ends.", "warning")
    words = widget.messages.words
    assert words.text().endswith("and ends.")
    qtbot.waitUntil(lambda: words.height() >= words.heightForWidth(words.width()), timeout=5000)
    click(widget.messages.read)
    assert widget.messages.words.text().endswith("A first warning.")
    click(widget.messages.read)
    assert not widget.messages.isVisible()


def labels_of(annotations):
    return np.flatnonzero(annotations.labels.any(axis=(1, 2))).tolist()


def test_the_polygon_tool_draws_where_it_is_clicked(window):
    """What napari draws beside labels is made with the tool that needs it, at the place of the labels."""
    _, viewer = window
    ours, plain = viewer.layers["annotation"], viewer.add_labels(np.zeros(fakes.SHAPE, np.uint8), scale=(3.0, 0.8, 0.8))
    shown = viewer.window._qt_viewer.canvas._layer_overlay_to_visual
    assert [ours._overlays["polygon"] in shown[ours], plain._overlays["polygon"] in shown[plain]] == [False, True]
    viewer.layers.remove(plain)
    viewer.layers.selection.active = ours
    z = viewer.dims.current_step[0]
    ours.mode, ours.selected_label = "polygon", 1
    place = shown[ours][ours._overlays["polygon"]].node.transform.matrix
    np.testing.assert_allclose(place[3, :2], (0.5, 0.5))  # as of every layer's children: pixels lie on their centres
    corners = [(z, 6, 6), (z, 6, 14), (z, 14, 14), (z, 14, 6)]
    for corner in corners:
        QTest.mouseClick(canvas.native(viewer), Qt.MouseButton.LeftButton, pos=canvas.point(viewer, ours, corner))
        QApplication.processEvents()
    assert len(ours._overlays["polygon"].points) == len(corners) + 1  # and the mouse
    QTest.mouseDClick(canvas.native(viewer), Qt.MouseButton.LeftButton, pos=canvas.point(viewer, ours, corners[-1]))
    QApplication.processEvents()
    assert ours.data[z, 8:13, 8:13].all()
    assert not ours.data[z, :5].any()
    ours.mode = "pan_zoom"
    assert not shown[ours][ours._overlays["polygon"]].node.visible
