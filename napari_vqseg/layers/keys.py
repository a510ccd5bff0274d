"""Keys: some of the viewer, some only while our labels layer is selected."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from napari.layers import Layer

from napari_vqseg.layers.stage import Stage

__all__ = ["Keys"]


class Keys:
    """The keys of this plugin in one viewer."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._keys: dict[str, Callable[[], None]] = {}
        self._layer_keys: dict[str, Callable[[], None]] = {}

    def bind(self, keys: Mapping[str, Callable[[], None]], layer_keys: Mapping[str, Callable[[], None]]) -> None:
        """Bind keys in this viewer, and further ones only while a labels layer of ours is selected."""
        self._keys, self._layer_keys = dict(keys), dict(layer_keys)
        for key, action in self._keys.items():
            self._stage.viewer.bind_key(key, lambda _viewer, action=action: action(), overwrite=True)

    def bind_on(self, layer: Layer) -> None:
        """Bind all keys on a layer, whose own ones of the same name would come first."""
        for key, action in {**self._keys, **self._layer_keys}.items():
            layer.bind_key(key, lambda _layer, action=action: action(), overwrite=True)

    def hold(self, key: str, action: Callable[[], None]) -> None:
        """Bind one more key for a while, before what napari does with it."""
        self._stage.viewer.bind_key(key, lambda _: action(), overwrite=True)
        layer = self._stage.layer("annotation")
        if layer is not None:
            layer.bind_key(key, lambda _: action(), overwrite=True)

    def let_go(self, key: str) -> None:
        """Give a key that was held back to napari."""
        for keymap in (self._stage.viewer, self._stage.layer("annotation")):
            if keymap is not None and any(str(bound) == key for bound in keymap.keymap):
                keymap.bind_key(key, None)

    def close(self) -> None:
        """Unbind all."""
        self.let_go("Escape")
        for key in self._keys:
            self._stage.viewer.bind_key(key, None)
        for layer in filter(None, (self._stage.layer("annotation"), self._stage.layer("codes"))):
            for key in [*self._keys, *self._layer_keys]:
                with contextlib.suppress(Exception):
                    layer.bind_key(key, None)
        self._keys, self._layer_keys = {}, {}
