"""Closing the viewer's window: what napari asks while something is trained, and a last save that fails."""

import importlib.util
import sys
from pathlib import Path

import pytest
from napari.settings import get_settings
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QLabel, QMessageBox

from napari_vqseg.widget import VQSegWidget
from vqseg.annotations import SliceState
from vqseg.io import write_map
from vqseg.project import Case

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)

BUTTONS = QMessageBox.StandardButton


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


@pytest.fixture
def widget(viewer, qtbot, tmp_path):
    write_map(tmp_path / "ct.nii.gz", fakes.make_volume().array, fakes.make_volume())
    made = VQSegWidget(viewer, fakes.FakeWorker)
    viewer.window.add_dock_widget(made, name="VQ-Seg")
    made.session.open_volume(tmp_path / "ct.nii.gz")
    qtbot.waitUntil(lambda: made.session.is_open, timeout=20000)
    yield made
    made.release()


def in_dialog(act):
    """Do something with the next dialog, once it is there."""

    def look():
        dialog = QApplication.activeModalWidget()
        if dialog is None:
            QTimer.singleShot(20, look)
        else:
            act(dialog)

    QTimer.singleShot(20, look)


@pytest.mark.window
@pytest.mark.parametrize("quit_app", [True, False], ids=["Ctrl+Q", "Ctrl+W"])
def test_what_napari_asks_names_the_training_under_way(widget, viewer, qtbot, quit_app):
    main, said = viewer.window._qt_window, []
    get_settings().application.confirm_close_window = True

    def read(dialog):
        said.append([label.text() for label in dialog.findChildren(QLabel)])
        dialog.reject()

    def ask():
        in_dialog(read)
        main.close(quit_app=quit_app, confirm_need=True)
        return " ".join(said[-1])

    assert "Training" not in ask()
    widget.session.annotating.mark(SliceState.COMPLETE, 3)
    widget.session.training.start()
    assert "Training is under way: it stops, and what it has learnt stays." in ask()
    assert viewer.window._qt_window.isVisible()
    qtbot.waitUntil(lambda: widget.session.engine.worker is not None, timeout=20000)
    widget.session.training.stop()
    widget.session.training.forget()
    assert "Training" not in ask()


@pytest.mark.window
def test_a_last_save_that_fails_is_told_and_keeps_the_window(widget, viewer, monkeypatch):
    session, said, save = widget.session, [], Case.save_annotations

    def full(self, annotations):
        raise OSError(28, "No space left on device")

    def press(button, then=lambda: None):
        def act(dialog):
            said.append(dialog.text())
            then()
            dialog.button(button).click()

        in_dialog(act)

    monkeypatch.setattr(Case, "save_annotations", full)
    session.annotating.mark(SliceState.COMPLETE, 4)
    press(BUTTONS.Cancel)
    assert not viewer.window._qt_window.close()
    assert viewer.window._qt_window.isVisible()
    assert "could not be saved. The disk refused that (No space left on device)" in said[0]
    assert widget.state.text() == "not saved"
    press(BUTTONS.Discard)
    assert widget._closing.may_close()
    assert session.annotating.unsaved
    press(BUTTONS.Retry, then=lambda: monkeypatch.setattr(Case, "save_annotations", save))
    assert widget._closing.may_close()
    assert session.case.case.load_annotations().complete == [4], "after making room"
    assert len(said) == 3
    assert widget._closing.may_close(), "nobody is asked where all is on disk"
