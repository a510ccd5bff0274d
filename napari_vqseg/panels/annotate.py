"""Annotate: brush, and the slices along the volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QDoubleSpinBox, QFileDialog, QLabel

from napari_vqseg.panels.importing import FILES, ImportDialog
from napari_vqseg.panels.parts import Panel, button, dropped, note, row, silently
from napari_vqseg.panels.strip import MARKS, SliceStrip, mark_of
from vqseg.annotations import SliceState

if TYPE_CHECKING:
    from napari_vqseg.session import Session
    from napari_vqseg.session.importing import Found

__all__ = ["AnnotatePanel"]


class AnnotatePanel(Panel):
    """Paint slices and say which are finished."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.paint = button("Paint", "Take the brush (P on the layer).", session.view.annotation.paint)
        self.erase = button("Erase", "Take the eraser (E on the layer).",
                            lambda: session.view.annotation.paint(erase=True))  # fmt: skip
        self.brush = QDoubleSpinBox()
        self.brush.setRange(0.1, 200)
        self.brush.setDecimals(1)
        self.brush.setSuffix(" mm")
        self.brush.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.brush.setToolTip("Diameter of the brush; [ and ] change it.")
        self.brush.valueChanged.connect(self._resized)
        self.strip = SliceStrip(session.go_to)
        self.counts = note()
        self.complete = button("Complete (C)", "This slice is finished: what is unpainted is background. "
                               "An empty complete slice says that nothing is there.",
                               session.annotating.toggle_complete, strong=True)  # fmt: skip
        self.scribbled = button("Scribbled", "Only painted voxels of this slice count; background has its own colour "
                                "(key 0).", lambda: session.annotating.mark(SliceState.SCRIBBLED))  # fmt: skip
        self.clear = button("Clear", "Unpaint this slice; Ctrl+Z brings it back.", session.annotating.clear_slice)
        self.next = button("Next slice (N)", "Go to the slice most worth labelling next.", session.suggesting.next)
        self.copy = button("Copy nearest", "Copy the nearest complete slice into this one.",
                           session.annotating.copy_nearest)  # fmt: skip
        self.load = button("Import…", "Labels made elsewhere: NIfTI, NRRD, DICOM segmentation, RT structure set. "
                           "A file dropped on this section is imported too.", self.ask_labels)  # fmt: skip
        self.reason = note()
        self.column.addLayout(row(self.paint, self.erase, QLabel("Brush"), self.brush, stretch=3))
        self.column.addWidget(self.strip)
        self.column.addWidget(self.counts)
        self.column.addLayout(row(self.complete, self.scribbled, self.clear))
        self.column.addLayout(row(self.next, self.copy, self.load))
        self.column.addWidget(self.reason)
        self.reason.hide()
        self.setAcceptDrops(True)
        self.listen(session.importing.found, self.offer)
        self.listen(session.annotating.slices_changed, self.show_slices)
        self.listen(session.suggesting.changed, self.show_slices)
        self.listen(session.reviewing.prediction_changed, self.show_slices)
        self.listen(session.view.navigation.z_changed, self.show_z)
        self.listen(session.view.annotation.brush_changed, self.show_brush)
        self.listen(session.notified, self.show_reason)

    @property
    def useful(self) -> bool:
        """Once a volume is open."""
        return self.session.is_open

    # ------------------------------------------------------------ session -> widget

    def show_slices(self) -> None:
        """Show the states of the slices and how many there are of each."""
        session = self.session
        if not session.is_open:
            return
        marks = {item.z: "suggested" for item in session.suggesting.suggestions}
        marks |= {z: mark_of(session.annotations, z) for z in session.annotations.records}
        self.strip.show_slices(session.volume.shape[0], marks, session.reviewing.prediction is not None)
        kinds = list(marks.values())
        parts = [
            f'<span style="color:{mark.colour}">{mark.sign}</span>&nbsp;{kinds.count(kind)}&nbsp;{mark.words}'
            for kind, mark in MARKS.items() if kind in kinds
        ]  # fmt: skip
        self.counts.setText(" &nbsp; ".join(parts) or "Paint what you look for, then press C: this slice is complete.")
        self.show_z(session.z)

    def show_z(self, z: int) -> None:
        """Show the slice on the canvas and what can be done with it."""
        self.strip.show_z(z)
        if self.session.is_open:
            complete = self.session.annotations.state(z) is SliceState.COMPLETE
            self.complete.setText("Reopen slice (C)" if complete else "Complete (C)")

    def show_brush(self, diameter_mm: float) -> None:
        """Show the brush's diameter."""
        blocked = silently(self.brush)
        self.brush.setValue(diameter_mm)
        blocked.unblock()

    def show_reason(self, text: str, level: str) -> None:
        """Say why a slice was suggested."""
        if level == "hint":
            self.reason.setText(text)
            self.reason.show()

    # ------------------------------------------------------------ person -> session

    def _resized(self, diameter_mm: float) -> None:
        self.session.view.annotation.brush_mm = diameter_mm

    # ------------------------------------------------------------ labels from elsewhere

    def ask_labels(self) -> None:
        """Choose a file of labels."""
        source = self.session.case.case.source
        path, _ = QFileDialog.getOpenFileName(self, "Import labels", str(source.parent), FILES)
        if path:
            self.read_labels(path)

    def read_labels(self, path: str | Path) -> None:
        """Read a file of labels, to choose from it."""
        self.session.importing.read(path)

    def offer(self, found: Found) -> None:
        """Ask which structures and slices to take."""
        self.dialog = ImportDialog(self.session, found, self)
        self.dialog.open()

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802 - Qt's name
        """Files of labels may be dropped."""
        if event is not None and dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 - Qt's name
        """Read the labels that were dropped."""
        for path in dropped(event)[:1]:
            self.read_labels(path)
