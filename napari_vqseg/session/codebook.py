"""The codebook: how the network uses its words in the case."""

from __future__ import annotations

from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from vqseg import protocol
from vqseg.tokens import CodebookSurvey

__all__ = ["Codebook"]


class Codebook(Concern):
    """Asks the engine about its codebook.

    Attributes
    ----------
    changed : Signal(CodebookSurvey or None)
        What was measured.
    """

    changed = Signal(object)

    def __init__(self, context: Context, engine: Engine) -> None:
        super().__init__(context)
        self._engine = engine
        self.forget()
        engine.on(protocol.CodebookReady, self._on_codebook)

    def forget(self) -> None:
        """Forget what was measured in the case before."""
        self.survey: CodebookSurvey | None = None

    def announce(self) -> None:
        """Tell that nothing is measured yet."""
        self.changed.emit(self.survey)

    def measure(self) -> None:
        """Ask how the codebook is used."""
        if self._engine.has_network:
            request_id = self._engine.new_request("codebook")
            self._engine.send(protocol.RequestCodebook(request_id, self.context.case.case.id))

    def _on_codebook(self, message: protocol.CodebookReady) -> None:
        if self._engine.is_newest("codebook", message.request_id):
            self.context.background(lambda: CodebookSurvey.load(message.path), self._show)

    def _show(self, survey: CodebookSurvey) -> None:
        self.survey = survey
        self.changed.emit(self.survey)
