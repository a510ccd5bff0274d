"""What the verbs' arguments have in common: the parser, slice lists, settings."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, get_args

from vqseg.cli.console import listed
from vqseg.config import PRESETS, Config, known_settings, parse_setting, preset
from vqseg.errors import AnnotationError, ConfigError

__all__ = [
    "Parser",
    "add_output_flags",
    "add_settings",
    "config_from",
    "given_settings",
    "parse_slices",
    "series",
    "slices_from",
]

FLAGS = {
    "--method": "method",
    "--time-budget": "time_budget_s",
    "--warmup": "warmup_s",
    "--epsilon": "epsilon",
    "--seed": "seed",
    "--device": "device",
}
"""The settings with a flag of their own; ``--set`` reaches all others."""
DEFAULT_PRESET = "fast"
LAST_SLICE = 99_999
"""No image has more; a slip of the keyboard must not fill the memory."""


class Parser(argparse.ArgumentParser):
    """Argparse whose errors are one line, and whose help keeps the examples' line breaks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2 and one line."""
        self.exit(2, f"vqseg: error: {message}; see {self.prog} --help\n")


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """``--json`` and ``--quiet``, the same for every verb."""
    parser.add_argument("--json", action="store_true", help="JSON lines on stdout, for machines")
    parser.add_argument("--quiet", action="store_true", help="no progress and no warnings; the result and errors only")


# ---------------------------------------------------------------- settings


def _as_argument(name: str) -> Any:
    def convert(text: str) -> Any:
        try:
            return parse_setting(name, text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def add_settings(parser: argparse.ArgumentParser) -> None:
    """``--preset``, the flags of the settings most used, and ``--set`` for all of them."""
    known = known_settings()
    group = parser.add_argument_group("settings")
    group.add_argument("--preset", choices=list(PRESETS), default=DEFAULT_PRESET,
                       help=f"a set of defaults (default: {DEFAULT_PRESET})")  # fmt: skip
    for flag, name in FLAGS.items():
        field, kind = known[name]
        unit = f" [{field.metadata['unit']}]" if field.metadata["unit"] else ""
        group.add_argument(
            flag,
            dest=name,
            type=_as_argument(name),
            choices=get_args(kind) or None,
            metavar=None if get_args(kind) else "S" if unit else "N",
            help=f"{field.metadata['sentence'].rstrip('.').lower()}{unit} {_defaults(field)}",
        )
    group.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="NAME=VALUE",
        help="any other setting; `vqseg info --settings` lists them. May be repeated",
    )  # fmt: skip


def _defaults(field: dataclasses.Field[Any]) -> str:
    """The default, and those of the presets that have another."""
    others = [f"{name}: {values[field.name]}" for name, values in PRESETS.items()
              if values.get(field.name, field.default) != field.default]  # fmt: skip
    return f"(default: {'; '.join([str(field.default), *others])})"


def config_from(args: argparse.Namespace) -> Config:
    """The preset with the flags and ``--set`` values on top.

    Raises
    ------
    ConfigError
        For unknown names and values out of range.
    """
    settings = {name: getattr(args, name) for name in FLAGS.values() if getattr(args, name) is not None}
    for item in args.settings:
        name, separator, text = item.partition("=")
        if not separator:
            raise ConfigError(f"--set {item!r} has no value; write --set NAME=VALUE")
        settings[name.strip()] = parse_setting(name.strip(), text.strip())
    config = preset(args.preset, **settings)
    if config.train.time_budget_s == 0 and config.train.iterations == 0:
        raise ConfigError("the time budget is 0 and so are the iterations; give --time-budget or --set iterations=N")
    return config


def given_settings(args: argparse.Namespace) -> list[str]:
    """The flags of :func:`add_settings` that were given; ``--preset`` where it is not the default."""
    flags = [flag for flag, name in FLAGS.items() if getattr(args, name) is not None]
    return [*["--preset"] * (args.preset != DEFAULT_PRESET), *flags, *["--set"] * bool(args.settings)]


# ---------------------------------------------------------------- slices


def parse_slices(text: str) -> list[int]:
    """Slice indices in text such as ``"3,9,15"`` or ``"3-7 12"``, sorted.

    Raises
    ------
    AnnotationError
        If there are none, if one is given twice, or for anything that is not a slice or a range.
    """
    slices: list[int] = []
    for word in text.replace(",", " ").split():
        first, _, last = word.partition("-")
        if not first.isdigit() or ("-" in word and not last.isdigit()):
            raise AnnotationError(f"{word!r} is not a slice; give whole numbers from 0, as in 3,9,15 or 3-7")
        if last and int(last) < int(first):
            raise AnnotationError(f"the range {word} runs backwards; write {last}-{first}")
        if int(last or first) > LAST_SLICE:
            raise AnnotationError(f"{word!r} is beyond any image; give slices from 0 to {LAST_SLICE}")
        slices.extend(range(int(first), int(last or first) + 1))
    if not slices:
        raise AnnotationError("the list of slices is empty; name the slices that are labelled, as in --slices 3,9,15")
    if twice := sorted(index for index, count in Counter(slices).items() if count > 1):
        verb = "is" if len(twice) == 1 else "are"
        raise AnnotationError(f"{listed(twice, 'slice')} {verb} listed twice; list each slice once")
    return sorted(slices)


def slices_from(args: argparse.Namespace) -> list[int]:
    """The slices of ``--slices`` or ``--slices-file``; the file may hold comments after ``#``."""
    if args.slices is not None:
        return parse_slices(args.slices)
    try:
        text = Path(args.slices_file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AnnotationError(f"{args.slices_file} is not a text file of slice numbers; save it as text") from None
    except OSError as error:
        raise AnnotationError(
            f"the slices cannot be read from {args.slices_file} ({error.strerror}); check the path, or give --slices"
        ) from None
    return parse_slices("\n".join(line.partition("#")[0] for line in text.splitlines()))


# ---------------------------------------------------------------- inputs


def series(text: str) -> str | int:
    """A DICOM series by its number in the folder, from 1, or by UID or description (argparse type)."""
    return int(text) if text.isdigit() else text
