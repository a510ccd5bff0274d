"""Exporting: the labels as they stand, written and measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.classes import Classes
from napari_vqseg.session.cleaning import Cleaning
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.reviewing import Reviewing
from vqseg.export import Format, Segmentation, Written, files_of, write
from vqseg.run import Run

__all__ = ["Exporting"]

NAMED = 3
"""Files named in the message that they are written; the section Export lists them all."""


class Exporting(Concern):
    """Writes and measures what is predicted and labelled.

    Attributes
    ----------
    exported : Signal(list of Path)
        What was written, the provenance last.
    measured : Signal(list of Measurement)
        The measurements of each class.
    """

    exported = Signal(object)
    measured = Signal(object)

    def __init__(
        self,
        context: Context,
        annotating: Annotating,
        classes: Classes,
        cleaning: Cleaning,
        reviewing: Reviewing,
    ) -> None:
        super().__init__(context)
        self._annotating, self._classes, self._cleaning, self._reviewing = annotating, classes, cleaning, reviewing

    @property
    def from_dicom(self) -> bool:
        """Whether a DICOM segmentation has a series to refer to."""
        return "series" in self.context.volume.metadata

    def existing(self, path: Path, wanted: Format) -> list[Path]:
        """The files on disk that an export would replace."""
        return [file for file in files_of(path, wanted, self._classes.names) if file.exists()]

    def result(self) -> npt.NDArray[np.uint8]:
        """The labels as they stand (z, y, x): the prediction, with the labelled slices as drawn or accepted."""
        return self._prepare()().labels

    def _prepare(self) -> Callable[[], Segmentation]:
        """What makes the segmentation as it stands now, off the event loop."""
        opened, names, run_path = self.context.case, self._classes.names, self._reviewing.run_path
        colours = {item.value: item.colour for item in self._classes.all}
        snapshot, prediction, rules = self._annotating.snapshot(), self._reviewing.prediction, self._cleaning.rules

        def make() -> Segmentation:
            known = prediction is not None and run_path is not None and (run_path / "run.json").exists()
            run = Run(run_path) if known and run_path is not None else None
            return Segmentation(
                opened.case, opened.volume, snapshot(), names, prediction, run, clean_up=rules, colours=colours
            )

        return make

    def export(self, path: str | os.PathLike[str], wanted: Format = Format.NIFTI) -> None:
        """Write the labels as they stand, and how they came about; asking before overwriting is the caller's."""
        target, make = Path(path), self._prepare()
        self._annotating.save()
        self.context.busy_changed.emit(f"Writing {target.name}")
        self.context.aside(lambda: write(make(), target, wanted), self._on_written)

    def _on_written(self, written: Written) -> None:
        self.context.busy_changed.emit("")
        names = [path.name for path in written.paths]
        more = f" and {len(names) - NAMED} more files" if len(names) > NAMED else ""
        self.context.notified.emit(f"Exported {', '.join(names[:NAMED])}{more}.", "info")
        for warning in written.warnings:
            self.context.notified.emit(warning, "warning")
        self.exported.emit(written.paths)

    def measure(self) -> None:
        """Measure each class."""
        opened, make = self.context.case, self._prepare()
        self.context.busy_changed.emit("Measuring")

        def done(measurements: object) -> None:
            self.context.busy_changed.emit("")
            if self.context.opened is opened:
                self.measured.emit(measurements)

        self.context.aside(lambda: make().measure(), done)
