"""What the files of this package share: the viewer, the volume on show, our layers by kind, and every connection."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from napari.components import Camera
from napari.layers import Image, Layer
from napari.utils.colormaps import DirectLabelColormap
from psygnal import Signal

from napari_vqseg.layers.gated_labels import GatedLabels
from napari_vqseg.layers.geometry import layer_geometry
from vqseg.volume import Volume

if TYPE_CHECKING:
    import napari

__all__ = ["Kind", "Stage", "label_colormap", "warm_up"]

L = TypeVar("L", bound=GatedLabels)
Kind = Literal["image", "annotation", "prediction", "stability", "fill between", "codes"]


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
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self._drags: list[Callable[[Any, Any], Iterator[None]]] = []
        self._wheels: list[Callable[[Any, Any], None]] = []
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
        """Put a new layer of ours on top, but below the annotation; beside one, what is selected stays selected."""
        layers, annotation = self.viewer.layers, self._layers.get("annotation")
        active = layers.selection.active
        layers.insert(len(layers) if annotation is None else layers.index(annotation), layer)
        self._layers[kind] = layer
        if annotation is not None:
            layers.selection.active = active

    def layer(self, kind: Kind) -> Layer | None:
        """A layer of ours, None where it is not in the viewer."""
        return self._layers.get(kind)

    def labels(self, kind: Kind) -> GatedLabels | None:
        """A labels layer of ours, None where it is not in the viewer."""
        layer = self._layers.get(kind)
        return layer if isinstance(layer, GatedLabels) else None

    def owns(self, layer: Layer) -> bool:
        """Whether a layer is ours; napari hands plugins proxies of layers, which are equal to them but not the same."""
        return any(layer == own for own in self._layers.values())

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
        """A new labels layer of a type of ours, on the volume's voxels."""
        assert self.volume is not None
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
        """Take our layers, and at once what listens to them, away, step by step."""
        self.volume = None
        ours = [item for item in self._connections if self.owns(getattr(item[0], "source", None))]
        for signal, callback in ours:
            _disconnect(signal, callback)
        self._connections = [item for item in self._connections if item not in ours]
        layers = list(self._layers.values())
        self._layers.clear()
        while layers:
            layer = layers.pop()
            if layer in self.viewer.layers:
                with _rubbish_kept() if layers else contextlib.nullcontext():
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

    def _on_removed(self, event: Any) -> None:
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
    """Let napari import and compile what its first layers need, which takes a second; better before there are any."""
    Camera().view_direction  # noqa: B018 - imports scipy's rotations
    labels = np.zeros((1, 1, 1), dtype=np.uint8)
    label_colormap({1: "white"}).map(labels[0])
    Image(labels, contrast_limits=(0, 1), units=("mm", "mm", "mm"))
    GatedLabels(labels, units=("mm", "mm", "mm"))


@contextlib.contextmanager
def _rubbish_kept() -> Iterator[None]:
    """Napari collects rubbish at every layer that goes, among 300 000 objects; here it finds none to look at."""
    frozen = gc.get_freeze_count()
    gc.freeze()
    try:
        yield
    finally:
        if not frozen:  # as while training
            gc.unfreeze()


def _disconnect(signal: Any, callback: Callable[..., Any]) -> None:
    with contextlib.suppress(Exception):
        signal.disconnect(callback)
