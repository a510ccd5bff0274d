"""The colours of classes; they hold on grey images and for colour-blind eyes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["PALETTE", "class_colours", "colour_of"]

PALETTE = (
    "#E8601C", "#56B4E9", "#F0E442", "#1FBF8F", "#CC79A7", "#F6A600", "#7B8CFF", "#B8DE29", "#AA3377", "#88CCEE",
)  # fmt: skip
"""Okabe and Ito's colours, the dark ones lightened, in an order that keeps neighbours apart."""

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def colour_of(value: int) -> str:
    """The colour, "#RRGGBB", that a class value starts with."""
    return PALETTE[(value - 1) % len(PALETTE)]


def class_colours(chosen: Any, values: Iterable[int]) -> dict[int, str]:
    """Colour of each class value: the one chosen, as project.json keeps them under `colours`, or its first one."""
    known = chosen if isinstance(chosen, dict) else {}
    found = {value: str(known.get(str(value), "")) for value in values}
    return {value: colour if COLOUR.fullmatch(colour) else colour_of(value) for value, colour in found.items()}
