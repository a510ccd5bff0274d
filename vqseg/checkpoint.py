"""Checkpoints on disk: tensors as safetensors, everything else as JSON; nothing is ever unpickled.

A checkpoint is a folder. It is written beside and then swapped in, so that it is whole or absent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqseg.config import Config
from vqseg.data.framing import Framing
from vqseg.errors import CheckpointError
from vqseg.io.atomic import beside, flush
from vqseg.methods.base import Method
from vqseg.volume import Window

__all__ = [
    "FORMAT_VERSION",
    "read_checkpoint",
    "read_description",
    "restore_settings",
    "restore_weights",
    "write_checkpoint",
]

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

    Raises
    ------
    CheckpointError
        If it cannot be written, as on a full disk; the one before stays.
    """
    path = Path(path)
    temporary = beside(path, "new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        _fill(temporary, description, tensors)
        _swap_in(temporary, path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error).rsplit(": ", 1)[-1]
        raise CheckpointError(
            f"The checkpoint could not be written to {path} ({reason}); make room there, or choose another folder."
        ) from None


def _fill(folder: Path, description: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write the files of a checkpoint and wait until they are on the disk."""
    text = json.dumps({"format_version": FORMAT_VERSION, **description}, indent=2) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    for name, group in tensors.items():
        contiguous = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in group.items()}
        save_file(contiguous, folder / f"{name}.safetensors")
    for file in folder.iterdir():
        shutil.copymode(folder / DESCRIPTION, file)  # safetensors makes files that only their owner can read
        flush(file)
    flush(folder)


def _swap_in(whole: Path, path: Path) -> None:
    """Let a whole folder take the place of `path`."""
    previous = path.with_name(f".{path.name}.previous")
    if path.exists():  # where it is not, the previous one is the only one there is, until the new one is in place
        shutil.rmtree(previous, ignore_errors=True)
        path.rename(previous)
    whole.rename(path)
    flush(path.parent)
    shutil.rmtree(previous, ignore_errors=True)


def read_description(path: Path) -> dict[str, Any]:
    """Read what a checkpoint's checkpoint.json says, without its tensors.

    Raises
    ------
    CheckpointError
        If it is missing, damaged or of another format version.
    """
    path = _whole(Path(path))
    try:
        description: dict[str, Any] = dict(json.loads((path / DESCRIPTION).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise _not_whole(path, error) from None
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"The checkpoint has format {version}, this version reads {FORMAT_VERSION}; "
            "open it with the version that wrote it, or train again."
        )
    return description


def read_checkpoint(
    path: Path, groups: Sequence[str] = ("model",)
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read a checkpoint folder, or its previous version where the machine stopped between the two renames.

    Parameters
    ----------
    path : Path
        The folder.
    groups : sequence of str
        Names of the safetensors files to read; a prediction needs no optimizer, which is twice as large as the model.

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
    path = _whole(Path(path))
    description = read_description(path)
    try:
        tensors = {name: load_file(path / f"{name}.safetensors") for name in groups}
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_whole(path, error) from None
    return description, tensors


def _whole(path: Path) -> Path:
    """The folder, or its previous version where it is not there."""
    previous = path.with_name(f".{path.name}.previous")
    return previous if not path.exists() and previous.exists() else path


def _not_whole(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a whole checkpoint ({type(error).__name__}); "
        "choose a folder with checkpoint.json and model.safetensors, or train again."
    )


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
        config = Config.from_dict(description["config"])
        equalisation = tuple(map(float, description.get("equalisation", ())))  # older checkpoints lack it
        framing = Framing(
            window, float(description["pixel_mm"]), config.model.neighbours, equalisation, config.data.register_slices
        )
        return config, framing, class_names
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
