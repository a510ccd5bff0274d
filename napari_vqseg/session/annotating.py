"""Annotating: which slices are drafts, scribbled or complete, and that nothing of it is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from psygnal import Signal

from napari_vqseg.session.context import Concern, Context, in_words
from napari_vqseg.session.copies import SliceCopies
from vqseg.accept import SliceChange
from vqseg.annotations import Annotations, Origin, SliceRecord, SliceState
from vqseg.painting import protect

__all__ = ["Annotating"]

SAVE_AFTER_S = 1.0
AT_ONCE = 32
"""Slices changed in one turn of the event loop."""


class Annotating(Concern):
    """Marks slices, changes whole ones and saves them a moment later.

    Attributes
    ----------
    slices_changed : Signal()
        The state of a slice has changed.
    saved_changed : Signal(bool)
        Whether all work is on disk.
    save_refused : Signal(str)
        A save has failed, and why.
    training_slices_saved : Signal()
        Slices that training learns from have changed, and are on disk.
    """

    slices_changed = Signal()
    saved_changed = Signal(bool)
    save_refused = Signal(str)
    training_slices_saved = Signal()

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.unsaved = False
        self._saves_under_way = 0
        self._training_slices_changed = False
        self._told_of: set[str] = set()
        self._painted: set[int] = set()
        self._changing: deque[Iterator[None]] = deque()
        self._copies = SliceCopies()
        self._has_class: dict[int, bool] = {}
        self._timer = context.scheduler.debounce(SAVE_AFTER_S, self.save)
        context.view.annotation.painted.connect(self.note_painted)
        context.view.annotation.replayed.connect(self._on_replayed)
        context.view.annotation.outside.connect(self._on_outside)
        context.view.annotation.elsewhere.connect(self._on_elsewhere)

    def forget(self) -> None:
        """Forget the case before."""
        self.unsaved = self._training_slices_changed = False
        self._told_of = set()
        self._copies.clear()
        self._has_class.clear()

    def announce(self) -> None:
        """Tell the slices, and copy them before somebody waits for that."""
        self.slices_changed.emit()
        self.context.scheduler.in_turns(self._copies.update(self.context.annotations, AT_ONCE))

    @property
    def empty_complete(self) -> list[int]:
        """Complete slices without any class; only those changed since the last look are looked at: 600 take 13 ms."""
        annotations = self.context.annotations
        for z in annotations.complete:
            if z not in self._has_class:
                self._has_class[z] = annotations.has_class(z)
        return [z for z in annotations.complete if not self._has_class[z]]

    # ------------------------------------------------------------ marking

    def note_painted(self, slices: set[int]) -> None:
        """Voxels of slices have changed: unlabelled ones become drafts, accepted and imported ones a person's own."""
        annotations = self.context.annotations
        self._painted |= slices
        changed = False
        for z in slices:
            record, had_class = annotations.records.get(z), self._has_class.get(z)
            if had_class is not None and annotations.has_class(z) is not had_class:
                self._has_class[z] = not had_class
                changed = True
            if record is None:
                annotations.mark(z, SliceState.DRAFT)
                changed = True
            elif record.state is SliceState.DRAFT and not annotations.labels[z].any():
                del annotations.records[z]
                changed = True
            elif record.origin is not Origin.DRAWN:
                annotations.mark(z, record.state, Origin.DRAWN)
                changed = True
        self._note_change(for_training=any(z in annotations.used for z in slices))
        if changed:
            self.slices_changed.emit()

    def _on_outside(self) -> None:
        self.context.notified.emit(
            "Nothing here has a value in the range of the slider; widen the range, or paint without it (key R).", "hint"
        )

    def _on_elsewhere(self, name: str) -> None:
        """Say once that what is painted on another layer counts for nothing."""
        if name not in self._told_of:
            self._told_of.add(name)
            self.context.notified.emit(
                f"'{name}' is not the annotation: what is painted there is neither kept nor learnt from. "
                "Click a class to go on in the annotation.", "warning",
            )  # fmt: skip

    def mark(self, state: SliceState, z: int | None = None) -> None:
        """Give the shown slice, or slice z, a state; in a complete one unpainted means background."""
        context = self.context
        z = context.axial_slice() if z is None else z
        if z is None:
            return
        was_used = z in context.annotations.used
        context.annotations.mark(z, state)
        self._note_change(for_training=was_used or state is not SliceState.DRAFT)
        self.slices_changed.emit()

    def toggle_complete(self) -> None:
        """Key C: declare the shown slice finished, or a draft again."""
        z = self.context.axial_slice()
        if z is not None:
            complete = self.context.annotations.state(z) is SliceState.COMPLETE
            self.mark(SliceState.DRAFT if complete else SliceState.COMPLETE, z)

    # ------------------------------------------------------------ whole slices

    def change(self, changes: Mapping[int, SliceChange]) -> None:
        """Give slices labels and records, as one step of undo that brings both back; locked classes stay.

        Many slices are changed a few in each turn of the event loop; what a person paints on meanwhile stays hers.
        """
        if len(changes) > AT_ONCE:
            self._changing.append(self._change_in_turns(changes))
            self.context.scheduler.in_turns(self._changing[-1])
        elif changes:
            for _ in self._change(changes):
                pass

    def finish(self) -> None:
        """Take all turns that are left of changes of many slices."""
        for steps in tuple(self._changing):
            for _ in steps:
                pass

    def _change_in_turns(self, changes: Mapping[int, SliceChange]) -> Iterator[None]:
        try:
            yield from self._change(changes)
        finally:
            self._changing.popleft()

    def _change(self, changes: Mapping[int, SliceChange]) -> Iterator[None]:
        annotations, locked = self.context.annotations, self.context.case.classes.locked
        layer, records, has_class = self.context.view.annotation, {}, {}
        self._painted.clear()
        for number, (z, change) in enumerate(changes.items(), start=1):
            if z not in self._painted:
                labels_yx = protect(annotations.labels[z], change.labels, locked)
                layer.set_slice(z, labels_yx)
                annotations.labels[z] = labels_yx  # where the layer has been removed from the view
                self._copies.keep(z, labels_yx)
                has_class[z] = annotations.has_class(z)
                records[z] = (annotations.records.get(z), change.record)
            if not number % AT_ONCE or number == len(changes) > AT_ONCE:
                yield
        for z in self._painted & records.keys():  # after its change: hers, whoever made it
            before, after = records[z]
            records[z] = before, None if after is None else SliceRecord(after.state, Origin.DRAWN)
        layer.commit(records)
        known = {z: has for z, has in has_class.items() if z not in self._painted}
        self._take_records({z: after for z, (_, after) in records.items()}, known)

    def _on_replayed(self, records: Mapping[int, tuple[SliceRecord | None, SliceRecord | None]], undone: bool) -> None:
        self._take_records({z: before if undone else after for z, (before, after) in records.items()}, {})

    def _take_records(self, records: Mapping[int, SliceRecord | None], has_class: Mapping[int, bool]) -> None:
        annotations = self.context.annotations
        used = set(annotations.used)
        for z, record in records.items():
            self._has_class.pop(z, None)
            if record is None:
                annotations.records.pop(z, None)
            else:
                annotations.mark(z, record.state, record.origin)
        self._has_class.update(has_class)
        self._note_change(for_training=not records.keys().isdisjoint(used | set(annotations.used)))
        self.slices_changed.emit()

    def clear_slice(self, z: int | None = None) -> None:
        """Unpaint a slice but for locked classes; undo brings it back."""
        z = self.context.axial_slice() if z is None else z
        if z is None:
            return
        empty = np.zeros(self.context.volume.shape[1:], dtype=np.uint8)
        is_left = protect(self.context.annotations.labels[z], empty, self.context.case.classes.locked).any()
        self.change({z: SliceChange(empty, SliceRecord(SliceState.DRAFT) if is_left else None)})

    def copy_nearest(self) -> None:
        """Copy the nearest other complete slice, the one below of two, into the shown one, as a draft."""
        annotations, z = self.context.annotations, self.context.axial_slice()
        if z is None:
            return
        others = [other for other in annotations.complete if other != z]
        if not others:
            self.context.notified.emit("No other slice is complete yet; there is nothing to copy.", "warning")
            return
        source = min(others, key=lambda other: (abs(other - z), other))
        self.change({z: SliceChange(annotations.labels[source].copy(), SliceRecord(SliceState.DRAFT))})
        self.context.notified.emit(f"Copied from slice {source}; correct it, then press C.", "hint")

    # ------------------------------------------------------------ saving

    def save(self, then: Callable[[], None] | None = None, failed: Callable[[], None] | None = None) -> None:
        """Save the annotations in the background, whole or not at all.

        Parameters
        ----------
        then : callable, optional
            Called once all that is painted is on disk, by this save or by one that is under way.
        failed : callable, optional
            Called where it could not be written; the work stays unsaved.
        """
        self._timer.stop()
        if not self.context.is_open or not self.unsaved:
            if then is not None and self._saves_under_way:
                again = partial(self.save, then, failed)  # the one under way may fail
                self.context.scheduler.background(_nothing, lambda _: again(), lambda _: again())
            elif then is not None:
                then()
            return
        case, snapshot = self.context.case.case, self.snapshot()
        for_training, self._training_slices_changed = self._training_slices_changed, False
        self.unsaved = False
        self._saves_under_way += 1

        def saved(_: Any) -> None:
            self._saves_under_way -= 1
            self.saved_changed.emit(not self.unsaved)
            if for_training:
                self.training_slices_saved.emit()
            if then is not None:
                then()

        def refused(error: BaseException) -> None:
            self._saves_under_way -= 1
            self.unsaved = True
            self._training_slices_changed = self._training_slices_changed or for_training
            self.context.refused(error)
            self.save_refused.emit(in_words(error))
            if failed is not None:
                failed()

        self.context.scheduler.background(lambda: case.save_annotations(snapshot()), saved, refused)

    @property
    def banked(self) -> bool:
        """Whether all work is on disk."""
        return not self.unsaved and not self._saves_under_way

    def snapshot(self) -> Callable[[], Annotations]:
        """What makes, off the event loop, a copy of the annotated slices as they are now."""
        return self._copies.snapshot(self.context.annotations)

    def _note_change(self, *, for_training: bool) -> None:
        if for_training:
            self._training_slices_changed = True
        self.unsaved = True
        self.saved_changed.emit(False)
        self._timer.start()


def _nothing() -> None:
    """What takes its turn behind the saves under way."""
