"""How the prediction of each class is drawn: filled or as a contour, and how opaque; kept in project.json."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from vqseg.comparison import ONLY_FIRST, ONLY_SECOND
from vqseg.project import Project

__all__ = ["EVERY", "STRIPES", "Look", "Looks"]

EVERY = 0
"""In place of a class's value: what holds for every class that has no look of its own."""

STRIPES = {ONLY_FIRST: "#FFFFFF", ONLY_SECOND: "#00E5FF"}
"""The colours of what only one of two predictions holds."""

ENTRY = "prediction_look"
FILL_OPACITY, CONTOUR_OPACITY = 0.4, 0.9


@dataclass(frozen=True)
class Look:
    """How one class is drawn.

    Parameters
    ----------
    contour : bool
        The outline alone.
    chosen_opacity : float or None
        0 to 1; None where nobody has chosen one.
    """

    contour: bool = False
    chosen_opacity: float | None = None

    @property
    def opacity(self) -> float:
        """What was chosen; else a fill that the image shines through, or a contour that does not get lost in it."""
        if self.chosen_opacity is not None:
            return self.chosen_opacity
        return CONTOUR_OPACITY if self.contour else FILL_OPACITY


class Looks:
    """The looks of a project's classes.

    Parameters
    ----------
    project : Project
        Where they are kept; whoever changes them saves it.
    """

    def __init__(self, project: Project) -> None:
        self._project = project

    def _read(self) -> dict[int, Look]:
        stored = self._project.info.get(ENTRY, {})
        return {EVERY: Look()} | {int(value): Look(look["contour"], look["opacity"]) for value, look in stored.items()}

    def _write(self, looks: dict[int, Look]) -> None:
        self._project.info[ENTRY] = {
            str(value): {"contour": look.contour, "opacity": look.chosen_opacity} for value, look in looks.items()
        }

    def of(self, value: int) -> Look:
        """The look of a class, or of :data:`EVERY` one without its own."""
        looks = self._read()
        return looks.get(value, looks[EVERY])

    def change(self, value: int, **wanted: Any) -> None:
        """Change what is `wanted` in the look of a class, or of every class, those with a look of their own too."""
        looks = self._read()
        for each in looks if value == EVERY else [value]:
            looks[each] = replace(looks.get(each, looks[EVERY]), **wanted)
        self._write(looks)

    def forget(self, values: Collection[int]) -> None:
        """Forget the looks of classes that are gone."""
        self._write({value: look for value, look in self._read().items() if value not in values})
