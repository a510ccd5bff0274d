"""The section Data in the real window: DICOM with a chooser, NIfTI and NRRD by drag and drop, tasks, windows."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialogButtonBox, QFileDialog, QLabel

from napari_vqseg.panels.series import SeriesDialog
from napari_vqseg.panels.tasks import PROGRESS, TITLE
from napari_vqseg.widget import VQSegWidget
from vqseg.annotations import SliceState
from vqseg.io import write_map

for name in ("fakes", "canvas"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
import canvas  # noqa: E402
import fakes  # noqa: E402

PATIENT = "Mustermann^Erika"
TURN = np.radians(12)
ROW, COLUMN = np.array([1.0, 0, 0]), np.array([0, np.cos(TURN), np.sin(TURN)])  # tilted, as a gantry is not
NORMAL = np.cross(ROW, COLUMN)
ORIGIN, STEP_MM, PIXEL_MM = np.array([-9.5, -14.0, 100.0]), 2.5, (0.9, 0.8)
ROWS, COLUMNS = 30, 24


def write_series(folder, number, description, n_slices, values):
    """A tilted CT series, its files in an order that says nothing about positions."""
    uid = generate_uid()
    for index in range(n_slices):
        dataset = pydicom.Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.PatientName, dataset.PatientID = PATIENT, "4711"
        dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.SeriesDescription = uid, number, description
        dataset.Modality, dataset.ImageType, dataset.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], index + 1
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, 1
        dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelSpacing, dataset.SliceThickness = list(PIXEL_MM), STEP_MM
        dataset.ImagePositionPatient = [f"{value:.8g}" for value in ORIGIN + index * STEP_MM * NORMAL]
        dataset.ImageOrientationPatient = [f"{value:.9g}" for value in (*ROW, *COLUMN)]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelData = np.ascontiguousarray(values[index]).tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / f"IM{number}{(5 * index + 3) % n_slices:03d}", enforce_file_format=True)


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 3000, (9, ROWS, COLUMNS)).astype(np.uint16)
    write_series(folder, 2, "Thorax lung", 9, values)
    write_series(folder, 3, "Thorax soft", 7, values)
    return folder, values


@pytest.fixture
def window(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    widget = VQSegWidget(viewer)
    viewer.window.add_dock_widget(widget, name="VQ-Seg", area="right")
    yield widget, viewer
    widget.release()


def dialog_of(widget, qtbot):
    """The chooser, once the folder has been read."""
    qtbot.waitUntil(lambda: bool(widget.findChildren(SeriesDialog)), timeout=20000)
    return widget.findChildren(SeriesDialog)[0]


def press_button(dialog, kind):
    QTest.mouseClick(dialog.buttons.button(kind), Qt.MouseButton.LeftButton)
    QApplication.processEvents()


def drop(widget, *paths):
    """Files dropped on the window."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    place, rest = widget.rect().center(), (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(place, Qt.DropAction.CopyAction, data, *rest)
    QApplication.sendEvent(widget, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(widget, QDropEvent(QPointF(place), Qt.DropAction.CopyAction, data, *rest))


def rows(panel):
    tree = panel.tasks.tree
    lines = [tree.topLevelItem(index) for index in range(tree.topLevelItemCount())]
    return [(line.text(TITLE), line.text(PROGRESS)) for line in lines]


def click_row(panel, index):
    tree = panel.tasks.tree
    place = tree.visualItemRect(tree.topLevelItem(index)).center()
    QTest.mouseClick(tree.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(60, place.y()))


def test_volumes_from_everywhere_in_one_project(window, study, tmp_path, qtbot, monkeypatch, projects_home):
    widget, viewer = window
    panel, session = widget.panel("Data"), widget.session
    folder, values = study
    told = []
    session.notified.connect(lambda text, level: told.append(text))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(folder))

    # The chooser says what there is, nothing of the patient; a cancel leaves everything as it was.
    QTest.mouseClick(panel.folder, Qt.MouseButton.LeftButton)
    dialog = dialog_of(widget, qtbot)
    shown = [[dialog.tree.topLevelItem(row).text(column) for column in range(5)] for row in range(2)]
    assert shown == [
        ["Thorax lung", "CT", "9", "0.80 × 0.90 × 2.50", "24 × 30"],
        ["Thorax soft", "CT", "7", "0.80 × 0.90 × 2.50", "24 × 30"],
    ]
    dialog.tree.topLevelItem(0).setText(0, 20 * "long ")
    assert dialog.tree.header().length() <= dialog.tree.viewport().width(), "no column is pushed out of sight"
    words = " ".join([dialog.windowTitle(), *(label.text() for label in dialog.findChildren(QLabel))])
    assert "Mustermann" not in words + str(shown)
    press_button(dialog, QDialogButtonBox.StandardButton.Cancel)
    qtbot.wait(200)
    assert not session.is_open
    assert not projects_home.exists()

    # The second series: its voxels lie on the screen and in the patient where the files say.
    QTest.mouseClick(panel.folder, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: any(other is not dialog for other in widget.findChildren(SeriesDialog)), timeout=20000)
    dialog = next(other for other in widget.findChildren(SeriesDialog) if other is not dialog)
    dialog.tree.setCurrentItem(dialog.tree.topLevelItem(1))
    assert [item.description for item in dialog.chosen] == ["Thorax soft"]
    press_button(dialog, QDialogButtonBox.StandardButton.Open)
    qtbot.waitUntil(lambda: session.is_open, timeout=20000)
    assert session.volume.shape == (7, ROWS, COLUMNS)
    assert session.volume.spacing_mm == pytest.approx((STEP_MM, *PIXEL_MM))
    image = viewer.layers["study · Thorax soft"]
    qtbot.wait(300)
    z, y, x = 4, 21, 6
    session.go_to(z)
    QTest.mouseMove(canvas.native(viewer), canvas.point(viewer, image, (z, y, x)))
    qtbot.waitUntil(lambda: f"{int(values[z, y, x]) - 1024} HU" in widget.under_cursor.text(), timeout=5000)
    left, back, up = ORIGIN + z * STEP_MM * NORMAL + y * PIXEL_MM[0] * COLUMN + x * PIXEL_MM[1] * ROW
    told_mm = f"{'L' if left > 0 else 'R'} {abs(left):.1f}  {'P' if back > 0 else 'A'} {abs(back):.1f}  S {up:.1f} mm"
    assert told_mm in widget.under_cursor.text()

    def letters():
        return [viewer.canvas.overlays[f"vqseg_{edge}"].text for edge in ("top_center", "middle_left")]

    qtbot.waitUntil(lambda: letters() == ["A", "R"], timeout=5000)
    for button, expected in zip(widget.bar.planes.buttons()[1:], (["S", "R"], ["S", "A"]), strict=True):
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        assert all(letter in ("", right) for letter, right in zip(letters(), expected, strict=True)), "never wrong ones"
        qtbot.waitUntil(lambda expected=expected: letters() == expected, timeout=5000)
    QTest.mouseClick(widget.bar.planes.buttons()[0], Qt.MouseButton.LeftButton)

    # NIfTI and NRRD dropped together join the project; the first of them shows.
    nifti, nrrd = tmp_path / "one.nii.gz", tmp_path / "two.nrrd"
    write_map(nifti, fakes.make_volume().array, fakes.make_volume())
    itk = SimpleITK.GetImageFromArray(np.asarray(fakes.make_volume().array) + 5)
    itk.SetSpacing((0.8, 0.9, 2.5))
    SimpleITK.WriteImage(itk, str(nrrd))
    canvas.drag(viewer, viewer.layers["annotation"], (z, 10, 8), (z, 10, 8))  # a pan, in no tool's hand
    session.annotating.mark(SliceState.COMPLETE, 2)
    drop(widget, nifti, nrrd)
    qtbot.waitUntil(lambda: len(rows(panel)) == 3 and session.is_open and session.case.name == "one", timeout=20000)
    assert rows(panel) == [
        ("study · Thorax soft", "1 slice labelled"), ("one", "nothing labelled"), ("two", "nothing labelled"),
    ]  # fmt: skip
    click_row(panel, 2)
    qtbot.waitUntil(lambda: session.is_open and session.case.name == "two", timeout=20000)
    assert session.volume.spacing_mm == pytest.approx((2.5, 0.9, 0.8))
    assert session.volume.array[3, 4, 5] == fakes.make_volume().array[3, 4, 5] + 5
    assert tuple(viewer.layers["annotation"].scale) == pytest.approx((2.5, 0.9, 0.8))

    # Done, flagged, next: by key, by button, by the menu of a row; said beside the title too.
    canvas.press(viewer, Qt.Key.Key_D)
    qtbot.waitUntil(lambda: session.cases.tasks[2].state == "done", timeout=5000)
    canvas.press(viewer, Qt.Key.Key_T)
    qtbot.waitUntil(lambda: session.is_open and session.case.name == "study · Thorax soft", timeout=20000)
    assert session.annotations.complete == [2]
    menu = panel.tasks.menu_of(session.cases.tasks[1].case_id)
    next(action for action in menu.actions() if action.text() == "Flag").trigger()
    qtbot.waitUntil(lambda: session.cases.tasks[1].state == "flagged", timeout=5000)
    assert not panel.tasks.next.isEnabled()
    QTest.mouseClick(panel.tasks.done, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "2 of 3 done, 1 flagged" in widget.sections["Data"][0]._button.text(), timeout=5000)
    assert panel.tasks.done.text() == "Not done (D)"
    assert not any("Mustermann" in text for text in told)

    # A file dropped on napari's own canvas is a layer; one click makes it a volume of the project.
    write_map(tmp_path / "three.nii.gz", fakes.make_volume().array + 7, fakes.make_volume())
    assert panel.take.isHidden()
    viewer.open(tmp_path / "three.nii.gz", plugin="napari-vqseg")
    assert panel.take.text() == "Work on the layer 'three'"
    QTest.mouseClick(panel.take, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: session.is_open and session.case.name == "three", timeout=20000)
    assert panel.take.isHidden()
    click_row(panel, 0)
    qtbot.waitUntil(lambda: session.is_open and session.case.name == "study · Thorax soft", timeout=20000)

    # A fresh window on the project folder finds it all.
    project = session.case.project
    path = project.path
    widget.release()
    qtbot.waitUntil(lambda: not project.locked, timeout=20000)
    again = VQSegWidget(viewer)
    again.panel("Data").open(path)
    qtbot.waitUntil(lambda: len(again.session.cases.tasks) == 4, timeout=20000)
    assert [str(task.state) for task in again.session.cases.tasks] == ["done", "flagged", "done", "not started"]
    assert again.session.annotations.complete == [2]
    again.release()


