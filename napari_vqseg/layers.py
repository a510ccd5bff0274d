"""The layers of a case in a viewer, and what a person does to them. No other file touches ``viewer.layers``.

World coordinates are the patient's, in mm, in DICOM's directions: z to the head, y to the back, x to the left
hand. So axial slices are drawn as radiologists read them; coronal and sagittal ones once the camera's up is the
head. An oblique volume is shown along its own axes; its true affine travels in the layers' metadata.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from napari.components.overlays import TextOverlay
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from psygnal import Signal

from vqseg.volume import StoredLayout, Volume, Window

if TYPE_CHECKING:
    import napari

__all__ = ["Plane", "Pointed", "ViewerLayers", "direction_letters", "layer_geometry", "volume_of"]

Plane = Literal["axial", "coronal", "sagittal"]
Kind = Literal["image", "annotation", "prediction", "stability"]

# Order of the displayed axes and the camera's (rows, columns) for each plane; head up, front up, right hand left.
_PLANES: dict[str, tuple[tuple[int, int, int], tuple[str, str]]] = {
    "axial": ((0, 1, 2), ("down", "right")),
    "coronal": ((1, 0, 2), ("up", "right")),
    "sagittal": ((2, 0, 1), ("up", "right")),
}
_EDGES = ("top_center", "bottom_center", "middle_left", "middle_right")
_FLIPS = Colormap([[1.0, 0.1, 0.9, 0.0], [1.0, 0.1, 0.9, 0.9]], name="vqseg-flips")


@dataclass(frozen=True)
class Pointed:
    """What lies under the mouse."""

    index: tuple[int, int, int]
    value: float
    ras_mm: tuple[float, float, float]


def layer_geometry(volume: Volume) -> dict[str, Any]:
    """Keyword arguments that place a layer of `volume`'s voxels in the viewer."""
    x, y, z = volume.affine[:3, 3]
    return {
        "scale": volume.spacing_mm,
        "translate": (float(z), float(-y), float(-x)),
        "units": ("mm", "mm", "mm"),
        "axis_labels": ("z", "y", "x"),
        "metadata": {"vqseg": {"affine": volume.affine.tolist(), "source": volume.source, "volume": volume}},
    }


def direction_letters(affine: npt.NDArray[np.float64], axis: int) -> tuple[str, str]:
    """The patient's direction at the low and at the high end of a canonical axis (z, y, x)."""
    column = affine[:3, axis]
    world = int(np.argmax(np.abs(column)))
    low, high = ("LPI"[world], "RAS"[world]) if column[world] > 0 else ("RAS"[world], "LPI"[world])
    return low, high


def volume_of(layer: Image) -> Volume:
    """The volume behind an image layer: as our reader left it, or placed by the layer's own scale and translation."""
    known = layer.metadata.get("vqseg", {}).get("volume")
    if isinstance(known, Volume) and known.shape == tuple(layer.data.shape):
        return known
    affine = np.eye(4)
    for axis, sign in enumerate((1.0, -1.0, -1.0)):  # z to the head, y to the back, x to the left, in RAS+
        affine[2 - axis, 2 - axis] = sign * abs(float(layer.scale[axis]))
        affine[2 - axis, 3] = sign * float(layer.translate[axis])
    data = layer.data if not layer.multiscale else layer.data[0]
    z, y, x = (int(size) for size in data.shape)
    layout = StoredLayout((x, y, z), affine)
    return Volume(layout.to_canonical(data.transpose()), layout, warnings=(
        "The layer's directions are taken as z to the head, y to the back, x to the left; check the letters.",
    ))  # fmt: skip


def _slices_of(item: list[Any]) -> set[int]:
    """Slices that an item of napari's label history touches."""
    slices: set[int] = set()
    for atom in item:
        key = getattr(atom, "slice_key", None)
        if key is not None:
            slices.update(range(key[0].start, key[0].stop))
        elif np.size(atom[0][0]):
            slices.update(int(z) for z in np.unique(atom[0][0]))
    return slices


