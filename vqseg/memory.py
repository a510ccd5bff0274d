"""What to do when the memory is full: smaller batches first, then smaller slices."""

from __future__ import annotations

import gc
import sys

from vqseg.config import Config
from vqseg.errors import DeviceError

__all__ = ["free_memory", "is_of_device", "is_out_of_memory", "smaller", "step_down", "unless_full"]

SMALLEST_SIZE = 64
FULL = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""How CUDA, torch's allocators on Linux and on Windows, and cuBLAS and cuDNN say that the memory is full."""
ONEDNN = ("could not create a primitive", "could not create a memory object")
"""The whole of what oneDNN, which convolves on the processor, says then; longer sentences of its name other faults."""
DEVICES = ("cuda", "cudnn", "cublas", "mps")
TOO_FULL = "The memory is too full for that; close other programs, then try again."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory, the processor's or the device's, is full."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in text for words in FULL)
        or text.strip() in ONEDNN
    )


def is_of_device(error: BaseException) -> bool:
    """Whether it is a device's memory that an out-of-memory error is about, rather than the processor's."""
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(name in text for name in DEVICES)


def unless_full(error: BaseException, sentence: str) -> str:
    """The sentence for an unexpected error, unless that means that the memory is full."""
    return TOO_FULL if is_out_of_memory(error) else sentence


def smaller(config: Config, devices: int = 1) -> Config | None:
    """The config with half the batch; at the smallest batch with smaller slices; None where nothing is left.

    Batches stay multiples of `devices`, which share them.
    """
    data = config.data
    if data.batch_x > devices or data.batch_u > devices:
        return config.replace(batch_x=_half(data.batch_x, devices), batch_u=_half(data.batch_u, devices))
    if data.size > SMALLEST_SIZE:
        return config.replace(size=max(SMALLEST_SIZE, data.size * 3 // 4 // 32 * 32))
    return None


def _half(batch: int, devices: int) -> int:
    """Half a batch, at least a slice on each device; none stays none."""
    return batch and devices * max(1, batch // devices // 2)


def step_down(config: Config, error: MemoryError | RuntimeError, devices: int = 1) -> tuple[Config, str]:
    """What to train with after an error, on so many devices, and the sentence that tells the person.

    Raises
    ------
    DeviceError
        If nothing smaller is left.
    MemoryError, RuntimeError
        The error itself, where it does not mean that the memory is full.
    """
    if not is_out_of_memory(error):
        raise error
    less = smaller(config, devices)
    if less is None:
        way_out = "close other programs" + (" or choose the CPU." if is_of_device(error) else ", then train again.")
        raise DeviceError(f"The memory does not suffice even for the smallest batch; {way_out}") from error
    data = less.data
    return less, (
        "The memory is full: training goes on with "
        f"batches of {data.batch_x} + {data.batch_u} slices at {data.size} pixels."
    )


def free_memory() -> None:
    """Give back what nobody uses any more, the device's cache included."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
