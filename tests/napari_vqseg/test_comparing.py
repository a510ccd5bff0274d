"""Two trainings of a volume compared: in the session, in its layer, and by a person's key, clicks and eyes."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_vqseg.layers.difference import Hatched
from napari_vqseg.session import TrainingState
from napari_vqseg.widget import VQSegWidget
from vqseg import protocol
from vqseg.annotations import SliceState
from vqseg.comparison import ONLY_FIRST, ONLY_SECOND
from vqseg.components import CleanUp
from vqseg.config import preset
from vqseg.io import write_map
from vqseg.run import RunState

for name in ("fakes", "canvas"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
import canvas  # noqa: E402
import fakes  # noqa: E402

LEARNT = 2


def save_array(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def trained(session, labels, *, unlabelled=True):
    """A run that has ended and predicted the case on show."""
    project, case_id = session.case.project, session.case.case.id
    run = project.new_run(preset("fast").replace(use_unlabelled=unlabelled), [case_id])
    run.note_learnt(case_id, [LEARNT])
    run.set_state(RunState.FINISHED, step=10)
    save_array(run.prediction_path(case_id), labels)
    save_array(run.uncertainty_path(case_id), np.zeros(labels.shape, np.float16))
    return run


def show(session, run):
    """Let the engine tell of a run's prediction."""
    case_id = session.case.case.id
    session.engine.worker.message.emit(
        protocol.PredictionReady(
            None, case_id, 10, str(run.prediction_path(case_id)), str(run.uncertainty_path(case_id)), learnt=[LEARNT]
        )
    )


def box(rows, shape=fakes.SHAPE):
    labels = np.zeros(shape, np.uint8)
    labels[2:9, :rows, 4:20] = 1
    return labels


@pytest.fixture
def two(desk):
    """A desk that shows a training without unlabelled slices, after one with them."""
    session = desk.session
    session.engine.send(protocol.LoadCheckpoint("x"))
    with_them = trained(session, box(20))
    without = trained(session, box(10), unlabelled=False)
    show(session, without)
    desk.clock.fire()
    desk.clock.fire()  # the prediction is announced, then looked at
    return desk, with_them, without


def test_the_training_that_learnt_otherwise_is_compared_with(two):
    desk, with_them, without = two
    session, comparing = desk.session, desk.session.comparing
    again = trained(session, box(12), unlabelled=False)
    show(session, without)
    desk.clock.fire()
    desk.clock.fire()
    assert [other.run.id for other in comparing.found.others] == [again.id, with_them.id]
    assert comparing.found.other.run.id == with_them.id, "not the newest, which was trained alike"
    assert comparing.found.comparison is None, "nobody has asked"
    desk.view.stroke(3)
    session.annotating.mark(SliceState.COMPLETE, 3)
    comparing.toggle()
    first, second, left_out = desk.view.difference.shown
    assert np.array_equal(first, box(10))
    assert np.array_equal(second, box(20))
    assert left_out == [3]
    assert comparing.found.comparison.dice == {1: pytest.approx(2 / 3)}
    comparing.choose(again.id)
    assert np.array_equal(desk.view.difference.shown[1], box(12))
    session.cleaning.set(1, CleanUp(min_volume_ml=999.0))
    for _ in range(3):
        desk.clock.fire()
    assert not desk.view.difference.shown[0].any()
    assert not desk.view.difference.shown[1].any(), "cleaned as what is on show is"
    comparing.toggle()
    assert not desk.view.difference.visible
    assert comparing.found.other.run.id == again.id


def test_what_fails_for_a_case_that_is_left_is_not_told_of_the_next(two, monkeypatch, tmp_path):
    desk, waiting = two[0], []
    with monkeypatch.context() as slow:
        slow.setattr(desk.clock, "aside", lambda *task: waiting.append(task))
        desk.session.comparing.toggle()
    other = tmp_path / "other.nii.gz"
    write_map(other, fakes.make_volume().array + 1, fakes.make_volume())
    desk.session.open_volume(other)
    for *_, failed in waiting:
        failed(OSError("gone"))
    assert waiting
    assert not any("could not be read" in text for _, text in desk.heard)


