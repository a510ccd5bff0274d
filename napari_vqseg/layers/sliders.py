"""The sliders beneath the image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["canvas_kept"]


@contextlib.contextmanager
def canvas_kept(viewer: Any) -> Iterator[None]:
    """Let sliders change places while the canvas above them keeps its height.

    Napari shows the slider of the one axis before it hides that of the other. Qt would make room for both, and draw the
    canvas at that height, and then at its own again.
    """
    window = getattr(getattr(viewer, "__wrapped__", viewer), "window", None)
    sliders = getattr(getattr(window, "_qt_viewer", None), "dims", None)  # napari has no public name for them
    around = None if sliders is None else sliders.parentWidget()
    layout = None if around is None else around.layout()
    if layout is not None:
        layout.setEnabled(False)
    try:
        yield
    finally:
        if layout is not None:
            layout.setEnabled(True)
