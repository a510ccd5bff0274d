"""Make the pictures in docs/images: the real window, the sample CT, a real engine.

Run with a display of 1280 x 800, for instance
``xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots.py [FOLDER [SECONDS]]``; more seconds of training on
a busy machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication, QDialog

from napari_vqseg.classes import CLASS_SETS, class_set
from napari_vqseg.session import Session, TrainingState
from napari_vqseg.widget import VQSegWidget
from vqseg.accept import SliceChange
from vqseg.annotations import SliceRecord, SliceState
from vqseg.config import WINDOWS
from vqseg.phantom import synthetic_thorax

SIZE = (1280, 800)
TRAIN_S = 45.0
WAIT_S = 400.0


def wait(ready: Callable[[], bool], within_s: float = WAIT_S) -> None:
    """Let the window work until `ready`."""
    until = time.monotonic() + within_s
    while not ready():
        if time.monotonic() > until:
            raise TimeoutError("the window did not get there")
        QApplication.processEvents()
        time.sleep(0.01)


def settle(seconds: float = 1.0) -> None:
    """Let the window draw."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.01)


class Camera:
    """Takes pictures of the window, in order."""

    def __init__(self, viewer: napari.Viewer, folder: Path) -> None:
        self.viewer, self.folder = viewer, folder
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, name: str) -> None:
        """Save what the window shows, without notifications that happen to lie over it."""
        settle()
        for notification in self.viewer.window._qt_window.findChildren(QDialog):
            notification.close()
        settle(0.2)
        path = self.folder / f"{name}.png"
        self.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        sys.stdout.write(f"{path}\n")


def annotate(session: Session, labels: np.ndarray, camera: Camera) -> None:
    """Label three slices from the reference and one empty one, as a person would."""
    session.classes.use_set(class_set(CLASS_SETS["Lungs and tumour"]))
    shown = np.where(labels <= 3, labels, 0).astype(np.uint8)
    tumour = np.flatnonzero((shown == 1).any(axis=(1, 2)))
    middle = int(tumour[tumour.size // 2])
    session.go_to(middle)
    session.annotating.change({middle: SliceChange(shown[middle], SliceRecord(SliceState.DRAFT))})
    camera.take("annotate")
    for z in (middle, max(middle - 14, 1), min(middle + 8, labels.shape[0] - 2)):
        session.annotating.change({z: SliceChange(shown[z], SliceRecord(SliceState.COMPLETE))})
    session.suggesting.next()
    session.go_to(middle)


def only(widget: VQSegWidget, title: str) -> None:
    """Unfold one section and fold the others."""
    for name, (section, _) in widget.sections.items():
        if name == title:
            section.expand()
        else:
            section.collapse()


def main(folder: Path, train_s: float = TRAIN_S) -> None:
    """Drive the window through the work and take a picture of each step."""
    os.environ["NAPARI_VQSEG_HOME"] = tempfile.mkdtemp()
    _, reference = synthetic_thorax()
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    widget = VQSegWidget(viewer)
    viewer.window.add_dock_widget(widget, name="VQ-Seg", area="right")
    session, camera = widget.session, Camera(viewer, folder)
    camera.take("open")
    session.open_sample()
    wait(lambda: session.is_open)
    session.windowing.choose("lung")
    assert session.windowing.window == WINDOWS["lung"]
    annotate(session, reference.array, camera)
    session.settings.update("time_budget_s", train_s)
    widget.panel("Train").show_settings()
    session.training.start()
    wait(
        lambda: (
            session.training.progress is not None
            and session.training.progress.progress > 0.5
            and session.reviewing.prediction is not None
        )
    )
    middle = session.z
    session.go_to(middle + 3)
    widget.scroll_area.ensureWidgetVisible(widget.panel("Train").facts)
    camera.take("train")
    wait(lambda: session.training.state is TrainingState.IDLE, train_s + WAIT_S)
    only(widget, "Review")
    camera.take("review")
    previews: list[object] = []
    session.reviewing.preview_changed.connect(previews.append)
    widget.panel("Review").epsilon.setValue(14)
    profiles = session.profiles
    wait(lambda: bool(previews) and profiles.epsilon == session.reviewing.epsilon and not profiles.surveying)
    camera.take("stability")
    session.codebook.measure()
    wait(lambda: session.codebook.survey is not None)
    only(widget, "Codebook")
    camera.take("codebook")
    widget.panel("Review").epsilon.setValue(0)
    measured: list[object] = []
    session.exporting.measured.connect(measured.append)
    session.exporting.measure()
    wait(lambda: bool(measured))
    only(widget, "Export")
    camera.take("export")
    only(widget, "Review")
    widget.bar.planes.buttons()[1].click()
    camera.take("coronal")
    widget.bar.planes.buttons()[0].click()
    session.comparing.train_otherwise()
    wait(lambda: session.training.state is TrainingState.IDLE, train_s + WAIT_S)
    session.comparing.toggle()
    widget.compare()
    wait(lambda: session.comparing.found.comparison is not None)
    camera.take("compare")
    session.comparing.toggle()
    viewer.theme = "light"
    only(widget, "Annotate")
    camera.take("light-theme")
    widget.show_card()
    settle(0.5)
    widget._card.grab().save(str(folder / "keys.png"))
    widget.release()
    viewer.close()


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images",
        float(sys.argv[2]) if len(sys.argv) > 2 else TRAIN_S,
    )
