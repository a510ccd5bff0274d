"""The canvas as a person's mouse and keys meet it: real events at the place where a voxel is drawn."""

from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication


def native(viewer):
    return viewer.window._qt_viewer.canvas.native


def point(viewer, layer, index):
    """Where on the canvas a voxel is drawn."""
    canvas = viewer.window._qt_viewer.canvas
    world = layer.data_to_world(index)
    transform = canvas.view.scene.transform if hasattr(canvas.view.scene, "transform") else canvas.view.transform
    displayed = [world[axis] for axis in viewer.dims.displayed]
    x, y = transform.map([displayed[1], displayed[0]])[:2]
    return QPoint(round(float(x)), round(float(y)))


def drag(viewer, layer, start, end, button=Qt.MouseButton.LeftButton):
    """A stroke between two voxels."""
    drag_px(viewer, point(viewer, layer, start), point(viewer, layer, end), button)


def drag_px(viewer, start, end, button=Qt.MouseButton.LeftButton):
    """A stroke between two points of the canvas."""
    QTest.mouseMove(native(viewer), start)
    QTest.mousePress(native(viewer), button, pos=start)
    for step in range(1, 9):
        _move(native(viewer), start + (end - start) * (step / 8), button)
    QTest.mouseRelease(native(viewer), button, pos=end)
    QApplication.processEvents()


def _move(widget, place, button):
    """A move with a button held down, which QTest's own moves do not say."""
    QApplication.sendEvent(
        widget,
        QMouseEvent(
            QEvent.Type.MouseMove, QPointF(place), QPointF(widget.mapToGlobal(place)), Qt.MouseButton.NoButton, button,
            Qt.KeyboardModifier.NoModifier,
        ),
    )  # fmt: skip
    QApplication.processEvents()


def turn_wheel(widget, angle, modifier=Qt.KeyboardModifier.NoModifier, at=None):
    """The wheel, turned away from the hand where `angle` is positive (a notch is 120); whether it was of use."""
    at = widget.rect().center() if at is None else at
    event = QWheelEvent(
        QPointF(at), QPointF(widget.mapToGlobal(at)), QPoint(), QPoint(0, angle), Qt.MouseButton.NoButton, modifier,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(widget, event)
    QApplication.processEvents()
    return event.isAccepted()


def press(viewer, key, modifier=Qt.KeyboardModifier.NoModifier):
    """A key on the canvas."""
    QTest.keyClick(native(viewer), key, modifier)
    QApplication.processEvents()
