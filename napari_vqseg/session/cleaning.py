"""Cleaning up: rules a class, kept with the project, by which the prediction is shown, accepted and exported."""

from __future__ import annotations

from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from vqseg.components import CLEAN_UP, CleanUp, rules_from, rules_record

__all__ = ["Cleaning"]


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
        self.rules = rules_from(self.context.case.project.info.get(CLEAN_UP, {}))
        self.changed.emit()

    def rule(self, value: int) -> CleanUp:
        """The rule of a class."""
        return self.rules.get(value, CleanUp())

    def set(self, value: int, rule: CleanUp) -> None:
        """Give a class a rule; the empty one takes its raw prediction back."""
        others = {other: kept for other, kept in self.rules.items() if other != value}
        self._take(others | {value: rule} if rule else others)

    def clear(self) -> None:
        """Take the raw prediction back."""
        self._take({})

    def _take(self, rules: dict[int, CleanUp]) -> None:
        if rules != self.rules:
            self.rules = rules
            self.context.remember(**{CLEAN_UP: rules_record(rules)})
            self.changed.emit()
