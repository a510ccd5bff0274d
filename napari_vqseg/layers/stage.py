"""What the files of this package share: the viewer, the volume on show, our layers by kind, and every connection."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from napari.components import Camera
from napari.layers import Image, Layer
from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap
from psygnal import Signal
from vispy.visuals.line.dash_atlas import DashAtlas

from napari_vqseg.layers.boxes import boxes_kept
from napari_vqseg.layers.gated_labels import GatedLabels
from napari_vqseg.layers.geometry import layer_geometry
from vqseg.volume import Volume

if TYPE_CHECKING:
    import napari

__all__ = ["Kind", "Stage", "label_colormap", "warm_up"]

L = TypeVar("L", bound=GatedLabels)
Kind = Literal["image", "annotation", "prediction", "stability", "fill between", "difference", "codes"]
_KEPT: tuple[Kind, ...] = ("image", "prediction", "stability", "fill between", "difference", "annotation")
"""Layers that each volume has."""


class Stage:
    """A viewer with the layers that are ours; others are left alone.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.

    Attributes
    ----------
    lost : Signal(str)
        The kind of a layer of ours that a person removed.
    """

    lost = Signal(str)

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        self.volume: Volume | None = None
        self._layers: dict[Kind, Layer] = {}
        self._spare: dict[Kind, Layer] = {}
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self._drags: list[Callable[[Any, Any], Iterator[None]]] = []
        self._wheels: list[Callable[[Any, Any], None]] = []
        self._frozen = False
        self.listen(viewer.layers.events.removed, self._on_removed)

    def listen(self, signal: Any, callback: Callable[..., Any]) -> None:
        """Connect a signal of the viewer or of a layer until that goes, or until :meth:`close`."""
        signal.connect(callback)
        self._connections.append((signal, callback))

    def on_drag(self, callback: Callable[[Any, Any], Iterator[None]]) -> None:
        """Call `callback` with the viewer and each press of a mouse button until :meth:`close`."""
        self.viewer.mouse_drag_callbacks.append(callback)
        self._drags.append(callback)

    def on_wheel(self, callback: Callable[[Any, Any], None]) -> None:
        """Call `callback` with the viewer and each turn of the wheel until :meth:`close`."""
        self.viewer.mouse_wheel_callbacks.append(callback)
        self._wheels.append(callback)

    # ------------------------------------------------------------ layers

    def add(self, kind: Kind, layer: Layer) -> None:
        """Put a new layer of ours on top, but below the annotation; what is selected stays selected."""
        layers, annotation = self.viewer.layers, self._layers.get("annotation")
        self._layers[kind] = layer  # before napari tells of it, lest it be taken for somebody else's
        with _selection_kept(layers), boxes_kept(self.viewer):
            layers.insert(len(layers) if annotation is None else layers.index(annotation), layer)

    def set_visible(self, layer: Layer, visible: bool) -> None:
        """Show or hide a layer; told what is so already, napari would build its scene and shaders anew, 50 ms."""
        if layer.visible != visible:
            with boxes_kept(self.viewer):
                layer.visible = visible

    def freeze(self) -> None:
        """Let Python look for rubbish only in what comes from now on: what is there takes it 170 ms each time.

        Once there are layers it is left as it is, lest their data stay in memory when they go.
        """
        if not self.viewer.layers and not gc.get_freeze_count():
            gc.freeze()
            self._frozen = True

    def make_room(self) -> None:
        """Let napari make the sliders of a volume, which it else does while it adds the first layer."""
        if not self.viewer.layers:
            self.viewer.dims.ndim = 3

    def reuse(self, kind: Kind, data: Any, volume: Volume) -> Layer | None:
        """A layer of the volume before, with other data on a volume's voxels; None where there is none to be had."""
        layer = self._spare.pop(kind, None)
        if layer is None:
            return None
        geometry = layer_geometry(volume)
        layer.data = data
        for name in ("scale", "translate"):
            if tuple(getattr(layer, name)) != geometry[name]:
                setattr(layer, name, geometry[name])
        layer.metadata = geometry["metadata"]
        self._layers[kind] = layer
        return layer

    def layer(self, kind: Kind) -> Layer | None:
        """A layer of ours, None where it is not in the viewer."""
        return self._layers.get(kind)

    def labels(self, kind: Kind) -> GatedLabels | None:
        """A labels layer of ours, None where it is not in the viewer."""
        layer = self._layers.get(kind)
        return layer if isinstance(layer, GatedLabels) else None

    def owns(self, layer: Layer) -> bool:
        """Whether a layer is ours; napari hands plugins proxies of layers, which are equal to them but not the same."""
        return any(layer == own for own in (*self._layers.values(), *self._spare.values()))

    def add_labels(
        self,
        make: type[L],
        kind: Kind,
        labels: Any,
        colours: Mapping[int, str],
        opacity: float,
        *,
        visible: bool = True,
    ) -> L:
        """A labels layer of a type of ours on the volume's voxels: new, or of the volume before as a person had it."""
        assert self.volume is not None
        before = self.reuse(kind, labels, self.volume)
        if isinstance(before, make):
            before.forget_history()
            before.colormap = label_colormap(colours)
            self.set_visible(before, visible)
            return before
        layer = make(
            labels, name=kind, opacity=opacity, visible=visible, colormap=label_colormap(colours),
            **layer_geometry(self.volume),
        )  # fmt: skip
        self.add(kind, layer)
        return layer

    def seal(self, layer: Layer) -> None:
        """Keep a layer from being painted on; napari makes one editable again whenever it gets other data."""

        def shut() -> None:
            layer.editable = False

        shut()
        self.listen(layer.events.editable, shut)

    def clear(self) -> Iterator[None]:
        """Let go of the volume and of what listens to its layers, step by step.

        Where all are there, and lie where they were put, they stay in the viewer for the next volume: napari takes
        150 ms to add one. Else they are taken away.
        """
        ours = [item for item in self._connections if self.owns(getattr(item[0], "source", None))]
        for signal, callback in ours:
            _disconnect(signal, callback)
        self._connections = [item for item in self._connections if item not in ours]
        layers: dict[Kind, Layer] = {**self._spare, **self._layers}
        stay = self.volume is not None and all(
            kind in layers and _lies_on(layers[kind], self.volume) for kind in _KEPT
        )  # fmt: skip
        self._spare = {kind: layers.pop(kind) for kind in _KEPT} if stay else {}
        self.volume = None
        self._layers.clear()
        while layers:
            _, layer = layers.popitem()
            if layer in self.viewer.layers:
                with _rubbish_kept() if layers or stay else contextlib.nullcontext():
                    self.viewer.layers.remove(layer)
                yield

    def close(self) -> None:
        """Let go of the viewer; the layers stay."""
        for signal, callback in self._connections:
            _disconnect(signal, callback)
        self._connections.clear()
        for drag in self._drags:
            self.viewer.mouse_drag_callbacks.remove(drag)
        self._drags.clear()
        for wheel in self._wheels:
            self.viewer.mouse_wheel_callbacks.remove(wheel)
        self._wheels.clear()
        self.volume = None
        self._layers.clear()
        self._spare.clear()
        if self._frozen:
            gc.unfreeze()

    def _on_removed(self, event: Any) -> None:
        self._spare = {kind: layer for kind, layer in self._spare.items() if layer != event.value}
        for kind, layer in list(self._layers.items()):
            if layer == event.value:
                del self._layers[kind]
                self.lost.emit(kind)

    # ------------------------------------------------------------ the world

    @property
    def first_axis(self) -> int:
        """The viewer's axis that is our z; negative where the viewer shows nothing three-dimensional."""
        return int(self.viewer.dims.ndim) - 3

    @property
    def camera(self) -> Any:
        """The camera, which napari 0.9 moved into the scene."""
        return self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera

    def index_of(self, point: Any) -> tuple[int, int, int]:
        """The voxel (z, y, x) nearest to a point of the world, mm."""
        assert self.volume is not None
        geometry = layer_geometry(self.volume)
        place = np.asarray(point[-3:], dtype=float)
        index = np.rint((place - geometry["translate"]) / geometry["scale"]).astype(int)
        return tuple(int(i) for i in np.clip(index, 0, np.array(self.volume.shape) - 1))  # type: ignore[return-value]


