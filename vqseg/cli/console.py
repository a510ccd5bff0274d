"""What the verbs say: a progress bar on a terminal, plain lines otherwise, JSON lines for machines."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from vqseg.step_report import StepReport

__all__ = ["Console", "listed", "table"]

MOST_LISTED = 8
LINE_EVERY_S = 5.0
JSON_EVERY_S = 1.0


class Console:
    """Speaks for one run of the command.

    Parameters
    ----------
    args : Namespace
        With ``json`` and ``quiet``.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.json: bool = args.json
        self.quiet: bool = args.quiet
        self._bar: tqdm[Any] | None = None
        self._next_s = 0.0

    def say(self, text: str, **fields: Any) -> None:
        """Tell what is going on: a line on stderr, or a JSON line."""
        if self.quiet:
            return
        if self.json:
            self._write_json({"event": "notice", "text": text, **fields})
        else:
            self._close_bar()
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def progress(self, task: str, share: float, detail: str = "", **fields: Any) -> None:
        """Show that `share` (0..1) of `task` is done; call it as often as you like."""
        if self.quiet:
            return
        if self.json:
            if self._due(JSON_EVERY_S, share):
                self._write_json({"event": "progress", "task": task, "progress": round(share, 4), **fields})
        elif sys.stderr.isatty():
            if self._bar is None or self._bar.desc != task:
                self._close_bar()
                layout = "{desc} {percentage:3.0f}%|{bar}| {postfix}"
                self._bar = tqdm(total=1.0, bar_format=layout, leave=True, mininterval=0.2)
                self._bar.desc = task
            self._bar.set_postfix_str(detail, refresh=False)
            self._bar.update(max(0.0, min(share, 1.0) - self._bar.n))
        elif self._due(LINE_EVERY_S, share):
            print(f"{task} {share:4.0%}{'  ' * bool(detail)}{detail}", file=sys.stderr, flush=True)  # noqa: T201

    def training(self, report: StepReport) -> None:
        """Progress of a training step."""
        losses = "  ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
        left = f"{report.time_left_s:.0f} s left  " if math.isfinite(report.time_left_s) else ""
        self.progress(
            "training", report.progress, f"{left}step {report.step}  {losses}",
            step=report.step, time_left_s=report.time_left_s, losses=report.losses,
        )  # fmt: skip

    def result(self, text: str, **fields: Any) -> None:
        """The verb's answer, on stdout; `fields` are what machines get instead."""
        self._close_bar()
        if self.json:
            self._write_json({"event": "result", **fields})
        else:
            print(text, flush=True)  # noqa: T201

    def _due(self, every_s: float, share: float) -> bool:
        now = time.monotonic()
        if now < self._next_s and share < 1:
            return False
        self._next_s = now + every_s
        return True

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @staticmethod
    def _write_json(values: dict[str, Any]) -> None:
        print(json.dumps(_plain(values), allow_nan=False), flush=True)  # noqa: T201


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no paths: null, and text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def listed(values: Iterable[object], noun: str = "") -> str:
    """The first of many values, and how many more there are; behind a noun, which gets its plural."""
    words = [str(value) for value in values]
    more = f" and {len(words) - MOST_LISTED} more" if len(words) > MOST_LISTED else ""
    plural = "s" if noun and len(words) > 1 else ""
    return f"{noun}{plural} {', '.join(words[:MOST_LISTED])}{more}".lstrip()


def table(header: list[str], rows: list[list[str]]) -> str:
    """Rows as aligned text: columns of numbers to the right, others and the first to the left."""
    columns = list(zip(header, *rows, strict=True))
    to_right = [number > 0 and all(map(_is_number, cells)) for number, (_, *cells) in enumerate(columns)]
    widths = [max(map(len, cells)) for cells in columns]
    lines = [
        "  ".join(cell.rjust(width) if right else cell.ljust(width)
                  for cell, width, right in zip(row, widths, to_right, strict=True)).rstrip()
        for row in [header, *rows]
    ]  # fmt: skip
    return "\n".join(lines)


def _is_number(cell: str) -> bool:
    try:
        float(cell or "0")
    except ValueError:
        return False
    return True
