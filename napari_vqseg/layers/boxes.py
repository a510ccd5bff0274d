"""The boxes behind what napari writes on the canvas: letters, scale bar."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

__all__ = ["boxes_kept"]


@contextlib.contextmanager
def boxes_kept(viewer: Any) -> Iterator[None]:
    """Show, hide or add layers while the boxes on the canvas stay as they are.

    Whenever the layers on show change, napari makes the box behind each overlay anew, and the next drawing compiles its
    shader: 7 ms each. What is not visible it leaves alone, so the overlays with a box say meanwhile, unheard, that they
    are not. It would take their places for free, too, so those that share a place are left as they are.
    """
    canvas = getattr(viewer, "canvas", None)
    shown = [] if canvas is None else [overlay for overlay in canvas.overlays.values() if overlay.visible]
    at = Counter(str(overlay.position) for overlay in shown)
    boxed = [overlay for overlay in shown if overlay.box and at[str(overlay.position)] == 1]
    try:
        for overlay in boxed:
            _say_visible(overlay, False)
        yield
    finally:
        for overlay in boxed:
            _say_visible(overlay, True)


def _say_visible(overlay: Any, visible: bool) -> None:
    with overlay.events.blocked():
        overlay.visible = visible
