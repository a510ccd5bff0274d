"""The section Classes in the real window: paint, lock, hide, reorder, rename, with the mouse and the keys.

One person does it all with a real engine; the others' engine is a fake.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit

from napari_vqseg.panels.classes import EYE, LOCK, NAME, PREDICTED, SWATCH
from napari_vqseg.widget import VQSegWidget
from napari_vqseg.worker import EngineWorker
from vqseg import protocol
from vqseg.io import write_map
from vqseg.project import Project

for name in ("fakes", "canvas"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
import canvas  # noqa: E402
import fakes  # noqa: E402

WAIT_MS = 300_000
QUICK = {"time_budget_s": 2.0, "size": 48, "patch": 48, "codebook_size": 64, "device": "cpu"}


@pytest.fixture
def window(make_napari_viewer, qtbot, tmp_path, request):
    write_map(tmp_path / "ct.nii.gz", fakes.make_volume().array, fakes.make_volume())
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    widget = VQSegWidget(viewer, getattr(request, "param", fakes.FakeWorker))
    viewer.window.add_dock_widget(widget, name="VQ-Seg", area="right")
    widget.panel("Data").open(tmp_path / "ct.nii.gz")
    qtbot.waitUntil(lambda: widget.session.is_open, timeout=20000)
    qtbot.wait(200)
    yield widget, viewer
    widget.release()


def click(panel, row, column):
    """Click a cell of the list: its button, or the row itself."""
    line = panel.tree.topLevelItem(row)
    button = panel.tree.itemWidget(line, column)
    if button is not None:
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    else:
        QTest.mouseClick(panel.tree.viewport(), Qt.MouseButton.LeftButton, pos=name_of(panel, row))
    QApplication.processEvents()


def name_of(panel, row):
    """Where the name of a row is written."""
    place = panel.tree.visualItemRect(panel.tree.topLevelItem(row)).center()
    place.setX(panel.tree.columnViewportPosition(NAME) + 8)
    return place


def rows(panel):
    return [panel.tree.topLevelItem(row).text(NAME) for row in range(panel.tree.topLevelItemCount())]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("window", [EngineWorker], indirect=True, ids=["real engine"])
def test_a_person_works_with_classes(window, qtbot):
    widget, viewer = window
    panel, session, layer = widget.panel("Classes"), widget.session, viewer.layers["annotation"]
    labels = session.annotations.labels

    # A ready set from the menu; a digit and a click take classes in hand, both ways.
    panel.sets.menu().actions()[1].trigger()
    qtbot.waitUntil(lambda: rows(panel)[:3] == ["tumour", "left lung", "right lung"], timeout=5000)
    canvas.press(viewer, Qt.Key.Key_2)
    assert (layer.selected_label, panel.value) == (2, 2)
    click(panel, 2, NAME)
    assert layer.selected_label == 3
    layer.selected_label = 1
    assert panel.value == 1

    # Paint with the mouse; lock; then neither another class nor the eraser changes what is painted.
    session.go_to(4)
    canvas.drag(viewer, layer, (4, 15, 8), (4, 15, 16))
    painted = labels == 1
    assert painted[4].sum() > 50
    click(panel, 0, LOCK)
    assert session.classes.locked == {1}
    canvas.press(viewer, Qt.Key.Key_2)
    canvas.drag(viewer, layer, (4, 5, 12), (4, 25, 12))
    assert (labels[painted] == 1).all()
    assert (labels == 2).any()
    canvas.press(viewer, Qt.Key.Key_E)
    canvas.drag(viewer, layer, (4, 15, 8), (4, 15, 16))
    assert (labels[painted] == 1).all()
    click(panel, 0, LOCK)
    canvas.drag(viewer, layer, (4, 15, 8), (4, 15, 16))
    assert not (labels == 1).any()

    # Hide: transparent in annotation and prediction; the digit of a hidden class shows it again.
    click(panel, 1, EYE)
    for shown in (layer, viewer.layers["prediction"]):
        assert shown.get_color(2)[3] == 0
    canvas.press(viewer, Qt.Key.Key_2)
    assert layer.get_color(2)[3] == 1

    # Order: the key follows the place, the label value stays; rename by double-click.
    QTest.mouseClick(panel.up, Qt.MouseButton.LeftButton)
    assert rows(panel)[:3] == ["left lung", "tumour", "right lung"]
    canvas.press(viewer, Qt.Key.Key_1)
    assert layer.selected_label == 2
    click(panel, 0, NAME)
    QTest.mouseDClick(panel.tree.viewport(), Qt.MouseButton.LeftButton, pos=name_of(panel, 0))
    editor = panel.tree.findChild(QLineEdit)
    editor.selectAll()
    QTest.keyClicks(editor, "lung L")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: rows(panel)[0] == "lung L", timeout=5000)

    # The name, the order and the colours are on disk.
    session.classes.recolour(2, "#ABCDEF")
    qtbot.waitUntil(
        lambda: Project.open(session.case.project.path).info.get("colours", {}).get("2") == "#ABCDEF", timeout=5000
    )
    stored = Project.open(session.case.project.path)
    assert stored.class_names == {1: "tumour", 2: "lung L", 3: "right lung"}
    assert stored.info["class_order"] == [2, 1, 3]
    QTest.mouseClick(panel.add, Qt.MouseButton.LeftButton)
    assert rows(panel)[3] == "class 4", "named after its value"
    editor = panel.tree.findChild(QLineEdit)
    QTest.keyClicks(editor, "spinal cord")  # the name is typed at once
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: rows(panel)[3] == "spinal cord", timeout=5000)
    QTest.mouseClick(panel.remove, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(rows(panel)) == 4, timeout=5000)

    # What a real engine predicts is hidden class by class, apart from what is painted.
    assert panel.tree.isColumnHidden(PREDICTED), "nothing is predicted yet"
    canvas.press(viewer, Qt.Key.Key_C)
    for name, value in QUICK.items():
        session.settings.update(name, value)
    QTest.mouseClick(widget.panel("Train").start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: session.training.is_idle and session.reviewing.prediction is not None, timeout=WAIT_MS)
    assert session.reviewing.learnt == {4}
    qtbot.waitUntil(lambda: not panel.tree.isColumnHidden(PREDICTED), timeout=5000)
    predicted = viewer.layers["prediction"]
    click(panel, 0, PREDICTED)
    assert (layer.get_color(2)[3], predicted.get_color(2)[3]) == (1, 0)
    viewer.layers.remove(layer)
    session.show_layers()
    qtbot.waitUntil(lambda: "annotation" in viewer.layers and viewer.layers["annotation"] is not layer, timeout=20000)
    assert viewer.layers["prediction"].get_color(2)[3] == 0, "layers that come back look as before"
    qtbot.waitUntil(lambda: Project.open(session.case.project.path).info.get("hidden_prediction") == [2], timeout=5000)
    click(panel, 0, EYE)
    assert not panel.tree.itemWidget(panel.tree.topLevelItem(0), PREDICTED).isEnabled()
    click(panel, 0, EYE)
    click(panel, 0, PREDICTED)
    assert viewer.layers["prediction"].get_color(2)[3] > 0


def test_the_list_is_compact_and_its_buttons_say_what_they_do(window, qtbot):
    widget, viewer = window
    panel = widget.panel("Classes")
    for _ in range(9):
        widget.session.classes.add(panel._free_name())
    assert panel.tree.height() < 190
    assert panel.tree.header().sectionSize(NAME) > 150
    for column in (SWATCH, LOCK, EYE):
        button = panel.tree.itemWidget(panel.tree.topLevelItem(0), column)
        assert button.width() <= 28
        assert button.toolTip()
        assert button.accessibleName()
    viewer.theme = "light"
    QApplication.processEvents()
    assert len(rows(panel)) == 11


def test_rows_are_dragged_to_another_place(window):
    widget, viewer = window
    panel, session = widget.panel("Classes"), widget.session
    for name in ("liver", "spleen", "aorta"):
        session.classes.add(name)
    rows_seen, view = panel.tree, panel.tree.viewport()

    def drag(row, to, below):
        start = name_of(panel, row)
        edge = rows_seen.visualItemRect(rows_seen.topLevelItem(to))
        end = QPoint(start.x(), edge.bottom() if below else edge.top())
        QTest.mousePress(view, Qt.MouseButton.LeftButton, pos=start)
        for step in (3, 8):
            canvas._move(view, start + (end - start) * (step / 8), Qt.MouseButton.LeftButton)
        QTest.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
        QApplication.processEvents()

    drag(3, 0, below=False)
    assert rows(panel) == ["aorta", "tumour", "liver", "spleen", "background (for scribbles)"]
    assert panel.value == viewer.layers["annotation"].selected_label == 4, "the dragged one is in hand, no other"
    canvas.press(viewer, Qt.Key.Key_1)
    assert viewer.layers["annotation"].selected_label == 4, "the digit follows the place"
    drag(1, 4, below=True)
    assert rows(panel)[:4] == ["aorta", "liver", "spleen", "tumour"], "never below the background"
    drag(2, 2, below=True)
    assert rows(panel)[:4] == ["aorta", "liver", "spleen", "tumour"], "dropped where it was"
    drag(4, 0, below=False)
    assert rows(panel)[4] == "background (for scribbles)"
    assert session.classes.names == {1: "tumour", 2: "liver", 3: "spleen", 4: "aorta"}
    assert session.case.project.info["class_order"] == [4, 2, 3, 1]
    click(panel, 1, EYE)
    assert not session.classes.all[1].visible, "the buttons of a dragged list work"


def colour_at(viewer, layer, index):
    """What is drawn on the canvas at a voxel, RGB."""
    QApplication.processEvents()
    at = canvas.point(viewer, layer, index)
    return viewer.screenshot(flash=False)[at.y(), at.x(), :3].astype(int)


def test_one_class_is_a_contour_while_another_is_filled(window, qtbot, tmp_path):
    widget, viewer = window
    panel, session = widget.panel("Review"), widget.session
    session.classes.add("lung")
    labels = np.zeros(fakes.SHAPE, np.uint8)
    labels[4, 4:14, 4:20], labels[4, 17:27, 4:20] = 1, 2
    np.save(tmp_path / "labels.npy", labels)
    path = str(tmp_path / "labels.npy")
    session.go_to(4)
    session.engine.send(protocol.LoadCheckpoint("x"))
    session.engine.worker.message.emit(protocol.PredictionReady(None, session.case.case.id, 3, path, path))
    qtbot.waitUntil(lambda: panel.isVisible() and session.reviewing.prediction is not None, timeout=5000)
    predicted, ct = viewer.layers["prediction"], viewer.layers["ct"]
    ct.contrast_limits = (1e6, 2e6)  # black
    filled, edge = [(4, 9, 12), (4, 22, 12)], (4, 17, 12)
    first, second = (colour_at(viewer, predicted, index) for index in filled)
    assert first.any()
    assert second.any()
    widget.scroll_area.ensureWidgetVisible(panel.contour)
    panel.drawn.setFocus()
    QTest.keyClicks(panel.drawn, "lung")
    QTest.keyClick(panel.drawn, Qt.Key.Key_Return)
    QTest.mouseClick(panel.contour, Qt.MouseButton.LeftButton, pos=QPoint(8, panel.contour.height() // 2))
    assert not colour_at(viewer, predicted, filled[1]).any()
    assert colour_at(viewer, predicted, edge).sum() > 1.5 * second.sum(), "a contour is drawn strong"
    assert np.array_equal(colour_at(viewer, predicted, filled[0]), first), "the other class is as it was"
    assert panel.opacity_value.text() == "90 %"
    panel.opacity.setFocus()
    QTest.keyClick(panel.opacity, Qt.Key.Key_Home)
    assert not colour_at(viewer, predicted, edge).any()
    viewer.theme = "light"
    assert np.array_equal(colour_at(viewer, predicted, filled[0]), first)
    panel.drawn.setFocus()
    QTest.keyClick(panel.drawn, Qt.Key.Key_Home)
    QTest.mouseClick(panel.contour, Qt.MouseButton.LeftButton, pos=QPoint(8, panel.contour.height() // 2))
    assert not colour_at(viewer, predicted, filled[0]).any()
    viewer.layers.remove("prediction")
    session.show_layers()
    qtbot.waitUntil(lambda: session.is_open and "prediction" in viewer.layers, timeout=20000)
    assert viewer.layers["prediction"].contoured_values == {1, 2}
    predicted = viewer.layers["prediction"]
    predicted.contour = 0  # in napari's own controls
    assert not panel.contour.isChecked()
    assert not session.looks.of(1).contour