def label_colormap(colours: Mapping[int, Any]) -> DirectLabelColormap:
    """Colours of label values, as napari takes them; any other value is transparent."""
    shown: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    for value, colour in colours.items():
        shown[value] = colour
    return DirectLabelColormap(color_dict=shown)


def warm_up() -> None:
    """Let napari import and compile what its first layers need, which takes a second; better before there are any.

    So much has been made by then that Python would look through everything for rubbish while the first volume opens,
    170 ms in one piece; that is done here, too.
    """
    Camera().view_direction  # noqa: B018 - imports scipy's rotations
    labels = np.zeros((1, 1, 1), dtype=np.uint8)
    label_colormap({1: "white"}).map(labels[0])
    CyclicLabelColormap(colors=[(0, 0, 0, 0), (1, 1, 1, 1)]).map(labels[0].astype(np.int32))
    image = Image(labels, contrast_limits=(0, 1), units=("mm", "mm", "mm"))
    getattr(image, "histogram", None)
    GatedLabels(labels, units=("mm", "mm", "mm"))
    DashAtlas()  # works out the dashes of lines, which all of them share
    gc.collect()


@contextlib.contextmanager
def _selection_kept(layers: Any) -> Iterator[None]:
    """Napari selects each layer that comes and shows its controls, 20 ms; it has no public name for leaving that."""
    layers = getattr(layers, "__wrapped__", layers)  # the proxy that plugins are given warns of private names
    selects, active = getattr(layers, "_activate_on_insert", True), layers.selection.active
    layers._activate_on_insert = False
    try:
        yield
    finally:
        layers._activate_on_insert = selects
        if layers.selection.active is not active:
            layers.selection.active = active


@contextlib.contextmanager
def _rubbish_kept() -> Iterator[None]:
    """Napari collects rubbish at every layer that goes, among 300 000 objects; here it finds none to look at."""
    if gc.get_freeze_count():  # nor does it where those are frozen
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _lies_on(layer: Layer, volume: Volume) -> bool:
    """Whether a layer still lies on the voxels of a volume, so that nothing but scale and place need be changed."""
    geometry, corners = layer_geometry(volume), np.eye(4, 3)
    expected = geometry["translate"] + geometry["scale"] * corners
    in_mm = [str(unit) for unit in layer.units] == ["millimeter"] * 3
    return in_mm and np.allclose([layer.data_to_world(corner) for corner in corners], expected)


def _disconnect(signal: Any, callback: Callable[..., Any]) -> None:
    with contextlib.suppress(Exception):
        signal.disconnect(callback)
