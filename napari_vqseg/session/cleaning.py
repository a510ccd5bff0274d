"""Cleaning up: rules a class, kept with the project, by which the prediction is shown, accepted and exported."""

from __future__ import annotations

import dataclasses
from typing import Any

from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from vqseg.components import CleanUp
from vqseg.errors import ConfigError

__all__ = ["Cleaning"]

ENTRY = "clean_up"
"""Where project.json keeps the rules."""


class Cleaning(Concern):
    """The rules; without any the prediction is as the network made it.

    Attributes
    ----------
    changed : Signal()
        Another rule.
    rules : dict of int to CleanUp
        By class value; classes that are not in it are left alone.
    """

    changed = Signal()

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.forget()

    def forget(self) -> None:
        """Forget the rules of the project before."""
        self.rules: dict[int, CleanUp] = {}

    def announce(self) -> None:
        """Take up the rules of the project."""
        self.rules = _from_record(self.context.case.project.info.get(ENTRY, {}))
        self.changed.emit()

    def rule(self, value: int) -> CleanUp:
        """The rule of a class."""
        return self.rules.get(value, CleanUp())

    def set(self, value: int, rule: CleanUp) -> None:
        """Give a class a rule; the empty one takes the raw prediction back."""
        rules = {other: kept for other, kept in self.rules.items() if other != value}
        if rule:
            rules[value] = rule
        if rules != self.rules:
            self.rules = rules
            record = {str(key): dataclasses.asdict(kept) for key, kept in rules.items()}
            self.context.remember(**{ENTRY: record})
            self.changed.emit()


def _from_record(record: Any) -> dict[int, CleanUp]:
    """Rules as project.json keeps them; one that cannot be read is none."""
    rules: dict[int, CleanUp] = {}
    for value, entries in record.items() if isinstance(record, dict) else ():
        try:
            rules[int(value)] = CleanUp(**entries)
        except (TypeError, ValueError, ConfigError):
            continue
    return {value: rule for value, rule in rules.items() if rule}
