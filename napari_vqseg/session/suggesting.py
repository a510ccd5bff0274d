"""Suggesting: which slice to label next, and why."""

from __future__ import annotations

from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from vqseg import protocol
from vqseg.suggest import Suggestion, suggest_slices

__all__ = ["Suggesting"]


class Suggesting(Concern):
    """Slices worth labelling: by geometry at once, by the network's doubt once it has answered.

    Attributes
    ----------
    changed : Signal()
        Other suggestions.
    """

    changed = Signal()

    def __init__(self, context: Context, engine: Engine) -> None:
        super().__init__(context)
        self._engine = engine
        self.forget()
        engine.on(protocol.SuggestionsReady, self._on_suggestions)

    def forget(self) -> None:
        """Forget the suggestions for the case before."""
        self.suggestions: list[Suggestion] = []

    def next(self) -> None:
        """Key N: go to the slice most worth labelling next."""
        context = self.context
        annotations, z = context.annotations, context.z
        remaining = [item for item in self.suggestions if item.z not in annotations.records and item.z != z]
        if not remaining:
            names = context.case.project.class_names
            remaining = suggest_slices(annotations, context.volume.spacing_mm, class_names=names)
            remaining = [item for item in remaining if item.z != z] or remaining
            if self._engine.has_network:
                request_id = self._engine.new_request("suggestions")
                self._engine.send(protocol.RequestSuggestions(request_id, context.case.case.id))
        if not remaining:
            context.notified.emit("Every slice is labelled.", "info")
            return
        self.suggestions = remaining
        self.changed.emit()
        context.view.navigation.go_to(remaining[0].z)
        context.notified.emit(f"Slice {remaining[0].z}: {remaining[0].reason}", "hint")

    def _on_suggestions(self, message: protocol.SuggestionsReady) -> None:
        if self._engine.is_newest("suggestions", message.request_id):
            self.suggestions = [
                Suggestion(int(item["z"]), float(item["score"]), str(item["reason"])) for item in message.suggestions
            ]
            self.changed.emit()
