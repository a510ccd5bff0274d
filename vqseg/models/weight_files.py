"""Weights files of foundation models: a local one, the hub's cache or the hub; tensors only, under timm's names.

What cannot be had is one sentence within seconds, never a hang, and no file is ever run as a program.
"""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file

from vqseg.errors import PriorError

__all__ = ["find_weights", "read_weights"]

SUFFIXES = (".safetensors", ".pth", ".bin")
CONNECT_S = 3.0
"""Seconds to wait for the hub to answer before giving up."""


def find_weights(name: str, hub: str, filename: str, path: str | Path = "") -> Path:
    """The weights file of a model.

    Parameters
    ----------
    name : str
        Public name of the model.
    hub, filename : str
        Repository on the Hugging Face hub, and the file in it.
    path : str or Path
        Local weights file, or a folder that holds one named after the model; empty for the hub and its cache.

    Raises
    ------
    PriorError
        Where there is none.
    """
    return _local(name, Path(path).expanduser()) if path else _from_hub(name, hub, filename)


def _local(name: str, path: Path) -> Path:
    """The weights file that `path` is, or that it holds under the prior's name."""
    if not path.is_dir():
        return path
    names = [name + suffix for suffix in SUFFIXES]
    found = [path / file for file in names if (path / file).is_file()]
    if len(found) != 1:
        raise PriorError(f"{path} holds {len(found)} weights files of {name}; put one there: {' or '.join(names)}.")
    return found[0]


def read_weights(name: str, file: Path) -> dict[str, Any]:
    """The tensors of a weights file by timm's names; never runs code from it.

    Raises
    ------
    PriorError
        If it is missing, damaged, or holds other things.
    """
    if not file.is_file():
        raise PriorError(f"There is no weights file of {name} at {file}; correct the path or leave it empty.")
    try:
        safe = file.suffix == ".safetensors"
        stored = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle and zip each have their own errors, pages long
        reason = getattr(error, "strerror", None) or "damaged, or more than tensors, which could be a program"
        raise PriorError(
            f"{file} cannot be read as weights of {name} ({reason}); give them as .safetensors or as a state dict."
        ) from None
    if not isinstance(stored, dict):
        raise PriorError(f"{file} holds a {type(stored).__name__}, not tensors by name; give a state dict of {name}.")
    return _from_transformers(stored)


_TRANSFORMERS_NAMES = (
    (r"^dinov2\.", ""),
    (r"^embeddings\.(cls_token|mask_token)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
"""Names of transformers' Dinov2Model, as in microsoft/rad-dino, and timm's."""


def _from_transformers(stored: dict[str, Any]) -> dict[str, Any]:
    """Rename transformers' Dinov2 keys to timm's, joining query, key and value; other layouts pass unchanged."""
    if not any(key.endswith("embeddings.patch_embeddings.projection.weight") for key in stored):
        return stored
    renamed: dict[str, Any] = {}
    for key, value in stored.items():
        for pattern, replacement in _TRANSFORMERS_NAMES:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    for key in [key for key in renamed if ".attention.attention.query." in key]:
        parts = [renamed.pop(key.replace("query", part)) for part in ("query", "key", "value")]
        renamed[key.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return renamed


def _from_hub(name: str, hub: str, filename: str) -> Path:
    """The weights file in the hub's cache, downloaded first where need be."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    way_out = f"Give a local file of {hub}/{filename} (setting prior_path), or connect to the internet once."
    try:
        return Path(hf_hub_download(hub, filename, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    if constants.HF_HUB_OFFLINE or not _reachable(constants.ENDPOINT):
        raise PriorError(
            f"The weights of the prior {name!r} are not on this machine and the hub is not reachable. {way_out}"
        )
    try:
        return Path(hf_hub_download(hub, filename, etag_timeout=CONNECT_S))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise PriorError(f"The weights of the prior {name!r} could not be downloaded ({first}). {way_out}") from None


def _reachable(endpoint: str) -> bool:
    """Whether the hub, or the proxy before it, accepts a connection within a few seconds."""
    url = urlsplit(urllib.request.getproxies().get("https") or endpoint)
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=CONNECT_S).close()
    except OSError:
        return False
    return True
