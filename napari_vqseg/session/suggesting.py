"""Suggesting: which slice to label next, and why."""

from __future__ import annotations

from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from napari_vqseg.session.reviewing import Reviewing
from napari_vqseg.session.training import Training
from vqseg import protocol
from vqseg.suggest import Suggestion, suggest_slices

__all__ = ["Suggesting"]


class Suggesting(Concern):
    """Slices worth labelling: by geometry at once, by what the network says as soon as it has answered.

    Attributes
    ----------
    changed : Signal()
        Other suggestions.
    suggestions : list of Suggestion
        Best first.
    current : Suggestion or None
        The one that was gone to last, while its slice is on show.
    """

    changed = Signal()

    def __init__(
        self, context: Context, engine: Engine, annotating: Annotating, training: Training, reviewing: Reviewing
    ) -> None:
        super().__init__(context)
        self._engine, self._annotating, self._training, self._reviewing = engine, annotating, training, reviewing
        self.forget()
        engine.on(protocol.SuggestionsReady, self._on_suggestions)
        annotating.slices_changed.connect(self._on_slices)
        annotating.training_slices_saved.connect(self._on_saved)
        reviewing.prediction_changed.connect(self._on_network)
        training.changed.connect(self._on_network)
        context.view.navigation.z_changed.connect(self._on_z)

    def forget(self) -> None:
        """Forget the suggestions for the case before."""
        self.suggestions: list[Suggestion] = []
        self.current: Suggestion | None = None
        self._used: list[int] = []
        self._ranking: list[int] | None = None
        self._awaited = False

    def announce(self) -> None:
        """Note what is labelled."""
        self._used = self.context.annotations.used

    def next(self) -> None:
        """Key N: go to the slice most worth labelling next."""
        context = self.context
        if self._ranking is not None:
            self._awaited = True  # else it would go by what was worth labelling before the last slice was
            context.busy_changed.emit("Looking for the next slice")
            return
        if not self._remaining():
            names = context.case.project.class_names
            self.suggestions = suggest_slices(context.annotations, context.volume.spacing_mm, class_names=names)
            self._ask()
        remaining = self._remaining() or self.suggestions
        if not remaining:
            context.notified.emit("Every slice is labelled.", "info")
            return
        chosen = remaining[0]
        context.view.navigation.go_to(chosen.z)
        self.current = chosen
        self.changed.emit()

    def _remaining(self) -> list[Suggestion]:
        """The unlabelled ones, but for the one that was gone to last."""
        records, seen = self.context.annotations.records, self.current.z if self.current is not None else -1
        return [item for item in self.suggestions if item.z not in records and item.z != seen]

    def _ask(self) -> None:
        """Ask the network; its answer counts from the next time on."""
        if self._engine.has_network:
            request_id = self._engine.new_request("suggestions")
            self._engine.send(protocol.RequestSuggestions(request_id, self.context.case.case.id))

    def _on_network(self) -> None:
        """A network may have something new to say."""
        if self._has_say:
            self._ask()

    @property
    def _has_say(self) -> bool:
        """Whether a network ranks; a training is not slowed by questions that nobody has asked."""
        return self._training.is_idle and self._engine.has_network and self._reviewing.prediction is not None

    def _on_suggestions(self, message: protocol.SuggestionsReady) -> None:
        if self._engine.is_newest("suggestions", message.request_id):
            self.suggestions = [
                Suggestion(int(item["z"]), float(item["score"]), str(item["reason"])) for item in message.suggestions
            ]
            self.changed.emit()

    def _on_slices(self) -> None:
        """What has been labelled is asked for no longer, and tells what is worth labelling after it."""
        used = self.context.annotations.used
        if used != self._used:
            self.current = None  # the reason given for it may hold no longer
            self._used = used
            if self.suggestions and not self._has_say:
                self._rank()

    def _on_saved(self) -> None:
        """The network can see what has been labelled."""
        if self.suggestions and self._has_say:
            self._ask()

    def _rank(self) -> None:
        """Rank anew by geometry alone, off the event loop."""
        context, used = self.context, self._used
        opened, names, spacing_mm = context.case, context.case.project.class_names, context.volume.spacing_mm
        snapshot = self._annotating.snapshot()
        self._ranking = used

        def over(found: list[Suggestion] | None) -> None:
            if context.opened is not opened or self._ranking is not used:
                return
            awaited, self._ranking, self._awaited = self._awaited, None, False
            if found is not None and self._used is used and not self._has_say:
                self.suggestions = found
                self.changed.emit()
            if awaited:
                context.busy_changed.emit("")
                self.next()

        def failed(error: BaseException) -> None:
            over(None)
            context.refused(error)

        context.scheduler.background(lambda: suggest_slices(snapshot(), spacing_mm, class_names=names), over, failed)

    def _on_z(self, z: int) -> None:
        self._awaited = False
        if self.current is not None and self.current.z != z:
            self.current = None
            self.changed.emit()
