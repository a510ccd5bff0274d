"""``python -m napari_vqseg.screenshot PROJECT PNG``: what the window shows of a project, as a picture."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_vqseg.session import Session

__all__ = ["main", "take"]

OPEN_WITHIN_S = 30.0
PREDICT_WITHIN_S = 60.0
SETTLE_S = 1.0
SIZE = (1280, 800)


def _wait(ready: Callable[[], bool], within_s: float) -> bool:
    """Let the window work until `ready`, or for so long; returns whether it was."""
    until = time.monotonic() + within_s
    while not ready() and time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.01)
    return ready()


def _telling_slice(session: Session) -> int:
    """The unlabelled slice that shows most classes, and most of them."""
    assert session.reviewing.prediction is not None
    shown = np.asarray(session.reviewing.prediction)
    scores = [(len(np.unique(labels)), int(np.count_nonzero(labels))) for labels in shown]
    labelled = set(session.annotations.used)
    candidates = [z for z in range(len(scores)) if z not in labelled] or list(range(len(scores)))
    return max(candidates, key=lambda z: scores[z])


def take(project_path: Path, path: Path) -> str:
    """Open a project in a viewer, wait a while for its network's prediction and save a picture of the window.

    Parameters
    ----------
    project_path : Path
        The project folder.
    path : Path
        The .png to write.

    Returns
    -------
    str
        What went wrong, "" for nothing.
    """
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    _, widget = viewer.window.add_plugin_dock_widget("napari-vqseg", "VQ-Seg")
    session: Session = widget.session
    told: list[str] = []
    session.notified.connect(lambda text, level: told.append(text))
    session.open_volume(project_path)
    if _wait(lambda: session.is_open, OPEN_WITHIN_S):
        problem = ""
        if _wait(lambda: session.reviewing.prediction is not None, PREDICT_WITHIN_S):
            session.go_to(_telling_slice(session))
        _wait(lambda: False, SETTLE_S)
        viewer.window.screenshot(str(path), flash=False, canvas_only=False)
    else:
        problem = f"the project did not open: {' '.join(told) or 'no reason given'}"
    widget.release()
    viewer.close()
    return problem


def main(argv: Sequence[str] | None = None) -> int:
    """Take the picture; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m napari_vqseg.screenshot", description=__doc__)
    parser.add_argument("project", metavar="PROJECT", type=Path)
    parser.add_argument("png", metavar="PNG", type=Path)
    arguments = parser.parse_args(argv)
    problem = take(arguments.project, arguments.png)
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
