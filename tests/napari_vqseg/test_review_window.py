"""The section Review in the real window with a real engine: look, perturb, jump, clean up, accept, take back."""

import importlib.util
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_vqseg.session import TrainingState
from napari_vqseg.session.profiles import SURVEY_EPSILON
from napari_vqseg.widget import VQSegWidget
from vqseg import protocol
from vqseg.accept import SliceChange
from vqseg.annotations import Origin, SliceRecord, SliceState

for name in ("fakes", "canvas"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
import canvas  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WAIT_MS = 300000  # the engine shares two cores with everything else
DRAWN = (2, 7, 12)


@pytest.fixture
def ball(tmp_path):
    """A bright ball in noise, as a file, and where it is (z, y, x)."""
    z, y, x = np.ogrid[:16, :48, :48]
    inside = ((z - 7) / 6) ** 2 + ((y - 24) / 12) ** 2 + ((x - 20) / 10) ** 2 < 1
    hu = np.random.default_rng(0).normal(-700, 40, inside.shape)
    hu[inside] += 700
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0).astype(np.int16), affine), tmp_path / "ball.nii.gz")
    return tmp_path / "ball.nii.gz", inside.astype(np.uint8)


@pytest.fixture
def window(make_napari_viewer, qtbot, ball):
    """The window after a short training on three slices."""
    path, reference = ball
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    widget = VQSegWidget(viewer)
    viewer.window.add_dock_widget(widget, name="VQ-Seg", area="right")
    widget.panel("Data").open(path)
    session = widget.session
    qtbot.waitUntil(lambda: session.is_open, timeout=60000)
    record = SliceRecord(SliceState.COMPLETE)
    session.annotating.change({z: SliceChange(reference[z], record) for z in DRAWN})
    for name, value in {"size": 64, "time_budget_s": 4, "device": "cpu"}.items():
        session.settings.update(name, value)
    session.training.start()
    qtbot.waitUntil(lambda: session.training.state is TrainingState.RUNNING, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.training.is_idle and session.reviewing.prediction is not None, timeout=WAIT_MS)
    qtbot.wait(300)
    yield widget, viewer
    widget.release()


def click(button):
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def type_in(spin, text):
    spin.setFocus()
    spin.selectAll()
    QTest.keyClicks(spin, text)
    QTest.keyClick(spin, Qt.Key.Key_Return)


def undo(viewer):
    canvas.press(viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)