def test_a_new_slice_is_scored_for_both_and_kept(two, make_desk, image):
    desk, with_them, without = two
    session, comparing = desk.session, desk.session.comparing
    comparing.toggle()
    assert comparing.found.unseen.slices == []
    drawn = (slice(0, 10), slice(4, 20))
    for z in (5, LEARNT):
        desk.view.stroke(z, where=drawn)
        session.annotating.mark(SliceState.COMPLETE, z)
        desk.clock.fire()
    assert comparing.found.unseen.slices == [5], "the other one was learnt from"
    assert comparing.found.unseen.dice == (pytest.approx(1.0), pytest.approx(2 / 3))
    path = session.case.project.path
    session.close()
    again = make_desk()
    again.session.open_volume(path)
    again.session.engine.send(protocol.LoadCheckpoint("x"))
    show(again.session, without)
    again.clock.fire()
    again.clock.fire()
    again.session.comparing.toggle()
    assert again.session.comparing.found.unseen.slices == [5], "and found again"


def test_nothing_is_trained_unasked_and_once_it_is_the_two_are_compared(desk):
    session, comparing = desk.session, desk.session.comparing
    comparing.toggle()
    assert desk.heard[-1][0] == "warning"
    assert not comparing.on
    session.engine.send(protocol.LoadCheckpoint("x"))
    show(session, trained(session, box(20)))
    desk.clock.fire()
    desk.clock.fire()
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    assert not [sent for sent in desk.worker.sent if isinstance(sent, protocol.StartTraining)]
    comparing.train_otherwise()
    assert not session.settings.config.train.use_unlabelled
    assert desk.worker.last(protocol.StartTraining)
    show(session, trained(session, box(10), unlabelled=False))
    desk.clock.fire()
    desk.clock.fire()
    assert desk.view.difference.visible
    comparing.take_other()
    assert not isinstance(desk.worker.sent[-1], protocol.RequestPrediction), "not while it trains"
    desk.worker.message.emit(protocol.TrainingEnded("finished", 5, ""))
    comparing.take_other()
    assert desk.worker.last(protocol.LoadCheckpoint).run_path == str(comparing.found.other.run.path)


def test_the_other_training_that_was_taken_is_there_again_when_the_project_is_opened_again(two, make_desk):
    desk, with_them, without = two
    for run in (with_them, without):
        run.checkpoint_path.mkdir()
        (run.checkpoint_path / "model").write_text("weights")
    desk.session.comparing.take_other()
    assert desk.worker.last(protocol.LoadCheckpoint).run_path == str(with_them.path)
    path = desk.session.case.project.path
    desk.session.close()
    again = make_desk()
    again.session.open_volume(path)
    assert again.worker.last(protocol.LoadCheckpoint).run_path == str(with_them.path), "not the newest"


def test_the_hatching_lies_where_they_differ_and_tells_which(two):
    first, second = np.zeros(fakes.SHAPE, np.uint8), np.zeros(fakes.SHAPE, np.uint8)
    first[:, :10], second[:, 20:], first[:, 14:16], second[:, 14:16] = 1, 1, 1, 2
    hatched = Hatched(first, second, [3])
    assert set(np.unique(hatched[4][:10])) == {0, ONLY_FIRST}
    assert set(np.unique(hatched[4][20:])) == {0, ONLY_SECOND}
    assert set(np.unique(hatched[4][14:16])) == {0, ONLY_FIRST, ONLY_SECOND}, "another class: both ways"
    assert not hatched[4][10:14].any()
    assert not hatched[3].any()
    assert not hatched[:, 5][3].any()
    whole = np.asarray(hatched)
    assert np.array_equal(whole[4:5], hatched[4:5])
    for plane in (hatched[4], hatched[:, 22], hatched[:, :, 7]):
        assert plane.any()
        assert not plane.all()
    assert hatched[4, 5, 6] == ONLY_FIRST


@pytest.fixture
def window(make_napari_viewer, qtbot, image):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    widget = VQSegWidget(viewer, fakes.FakeWorker)
    viewer.window.add_dock_widget(widget, name="VQ-Seg", area="right")
    widget.session.open_volume(image)
    qtbot.waitUntil(lambda: widget.session.is_open, timeout=60000)
    yield widget, viewer
    widget.release()


