"""Cleaning a prediction up from the command line, by the rules that the window has in its section Review."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vqseg.errors import ConfigError

if TYPE_CHECKING:
    from vqseg.components import CleanUp

__all__ = ["Wish", "add_clean_up_flags", "rules_for", "wishes_from"]

ALL = "all"


@dataclass(frozen=True)
class Wish:
    """One flag: a field of :class:`vqseg.components.CleanUp`, its value, and the class by name or value, or "all"."""

    field: str
    value: float
    which: str = ALL


def add_clean_up_flags(parser: argparse.ArgumentParser) -> None:
    """``--keep-largest``, ``--min-volume`` and ``--fill-holes``."""
    group = parser.add_argument_group(
        "clean-up of the prediction", "CLASS is a name or a label value; without it a rule is for all classes.\n"
        "Each may be repeated; labelled slices stay as they are."
    )  # fmt: skip
    group.add_argument("--keep-largest", action="append", default=[], metavar="[CLASS=]N",
                       help="keep the N largest connected components; 0 keeps all")  # fmt: skip
    group.add_argument("--min-volume", action="append", default=[], metavar="[CLASS=]ML",
                       help="drop connected components smaller than ML millilitres")  # fmt: skip
    group.add_argument("--fill-holes", action="append", default=[], metavar="CLASS",
                       help="give CLASS, or `all`, the background that it encloses on all sides")  # fmt: skip


def wishes_from(args: argparse.Namespace) -> tuple[Wish, ...]:
    """What the flags ask for, before the classes are known.

    Raises
    ------
    ConfigError
        For a number that is none, or is negative.
    """
    largest = (_wish("--keep-largest", "keep_largest", text, int) for text in args.keep_largest)
    smallest = (_wish("--min-volume", "min_volume_ml", text, float) for text in args.min_volume)
    return (*largest, *smallest, *(Wish("fill_holes", True, which) for which in args.fill_holes))


def _wish(flag: str, field: str, text: str, kind: type[int] | type[float]) -> Wish:
    from vqseg.components import CleanUp

    which, _, number = text.rpartition("=")
    try:
        value = kind(number)
    except ValueError:
        what = "a whole number" if kind is int else "millilitres"
        raise ConfigError(f"{flag} is {text!r}; give {what}, or CLASS={what}") from None
    CleanUp(**{field: value})  # type: ignore[arg-type]  # refuses what is negative
    return Wish(field, value, which or ALL)


def rules_for(
    wishes: tuple[Wish, ...], names: Mapping[int, str], rules: Mapping[int, CleanUp] | None = None
) -> dict[int, CleanUp]:
    """Rules by label value: what was asked for all classes, then what for single ones, on top of `rules`.

    Raises
    ------
    ConfigError
        If a class is unknown.
    """
    from vqseg.components import CleanUp

    made = {value: (rules or {}).get(value, CleanUp()) for value in names}
    for wish in sorted(wishes, key=lambda wish: wish.which != ALL):
        meant = [value for value, name in names.items() if wish.which.casefold() in (ALL, name.casefold(), str(value))]
        if not meant:
            known = ", ".join(names.values())
            raise ConfigError(f"there is no class {wish.which!r} to clean up; choose from {known}, or `all`")
        for value in meant:
            made[value] = replace(made[value], **{wish.field: wish.value})  # type: ignore[arg-type]
    return {value: rule for value, rule in made.items() if rule}
