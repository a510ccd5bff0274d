"""Fill between: the shape between complete slices, in one gap or in all of them, shown first, accepted then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.context import Concern, Context
from vqseg.accept import SliceChange, accept_filling
from vqseg.between import Filling, fill_between, gap_around, gaps_between_shapes
from vqseg.errors import AnnotationError

__all__ = ["FillingBetween"]

Gap = tuple[int, int]


class FillingBetween(Concern):
    """Proposals for the slices of one gap, or of all.

    Attributes
    ----------
    changed : Signal()
        Other proposals, fewer of them, or none any more.
    proposals : list of Filling
        One a gap.
    """

    changed = Signal()

    def __init__(self, context: Context, annotating: Annotating) -> None:
        super().__init__(context)
        self._annotating = annotating
        self.forget()
        annotating.slices_changed.connect(self._check)

    def forget(self) -> None:
        """Forget the proposal for the case before."""
        self.proposals: list[Filling] = []
        self._waiting_for: list[Gap] = []

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
            self.proposals = []
            self.context.view.proposal.hide()
            self.changed.emit()

    # ------------------------------------------------------------ showing

    def _propose(self, find: Callable[[], list[Gap]]) -> None:
        context = self.context
        try:
            gaps = find()
        except AnnotationError as error:
            context.notified.emit(str(error), "hint")
            return
        self._waiting_for = gaps
        snapshot, spacing_mm, shape = self._annotating.snapshot(), context.volume.spacing_mm, context.volume.shape

        def fill() -> tuple[list[Filling], npt.NDArray[np.uint8]]:
            annotations = snapshot()  # a person may go on, and reopen the end of a gap
            fillings = [fill_between(annotations, gap, spacing_mm) for gap in gaps]
            shown = np.zeros(shape, dtype=np.uint8)
            for filling in fillings:
                shown[filling.low + 1 : filling.high] = filling.labels
            return fillings, shown

        context.busy_changed.emit("Filling between")
        context.background(fill, lambda filled: self._show(*filled))

    def _show(self, fillings: list[Filling], shown: npt.NDArray[np.uint8]) -> None:
        context = self.context
        context.busy_changed.emit("")
        if self._waiting_for != [(filling.low, filling.high) for filling in fillings] or not context.is_open:
            return
        self._waiting_for, self.proposals = [], fillings
        context.view.proposal.show(shown, self.left, context.case.colours)
        if context.z not in self.left and context.view.navigation.plane == "axial":
            nearest = min(
                fillings, key=lambda filling: min(abs(filling.low - context.z), abs(filling.high - context.z))
            )
            context.view.navigation.go_to((nearest.low + nearest.high) // 2)
        self._check()

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
            self.proposals = []
            self.context.view.proposal.hide()
            self.changed.emit()