class ViewerLayers:
    """Image, annotation, prediction and stability of one case in a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer; layers that are not ours are left alone.
    """

    painted = Signal(object)  # set of slices that a person changed
    z_changed = Signal(int)
    pointed = Signal(object)  # Pointed, or None outside the volume
    class_selected = Signal(int)
    brush_changed = Signal(float)  # diameter in mm
    overlay_changed = Signal()
    lost = Signal(str)  # kind of a layer that a person removed

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._volume: Volume | None = None
        self._layers: dict[Kind, Layer] = {}
        self._keys: dict[str, Callable[[], None]] = {}
        self._layer_keys: dict[str, Callable[[], None]] = {}
        self._removing = False
        self._z = -1
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self._listen(viewer.dims.events.point, self._on_dims)
        self._listen(viewer.dims.events.order, self._letter_edges)
        self._listen(viewer.dims.events.ndisplay, self._letter_edges)
        self._listen(self._camera.events.orientation, self._letter_edges)
        self._listen(viewer.cursor.events.position, self._on_cursor)
        self._listen(viewer.layers.events.removed, self._on_removed)

    def _listen(self, signal: Any, callback: Callable[..., Any]) -> None:
        signal.connect(callback)
        self._connections.append((signal, callback))

    # ------------------------------------------------------------ showing

    def show_volume(self, volume: Volume, window: Window, name: str) -> None:
        """Show a volume; the layers of the one before are taken away."""
        self.clear()
        self._volume = volume
        layer = self._viewer.add_image(
            volume.array, name=name, colormap="gray", contrast_limits=window.limits_hu, multiscale=False,
            **layer_geometry(volume),
        )  # fmt: skip
        layer.contrast_limits_range = (min(-1100.0, window.limits_hu[0]), max(3100.0, window.limits_hu[1]))
        self._layers["image"] = layer
        self.show_plane("axial")
        self.go_to(volume.shape[0] // 2)
        self._viewer.canvas.overlays.scale_bar.visible = True
        self._on_dims()

    def show_annotation(self, labels: npt.NDArray[np.uint8], colours: Mapping[int, str]) -> None:
        """Show labels to paint on; the layer and the caller share the array."""
        layer = self._labels("annotation", labels, colours, 0.6)
        layer.brush_size = max(layer.brush_size, 10)
        layer.selected_label = 1
        self._listen(layer.events.paint, self._on_paint)
        self._listen(layer.events.selected_label, self._on_selected_label)
        self._listen(layer.events.brush_size, self._on_brush)
        layer.bind_key("Control-Z", self._undo(layer, "_undo_history", layer.undo), overwrite=True)
        layer.bind_key("Control-Shift-Z", self._undo(layer, "_redo_history", layer.redo), overwrite=True)
        self._bind_on_layer(layer)
        self._viewer.layers.selection.active = layer
        self._on_brush()

    def show_prediction(self, labels: npt.NDArray[np.uint8], colours: Mapping[int, str]) -> None:
        """Show predicted labels, below the annotation; the array may map a file (copy on write)."""
        layer = self._layers.get("prediction")
        if layer is not None and layer in self._viewer.layers:
            layer.data = labels
            return
        active = self._viewer.layers.selection.active
        layer = self._labels("prediction", labels, colours, 0.4)
        layer.editable = False
        self._listen(layer.events.visible, self._on_overlay)
        self._listen(layer.events.opacity, self._on_overlay)
        self._listen(layer.events.contour, self._on_overlay)
        self._below_annotation(layer)
        self._viewer.layers.selection.active = active

    def show_predicted_slice(self, z: int, labels_yx: npt.NDArray[np.uint8]) -> None:
        """Replace slice z of the prediction."""
        layer = self._layers.get("prediction")
        if layer is not None:
            layer.data[z] = labels_yx
            if z == self.z:
                layer.refresh(extent=False)

    def show_stability(self, z: int, stability_yx: npt.NDArray[Any] | None) -> None:
        """Show where predictions of slice z disagree (magenta); None hides the map.

        The layer holds one slice only, and is made before it is needed: adding a layer takes napari long.
        """
        layer = self._layers.get("stability")
        if self._volume is None:
            return
        if stability_yx is None:
            if layer is None:
                self.show_stability(z, np.ones(self._volume.shape[1:]))
            self._layers["stability"].visible = False
            return
        flips = (1.0 - np.asarray(stability_yx, dtype=np.float32))[np.newaxis]
        geometry = layer_geometry(self._volume)
        z0, y0, x0 = geometry["translate"]
        translate = (z0 + z * geometry["scale"][0], y0, x0)
        if layer is None or layer not in self._viewer.layers:
            active = self._viewer.layers.selection.active
            layer = self._viewer.add_image(
                flips, name="stability", colormap=_FLIPS, contrast_limits=(0.0, 0.6), blending="translucent",
                **{**geometry, "translate": translate},
            )  # fmt: skip
            self._layers["stability"] = layer
            self._below_annotation(layer)
            self._viewer.layers.selection.active = active
            return
        layer.data = flips
        layer.translate = translate
        layer.visible = True

    def _labels(self, kind: Kind, labels: Any, colours: Mapping[int, str], opacity: float) -> Labels:
        assert self._volume is not None
        layer = self._viewer.add_labels(
            labels, name=kind, opacity=opacity, colormap=_colormap(colours), **layer_geometry(self._volume)
        )
        self._layers[kind] = layer
        return layer

    def _below_annotation(self, layer: Layer) -> None:
        layers, annotation = self._viewer.layers, self._layers.get("annotation")
        if annotation in layers and layers.index(layer) > layers.index(annotation):
            layers.move(layers.index(layer), layers.index(annotation))

    def clear(self) -> None:
        """Take our layers away."""
        self._volume = None
        self._removing = True
        try:
            for layer in self._layers.values():
                if layer in self._viewer.layers:
                    self._viewer.layers.remove(layer)
        finally:
            self._removing = False
        kept = [item for item in self._connections if not _belongs(item[0], self._layers.values())]
        for signal, callback in self._connections:
            if not any(signal is other for other, _ in kept):
                _disconnect(signal, callback)
        self._connections = kept
        self._layers.clear()
        self._letter_edges()

    def close(self) -> None:
        """Let go of the viewer: connections, keys and edge letters; the layers stay."""
        for signal, callback in self._connections:
            _disconnect(signal, callback)
        self._connections.clear()
        for key in self._keys:
            self._viewer.bind_key(key, None)
        for layer in self._layers.values():
            for key in [*self._keys, *self._layer_keys]:
                with contextlib.suppress(Exception):
                    layer.bind_key(key, None)
        self._keys, self._layer_keys = {}, {}
        self._volume = None
        with contextlib.suppress(Exception):  # the canvas may be gone already
            self._letter_edges()
        self._layers.clear()

    # ------------------------------------------------------------ state

    def selected_volume(self) -> tuple[str, Volume] | None:
        """Name and volume of a three-dimensional image layer that is not ours: the selected one, or the only one.

        The layer is hidden, since the session shows the volume itself.
        """
        ours = list(self._layers.values())
        images = [
            layer for layer in self._viewer.layers
            if isinstance(layer, Image) and not any(layer is own for own in ours) and layer.ndim == 3 and not layer.rgb
        ]  # fmt: skip
        active = self._viewer.layers.selection.active
        chosen = active if active in images else images[-1] if images else None
        if chosen is None:
            return None
        chosen.visible = False
        return chosen.name, volume_of(chosen)

    def has(self, kind: Kind) -> bool:
        """Whether a layer of ours is in the viewer."""
        return kind in self._layers and self._layers[kind] in self._viewer.layers

    @property
    def _camera(self) -> Any:
        """The camera, which napari 0.9 moved into the scene."""
        return self._viewer.scene.camera if hasattr(self._viewer, "scene") else self._viewer.camera

    @property
    def _first_axis(self) -> int:
        return int(self._viewer.dims.ndim) - 3

    @property
    def z(self) -> int:
        """The shown slice."""
        if self._volume is None or self._first_axis < 0:
            return max(self._z, 0)
        return self._index_of(self._viewer.dims.point)[0]

    def _index_of(self, point: Any) -> tuple[int, int, int]:
        assert self._volume is not None
        geometry = layer_geometry(self._volume)
        place = np.asarray(point[-3:], dtype=float)
        index = np.rint((place - geometry["translate"]) / geometry["scale"]).astype(int)
        return tuple(int(i) for i in np.clip(index, 0, np.array(self._volume.shape) - 1))  # type: ignore[return-value]

    def go_to(self, z: int) -> None:
        """Show slice z."""
        if self._volume is not None:
            geometry = layer_geometry(self._volume)
            z = min(max(z, 0), self._volume.shape[0] - 1)
            self._viewer.dims.set_point(self._first_axis, geometry["translate"][0] + z * geometry["scale"][0])

    def show_plane(self, plane: Plane) -> None:
        """Turn the view to axial, coronal or sagittal."""
        order, orientation = _PLANES[plane]
        first = self._first_axis
        if first < 0:
            return
        self._viewer.dims.ndisplay = 2
        self._viewer.dims.order = (*range(first), *(first + axis for axis in order))
        self._camera.orientation2d = orientation
        self._viewer.reset_view()

    def set_window(self, window: Window) -> None:
        """Show the image in a window."""
        image = self._layers.get("image")
        if isinstance(image, Image):
            low, high = image.contrast_limits_range
            image.contrast_limits_range = (min(low, window.limits_hu[0]), max(high, window.limits_hu[1]))
            image.contrast_limits = window.limits_hu

    def visible_quantiles(self) -> Window | None:
        """The window between the 0.5 % and 99.5 % quantiles of the shown slice."""
        if self._volume is None:
            return None
        low, high = np.quantile(self._volume.slice(self.z)[::2, ::2], (0.005, 0.995))
        return Window(float(low + high) / 2, float(max(high - low, 1.0)))

    def set_colours(self, colours: Mapping[int, str]) -> None:
        """Colour the classes."""
        for kind in ("annotation", "prediction"):
            layer = self._layers.get(kind)
            if isinstance(layer, Labels):
                selected = layer.selected_label
                layer.colormap = _colormap(colours)
                layer.selected_label = selected

    def select_class(self, value: int) -> None:
        """Paint class `value` from now on."""
        layer = self._layers.get("annotation")
        if isinstance(layer, Labels) and layer.selected_label != value:
            layer.selected_label = value

    def paint(self, erase: bool = False) -> None:
        """Take the brush, or the eraser, in hand."""
        layer = self._layers.get("annotation")
        if isinstance(layer, Labels) and layer in self._viewer.layers:
            self._viewer.layers.selection.active = layer
            layer.mode = "erase" if erase else "paint"

    @property
    def brush_mm(self) -> float:
        """Diameter of the brush, mm."""
        layer = self._layers.get("annotation")
        return float(layer.brush_size) * self._pixel_mm if isinstance(layer, Labels) else 0.0

    @brush_mm.setter
    def brush_mm(self, diameter_mm: float) -> None:
        layer = self._layers.get("annotation")
        if isinstance(layer, Labels):
            layer.brush_size = max(1, round(diameter_mm / self._pixel_mm))

    @property
    def _pixel_mm(self) -> float:
        return min(self._volume.spacing_mm[1:]) if self._volume is not None else 1.0

    def set_slice(self, z: int, labels_yx: npt.NDArray[np.uint8]) -> None:
        """Put labels into slice z of the annotation, with napari's undo; touches that slice only."""
        layer = self._layers.get("annotation")
        if not isinstance(layer, Labels):
            return
        y, x = np.nonzero(layer.data[z] != labels_yx)
        if y.size:
            layer.data_setitem((np.full(y.size, z), y, x), labels_yx[y, x], refresh=False)
            layer.refresh(extent=False)

    @property
    def overlay_visible(self) -> bool:
        """Whether the prediction is shown."""
        layer = self._layers.get("prediction")
        return layer is not None and bool(layer.visible)

    @overlay_visible.setter
    def overlay_visible(self, visible: bool) -> None:
        for kind in ("prediction", "stability"):
            if kind in self._layers:
                self._layers[kind].visible = visible

    @property
    def overlay_opacity(self) -> float:
        """Opacity of the prediction, 0 to 1."""
        layer = self._layers.get("prediction")
        return float(layer.opacity) if layer is not None else 0.4

    @overlay_opacity.setter
    def overlay_opacity(self, opacity: float) -> None:
        if "prediction" in self._layers:
            self._layers["prediction"].opacity = opacity

    @property
    def contour(self) -> bool:
        """Whether the prediction is drawn as a contour."""
        layer = self._layers.get("prediction")
        return isinstance(layer, Labels) and layer.contour > 0

    @contour.setter
    def contour(self, contour: bool) -> None:
        layer = self._layers.get("prediction")
        if isinstance(layer, Labels):
            layer.contour = 2 if contour else 0

    # ------------------------------------------------------------ keys

    def bind(self, keys: Mapping[str, Callable[[], None]], layer_keys: Mapping[str, Callable[[], None]]) -> None:
        """Bind keys in this viewer, and further ones only while a labels layer of ours is selected."""
        self._keys, self._layer_keys = dict(keys), dict(layer_keys)
        for key, action in self._keys.items():
            self._viewer.bind_key(key, lambda _viewer, action=action: action(), overwrite=True)

    def _bind_on_layer(self, layer: Layer) -> None:
        for key, action in {**self._keys, **self._layer_keys}.items():
            layer.bind_key(key, lambda _layer, action=action: action(), overwrite=True)

    def resize_brush(self, factor: float) -> None:
        """Make the brush larger or smaller, by at least one voxel."""
        layer = self._layers.get("annotation")
        if isinstance(layer, Labels):
            size = int(layer.brush_size)
            target = round(size * factor)
            layer.brush_size = max(1, size + (1 if factor > 1 else -1) if target == size else target)

    # ------------------------------------------------------------ listening

    def _undo(self, layer: Labels, history: str, action: Callable[[], None]) -> Callable[[Any], None]:
        def undo(_: Any) -> None:
            items = getattr(layer, history, None)
            slices = _slices_of(items[-1]) if items else set()
            action()
            if slices:
                if self.z not in slices:
                    self.go_to(min(slices, key=lambda z: abs(z - self.z)))
                self.painted.emit(slices)

        return undo

    def _on_paint(self, event: Any) -> None:
        slices = _slices_of(event.value)
        if slices:
            self.painted.emit(slices)

    def _on_selected_label(self) -> None:
        layer = self._layers.get("annotation")
        if isinstance(layer, Labels):
            self.class_selected.emit(int(layer.selected_label))

    def _on_brush(self) -> None:
        self.brush_changed.emit(self.brush_mm)

    def _on_overlay(self) -> None:
        self.overlay_changed.emit()

    def _on_dims(self) -> None:
        if self._volume is not None and self._first_axis >= 0 and self.z != self._z:
            self._z = self.z
            self.z_changed.emit(self._z)

    def _on_cursor(self) -> None:
        image = self._layers.get("image")
        if self._volume is None or self._first_axis < 0 or image not in self._viewer.layers:
            return
        assert isinstance(image, Image)
        position = self._viewer.cursor.position
        value = image.get_value(position, world=True) if self._viewer.dims.ndisplay == 2 else None
        if value is None:
            self.pointed.emit(None)
            return
        index = self._index_of(position)
        x, y, z = (self._volume.affine @ [*index, 1])[:3]
        self.pointed.emit(Pointed(index, float(value), (float(x), float(y), float(z))))

    def _on_removed(self, event: Any) -> None:
        for kind, layer in list(self._layers.items()):
            if layer is event.value and not self._removing:
                del self._layers[kind]
                self.lost.emit(kind)

    def _letter_edges(self) -> None:
        """Write the patient's directions at the canvas's edges."""
        canvas = getattr(self._viewer, "canvas", None)
        if canvas is None:
            return
        shown = self._volume is not None and self._viewer.dims.ndisplay == 2 and self._first_axis >= 0
        letters: dict[str, str] = dict.fromkeys(_EDGES, "")
        if shown and self._volume is not None:
            row, column = (axis - self._first_axis for axis in self._viewer.dims.order[-2:])
            vertical, horizontal = self._camera.orientation2d
            top, bottom = direction_letters(self._volume.affine, row)
            left, right = direction_letters(self._volume.affine, column)
            if str(vertical) == "up":
                top, bottom = bottom, top
            if str(horizontal) == "left":
                left, right = right, left
            letters = dict(zip(_EDGES, (top, bottom, left, right), strict=True))
        for position, letter in letters.items():
            name = f"vqseg_{position}"
            if name not in canvas.overlays:
                if not letter:
                    continue
                canvas.overlays[name] = TextOverlay(
                    position=position, font_size=14, color="white", box_color=(0, 0, 0, 0.5)
                )
            canvas.overlays[name].text = letter
            canvas.overlays[name].visible = bool(letter)


def _colormap(colours: Mapping[int, str]) -> DirectLabelColormap:
    shown: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    for value, colour in colours.items():
        shown[value] = colour
    return DirectLabelColormap(color_dict=shown)


def _belongs(signal: Any, layers: Any) -> bool:
    return any(getattr(signal, "source", None) is layer for layer in layers)


def _disconnect(signal: Any, callback: Callable[..., Any]) -> None:
    with contextlib.suppress(Exception):
        signal.disconnect(callback)
