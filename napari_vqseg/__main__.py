"""``python -m napari_vqseg [PATH]``: napari with the plugin docked, and a volume, a project or the sample CT open."""

from __future__ import annotations

import argparse
import contextlib

import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDialog

from napari_vqseg.commands import open_window

__all__ = ["close_early_notices", "main"]

NOTICE_MS = 4000
"""How long napari shows a notification."""


def close_early_notices(viewer: napari.Viewer, after_ms: int = NOTICE_MS) -> None:
    """Close in time what napari has notified of so far.

    What it says before its window is active, such as that the Qt binding is an old one, it would show for good, over
    the foot of the image.
    """
    notices = viewer.window._qt_window.findChildren(QDialog)

    def close() -> None:
        for notice in notices:
            with contextlib.suppress(RuntimeError):  # closed by hand, and deleted
                notice.close()

    QTimer.singleShot(after_ms, close)


def main() -> None:
    """Open the window and stay until it is closed."""
    parser = argparse.ArgumentParser(prog="python -m napari_vqseg", description=__doc__)
    parser.add_argument("path", metavar="PATH", nargs="?", help="volume or project to open (default: the sample CT)")
    path = parser.parse_args().path
    viewer = napari.Viewer()
    session = open_window(viewer).session
    if path:
        session.open_volume(path)
    else:
        session.open_sample()
    close_early_notices(viewer)
    napari.run()


if __name__ == "__main__":
    main()
