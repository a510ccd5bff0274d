"""Next slice, honest quality and the codebook in the real window with a real engine: clicks and keys, one training."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_vqseg.session import TrainingState
from napari_vqseg.widget import VQSegWidget
from vqseg.accept import SliceChange
from vqseg.annotations import SliceRecord, SliceState
from vqseg.io import write_map
from vqseg.quality import QualityCurve
from vqseg.volume import StoredLayout, Volume

for name in ("fakes", "canvas"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
import canvas  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
WAIT_MS = 1_200_000
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    """A bright ball in slices 5 to 22 of 28, off the middle, stored flipped; and its labels."""
    z, y, x = np.indices((28, 56, 64))
    labels = (((z - 13.5) * 1.6) ** 2 + (y - 24) ** 2 + (x - 36) ** 2 < 14**2).astype(np.uint8)
    array = (labels * 150 + np.random.default_rng(0).normal(0, 12, labels.shape)).astype(np.float32)
    volume = Volume(array, StoredLayout(array.shape[::-1], np.diag([-1.0, -1.0, 1.6, 1.0])))
    path = tmp_path_factory.mktemp("ct") / "ball.nii.gz"
    write_map(path, volume.array, volume)
    return path, labels


def draw(session, viewer, labels, z):
    """Paint a slice as the reference has it, then the key C."""
    session.go_to(z)
    session.annotating.change({z: SliceChange(labels[z], SliceRecord(SliceState.DRAFT))})
    canvas.press(viewer, Qt.Key.Key_C)
    assert session.annotations.state(z) is SliceState.COMPLETE


def open_section(widget, title):
    section, _ = widget.sections[title]
    if not section.expanded:
        QTest.mouseClick(section._button, LEFT)
    widget.scroll_area.ensureWidgetVisible(section)


def test_learning_from_the_machine(make_napari_viewer, qtbot, ball):
    path, labels = ball
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    widget = VQSegWidget(viewer)
    viewer.window.add_dock_widget(widget, name="VQ-Seg", area="right")
    session = widget.session
    widget.panel("Data").open(path)
    qtbot.waitUntil(lambda: session.is_open, timeout=60_000)
    session.classes.rename(1, "GTV <5 mm")  # a name may hold any sign
    annotate, train = widget.panel("Annotate"), widget.panel("Train")

    # Where the structure ends is asked first, without any network; the slice number is a link.
    for z in (9, 18):
        draw(session, viewer, labels, z)
    QTest.mouseClick(annotate.next, LEFT)
    assert session.suggesting.current.z == session.z
    assert session.z < 9 or session.z > 18
    assert "GTV &lt;5 mm end towards the" in annotate.suggested.text()
    first = session.z
    draw(session, viewer, labels, first)
    canvas.press(viewer, Qt.Key.Key_N)
    assert session.z != first
    assert "end towards the" in annotate.suggested.text()
    draw(session, viewer, labels, session.z)
    learnt = list(session.annotations.complete)

    # A short training; afterwards the network says what is worth labelling, and why.
    for setting, value in (("time_budget_s", 0.0), ("iterations", 30), ("size", 64), ("codebook_size", 64)):
        session.settings.update(setting, value)
    QTest.mouseClick(train.start, LEFT)
    qtbot.waitUntil(lambda: session.training.state is TrainingState.RUNNING, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.training.state is TrainingState.IDLE, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.reviewing.prediction is not None, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.reviewing.learnt == set(learnt), timeout=WAIT_MS)
    heard = []
    session.suggesting.changed.connect(lambda: heard.append(session.suggesting.suggestions))
    qtbot.waitUntil(lambda: bool(heard), timeout=WAIT_MS)
    canvas.press(viewer, Qt.Key.Key_N)
    assert session.z not in learnt
    assert "mm from the nearest labelled slice" in annotate.suggested.text()

    # Honest quality: the slice drawn now counts, an accepted one does not.
    open_section(widget, "Quality")
    quality = widget.panel("Quality")
    assert "Draw and complete" in quality.words.text()
    inside = next(z for z in range(10, 18) if z not in learnt)
    before = np.array(session.reviewing.prediction[inside])
    draw(session, viewer, labels, inside)
    qtbot.waitUntil(lambda: bool(session.quality.curve.scores), timeout=20_000)
    both = (before == 1) & (labels[inside] == 1)
    dice = 2 * both.sum() / ((before == 1).sum() + labels[inside].sum())
    assert session.quality.curve.estimate.dice == pytest.approx(dice)
    assert f"Dice {dice:.2f}" in quality.words.text()
    assert quality.dice.isVisible()
    session.go_to(inside + 1)
    canvas.press(viewer, Qt.Key.Key_A)
    qtbot.waitUntil(lambda: "1 accepted from a prediction: not counted" in quality.words.text(), timeout=20_000)
    curve_path = session.case.case.quality_path
    qtbot.waitUntil(lambda: QualityCurve.load(curve_path) == session.quality.curve, timeout=20_000)

    # The codebook: measured, shown on the image, a click looks at a code, the slider moves its bars.
    open_section(widget, "Codebook")
    panel = widget.panel("Codebook")
    QTest.mouseClick(panel.measure, LEFT)
    qtbot.waitUntil(lambda: session.codebook.survey is not None, timeout=WAIT_MS)
    assert "codewords are used" in panel.facts.text()
    QTest.mouseClick(panel.codes, LEFT)
    tokens = viewer.layers["codes"]
    qtbot.waitUntil(lambda: viewer.layers.selection.active is tokens, timeout=5000)
    survey, z = session.codebook.survey, 14
    session.go_to(z)
    voxel = (z, 24, 36)
    code = int(survey.codes[voxel[0]][survey.grid.token_at(*voxel[1:])])
    assert tokens.get_value(viewer.layers[0].data_to_world(voxel), world=True) == code + 1, "codes lie on their voxels"
    qtbot.wait(200)
    QTest.mouseClick(canvas.native(viewer), LEFT, pos=canvas.point(viewer, viewer.layers[0], voxel))
    qtbot.waitUntil(lambda: session.codebook.inspected is not None, timeout=20_000)
    assert session.codebook.inspected.code == code
    assert session.codebook.inspected.voxel == voxel
    qtbot.waitUntil(lambda: session.codebook.inspected.word is not None, timeout=WAIT_MS)
    assert f"Code {code}" in panel.inspector.words.text()
    assert panel.inspector.decoded.isVisible()
    assert panel.inspector.here.isVisible()
    assert panel.inspector.bars.rows[0][2] == 1.0, "at epsilon 0 the code is kept"
    panel.inspector.epsilon.setValue(14)
    rows = panel.inspector.bars.rows
    assert rows[0][2] == pytest.approx(0.3)
    assert sum(value for _, _, value in rows) == pytest.approx(1.0)
    assert session.reviewing.epsilon == 0.7
    QTest.mouseClick(panel.only, LEFT)
    assert tokens.show_selected_label
    assert tokens.selected_label == code + 1

    # A bar and a point of the map look at other codes.
    other = rows[1][1]
    QTest.mouseClick(panel.inspector.bars, LEFT, pos=QPoint(100, 19 + 9))
    assert session.codebook.inspected.code == other
    assert tokens.selected_label == other + 1
    used = int(np.argmax(survey.report.usage))
    QTest.mouseClick(panel.tabs, LEFT, pos=panel.tabs.tabRect(0).center())
    QTest.mouseClick(panel.map, LEFT, pos=panel.map.place_of(used).toPoint())
    assert session.codebook.inspected.code == used
    QTest.mouseClick(panel.codes, LEFT)
    assert not tokens.visible
    qtbot.waitUntil(lambda: viewer.layers.selection.active is viewer.layers["annotation"], timeout=5000)
    widget.release()
