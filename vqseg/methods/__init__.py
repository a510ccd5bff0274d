"""Ways to train a network from few labelled and many unlabelled slices: twins behind one interface."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vqseg.errors import ConfigError

if TYPE_CHECKING:
    from vqseg.config import Config
    from vqseg.methods.base import Method

__all__ = ["METHODS", "create_method"]

METHODS = {
    "supervised": "vqseg.methods.supervised:Supervised",
    "ua-mt": "vqseg.methods.ua_mt:UAMT",
    "unimatch": "vqseg.methods.unimatch:UniMatch",
    "bcp": "vqseg.methods.bcp:BCP",
    "vq-seg": "vqseg.methods.vqseg:VQSegMethod",
}
"""Where each method lives; a module is imported when its method is created."""


def create_method(name: str, config: Config, in_channels: int, n_classes: int, *, pretrained: bool = True) -> Method:
    """The method called `name`, ready to train.

    Parameters
    ----------
    name : str
        One of ``METHODS``.
    config : Config
        The run's settings.
    in_channels : int
        Channels of the input slices.
    n_classes : int
        Number of output classes, background included.
    pretrained : bool
        Load a pretrained encoder's weights; False where a checkpoint is loaded afterwards.

    Raises
    ------
    ConfigError
        For an unknown name.
    """
    if name not in METHODS:
        raise ConfigError(f"Unknown method {name!r}; choose one of {', '.join(METHODS)}.")
    module, cls = METHODS[name].split(":")
    options = {} if pretrained or name != "vq-seg" else {"pretrained": False}
    method: Method = getattr(import_module(module), cls)(config, in_channels, n_classes, **options)
    return method
