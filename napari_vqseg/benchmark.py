"""``python -m napari_vqseg.benchmark``: how fast the window is, measured in the real one with a real engine.

A CT of 512 x 512 x 600 voxels (the phantom, enlarged) is opened, scrolled and trained on, under whatever display there
is. ``vqseg benchmark window`` starts this and makes a table of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

from vqseg.accept import SliceChange
from vqseg.annotations import SliceRecord, SliceState
from vqseg.io import nifti
from vqseg.phantom import CLASS_NAMES, synthetic_thorax
from vqseg.volume import StoredLayout, Volume

if TYPE_CHECKING:
    from napari_vqseg.session import Session
    from napari_vqseg.widget import VQSegWidget

__all__ = ["Figure", "Heart", "main", "measure"]

SIZE = (1280, 800)
SHAPE = (600, 512, 512)
WITHIN_S = 600.0
SCROLLED = 100
PREVIEWS = 8
LABELLED = 3
PAUSE_S = 0.5
CHOOSING_S = 2.0
"""A person takes longer to choose a file."""


@dataclass(frozen=True)
class Figure:
    """One measured figure, and the goal for it."""

    what: str
    value: float
    unit: str
    goal: str


class Heart:
    """Beats every 5 ms of the event loop; remembers the gaps, and what the event loop's thread worked in them, ms."""

    def __init__(self) -> None:
        self.gaps_ms: list[float] = []
        self.worked_ms: list[float] = []
        self._last: tuple[float, float] | None = None
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)

    def _beat(self) -> None:
        now = time.perf_counter(), time.thread_time()
        if self._last is not None:
            self.gaps_ms.append(1000 * (now[0] - self._last[0]))
            self.worked_ms.append(1000 * (now[1] - self._last[1]))
        self._last = now

    def __enter__(self) -> Heart:
        self._last = None
        self._timer.start(5)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.stop()

    def __str__(self) -> str:
        gaps, worked = np.array(self.gaps_ms), np.array(self.worked_ms)
        return (
            f"{gaps.size} beats, median {np.median(gaps):.1f} ms, p99 {np.quantile(gaps, 0.99):.1f} ms, "
            f"longest {gaps.max():.1f} ms, over 50 ms: {(gaps > 50).sum()}; the event loop's own work: "
            f"p99 {np.quantile(worked, 0.99):.1f} ms, longest {worked.max():.1f} ms, load {os.getloadavg()[0]:.1f}"
        )


def measure(
    folder: Path, shape: tuple[int, int, int], budget_s: float, others: Sequence[Path], say: Callable[[str], None]
) -> list[Figure]:
    """Take every figure.

    Parameters
    ----------
    folder : Path
        Scratch, for the volumes and a project; about 2 bytes a voxel and file.
    shape : tuple of int
        (z, y, x) of the volume.
    budget_s : float
        Seconds of training.
    others : sequence of Path
        Volumes of your own whose opening is timed too.
    say : callable
        Told what happens.
    """
    os.environ["NAPARI_VQSEG_HOME"] = str(folder / "home")
    say(f"making a volume of {' x '.join(map(str, reversed(shape)))} voxels")
    volume, labels = enlarged_phantom(shape)
    size = " x ".join(map(str, (shape[2], shape[1], shape[0])))
    sources = {f"{size} .nii.gz opens": folder / "volume.nii.gz", f"{size} .nii opens": folder / "lazy.nii"}
    for path in sources.values():
        nifti.write(path, volume.stored.to_stored(volume.array), volume.stored)
    say("opening the window")
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    wait(lambda: False, 1.0)
    widget, opens_s = _dock(viewer)
    wait(lambda: False, CHOOSING_S)
    session = widget.session
    figures = [Figure("the window opens, beyond napari's own", opens_s, "s", "< 1")]
    session.notified.connect(lambda text, level: say(f"{level}: {text}"))
    opened = []
    for what, path in {**{f"{path.name} opens": path for path in others}, **sources}.items():
        say(f"opening {path.name}")
        with Heart() as heart:
            figures.append(Figure(what, _open(session, path), "s", "< 3"))
        opened.append(max(heart.worked_ms))
    figures += [
        Figure("event loop while the first of them opens: longest own work", opened[0], "ms", "< 50"),
        Figure("event loop while another opens: longest own work", max(opened[1:]), "ms", "< 50"),
    ]
    say("scrolling")
    figures.append(Figure("scrolling through it", _scroll(session.go_to, shape[0]), "slices/s", "> 25"))
    say("training")
    figures += _train(session, labels, budget_s)
    say("working on the predicted volume")
    figures += _work(session)
    say("scrolling with a prediction, then napari alone")
    figures.append(Figure("scrolling through it and its prediction", _scroll(session.go_to, shape[0]), "slices/s", ""))
    say("importing a mask of all slices")
    figures.append(_import(session, labels, folder / "mask.nii.gz"))
    widget.release()
    scrolled = _scroll(partial(viewer.dims.set_current_step, 0), shape[0])
    figures.append(Figure("the same layers in napari, with nothing of ours listening", scrolled, "slices/s", ""))
    viewer.close()
    return figures


