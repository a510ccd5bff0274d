"""Accepting: predicted slices, ranges, components and stable slices become annotations, one step of undo each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.filling import FillingBetween
from napari_vqseg.session.profiles import Profiles
from napari_vqseg.session.reviewing import Reviewing
from vqseg.accept import SliceChange, accept_component, accept_slices, is_drawn
from vqseg.annotations import PAINTED_BACKGROUND, Annotations, SliceState
from vqseg.components import component_at

__all__ = ["Accepting"]


class Accepting(Concern):
    """What a person takes over from the prediction, as it is shown."""

    def __init__(
        self,
        context: Context,
        annotating: Annotating,
        filling: FillingBetween,
        reviewing: Reviewing,
        profiles: Profiles,
    ) -> None:
        super().__init__(context)
        self._annotating, self._filling, self._reviewing, self._profiles = annotating, filling, reviewing, profiles
        self._pointed: Any = None
        context.view.pointer.pointed.connect(self._on_pointed)

    def _on_pointed(self, pointed: Any) -> None:
        self._pointed = pointed

    def shown(self) -> None:
        """Key A: take over what is proposed or predicted in the shown slice."""
        z = self.context.axial_slice()
        if z in self._filling.left:
            self._filling.accept_slice()
        elif z is not None:
            self.slice(z)

    def whole(self) -> None:
        """Key Shift+A: take over all of it, the slices in between or the component under the mouse."""
        if self._filling.left:
            self._filling.accept_all()
        else:
            self.component()

    def slice(self, z: int | None = None) -> None:
        """Take over the shown slice, or slice z."""
        z = self.context.axial_slice() if z is None else z
        if z is None:
            return
        if self._has_prediction() and is_drawn(self.context.annotations, z):
            self._say(f"Slice {z} is already drawn and complete; clear it before accepting.", "warning")
        elif self._has_prediction():
            self._take([z])

    def range(self, first: int, last: int) -> None:
        """Take over the slices from `first` to `last`; drawn and finished ones stay as they are."""
        if self._has_prediction():
            self._take(range(min(first, last), max(first, last) + 1))

    def stable(self, threshold: float) -> None:
        """Take over the unlabelled slices that are at least so stable, 0 to 1."""
        slices = self._profiles.stable_slices(threshold)
        if slices:
            self._take(slices)
        else:
            self._say(f"No unlabelled slice is {100 * threshold:.0f} % stable; lower the threshold.", "warning")

    def component(self) -> None:
        """Take over the connected component under the mouse, in all slices it lies in."""
        prediction, pointed = self._reviewing.prediction, self._pointed
        if not self._has_prediction() or prediction is None:
            return
        if pointed is None or prediction[pointed.index] == 0:
            self._say("Point at a predicted structure in the image, then press Shift+A.", "warning")
        else:
            self.context.busy_changed.emit("Following the component")
            self._follow(prediction, pointed.index)

    def _follow(self, prediction: npt.NDArray[np.uint8], index: tuple[int, int, int]) -> None:
        """Find the component at a voxel and take it over; once more, where a person has painted on it meanwhile."""
        opened, annotations, volume = self.context.opened, self.context.annotations, self.context.volume

        def find() -> tuple[dict[int, SliceChange], float, dict[int, object]]:
            component = component_at(prediction, index)
            assert component is not None
            before = _state(annotations, component.slices)
            changes = accept_component(annotations, prediction, component, volume.spacing_mm)
            return changes, component.volume_ml(volume.voxel_ml), before

        def take(found: tuple[dict[int, SliceChange], float, dict[int, object]]) -> None:
            changes, volume_ml, before = found
            if self.context.opened is not opened:
                return
            if _state(annotations, before) == before:
                self._take_component(changes, volume_ml)
            else:
                self._follow(prediction, index)

        self.context.background(find, take)

    # ------------------------------------------------------------ taking over

    def _has_prediction(self) -> bool:
        if self._reviewing.prediction is None:
            self._say("The volume is not predicted yet; train first, or wait for its first prediction.", "warning")
        return self._reviewing.prediction is not None

    def _take(self, slices: Sequence[int]) -> None:
        assert self._reviewing.prediction is not None
        changes = accept_slices(self.context.annotations, self._reviewing.prediction, slices)
        self._annotating.change(changes)
        left = len(slices) - len(changes)
        empty = sum(not _holds_structure(change) for change in changes.values())
        if len(slices) > 1:
            without = f", {empty} of them without any structure" if empty else ""
            kept = f" Drawn slices stay as they are: {left}." if left else ""
            done = f"{len(changes)} slice{'s' * (len(changes) != 1)} accepted{without}"
            self._say(f"{done}; Ctrl+Z takes that back.{kept}", "info")
        elif empty:
            self._say(f"Slice {slices[0]} is accepted as holding no structure; Ctrl+Z takes it back.", "info")

    def _take_component(self, changes: dict[int, SliceChange], volume_ml: float) -> None:
        self.context.busy_changed.emit("")
        self._annotating.change(changes)
        complete = sum(
            change.record is not None and change.record.state is SliceState.COMPLETE for change in changes.values()
        )
        beside = len(changes) - complete
        words = f"Accepted a component of {volume_ml:.2f} ml in {len(changes)} slices."
        if beside:
            words += (
                f" {beside} of them hold{'s' * (beside == 1)} other predicted structures too: scribbled, and complete "
                "once these are accepted as well."
            )
        self._say(f"{words} Ctrl+Z takes it back.", "info")

    def _say(self, text: str, level: str) -> None:
        self.context.notified.emit(text, level)


def _state(annotations: Annotations, slices: Iterable[int]) -> dict[int, object]:
    """What is labelled in some slices, to see whether it has changed."""
    return {z: (annotations.records.get(z), annotations.labels[z].tobytes()) for z in slices}


def _holds_structure(change: SliceChange) -> bool:
    return bool(((change.labels > 0) & (change.labels < PAINTED_BACKGROUND)).any())
