"""Methods as the command line names them, ``vq-seg:epsilon=0.5:perturbation=dropout`` for one, and lists of such."""

from __future__ import annotations

import contextlib
from typing import Any, TypeVar

from vqseg.config import parse_setting
from vqseg.errors import ConfigError

__all__ = ["parse_variant", "split_list", "split_numbers"]

Number = TypeVar("Number", int, float)


def split_list(text: str) -> list[str]:
    """The items of a comma-separated list."""
    return [item.strip() for item in text.split(",") if item.strip()]


def split_numbers(flag: str, text: str, kind: type[Number], least: Number) -> list[Number]:
    """The numbers of a comma-separated list that a flag was given.

    Raises
    ------
    ConfigError
        If an item is no number of this kind, or is less than `least`.
    """
    with contextlib.suppress(ValueError):
        numbers = [kind(item) for item in split_list(text)]
        if all(number >= least for number in numbers):
            return numbers
    what = "whole numbers" if kind is int else "numbers"
    raise ConfigError(f"{flag} is {text!r}; give {what} from {least:g}, separated by commas.")


def parse_variant(text: str) -> tuple[str, dict[str, Any]]:
    """The method's name and the settings that follow it.

    Raises
    ------
    ConfigError
        For unknown settings or values of another type.
    """
    name, *items = text.split(":")
    return name, {key: parse_setting(key, value) for key, _, value in (item.partition("=") for item in items)}
