"""Methods as they are named on the command line: ``vq-seg``, or ``vq-seg:epsilon=0.5:perturbation=dropout``."""

from __future__ import annotations

import dataclasses
from typing import Any

from vqseg.config import Config
from vqseg.errors import ConfigError

__all__ = ["parse_variant", "split_list"]


def split_list(text: str) -> list[str]:
    """The items of a comma-separated list."""
    return [item.strip() for item in text.split(",") if item.strip()]


def parse_variant(text: str) -> tuple[str, dict[str, Any]]:
    """The method's name and the settings that follow it.

    Raises
    ------
    ConfigError
        For unknown settings or values of another type.
    """
    name, *items = text.split(":")
    return name, {key: _value(key, value) for key, _, value in (item.partition("=") for item in items)}


def _value(name: str, text: str) -> Any:
    """`text` as the type of the setting's default."""
    for group in dataclasses.fields(Config)[1:]:
        default = getattr(getattr(Config(), group.name), name, None)
        if default is None:
            continue
        if isinstance(default, bool):
            if text.lower() not in ("true", "false"):
                raise ConfigError(f"{name} is {text!r}; it must be true or false.")
            return text.lower() == "true"
        try:
            return type(default)(text)
        except ValueError:
            raise ConfigError(f"{name} is {text!r}; it must be a number.") from None
    raise ConfigError(f"Unknown setting {name!r} of a method; `vqseg info --settings` lists them.")