def enlarged_phantom(shape: tuple[int, int, int]) -> tuple[Volume, npt.NDArray[np.uint8]]:
    """The synthetic thorax on many voxels (z, y, x): slices repeated and enlarged, each with noise of its own."""
    small, reference = synthetic_thorax()
    rows, columns = (np.arange(size) * before // size for size, before in zip(shape[1:], small.shape[1:], strict=True))
    noise = np.random.default_rng(0).normal(0, 12, (shape[1] + 64, shape[2] + 64)).astype(np.int16)
    image, labels = np.empty(shape, np.int16), np.empty(shape, np.uint8)
    for z in range(shape[0]):
        below = z * small.shape[0] // shape[0]
        dy, dx = (z * 7) % 64, (z * 13) % 64
        grain = noise[dy : dy + shape[1], dx : dx + shape[2]]
        image[z] = np.asarray(small.array[below])[rows[:, None], columns] + grain
        labels[z] = reference.array[below][rows[:, None], columns]
    spacing_mm = [size * n / m for size, n, m in zip(small.spacing_mm, small.shape, shape, strict=True)]
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    return Volume(image, StoredLayout((shape[2], shape[1], shape[0]), affine), modality="CT"), labels


def wait(ready: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """Let the event loop work until `ready`, or for so long."""
    until = time.monotonic() + within_s
    while not ready() and time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.001)


def _dock(viewer: napari.Viewer) -> tuple[VQSegWidget, float]:
    start = time.perf_counter()
    from napari_vqseg.widget import VQSegWidget

    widget = VQSegWidget(viewer)
    viewer.window.add_dock_widget(widget, name="VQ-Seg", area="right")
    QApplication.processEvents()
    return widget, time.perf_counter() - start


def _open(session: Session, path: Path) -> float:
    """Seconds until a volume is on the screen."""
    shown: list[bool] = []
    session.case_changed.connect(lambda: shown.append(True))
    start = time.perf_counter()
    session.open_volume(path)
    wait(lambda: bool(shown))
    QApplication.processEvents()
    return time.perf_counter() - start


def _scroll(go_to: Callable[[int], None], n_slices: int) -> float:
    """Slices a second, each one drawn."""
    first = max(n_slices // 2 - SCROLLED // 2, 0)
    slices = range(first, min(first + SCROLLED, n_slices))
    start = time.perf_counter()
    for z in slices:
        go_to(z)
        QApplication.processEvents()
    return len(slices) / (time.perf_counter() - start)


def _train(session: Session, labels: npt.NDArray[np.uint8], budget_s: float) -> list[Figure]:
    """Label slices from the reference, train, and watch the event loop's heart; then preview while it still trains."""
    from napari_vqseg.classes import class_set
    from napari_vqseg.session import TrainingState

    names = [CLASS_NAMES[int(value)] for value in np.unique(labels)[1:]]
    session.classes.use_set(class_set(names))
    wait(lambda: len(session.classes.all) == len(names))
    occupied = np.flatnonzero((labels > 0).any(axis=(1, 2)))
    chosen = [int(z) for z in np.linspace(occupied[0], occupied[-1], LABELLED + 2)[1:-1]]
    complete = SliceRecord(SliceState.COMPLETE)
    session.annotating.change({z: SliceChange(labels[z], complete) for z in chosen})
    session.settings.update("time_budget_s", budget_s)
    slices: list[float] = []
    volumes: list[float] = []
    session.reviewing.preview_changed.connect(lambda _: slices.append(time.perf_counter()))
    session.reviewing.prediction_changed.connect(lambda: volumes.append(time.perf_counter()))
    start = time.perf_counter()
    session.training.start()
    wait(lambda: session.training.state is TrainingState.RUNNING)
    with Heart() as heart:
        wait(lambda: bool(volumes) and time.perf_counter() - start > budget_s / 2)
    previews = [_preview(session, (number % 10 + 1) / 10) for number in range(PREVIEWS)]
    training = session.training.state is TrainingState.RUNNING
    session.training.stop()
    wait(lambda: session.training.is_idle)
    gaps, worked = np.array(heart.gaps_ms), np.array(heart.worked_ms)
    when = "while training" if training else "after training"
    return [
        Figure("first overlay of the shown slice, after Start", slices[0] - start, "s", "< 15"),
        Figure("first overlay of the whole volume, after Start", volumes[0] - start, "s", ""),
        Figure("event loop while training: p99 of the gaps", float(np.quantile(gaps, 0.99)), "ms", "< 16"),
        Figure("event loop while training: longest gap", float(gaps.max()), "ms", "< 50"),
        Figure("event loop while training: longest own work", float(worked.max()), "ms", "< 50"),
        Figure(f"preview of a slice {when}, median", 1000 * float(np.median(previews)), "ms", "< 200"),
    ]


def _work(session: Session) -> list[Figure]:
    """What holds the event loop while a person works on the predicted volume."""
    from napari_vqseg.looks import EVERY

    navigation, looks, classes, codebook = session.view.navigation, session.looks, session.classes, session.codebook
    value = classes.all[0].value
    codebook.measure()
    wait(lambda: codebook.survey is not None)
    actions: dict[str, list[Callable[[], None]]] = {
        "turning the plane": [partial(navigation.show_plane, to) for to in ("coronal", "sagittal", "axial")],
        "choosing a window": [partial(session.windowing.choose, name) for name in ("lung", "mediastinum")],
        "contours on and off": [partial(looks.draw_contour, EVERY, on) for on in (True, False)],
        "hiding and showing a class": [partial(classes.show, value, shown) for shown in (False, True)],
        "hiding and showing the overlay": [session.view.overlay.toggle] * 2,
        "codes on the image for the first time": [partial(codebook.show_codes, True)],
        "codes off and on": [partial(codebook.show_codes, on) for on in (False, True, False)],
    }
    return [Figure(f"{what}: longest own work", _longest_ms(todo), "ms", "< 50") for what, todo in actions.items()]


def _longest_ms(actions: Sequence[Callable[[], None]]) -> float:
    """The event loop's longest own work between two beats while things are done one after the other."""
    with Heart() as heart:
        wait(lambda: False, PAUSE_S)
        for action in actions:
            action()
            wait(lambda: False, PAUSE_S)
    return max(heart.worked_ms)


def _import(session: Session, labels: npt.NDArray[np.uint8], path: Path) -> Figure:
    """Import the reference as a file, for every slice that is not labelled yet."""
    nifti.write(path, session.volume.stored.to_stored(labels), session.volume.stored)
    found: list[Any] = []
    session.importing.found.connect(found.append)
    with Heart() as heart:
        session.importing.read(path)
        wait(lambda: bool(found))
        names = {value: name for value, name in CLASS_NAMES.items() if value in found[0].names}
        session.importing.take_over(found[0], names)
        wait(lambda: set(found[0].slices) <= set(session.annotations.records))
        wait(lambda: False, PAUSE_S)
    return Figure("importing a mask of all slices: longest own work", max(heart.worked_ms), "ms", "< 50")


def _preview(session: Session, epsilon: float) -> float:
    """Seconds from the slider's rest to the map on the screen."""
    shown: list[Any] = []
    session.reviewing.preview_changed.connect(shown.append)
    start = time.perf_counter()
    session.reviewing.preview(epsilon)
    wait(lambda: bool(shown), 30.0)
    QApplication.processEvents()
    session.reviewing.preview_changed.disconnect(shown.append)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the figures as JSON; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m napari_vqseg.benchmark", description=__doc__)
    parser.add_argument("volumes", metavar="VOLUME", type=Path, nargs="*", help="volumes whose opening is timed too")
    parser.add_argument("--shape", metavar=("Z", "Y", "X"), type=int, nargs=3, default=SHAPE, help="voxels")
    parser.add_argument("--budget", metavar="S", type=float, default=40.0, help="seconds of training")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where the figures go")
    arguments = parser.parse_args(argv)

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    with tempfile.TemporaryDirectory(prefix="vqseg-window-") as folder:
        figures = measure(Path(folder), tuple(arguments.shape), arguments.budget, arguments.volumes, say)
    text = json.dumps([asdict(figure) for figure in figures], indent=1)
    if arguments.json is None:
        sys.stdout.write(f"{text}\n")
    else:
        arguments.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
