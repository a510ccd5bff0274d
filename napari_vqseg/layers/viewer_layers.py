"""The layers of a case in a viewer, one object a concern."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from napari.components.overlays import BrushCircleOverlay

from napari_vqseg.layers.annotation import AnnotationLayer
from napari_vqseg.layers.difference import Difference
from napari_vqseg.layers.image import ImageLayer
from napari_vqseg.layers.keys import Keys
from napari_vqseg.layers.navigation import UNSEEN, Navigation
from napari_vqseg.layers.overlay import Overlay
from napari_vqseg.layers.pointer import Pointer
from napari_vqseg.layers.proposal import Proposal
from napari_vqseg.layers.stage import Stage
from napari_vqseg.layers.tokens import TokenLayer
from napari_vqseg.layers.wheel import Wheel
from vqseg.volume import Volume, Window

if TYPE_CHECKING:
    import napari

__all__ = ["ViewerLayers"]


def _at_once(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


class ViewerLayers:
    """Image, annotation, prediction and stability of one case in a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer; layers that are not ours are left alone.
    in_turns : callable, optional
        Takes steps, each in a turn of the event loop of its own; by default all at once.

    Attributes
    ----------
    image : ImageLayer
        The CT and its window.
    annotation : AnnotationLayer
        What a person paints: class, brush, undo.
    overlay : Overlay
        Prediction and stability.
    proposal : Proposal
        What is filled between complete slices, before it is accepted.
    difference : Difference
        Where two predictions differ.
    tokens : TokenLayer
        The codes, on the token grid.
    navigation : Navigation
        Slice and plane.
    pointer : Pointer
        The voxel under the mouse.
    keys : Keys
        Key bindings.
    lost : SignalInstance(str)
        The kind of a layer of ours that a person removed.
    """

    def __init__(self, viewer: napari.Viewer, in_turns: Callable[[Iterator[None]], None] = _at_once) -> None:
        self._stage = Stage(viewer)
        self.keys = Keys(self._stage)
        self.navigation = Navigation(self._stage, in_turns)
        self.image = ImageLayer(self._stage)
        self.overlay = Overlay(self._stage, self.navigation)
        self.annotation = AnnotationLayer(self._stage, self.navigation, self.keys)
        self.proposal = Proposal(self._stage)
        self.difference = Difference(self._stage)
        self.tokens = TokenLayer(self._stage, self.keys)
        self.pointer = Pointer(self._stage)
        self._wheel = Wheel(self._stage)
        self.lost = self._stage.lost

    def prepare(self) -> Iterator[None]:
        """Make, step by step, what is better made before a volume is shown."""
        yield from self.navigation.add_letters()
        yield from self._prepare_scale()
        self._stage.freeze()

    def show_volume(self, volume: Volume, window: Window, name: str) -> Iterator[None]:
        """Show a volume, step by step; the layers of the one before are taken away."""
        yield from self._stage.clear()
        yield from self.navigation.add_letters()
        yield from self.image.show(volume, window, name)
        yield
        self._stage.volume = volume
        self.navigation.show_plane("axial")
        self._go_to_middle()
        yield

    def finish(self) -> Iterator[None]:
        """Show, step by step, what is better shown once all layers are there and lie on the volume."""
        self.annotation.select()
        yield
        self._go_to_middle()
        self.navigation.fit()
        self.navigation.letter_edges()
        yield
        self._show_scale()
        self._clear_cursor()
        yield

    def _go_to_middle(self) -> None:
        if self._stage.volume is not None:
            self.navigation.go_to(self._stage.volume.shape[0] // 2)
            self.navigation.refresh()

    def _prepare_scale(self) -> Iterator[None]:
        """Draw the scale bar once, unseen, since napari takes long over the first."""
        bar = self._stage.viewer.canvas.overlays.scale_bar
        if not bar.visible:
            before, bar.color, bar.visible = bar.color, UNSEEN, True
            yield
            bar.visible, bar.color = False, before

    def _show_scale(self) -> None:
        """Show the scale bar where napari's notifications, which fill the bottom of a small canvas, do not cover it."""
        bar = self._stage.viewer.canvas.overlays.scale_bar
        if not bar.visible:
            bar.position, bar.visible = "top_left", True

    def _clear_cursor(self) -> None:
        """Take the dark box out of the brush's circle, which napari may draw there over what is painted."""
        for overlay in self._stage.viewer.canvas.overlays.values():
            if isinstance(overlay, BrushCircleOverlay):
                overlay.box = False

    def close(self) -> None:
        """Let go of the viewer: connections, keys and edge letters; the layers stay."""
        self.keys.close()
        self._stage.close()
        with contextlib.suppress(Exception):  # the canvas may be gone already
            self.navigation.letter_edges()
