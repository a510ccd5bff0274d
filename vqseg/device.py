"""Where to compute, and in which precision."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vqseg.errors import DeviceError

__all__ = [
    "choose_device",
    "compile_networks",
    "gains_from_bfloat16",
    "has_room",
    "random_states",
    "restore_random_states",
]


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    DeviceError
        If a device is asked for that is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available.get(name, False):
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise DeviceError(f"The device {name!r} was asked for and is not there; choose auto or one of: {there}.")
    return torch.device(name)


def gains_from_bfloat16(device: torch.device) -> bool:
    """Whether the device computes convolutions faster in bfloat16: CUDA, and CPUs with matrix tiles (AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before torch 2.10
    return device.type == "cpu" and bool(capabilities.get("amx_bf16", False))


def has_room(device: torch.device, n_bytes: int) -> bool:
    """Whether a GPU holds so much data in a quarter of its free memory; the rest is for the training."""
    return device.type == "cuda" and 4 * n_bytes <= torch.cuda.mem_get_info(device)[0]


def compile_networks(*networks: nn.Module | None) -> None:
    """Compile the convolutional parts of networks in place; names and weights stay as they are.

    Quantizers choose by what their data say, step by step, and stay as they are.
    """
    for network in networks:
        if network is not None:
            for name, part in getattr(network, "net", network).named_children():
                if name != "quantizer":
                    part.compile()


def random_states(device: torch.device) -> dict[str, Tensor]:
    """States of torch's own generators, the CPU's and the device's, by which dropout and noise are drawn."""
    states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on from :func:`random_states`; what was drawn on a device of another kind begins anew."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
