"""The session: one person, one case, one engine. Panels talk to it; it talks to project, viewer and engine.

Knows no widget and no viewer: the view, the clock and the engine's worker are handed in, so that everything here
runs in a test without a window. One file a concern, each an attribute of :class:`Session` with signals of its own.
"""

from napari_vqseg.session.cases import Found
from napari_vqseg.session.engine import Worker
from napari_vqseg.session.reviewing import Preview
from napari_vqseg.session.session import Session
from napari_vqseg.session.training import TrainingState
from napari_vqseg.session.windowing import AUTO, CUSTOM

__all__ = ["AUTO", "CUSTOM", "Found", "Preview", "Session", "TrainingState", "Worker"]
