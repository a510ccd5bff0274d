"""The window with a pretended engine: sections appear when they are of use, both arrows, keys, and a clean end."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QMessageBox,
    QScrollBar,
    QSlider,
    QTabBar,
    QTableWidget,
    QWidget,
)

from napari_vqseg.panels.parts import Section
from napari_vqseg.panels.plots import Chart
from napari_vqseg.panels.strip import MARKS, SliceStrip
from napari_vqseg.session import TrainingState
from napari_vqseg.widget import VQSegWidget
from vqseg import protocol
from vqseg.annotations import SliceState
from vqseg.io import read_labels, write_map
from vqseg.quality import SliceScore
from vqseg.run import Run, RunState

for name in ("fakes", "canvas"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
import canvas  # noqa: E402
import fakes  # noqa: E402


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "ct.nii.gz"
    write_map(path, fakes.make_volume().array, fakes.make_volume())
    return path


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def window(viewer, qtbot, image):
    widget = VQSegWidget(PublicOnlyProxy(viewer), fakes.FakeWorker)  # as napari hands its viewer to a plugin
    viewer.window.add_dock_widget(widget, name="VQ-Seg")
    offers = widget.session.view.image
    widget.offers_while_opening = []
    offers.offer_changed.connect(lambda: widget.offers_while_opening.append(offers.offered))
    widget.session.open_volume(image)
    qtbot.waitUntil(lambda: widget.session.is_open, timeout=20000)
    yield widget
    widget.release()


def shown(widget):
    return [title for title, (section, _) in widget.sections.items() if not section.isHidden()]


def press(viewer, key):
    """A key press as the canvas hands it on: the selected layer first, then the viewer."""
    handler = viewer.window._qt_viewer._key_map_handler
    handler.press_key(key)
    handler.release_key(key)


def predict(widget, tmp_path, qtbot, slices=slice(None), step=3):
    """Let slices be predicted, and the engine be half sure of all of them."""
    session = widget.session
    session.engine.send(protocol.LoadCheckpoint("x"))
    labels, path, sure = np.zeros(session.volume.shape, np.uint8), str(tmp_path / f"l{step}.npy"), tmp_path / "c.npy"
    labels[slices] = 1
    np.save(path, labels)
    np.save(sure, np.full(len(labels), 0.5, np.float32))
    session.engine.worker.message.emit(
        protocol.PredictionReady(None, session.case.case.id, step, path, path, confidence_path=str(sure))
    )
    qtbot.waitUntil(lambda: session.reviewing.prediction_step == step, timeout=5000)


def test_sections_show_what_can_be_done(viewer, qtbot, image, tmp_path):
    widget = VQSegWidget(viewer, fakes.FakeWorker)
    viewer.window.add_dock_widget(widget, name="VQ-Seg")
    session = widget.session
    assert shown(widget) == ["Data"]
    widget.panel("Data").open(image)
    qtbot.waitUntil(lambda: session.is_open, timeout=20000)
    assert shown(widget) == ["Data", "Classes", "Annotate"]
    viewer.layers["annotation"].paint((4, 10, 10), 1)
    assert shown(widget) == ["Data", "Classes", "Annotate", "Export"]
    session.annotating.mark(SliceState.COMPLETE, 4)
    assert shown(widget) == ["Data", "Classes", "Annotate", "Train", "Export"]
    predict(widget, tmp_path, qtbot)
    everything = ["Data", "Classes", "Annotate", "Train", "Quality", "Review", "Codebook", "Export"]
    qtbot.waitUntil(lambda: shown(widget) == everything, timeout=2000)
    widget.release()


def test_keys_on_the_canvas(window, viewer, qtbot, tmp_path):
    session = window.session
    session.classes.add("vessel")
    layer = viewer.layers["annotation"]
    session.go_to(4)
    press(viewer, "1")
    assert layer.selected_label == 1
    assert layer.mode == "paint"
    press(viewer, "2")
    assert layer.selected_label == 2
    press(viewer, "0")
    assert layer.selected_label == 255
    press(viewer, "C")
    assert session.annotations.empty_complete == [4]
    press(viewer, "C")
    assert session.annotations.state(4) is SliceState.DRAFT
    size = layer.brush_size
    press(viewer, "]")
    assert layer.brush_size > size
    press(viewer, "[")
    assert layer.brush_size == size
    press(viewer, "N")
    assert session.z != 4
    predict(window, tmp_path, qtbot)
    press(viewer, "G")
    assert not viewer.layers["prediction"].visible
    viewer.layers.selection.active = viewer.layers["ct"]  # keys of the viewer work with other layers selected
    press(viewer, "A")
    assert session.annotations.complete == [session.z]
    press(viewer, "H")
    assert window._card.isVisible()
    QTest.keyClick(window._card, Qt.Key.Key_H)
    assert not window._card.isVisible()


def test_keys_in_the_dock(window, qtbot):
    window.session.go_to(5)
    QTest.keyClick(window, Qt.Key.Key_C)
    assert window.session.annotations.complete == [5]


def test_an_interrupted_training_goes_on_or_is_begun_anew(window, qtbot):
    panel, session = window.panel("Train"), window.session
    session.annotating.mark(SliceState.COMPLETE, 3)
    assert panel.anew.isHidden()
    QTest.mouseClick(panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: session.engine.worker is not None and len(session.engine.worker.sent) == 2, timeout=20000)
    worker, [run] = session.engine.worker, session.case.project.runs
    run.set_state(RunState.RUNNING)  # as the engine does, which leaves a checkpoint now and then
    run.checkpoint_path.mkdir()
    (run.checkpoint_path / "checkpoint.json").write_text("{}")
    worker.message.emit(protocol.Progress(9, 0.1, 50.0))
    worker.crashed.emit("The engine ended unexpectedly.")
    assert panel.start.text() == "Resume (⇧T)"
    assert not panel.anew.isHidden()
    panel.budget.setValue(30)
    QTest.mouseClick(panel.anew, Qt.MouseButton.LeftButton)
    started = protocol.StartTraining(str(run.path))
    qtbot.waitUntil(
        lambda: isinstance(worker.sent[-1], protocol.StartTraining) and worker.sent[-1] != started, timeout=20000
    )
    began = worker.sent[-1]
    assert not began.resume
    assert began.run_path != str(run.path)
    assert Run(began.run_path).config.train.time_budget_s == 30, "with the settings above"
    assert run.has_checkpoint, "the interrupted training stays on disk"
    assert panel.anew.isHidden()


def test_both_arrows_of_the_brush(window, viewer):
    panel = window.panel("Annotate")
    panel.tools.brush.setValue(16.8)
    assert viewer.layers["annotation"].brush_size == 21
    viewer.layers["annotation"].brush_size = 9
    assert panel.tools.brush.value() == pytest.approx(7.2)
    main = viewer.window._qt_window
    panel.tools.brush.setFocus()
    assert main.focusWidget() is panel.tools.brush
    panel.tools.brush.selectAll()
    QTest.keyClicks(panel.tools.brush, "25")
    QTest.keyClick(panel.tools.brush, Qt.Key.Key_Return)
    assert main.focusWidget() is not panel.tools.brush, "the next digit takes a class in hand"
    assert viewer.layers["annotation"].brush_size == 31, "what is typed is taken as a whole"
    QTest.mouseClick(panel.tools.buttons["paint"], Qt.MouseButton.LeftButton)
    assert main.focusWidget() is not window.scroll_area, "the arrows go on through the slices"
    panel.tools.brush.stepUp()
    assert viewer.layers["annotation"].brush_size == 33, "a step is never too small for the voxels"


def test_the_wheel_over_the_image_goes_through_the_slices_and_zooms_with_shift(window, viewer):
    session, native = window.session, canvas.native(viewer)
    session.go_to(5)
    zoom = viewer.camera.zoom
    canvas.turn_wheel(native, 120)
    assert (session.z, viewer.camera.zoom) == (6, zoom), "away from the hand goes to the head"
    for _ in range(4):
        canvas.turn_wheel(native, -30)  # a touchpad
    assert session.z == 5
    session.view.navigation.show_plane("coronal")
    y = viewer.dims.current_step[1]
    canvas.turn_wheel(native, -120)
    assert (session.z, viewer.dims.current_step[1]) == (5, y - 1)
    session.view.navigation.show_plane("axial")
    layer, corner = viewer.layers["annotation"], canvas.point(viewer, viewer.layers["annotation"], (5, 30, 30))
    canvas.turn_wheel(native, 120, Qt.KeyboardModifier.ShiftModifier, corner)
    assert viewer.camera.zoom > zoom
    assert session.z == 5
    moved = canvas.point(viewer, layer, (5, 30, 30)) - corner
    assert max(abs(moved.x()), abs(moved.y())) <= 1, "what lies under the mouse stays there"
    viewer.layers.selection.active = viewer.add_image(np.zeros((12, 40, 40)), name="theirs")
    canvas.turn_wheel(native, 120)
    assert session.z == 5, "over other layers the wheel is napari's"


def test_the_wheel_over_the_sections_changes_no_value(window):
    train, review = window.panel("Train"), window.panel("Review")

    def values():
        return train.budget.value(), train.preset.currentText(), train.form.values, review.epsilon.value()

    before = values()
    for kind in (QAbstractSpinBox, QComboBox, QSlider):
        for widget in window.scroll_area.findChildren(kind):
            assert not canvas.turn_wheel(widget, -120), f"{widget.toolTip()} keeps the sections from scrolling"
    assert values() == before


def test_the_strip_jumps_and_marks(window, qtbot):
    panel, session = window.panel("Annotate"), window.session
    panel.strip.resize(300, 34)
    session.annotating.mark(SliceState.COMPLETE, 2)
    session.annotating.mark(SliceState.SCRIBBLED, 7)
    assert panel.strip.marks == {2: "empty", 7: "scribbled"}
    place = panel.strip.rect().center()
    QTest.mouseClick(panel.strip, Qt.MouseButton.LeftButton, pos=place)
    assert session.z == panel.strip.z_at(place.x()) > 0
    panel.strip.grab()


def test_the_strip_shows_what_hundreds_of_slices_are(qtbot):
    strip = SliceStrip(lambda z: None)
    qtbot.addWidget(strip)
    strip.resize(360, 34)
    strip.show_slices(600, dict.fromkeys(range(100, 500), "complete") | dict.fromkeys(range(500, 600), "accepted"), ())
    strip.show_z(0)
    picture = strip.grab().toImage()
    colours = [picture.pixelColor(x, 17).name().upper() for x in range(360)]
    share = {kind: colours.count(MARKS[kind].colour.upper()) / 360 for kind in ("complete", "accepted")}
    assert share["complete"] == pytest.approx(400 / 600, abs=0.08)
    assert share["accepted"] == pytest.approx(100 / 600, abs=0.08)
    for background in ("#262930", "#efebe9"):
        strip.setStyleSheet(f"background: {background}")
        strip.show_slices(11, {5: "draft"}, ())
        picture = strip.grab().toImage()
        assert picture.pixelColor(180, 17).name() == background, "hollow in every theme"


def test_settings_both_ways(window):
    panel, session = window.panel("Train"), window.session
    panel.form.widgets["code_dim"].value = 8
    assert session.settings.config.model.code_dim == 8
    panel.preset.setCurrentText("balanced")
    assert session.settings.config.preset == "balanced"
    assert panel.budget.value() == 600
    assert panel.form.values["codebook_size"] == 4096
    panel.budget.setValue(30)
    assert session.settings.config.train.time_budget_s == 30
    session.windowing.choose("lung")
    assert panel.form.values["window_level_hu"] == -500


def test_training_buttons_and_the_task_of_napari(window, viewer, qtbot):
    panel, session = window.panel("Train"), window.session
    tasks = viewer.window._task_status_manager
    assert panel.foot.isHidden()
    session.annotating.mark(SliceState.COMPLETE, 3)
    assert not panel.foot.isHidden()
    assert not window.scroll_area.isAncestorOf(panel.foot), "it never scrolls out of sight"
    QTest.mouseClick(panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: session.engine.worker is not None and len(session.engine.worker.sent) == 2, timeout=20000)
    assert tasks.is_busy()
    worker = session.engine.worker
    for step in range(1, 5):
        losses = {"total": 1 / step, "unlabelled": 0.1}
        worker.message.emit(protocol.Progress(step, step / 10, 65.0, losses, 0.5, 0.9, perplexity=256.0))
        session.quality.curve.put(SliceScore(6, 3, 10, {1: (80, 100, 100)}, {1: 2.5}))
    qtbot.waitUntil(lambda: "40 %, 1:05 left" in panel.bar.format(), timeout=2000)
    assert len(panel.plot.points["labelled"]) == 4
    assert panel.shares.points == {
        "confident": [(step, 50.0) for step in range(1, 5)],
        "codebook used": [(step, 90.0) for step in range(1, 5)],
        "perplexity": [(step, 25.0) for step in range(1, 5)],
        "Dice": [(step, 80.0) for step in range(2, 5)],
    }
    forms = {curve.line.style for name, curve in panel.shares.curves.items() if name != "Dice"}
    assert len(forms) == 3, "told apart without colours"
    assert "perplexity 256" in panel.facts.text()
    assert panel.shares.limits == ((0.0, 0.0), (4, 100.0))
    assert panel.shares.isVisibleTo(panel)
    assert not panel.form.widgets["code_dim"].enabled
    assert panel.form.widgets["epsilon"].enabled
    sent = len(worker.sent)
    panel.budget.selectAll()
    QTest.keyClicks(panel.budget, "9")
    assert not session.training._timer.waiting, "9 s would end the training of somebody about to type 90"
    QTest.keyClicks(panel.budget, "0")
    QTest.keyClick(panel.budget, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: len(worker.sent) > sent, timeout=5000)
    assert worker.sent[sent:] == [protocol.UpdateSettings({"time_budget_s": 90.0})]
    press(viewer, "Shift-T")
    assert session.training.state is TrainingState.PAUSED
    QTest.keyClick(window, Qt.Key.Key_T, Qt.KeyboardModifier.ShiftModifier)
    assert session.training.state is TrainingState.RUNNING
    worker.message.emit(protocol.Progress(5, 0.99, 1.0, {"total": 0.2}, predicting=True))
    qtbot.waitUntil(lambda: "predicting" in panel.bar.format(), timeout=2000)
    panel.stop.click()
    worker.message.emit(protocol.TrainingEnded("stopped", 4, ""))
    assert not tasks.is_busy()
    assert "Training stopped after 4 steps." in window.messages.words.text()
    assert panel.start.isEnabled()
    QTest.mouseClick(panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(tasks.is_busy, timeout=20000)
    assert window.messages.isHidden(), "how the training before ended is old news"
    tasks.cancel_all()  # as the closing window does
    assert session.training.state is TrainingState.STOPPING
    assert not tasks.is_busy()


def test_nothing_is_cut_off_in_any_unfolded_section(make_napari_viewer, image, tmp_path, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    widget = VQSegWidget(viewer, fakes.FakeWorker)
    viewer.window.add_dock_widget(widget, name="VQ-Seg", area="right")
    session = widget.session
    session.open_volume(image)
    qtbot.waitUntil(lambda: session.is_open, timeout=60000)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.classes.rename(1, "lymph nodes of the upper mediastinum")
    predict(widget, tmp_path, qtbot)
    score = {1: (80, 100, 100)}
    session.quality.curve.put(SliceScore(6, 3, 10, score, {1: 2.5}))
    session.quality.changed.emit()
    train = widget.panel("Train")
    train.note_progress(protocol.Progress(3, 0.4, 8.0, {"total": 0.5}, confident_share=0.3, utilisation=0.5))
    room = widget.scroll_area.viewport().width()
    inputs = (QAbstractButton, QAbstractSpinBox, QAbstractSlider, QComboBox)
    for title, (section, _) in widget.sections.items():
        for each in (section, *section.findChildren(Section)):
            each.expand()
        QApplication.processEvents()
        assert section.minimumSizeHint().width() <= room, title
        for child in section.findChildren(QWidget):
            if not child.isVisibleTo(section):
                continue
            if isinstance(child, QAbstractButton) and child.text():
                assert child.width() >= child.minimumSizeHint().width(), (title, child.text())
            if isinstance(child, Chart):
                assert child.label_width <= child.width(), title
            if isinstance(child, QAbstractSpinBox):
                line, text = child.findChild(QLineEdit), child.text()
                margins_px = 6  # of the line that Qt edits in
                assert line.width() >= line.fontMetrics().horizontalAdvance(text) + margins_px, (title, text)
            if isinstance(child, inputs) and not isinstance(child, QScrollBar):
                assert child.toolTip() or child.parentWidget().toolTip(), (title, child)
    labels = [label for label in train.form.native.findChildren(QLabel) if label.toolTip()]
    assert len({widget.native.x() for widget in train.form.widgets.values()}) == 1, "the inputs form a column"
    assert all(label.width() >= label.sizeHint().width() for label in labels)
    widget.release()


def test_review_and_codebook(window, viewer, tmp_path, qtbot):
    predict(window, tmp_path, qtbot)
    panel, session = window.panel("Review"), window.session
    viewer.layers["prediction"].visible = False
    assert not panel.visible.isChecked()
    panel.epsilon.setValue(10)
    sent = session.engine.worker.sent  # suggestions are asked for soon after a prediction, sooner or later than this
    qtbot.waitUntil(lambda: any(isinstance(message, protocol.RequestPreview) for message in sent), timeout=5000)
    assert session.engine.worker.last(protocol.RequestPreview).epsilon == 0.5
    session.codebook.measure()
    request = session.engine.worker.last(protocol.RequestCodebook)
    fakes.make_survey(session.volume.shape).save(tmp_path / "c.npz")
    answer = protocol.CodebookReady(request.request_id, request.case_id, 7, str(tmp_path / "c.npz"))
    session.engine.worker.message.emit(answer)
    qtbot.waitUntil(lambda: session.codebook.survey is not None, timeout=5000)
    assert "75.0 %" in window.panel("Codebook").facts.text()
    assert "1 dead" in window.panel("Codebook").facts.text()
    panel = window.panel("Codebook")
    panel.tabs.setCurrentIndex(2)
    panel.note_progress(protocol.Progress(30, 0.5, 9.0, utilisation=1.0, perplexity=3.0, revived=1, drift=0.0))
    panel.show_history()
    last = {name: curve.points[-1].tolist() for name, curve in panel.history.curves.items()}
    assert last == {"revived": [30, 0.25], "utilisation": [30, 1], "perplexity": [30, 0.75], "drift": [30, 0]}
    assert panel.history.curves["drift"].points[-2:].tolist() == [[20, 0.125], [30, 0]]
    assert "another code than 50 steps before" in panel.legend.text()


def test_the_range_to_accept_follows_the_prediction_until_another_is_typed(window, tmp_path, qtbot):
    panel = window.panel("Review")

    def offered():
        return panel.first.value(), panel.last.value()

    predict(window, tmp_path, qtbot, slice(2, 5), step=3)
    qtbot.waitUntil(lambda: offered() == (2, 4), timeout=2000)
    predict(window, tmp_path, qtbot, slice(1, 9), step=4)
    qtbot.waitUntil(lambda: offered() == (1, 8), timeout=2000)
    panel.last.setValue(6)
    predict(window, tmp_path, qtbot, slice(0, 12), step=5)
    qtbot.wait(300)
    assert offered() == (1, 6)


def test_where_nothing_is_predicted_nothing_is_offered_or_drawn(window, tmp_path, qtbot):
    panel, session = window.panel("Review"), window.session

    def drawn():
        confidence = panel.plot.values["confidence"]
        return [] if confidence is None else np.flatnonzero(np.isfinite(confidence)).tolist()

    assert not panel.accept.isEnabled()
    assert "nothing to accept yet" in panel.accept.toolTip()
    session.go_to(3)
    predict(window, tmp_path, qtbot, slice(2, 5))
    qtbot.waitUntil(panel.accept.isEnabled, timeout=2000)
    assert panel.accept.text() == "Accept (A)"
    qtbot.waitUntil(lambda: drawn() == [2, 3, 4], timeout=5000)
    session.annotating.mark(SliceState.COMPLETE, 3)
    qtbot.waitUntil(lambda: drawn() == [2, 4], timeout=5000)
    assert "Slice 3 is complete" in panel.words.text()
    session.go_to(7)
    assert panel.accept.text() == "Empty (A)"
    qtbot.waitUntil(lambda: "nothing is predicted here" in panel.words.text(), timeout=2000)
    predict(window, tmp_path, qtbot, slice(7, 8), step=4)
    qtbot.waitUntil(lambda: panel.accept.text() == "Accept (A)", timeout=2000)
    qtbot.waitUntil(lambda: drawn() == [7], timeout=5000)
    session.classes.rename(1, "GTV <2 cm")
    panel.show_z(7)
    assert "confidence in GTV &lt;2 cm" in panel.words.text()


def test_why_nothing_could_be_opened_stays_in_sight(viewer, qtbot, tmp_path):
    widget = VQSegWidget(viewer, fakes.FakeWorker)
    viewer.window.add_dock_widget(widget, name="VQ-Seg")
    widget.session.open_volume(tmp_path / "missing.nii.gz")
    qtbot.waitUntil(lambda: "missing.nii.gz" in widget.panel("Data").about.text(), timeout=5000)
    qtbot.waitUntil(lambda: "does not exist" in widget.messages.words.text(), timeout=20000)
    widget.release()


def test_words_never_widen_the_dock(window):
    before = window.minimumSizeHint().width()
    window.session.busy_changed.emit("Reading " + 80 * "x")
    assert window.minimumSizeHint().width() <= before
    window.session.busy_changed.emit("")
    assert not window.under_cursor.isHidden()


def test_overwriting_asks(window, qtbot, tmp_path, monkeypatch):
    from napari_vqseg.panels import export

    target = tmp_path / "out.nii.gz"
    panel, session = window.panel("Export"), window.session
    session.annotating.mark(SliceState.COMPLETE, 3)
    monkeypatch.setattr(export.QFileDialog, "getSaveFileName", lambda *a, **k: (str(target), ""))
    heard = []
    session.exporting.exported.connect(lambda paths: heard.append(paths))
    panel.ask()
    qtbot.waitUntil(lambda: bool(heard), timeout=20000)
    before = target.stat().st_mtime_ns
    monkeypatch.setattr(export.QMessageBox, "question", lambda *a, **k: QMessageBox.StandardButton.No)
    panel.ask()
    qtbot.wait(200)
    assert target.stat().st_mtime_ns == before
    assert read_labels(target, session.volume).array.shape == session.volume.shape


def test_our_own_layers_are_never_offered(window, viewer):
    take = window.panel("Data").take
    assert window.offers_while_opening
    assert not any(window.offers_while_opening)
    assert take.isHidden()
    assert not window.sections["Data"][0].expanded
    viewer.add_image(np.zeros((4, 8, 8)), name="theirs")
    assert not take.isHidden()
    assert window.sections["Data"][0].expanded, "what is offered is in sight"
    assert take.text() == "Work on the layer 'theirs'"
    window.session.busy_changed.emit("Taking over theirs")
    assert not take.isEnabled(), "once is enough"
    window.session.busy_changed.emit("")
    assert take.isEnabled()
    viewer.layers.remove("theirs")
    assert take.isHidden()
    viewer.layers.selection.active = viewer.layers["ct"]
    assert take.isHidden()


def test_other_layers_themes_and_a_second_viewer(window, viewer, make_napari_viewer, qtbot):
    viewer.theme = "light"
    viewer.layers["annotation"].name = "renamed"
    viewer.add_image(np.zeros((4, 4)))
    window.session.annotating.mark(SliceState.COMPLETE, 1)
    viewer.layers.remove("renamed")
    window.session.show_layers()
    qtbot.waitUntil(lambda: "annotation" in viewer.layers and window.session.is_open, timeout=20000)
    assert viewer.layers["annotation"].data is window.session.annotations.labels
    viewer.layers["annotation"].paint((2, 5, 5), 1)
    assert window.session.annotations.state(2) is SliceState.DRAFT
    other_viewer = make_napari_viewer()
    other = VQSegWidget(other_viewer, fakes.FakeWorker)
    other.session.go_to(3)
    other.release()
    viewer.theme = "dark"


def test_what_has_been_undone_is_offered_no_longer(window, viewer, tmp_path, qtbot):
    predict(window, tmp_path, qtbot)
    window.session.accepting.range(2, 4)
    assert "3 slices accepted" in window.messages.words.text()
    assert "Ctrl+Z takes that back." in window.messages.words.text()
    layer = viewer.layers["annotation"]
    next(layer.keymap[key] for key in layer.keymap if str(key) == "Ctrl+Z")(layer)
    assert not window.session.annotations.complete
    assert window.messages.isHidden()


def test_closing_the_dock_saves_and_leaves_nothing(viewer, qtbot, image, tmp_path):
    widget = VQSegWidget(viewer, fakes.FakeWorker)
    dock = viewer.window.add_dock_widget(widget, name="VQ-Seg")
    session = widget.session
    session.open_volume(image)
    qtbot.waitUntil(lambda: session.is_open, timeout=20000)
    predict(widget, tmp_path, qtbot)
    worker, project = session.engine.worker, session.case.project
    viewer.layers["annotation"].paint((4, 10, 10), 1)
    viewer.window.remove_dock_widget(dock)
    widget.close()
    assert worker.closed
    qtbot.waitUntil(lambda: not project.locked, timeout=20000)
    assert project.case("case-001").load_annotations().draft == [4]
    assert not viewer.keymap
    viewer.layers["annotation"].paint((5, 10, 10), 1)
    viewer.dims.set_current_step(0, 1)
    assert not session.annotations.records.get(5)
    again = VQSegWidget(viewer, fakes.FakeWorker)
    again.session.open_volume(image)
    qtbot.waitUntil(lambda: again.session.is_open, timeout=20000)
    assert again.session.annotations.draft == [4]
    again.release()
    QApplication.processEvents()


def test_every_control_says_what_it_is_for(window, tmp_path, qtbot):
    predict(window, tmp_path, qtbot)
    internal = (QScrollBar, QTabBar, QTableWidget)
    mute, told = [], 0
    for kind in (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox):
        for widget in window.findChildren(kind):
            parent = widget.parent()
            if isinstance(widget, internal) or isinstance(parent, internal):
                continue
            told += 1
            if not (widget.toolTip() or parent.toolTip()):  # Qt asks the parent where a part has none
                mute.append((type(parent).__name__, type(widget).__name__, getattr(widget, "text", str)()))
    assert not mute
    assert told > 60
