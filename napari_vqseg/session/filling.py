"""Fill between: the shape between complete slices, in one gap or in all of them, shown first, accepted then.

It is interpolated at once; a moment later shapes that follow the anatomy, which the engine finds, take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from vqseg import protocol
from vqseg.accept import SliceChange, accept_filling
from vqseg.between import Filling, fill_between, gap_around, gaps_between_shapes
from vqseg.errors import AnnotationError

__all__ = ["FillingBetween"]

Gap = tuple[int, int]
Slice = npt.NDArray[np.uint8]


class FillingBetween(Concern):
    """Proposals for the slices of one gap, or of all.

    Attributes
    ----------
    changed : Signal()
        Other proposals, fewer of them, or none any more.
    proposed : Signal()
        What a person has asked for is on show.
    proposals : list of Filling
        One a gap.
    awaited : bool
        Whether the engine is at shapes that follow the anatomy.
    """

    changed = Signal()
    proposed = Signal()

    def __init__(self, context: Context, engine: Engine, annotating: Annotating) -> None:
        super().__init__(context)
        self._engine, self._annotating = engine, annotating
        self.forget()
        annotating.slices_changed.connect(self._check)
        engine.on(protocol.FillingReady, self._on_filling)
        engine.on(protocol.Failed, self._on_failed)
        engine.crashed.connect(self._give_up)

    def forget(self) -> None:
        """Forget the proposal for the case before."""
        self.proposals: list[Filling] = []
        self._waiting_for: list[Gap] = []
        self._ends: dict[int, Slice] = {}
        self._request_id = -1
        self.awaited = False

    def announce(self) -> None:
        """Tell that there is none."""
        self.changed.emit()

    @property
    def left(self) -> list[int]:
        """The proposed slices that are still to be accepted."""
        if not self.proposals:
            return []
        complete = set(self.context.annotations.complete)
        return [z for filling in self.proposals for z in filling.slices if z not in complete]

    # ------------------------------------------------------------ the person

    def propose(self) -> None:
        """Key F: interpolate between the complete slices around the shown one, in the background."""
        self._propose(lambda: [gap_around(self.context.annotations, self.context.z)])

    def propose_all(self) -> None:
        """Key Shift+F: interpolate in every gap between complete slices, in the background."""
        self._propose(lambda: gaps_between_shapes(self.context.annotations))

    def accept_slice(self) -> None:
        """Make the proposal of the shown slice a complete annotation."""
        z = self.context.axial_slice()
        if z is not None:
            self._accept([z])

    def accept_all(self) -> None:
        """Make all that is proposed complete annotations, as one step of undo."""
        self._accept(self.left)

    def dismiss(self) -> None:
        """Take the proposals away."""
        self._waiting_for = []
        if self.proposals:
            self._take_away()

    # ------------------------------------------------------------ showing

    def _propose(self, find: Callable[[], list[Gap]]) -> None:
        context = self.context
        try:
            gaps = find()
        except AnnotationError as error:
            context.notified.emit(str(error), "hint")
            return
        self._waiting_for, self.awaited = gaps, False
        self._request_id = self._engine.new_request("filling")
        snapshot, spacing_mm, shape = self._annotating.snapshot(), context.volume.spacing_mm, context.volume.shape

        def fill() -> tuple[list[Filling], npt.NDArray[np.uint8], dict[int, Slice]]:
            annotations = snapshot()  # a person may go on, and reopen the end of a gap
            ends = {z: annotations.labels[z].copy() for gap in gaps for z in gap}
            fillings = [fill_between(annotations, gap, spacing_mm) for gap in gaps]
            return fillings, _shown(fillings, range(shape[0]), shape), ends

        context.busy_changed.emit("Filling between")
        context.background(fill, lambda filled: self._show(*filled))

    def _show(self, fillings: list[Filling], shown: npt.NDArray[np.uint8], ends: dict[int, Slice]) -> None:
        context = self.context
        context.busy_changed.emit("")
        if self._waiting_for != [(filling.low, filling.high) for filling in fillings] or not context.is_open:
            return
        self._waiting_for, self.proposals, self._ends = [], fillings, ends
        context.view.proposal.show(shown, self.left, context.case.colours)
        if context.z not in self.left and context.view.navigation.plane == "axial":
            nearest = min(
                fillings, key=lambda filling: min(abs(filling.low - context.z), abs(filling.high - context.z))
            )
            context.view.navigation.go_to((nearest.low + nearest.high) // 2)
        self.awaited = True
        self._check()
        if self.awaited:
            self.proposed.emit()
            self._annotating.save(then=partial(self._ask, self._request_id), failed=self._give_up)

    def _accept(self, slices: Sequence[int]) -> None:
        left, changes = set(slices).intersection(self.left), dict[int, SliceChange]()
        for filling in self.proposals:
            changes |= accept_filling(self.context.annotations, filling, sorted(left))
        self._annotating.change(changes)

    def _check(self) -> None:
        """Tell what is proposed, but what has been accepted and the gaps of which an end is no longer complete."""
        if not self.proposals:
            return
        complete = set(self.context.annotations.complete)
        self.proposals = [filling for filling in self.proposals if complete.issuperset((filling.low, filling.high))]
        if self.left:
            self.context.view.proposal.keep(self.left)
            self.changed.emit()
        else:
            self._take_away()

    def _take_away(self) -> None:
        self.proposals, self.awaited = [], False
        self.context.view.proposal.hide()
        self.changed.emit()

    # ------------------------------------------------------------ following the anatomy

    def _ask(self, request_id: int) -> None:
        """Ask the engine, which reads the labels from disk."""
        if self._awaits(request_id):
            self._engine.send(protocol.RequestFilling(request_id, self.context.case.case.id, self.left))

    def _awaits(self, request_id: int) -> bool:
        return self.awaited and self._engine.is_newest("filling", request_id)

    def _on_filling(self, message: protocol.FillingReady) -> None:
        if self._awaits(message.request_id):
            self._follow(message)

    def _follow(self, message: protocol.FillingReady) -> None:
        """Let the engine's shapes take the place of what is still proposed between ends that are as they were."""
        proposals, left, shape = self.proposals, self.left, self.context.volume.shape
        labels = self.context.annotations.labels
        as_asked = {z for z, asked in self._ends.items() if np.array_equal(labels[z], asked)}

        def read() -> tuple[list[Filling], npt.NDArray[np.uint8]]:
            with np.load(Path(message.path)) as file:
                found = dict(zip(file["z"].tolist(), file["labels"], strict=True))
            fillings = [
                filling.followed_by(found) if as_asked.issuperset((filling.low, filling.high)) else filling
                for filling in proposals
            ]
            return fillings, _shown(fillings, left, shape)

        def show(answer: tuple[list[Filling], npt.NDArray[np.uint8]]) -> None:
            if not self._awaits(message.request_id):
                return
            if self.proposals is not proposals or self.left != left:  # accepted or changed meanwhile
                self._follow(message)
                return
            self.proposals, shown = answer
            self.awaited = False
            self.context.view.proposal.show(shown, left, self.context.case.colours)
            self.changed.emit()

        self.context.background(read, show)

    def _on_failed(self, message: protocol.Failed) -> None:
        if message.request == protocol.RequestFilling.__name__:
            self._give_up()

    def _give_up(self, *_why: str) -> None:
        """Leave it at what is proposed."""
        if self.awaited:
            self.awaited = False
            self.changed.emit()


def _shown(fillings: Sequence[Filling], slices: Collection[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Labels (z, y, x) of some of the slices of fillings, zero elsewhere."""
    shown = np.zeros(shape, dtype=np.uint8)
    for filling in fillings:
        for z in filling.slices:
            if z in slices:
                shown[z] = filling.slice(z)
    return shown