def test_a_person_reviews(window, qtbot):
    widget, viewer = window
    panel, session = widget.panel("Review"), widget.session
    reviewing, annotations = session.reviewing, session.annotations
    overlay = viewer.layers["prediction"]
    drawn = annotations.labels.copy()
    widget.scroll_area.ensureWidgetVisible(panel)
    assert panel.minimumSizeHint().width() <= widget.scroll_area.viewport().width()

    # How the overlay is drawn is the overlay's affair: nothing of the work is touched.
    for value in (0, 30, 90):
        panel.opacity.setValue(value)
        click(panel.contour)
        canvas.press(viewer, Qt.Key.Key_G)
        QApplication.processEvents()
    canvas.press(viewer, Qt.Key.Key_G)
    assert overlay.visible
    assert overlay.get_color(1)[3] == pytest.approx(0.9, abs=0.01)
    assert np.array_equal(annotations.labels, drawn)
    assert annotations.complete == list(DRAWN)

    # The profiles: the engine measures stability by itself; a click shows the slice and says how sure it is.
    qtbot.waitUntil(lambda: session.profiles.stability is not None and not session.profiles.surveying, timeout=WAIT_MS)
    assert np.isfinite(session.profiles.confidence).any()
    assert np.isfinite(session.profiles.stability).any()
    QTest.mouseClick(panel.plot, Qt.MouseButton.LeftButton, pos=QPoint(round(panel.plot.x_of(5)), 40))
    assert session.z == 5
    qtbot.waitUntil(lambda: "Slice 5: confidence in tumour" in panel.words.text(), timeout=5000)
    assert panel.plot.z == 5

    # The slider, by its keys: where the label flips, for each class and in mm².
    panel.epsilon.setFocus()
    for _ in range(14):
        QTest.keyClick(panel.epsilon, Qt.Key.Key_Right)
    qtbot.waitUntil(lambda: "at ε 0.70" in panel.words.text(), timeout=WAIT_MS)
    assert "tumour" in panel.words.text()
    assert "mm² waver" in panel.words.text()
    assert viewer.layers["stability"].visible
    for _ in range(14):
        QTest.keyClick(panel.epsilon, Qt.Key.Key_Left)
    qtbot.waitUntil(lambda: not viewer.layers["stability"].visible, timeout=5000)

    # Clean-up is seen at once, and the raw prediction comes back.
    profiles = session.profiles
    qtbot.wait(1000)  # until the slider rests
    qtbot.waitUntil(lambda: profiles.epsilon == SURVEY_EPSILON and not profiles.surveying, timeout=WAIT_MS)
    raw = reviewing.prediction
    raw[5, 2:4, 2:4] = 1  # a speck
    panel.cleanup.parentWidget().expand()
    type_in(panel.cleanup.largest, "1")
    qtbot.waitUntil(lambda: not reviewing.prediction[5, 2, 2], timeout=20000)
    assert not np.asarray(overlay.data[5])[2, 2]
    cleaned = reviewing.prediction

    # Accept: a slice, a range, the component under the mouse, all that is stable; each is taken back in one step.
    canvas.press(viewer, Qt.Key.Key_A)
    assert annotations.records[5] == SliceRecord(SliceState.COMPLETE, Origin.ACCEPTED)
    assert np.array_equal(annotations.labels[5], cleaned[5])
    assert widget.panel("Annotate").strip.marks[5] == "accepted"
    # Where nothing is predicted the button says so, and accepting that is said too.
    session.go_to(5)
    assert panel.accept.text() == "Accept (A)"
    empty = next(z for z in range(len(cleaned)) if not cleaned[z].any() and z not in DRAWN)
    session.go_to(empty)
    assert panel.accept.text() == "Empty (A)"
    assert "without any structure" in panel.accept.toolTip()
    assert panel.minimumSizeHint().width() <= widget.scroll_area.viewport().width()
    click(panel.accept)
    assert annotations.empty_complete == [empty]
    assert widget.panel("Annotate").strip.marks[empty] == "accepted empty"
    undo(viewer)
    type_in(panel.first, "4")
    type_in(panel.last, "8")
    click(panel.accept_range)
    assert annotations.complete == [2, 4, 5, 6, 7, 8, 12]
    assert annotations.records[7].origin is Origin.DRAWN
    undo(viewer)
    assert annotations.complete == [2, 5, 7, 12]
    undo(viewer)
    assert annotations.complete == list(DRAWN)
    assert np.array_equal(annotations.labels, drawn)
    session.go_to(7)
    QTest.mouseMove(canvas.native(viewer), canvas.point(viewer, viewer.layers["annotation"], (7, 24, 20)))
    QApplication.processEvents()
    canvas.press(viewer, Qt.Key.Key_A, Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: len(annotations.complete) > 3, timeout=20000)
    undo(viewer)
    unlabelled = [z for z in reviewing.predicted if z not in DRAWN]
    threshold = int(100 * np.nanmax(profiles.stability[unlabelled]))
    type_in(panel.threshold, str(threshold))
    stable = profiles.stable_slices(threshold / 100)
    assert panel.accept_stable.text() == f"Accept {len(stable)} slice{'s' * (len(stable) != 1)}"
    assert stable
    click(panel.accept_stable)
    assert annotations.complete == sorted({*DRAWN, *stable})
    undo(viewer)
    assert np.array_equal(annotations.labels, drawn)
    click(panel.cleanup.raw)
    qtbot.waitUntil(lambda: reviewing.prediction is raw, timeout=20000)

    # A prediction that cannot be read never lets an old one pass for a new one.
    heard = []
    session.notified.connect(lambda text, level: heard.append((level, text)))
    gone = str(session.case.project.path / "runs" / "gone" / "predictions" / "case-001" / "labels.npy")
    session.engine.worker.message.emit(protocol.PredictionReady(None, session.case.case.id, 10**6, gone, gone))
    qtbot.waitUntil(lambda: bool(heard), timeout=20000)
    assert heard[0][0] == "warning"
    assert "could not be read" in heard[0][1]
    assert "Old: of step" in panel.words.text()
    assert str(10**6) not in panel.words.text()
