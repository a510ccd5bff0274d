"""What lies under the mouse."""

from __future__ import annotations

from dataclasses import dataclass

from napari.layers import Image
from psygnal import Signal

from napari_vqseg.layers.stage import Stage

__all__ = ["Pointed", "Pointer"]


@dataclass(frozen=True)
class Pointed:
    """What lies under the mouse."""

    index: tuple[int, int, int]
    value: float
    ras_mm: tuple[float, float, float]


class Pointer:
    """The mouse over the volume.

    Attributes
    ----------
    pointed : Signal(Pointed or None)
        The voxel under the mouse, None outside the volume.
    """

    pointed = Signal(object)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        stage.listen(stage.viewer.cursor.events.position, self._on_cursor)

    def _on_cursor(self) -> None:
        stage, image = self._stage, self._stage.layer("image")
        if stage.volume is None or stage.first_axis < 0 or not isinstance(image, Image):
            return
        position = stage.viewer.cursor.position
        value = image.get_value(position, world=True) if stage.viewer.dims.ndisplay == 2 else None
        if value is None:
            self.pointed.emit(None)
            return
        index = stage.index_of(position)
        x, y, z = (stage.volume.affine @ [*index, 1])[:3]
        self.pointed.emit(Pointed(index, float(value), (float(x), float(y), float(z))))
