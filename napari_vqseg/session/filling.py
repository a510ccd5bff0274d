"""Fill between: the shape between two complete slices, shown first, accepted then."""

from __future__ import annotations

from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.context import Concern, Context
from vqseg.accept import accept_filling
from vqseg.annotations import SliceState
from vqseg.between import Filling, fill_between, gap_around
from vqseg.errors import AnnotationError

__all__ = ["FillingBetween"]


class FillingBetween(Concern):
    """A proposal for the slices of one gap.

    Attributes
    ----------
    changed : Signal()
        Another proposal, less of it, or none any more.
    """

    changed = Signal()

    def __init__(self, context: Context, annotating: Annotating) -> None:
        super().__init__(context)
        self._annotating = annotating
        self.forget()
        annotating.slices_changed.connect(self._check)

    def forget(self) -> None:
        """Forget the proposal for the case before."""
        self.proposal: Filling | None = None
        self._waiting_for: tuple[int, int] | None = None

    def announce(self) -> None:
        """Tell that there is none."""
        self.changed.emit()

    @property
    def left(self) -> list[int]:
        """The slices of the proposal that are still to be accepted."""
        if self.proposal is None:
            return []
        complete = set(self.context.annotations.complete)
        return [z for z in self.proposal.slices if z not in complete]

    # ------------------------------------------------------------ the person

    def propose(self) -> None:
        """Key F: interpolate between the complete slices around the shown one, in the background."""
        context = self.context
        try:
            gap = gap_around(context.annotations, context.z)
        except AnnotationError as error:
            context.notified.emit(str(error), "warning")
            return
        self._waiting_for = gap
        annotations, spacing_mm = context.annotations, context.volume.spacing_mm
        context.busy_changed.emit("Filling between")
        context.background(lambda: fill_between(annotations, gap, spacing_mm), self._show)

    def accept_slice(self) -> None:
        """Make the proposal of the shown slice a complete annotation."""
        self._accept([self.context.z])

    def accept_all(self) -> None:
        """Make the proposal of all slices between complete annotations."""
        self._accept(self.left)

    def dismiss(self) -> None:
        """Take the proposal away."""
        self._waiting_for = None
        if self.proposal is not None:
            self.proposal = None
            self.context.view.proposal.hide()
            self.changed.emit()

    # ------------------------------------------------------------ showing

    def _show(self, filling: Filling) -> None:
        context = self.context
        context.busy_changed.emit("")
        if self._waiting_for != (filling.low, filling.high) or not context.is_open:
            return
        self._waiting_for, self.proposal = None, filling
        context.view.proposal.show(filling.low + 1, filling.labels, context.case.colours)
        if context.z not in filling.slices:
            context.view.navigation.go_to((filling.low + filling.high) // 2)
        self.changed.emit()

    def _accept(self, slices: list[int]) -> None:
        if self.proposal is not None:
            left = [z for z in slices if z in self.left]
            self._annotating.change(accept_filling(self.context.annotations, self.proposal, left))

    def _check(self) -> None:
        """Take away what has been accepted, and all of it once an end is no longer complete."""
        if self.proposal is None:
            return
        annotations = self.context.annotations
        ends = (self.proposal.low, self.proposal.high)
        if not self.left or any(annotations.state(z) is not SliceState.COMPLETE for z in ends):
            self.dismiss()
        else:
            self.context.view.proposal.keep(self.left)
            self.changed.emit()
