"""Checkpoints on disk: tensors as safetensors, everything else as JSON; nothing is ever unpickled.

A checkpoint is a folder. It is written beside and then swapped in, so that it is whole or absent.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqseg.config import Config
from vqseg.data.case import Framing
from vqseg.errors import CheckpointError
from vqseg.methods.base import Method
from vqseg.volume import Window

__all__ = ["FORMAT_VERSION", "read_checkpoint", "restore_settings", "restore_weights", "write_checkpoint"]

FORMAT_VERSION = 1
DESCRIPTION = "checkpoint.json"


def write_checkpoint(path: Path, description: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a checkpoint folder atomically.

    Parameters
    ----------
    path : Path
        The folder; replaced where it exists.
    description : mapping
        Anything JSON can hold.
    tensors : mapping of str to mapping of str to Tensor
        One safetensors file per entry: {"model": {...}} becomes model.safetensors.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for name, group in tensors.items():
        contiguous = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in group.items()}
        save_file(contiguous, beside / f"{name}.safetensors")
    text = json.dumps({"format_version": FORMAT_VERSION, **description}, indent=2) + "\n"
    (beside / DESCRIPTION).write_text(text, encoding="utf-8")
    for file in beside.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    previous = path.with_name(f".{path.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    if path.exists():
        path.rename(previous)
    beside.rename(path)
    shutil.rmtree(previous, ignore_errors=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read a checkpoint folder, or its previous version where the machine stopped between the two renames.

    Returns
    -------
    description : dict
    tensors : dict of str to dict of str to Tensor
        One entry per safetensors file.

    Raises
    ------
    CheckpointError
        If the folder is missing, incomplete, damaged or of another format version.
    """
    path = Path(path)
    if not path.exists() and (previous := path.with_name(f".{path.name}.previous")).exists():
        path = previous
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint ({type(error).__name__}); "
            "choose a folder with checkpoint.json and model.safetensors, or train again."
        ) from None
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"The checkpoint has format {version}, this version reads {FORMAT_VERSION}; "
            "open it with the version that wrote it, or train again."
        )
    return description, tensors


def restore_settings(description: Mapping[str, Any]) -> tuple[Config, Framing, dict[int, str]]:
    """Config, framing and class names in a checkpoint's description.

    Raises
    ------
    CheckpointError
        If one of them is missing or unusable.
    """
    try:
        window = Window(**description["window"])
        class_names = {int(value): str(name) for value, name in description["classes"].items()}
        return Config.from_dict(description["config"]), Framing(window, float(description["pixel_mm"])), class_names
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint's description lacks or misstates {error}; train again.") from None


def restore_weights(method: Method, tensors: Mapping[str, Tensor]) -> None:
    """Load a method's weights.

    Raises
    ------
    CheckpointError
        If they do not fit.
    """
    try:
        method.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"The checkpoint's weights do not fit its config: {first} Train again.") from None