def test_window_and_level(window, tmp_path, qtbot):
    widget, viewer = window
    session, bar = widget.session, widget.bar
    write_map(tmp_path / "ct.nii.gz", fakes.make_volume().array, fakes.make_volume())
    widget.panel("Data").open(tmp_path / "ct.nii.gz")
    qtbot.waitUntil(lambda: session.is_open, timeout=20000)
    qtbot.wait(300)
    image, annotation = viewer.layers["ct"], viewer.layers["annotation"]

    # A key each; the line says what training sees.
    for key, (level, width) in {
        Qt.Key.Key_F1: (-500, 1400), Qt.Key.Key_F2: (40, 400), Qt.Key.Key_F3: (40, 350), Qt.Key.Key_F4: (400, 1000),
        Qt.Key.Key_F5: (50, 100),
    }.items():  # fmt: skip
        canvas.press(viewer, key)
        assert tuple(image.contrast_limits) == (level - width / 2, level + width / 2)
        data = session.settings.config.data
        assert (data.window_level_hu, data.window_width_hu) == (level, width)
    assert bar.training.text() == "Training sees 0 to 100 HU, as shown."
    canvas.press(viewer, Qt.Key.Key_F6)
    assert bar.training.text().startswith("Training chooses")
    canvas.press(viewer, Qt.Key.Key_F2)

    # Right-drag with the brush in hand: right is wider, down is a higher level; nothing is painted or zoomed.
    canvas.press(viewer, Qt.Key.Key_1)
    zoom, centre = viewer.camera.zoom, canvas.native(viewer).rect().center()
    canvas.drag_px(viewer, centre, centre + QPoint(50, 25), Qt.MouseButton.RightButton)
    low, high = image.contrast_limits
    assert high - low == pytest.approx(480)
    assert (low + high) / 2 == pytest.approx(80)
    assert (annotation.mode, viewer.camera.zoom) == ("paint", zoom)
    assert not session.annotations.labels.any()
    assert bar.windows.currentText() == "custom  480/80"
    qtbot.waitUntil(lambda: session.settings.config.data.window_width_hu == pytest.approx(480), timeout=5000)
    assert bar.training.text() == "Training sees -160 to 320 HU, as shown."
    canvas.drag(viewer, annotation, (6, 10, 8), (6, 10, 14))
    assert session.annotations.labels.any()

    # napari's own controls are a hand as well; a preset ends it.
    image.contrast_limits = (-100, 100)
    assert bar.windows.currentText() == "custom  200/0"
    bar.windows.setCurrentIndex(3)
    bar.windows.activated.emit(3)
    assert tuple(image.contrast_limits) == (-100, 900)
    assert bar.windows.findText("custom", Qt.MatchFlag.MatchStartsWith) == -1

    # Other layers, and a polygon being drawn, keep the right button.
    annotation.mode = "polygon"
    canvas.drag_px(viewer, centre, centre + QPoint(50, 25), Qt.MouseButton.RightButton)
    assert tuple(image.contrast_limits) == (-100, 900)
    viewer.add_points(np.zeros((1, 3)))
    canvas.drag_px(viewer, centre, centre + QPoint(50, 25), Qt.MouseButton.RightButton)
    assert tuple(image.contrast_limits) == (-100, 900)
    assert viewer.camera.zoom != zoom
    widget.release()
    viewer.layers.selection.active = annotation
    annotation.mode = "pan_zoom"
    canvas.drag_px(viewer, centre, centre + QPoint(50, 25), Qt.MouseButton.RightButton)
    assert tuple(image.contrast_limits) == (-100, 900)
