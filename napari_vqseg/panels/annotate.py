"""Annotate: brush, and the slices along the volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_vqseg.panels.importing import FILES, ImportDialog
from napari_vqseg.panels.parts import STRONG, Panel, button, dropped, note, row
from napari_vqseg.panels.strip import MARKS, SliceStrip, marks_of
from napari_vqseg.panels.suggestions import SuggestionNote
from napari_vqseg.panels.tools import Tools
from vqseg.annotations import SliceState

if TYPE_CHECKING:
    from napari_vqseg.session import Session
    from napari_vqseg.session.filling import FillingBetween
    from napari_vqseg.session.importing import Found

__all__ = ["AnnotatePanel"]


class AnnotatePanel(Panel):
    """Paint slices and say which are finished."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.tools = Tools(session)
        self.column.addWidget(self.tools)
        self._build_slices()
        self._build_proposal()
        self.setAcceptDrops(True)
        self.listen(session.importing.found, self.offer)
        self.listen(session.annotating.slices_changed, self.show_slices)
        self.listen(session.suggesting.changed, self.show_slices)
        self.listen(session.reviewing.prediction_changed, self.show_slices)
        self.listen(session.filling.changed, self.show_proposal)
        self.listen(session.view.navigation.z_changed, self.show_z)

    def _build_slices(self) -> None:
        session = self.session
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
        self.between = button("Fill between (F)", "Show the shape between the complete slices on either side; "
                              "nothing is changed until you accept it.", session.filling.propose)  # fmt: skip
        self.between_all = button("All gaps (⇧F)", "Show the shape in every gap between complete slices at once; "
                                  "nothing is changed until you accept it.", session.filling.propose_all)  # fmt: skip
        self.load = button("Import…", "Labels made elsewhere: NIfTI, NRRD, MetaImage, DICOM segmentation, RT structure "
                           "set. A file dropped on this section is imported too.", self.ask_labels)  # fmt: skip
        self.suggested = SuggestionNote(self.session)
        self.column.addWidget(self.strip)
        self.column.addWidget(self.counts)
        self.column.addLayout(row(self.complete, self.scribbled))
        self.column.addLayout(row(self.next, self.between, self.between_all))
        self.column.addLayout(row(self.copy, self.load, self.clear))
        self.column.addWidget(self.suggested)

    def _build_proposal(self) -> None:
        filling = self.session.filling
        self.proposed = note()
        self.accept = button(
            "This slice (A)", "Take the proposal of this slice over.", filling.accept_slice, strong=True
        )
        self.accept_all = button(
            "", "Take the proposal of all slices over; one Ctrl+Z takes them back.", filling.accept_all
        )
        self.dismiss = button("Dismiss (Esc)", "Take the proposal away.", filling.dismiss)
        self.proposal = QWidget()
        self.proposal.setLayout(row(self.accept, self.accept_all, self.dismiss))
        self.column.addWidget(self.proposed)
        self.column.addWidget(self.proposal)
        self.show_proposal()

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
        suggested = [item.z for item in session.suggesting.suggestions]
        predicted = session.reviewing.predicted
        marks = marks_of(session.annotations, suggested, session.annotating.empty_complete)
        self.strip.show_slices(session.volume.shape[0], marks, predicted)
        kinds = [*marks.values(), *("predicted" for z in predicted if z not in session.annotations.records)]
        parts = [
            f'<span style="color:{mark.colour}">{mark.sign}</span>&nbsp;{kinds.count(kind)}&nbsp;{mark.words}'
            for kind, mark in MARKS.items() if kind in kinds
        ]  # fmt: skip
        self.counts.setText(" &nbsp; ".join(parts) or "Paint what you look for, then press C: this slice is complete.")
        for between in (self.between, self.between_all):
            between.setEnabled(len(session.annotations.complete) > 1)
        self.suggested.refresh()
        self.show_z(session.z)

    def show_z(self, z: int) -> None:
        """Show the slice on the canvas and what can be done with it."""
        self.strip.show_z(z)
        if self.session.is_open:
            complete = self.session.annotations.state(z) is SliceState.COMPLETE
            self.complete.setText("Reopen slice (C)" if complete else "Complete (C)")
            style = "" if complete else STRONG
            if self.complete.styleSheet() != style:
                self.complete.setStyleSheet(style)
            self.accept.setEnabled(z in self.session.filling.left)

    def show_proposal(self) -> None:
        """Say what is proposed, and what can be done about it."""
        filling, left = self.session.filling, self.session.filling.left
        for widget in (self.proposed, self.proposal):
            widget.setVisible(bool(left))
        if left:
            gaps, low, high = len(filling.proposals), filling.proposals[0].low, filling.proposals[-1].high
            where = f"between slices {low} and {high}" if gaps == 1 else f"in {gaps} gaps, from slice {low} to {high}"
            self.proposed.setText(f"Proposed {where}, in pale contours: {_how(filling)}.")
            self.accept_all.setText(f"All {len(left)} (⇧A)")
            self.accept.setEnabled(self.session.z in left)

    def release(self) -> None:
        """Disconnect from the session."""
        self.tools.release()
        super().release()

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
        """A file of labels may be dropped; folders, and several files at once, are volumes for the window."""
        paths = dropped(event)
        if event is not None and len(paths) == 1 and not paths[0].is_dir():
            event.acceptProposedAction()
        elif event is not None:
            event.ignore()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 - Qt's name
        """Read the labels that were dropped."""
        for path in dropped(event):
            self.read_labels(path)


def _how(filling: FillingBetween) -> str:
    """How the proposed shapes get from slice to slice; as long in every case, so that no button moves meanwhile."""
    follow, gaps = sum(proposal.follows_anatomy for proposal in filling.proposals), len(filling.proposals)
    if filling.awaited:
        return "straight from shape to shape; shapes that follow the anatomy are coming"
    if follow == gaps:
        return "following the anatomy as far as that fits the labelled slices"
    if follow:
        return f"following the anatomy in {follow} of them, straight from shape to shape in the others"
    return "straight from shape to shape, however the anatomy moves between them"