def in_sight(widget, button):
    """Scroll to a button; whether it is there to be clicked, which it is once its section has unfolded."""
    widget.scroll_area.ensureWidgetVisible(button)
    return not button.visibleRegion().isEmpty()


def test_a_person_sees_what_the_unlabelled_slices_have_changed(window, qtbot):
    widget, viewer = window
    session, panel, train = widget.session, widget.panel("Review"), widget.panel("Train")
    session.go_to(4)
    viewer.layers["annotation"].paint((4, 10, 10), 1)
    canvas.press(viewer, Qt.Key.Key_C)
    assert session.annotations.state(4) is SliceState.COMPLETE
    session.go_to(6)
    session.engine.send(protocol.LoadCheckpoint("x"))
    show(session, trained(session, box(20)))
    qtbot.waitUntil(lambda: session.comparing.found.shown is not None, timeout=10000)

    # One training: the way to a second one is offered, and nothing happens unasked.
    assert not train.compare.isVisible()
    canvas.press(viewer, Qt.Key.Key_W)
    assert not viewer.layers["difference"].visible
    panel.compare.expand()
    qtbot.waitUntil(lambda: panel.comparing.train.isVisible(), timeout=5000)
    assert panel.comparing.train.text() == "Train once more, without unlabelled slices"
    qtbot.waitUntil(lambda: in_sight(widget, panel.comparing.train), timeout=5000)
    QTest.mouseClick(panel.comparing.train, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: session.engine.worker.sent[-1:] != [] and isinstance(
        session.engine.worker.sent[-1], protocol.StartTraining), timeout=10000)  # fmt: skip
    assert not train.unlabelled.isChecked()
    without = trained(session, box(10), unlabelled=False)
    show(session, without)
    session.engine.worker.message.emit(protocol.TrainingEnded("finished", 5, ""))
    assert session.training.state is TrainingState.IDLE

    # The difference is shown, hatched, with words and figures, and all of it in sight.
    layer = viewer.layers["difference"]
    qtbot.waitUntil(lambda: layer.visible, timeout=10000)
    shown = np.asarray(layer._slice.image.view)
    assert shown[11:19, 5:19].any()
    assert not shown[:10].any()
    qtbot.waitUntil(lambda: "only without" in panel.comparing.words.text(), timeout=5000)
    assert "tumour\u00a00.67" in panel.comparing.words.text()
    assert "Draw and complete (C) one more slice" in panel.comparing.words.text()
    assert panel.minimumSizeHint().width() <= widget.scroll_area.viewport().width()
    canvas.press(viewer, Qt.Key.Key_W)
    assert not layer.visible
    assert not panel.comparing.differences.isChecked()
    panel.compare.collapse()
    qtbot.waitUntil(lambda: in_sight(widget, train.compare), timeout=5000)
    QTest.mouseClick(train.compare, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: layer.visible, timeout=10000)
    qtbot.waitUntil(lambda: panel.comparing.words.isVisible() and not panel.comparing.words.visibleRegion().isEmpty(),
                    timeout=5000)  # fmt: skip

    # A slice that neither had seen says which was better; a click shows where they differ most.
    QTest.mouseClick(panel.comparing.most, Qt.MouseButton.LeftButton)
    assert session.z == session.comparing.found.comparison.most
    qtbot.waitUntil(lambda: f"In slice {session.z} 160 voxels differ." in panel.comparing.here.text(), timeout=5000)
    session.go_to(4)
    qtbot.waitUntil(lambda: "Slice 4 is complete" in panel.comparing.here.text(), timeout=5000)
    session.go_to(5)
    viewer.layers["annotation"].data_setitem(np.nonzero(np.where(np.arange(12)[:, None, None] == 5, box(10), 0)), 1)
    canvas.press(viewer, Qt.Key.Key_C)
    qtbot.waitUntil(lambda: "without 1.00, with 0.67" in panel.comparing.words.text(), timeout=10000)
    layer.visible = False  # in napari's own list
    assert not session.comparing.on
    assert not panel.comparing.differences.isChecked()
