"""Importing: labels made elsewhere become annotations, where a person says so."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.classes import Classes
from napari_vqseg.session.context import Concern, Context
from vqseg.accept import SliceChange
from vqseg.annotations import Origin, SliceRecord, SliceState
from vqseg.errors import AnnotationError
from vqseg.intake import Intake, planes_across, prepare, slices_by_label

__all__ = ["Found", "Importing"]

ACROSS = (
    "These labels were drawn in sagittal or coronal slices; taken over, every axial slice they cross would count as "
    "complete, with nothing beside them. Import labels drawn in axial slices, or all of the structure."
)


@dataclass(frozen=True)
class Found:
    """What a file of labels holds, for a person to choose from.

    Parameters
    ----------
    path : Path
        The file.
    names : dict
        What each label value would become here: its name in the file, else the project's class of that value.
    slices : dict of int to frozenset of int
        The slices that hold each label value.
    """

    path: Path
    names: dict[int, str]
    slices: dict[int, frozenset[int]]

    def slices_of(self, values: Iterable[int]) -> list[int]:
        """Slices with one of these label values, ascending."""
        return sorted(frozenset().union(*(self.slices[value] for value in values)))


class Importing(Concern):
    """Reads labels, shows what they are, and takes the chosen ones over as one step of undo.

    Attributes
    ----------
    found : Signal(Found)
        A file of labels has been read, and fits the image.
    """

    found = Signal(object)

    def __init__(self, context: Context, annotating: Annotating, classes: Classes) -> None:
        super().__init__(context)
        self._annotating, self._classes = annotating, classes

    def read(self, path: str | os.PathLike[str]) -> None:
        """Read what a file of labels holds."""
        from vqseg.io import read_labels

        source, opened, classes = Path(path), self.context.case, self._classes.names

        def work() -> tuple[Found, tuple[str, ...]]:
            labels = read_labels(source, opened.volume)
            if not labels.array.any():
                raise AnnotationError(f"{source.name} holds no label on this image; choose another file.")
            slices = slices_by_label(labels)
            names = {value: labels.names.get(value) or classes.get(value, f"label {value}") for value in slices}
            across = (ACROSS,) if planes_across(labels.array) else ()
            return Found(source, names, slices), (*labels.warnings, *across)

        def done(answer: tuple[Found, tuple[str, ...]]) -> None:
            found, warnings = answer
            self.context.busy_changed.emit("")
            if self.context.opened is not opened:
                return
            for warning in warnings:
                self.context.notified.emit(warning, "warning")
            self.found.emit(found)

        self.context.busy_changed.emit(f"Reading {source.name}")
        self.context.aside(work, done)

    def take_over(self, found: Found, names: Mapping[int, str], slices: Iterable[int] | None = None) -> None:
        """Make slices complete annotations.

        Parameters
        ----------
        found : Found
            As read before.
        names : mapping of int to str
            The label values to take over, and the class that each becomes.
        slices : iterable of int, optional
            Slices to take over, those without a label as empty ones; by default those with a label.
        """
        from vqseg.io import read_labels

        opened, snapshot, classes = self.context.case, self._annotating.snapshot(), self._classes.names

        def work() -> Intake:
            labels = read_labels(found.path, opened.volume, only=names)
            return prepare(replace(labels, names=dict(names)), snapshot(), classes, slices)

        def done(intake: Intake) -> None:
            self.context.busy_changed.emit("")
            if self.context.opened is opened:
                self._take(intake)

        self.context.busy_changed.emit(f"Taking over {found.path.name}")
        self.context.aside(work, done)

    def _take(self, intake: Intake) -> None:
        self._classes.adopt(intake.class_names)
        record = SliceRecord(SliceState.COMPLETE, Origin.IMPORTED)
        free = [z for z in intake.slices if z not in self.context.annotations.records]
        self._annotating.change({z: SliceChange(intake.labels[z], record) for z in free})
        text = f"Imported {len(free)} slice{'s' * (len(free) != 1)} as complete; Ctrl+Z takes them back."
        if kept := len(intake.kept) + len(intake.slices) - len(free):
            text += f" {kept} that you have labelled already stay{'s' * (kept == 1)} as drawn."
        self.context.notified.emit(text, "info")
