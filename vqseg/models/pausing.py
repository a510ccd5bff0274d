"""Pauses in the midst of what a network computes, so that what is more urgent need not wait for its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["pausing"]


@contextmanager
def pausing(network: nn.Module, pause: Callable[[], None] | None) -> Iterator[None]:
    """Call `pause` behind every layer that has weights, and again where the gradient reaches what it put out.

    What is computed stays the same to the bit.

    Parameters
    ----------
    network : nn.Module
        Not a compiled one, which hooks within it would have compiled anew.
    pause : callable or None
        Must leave the network and torch's own random numbers alone; None for no pauses.
    """
    if pause is None:
        yield
        return

    def behind(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        pause()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(lambda _gradient: pause())

    layers = [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(behind) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
