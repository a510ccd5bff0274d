"""The codebook: how the network uses its words in the case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from vqseg import protocol

__all__ = ["Codebook", "CodebookUse"]


@dataclass(frozen=True)
class CodebookUse:
    """How the codebook is used in the case."""

    size: int
    utilisation: float
    perplexity: float
    usage: npt.NDArray[np.int64]

    @property
    def dead(self) -> int:
        """Number of codes that no token falls to."""
        return int((self.usage == 0).sum())


class Codebook(Concern):
    """Asks the engine about its codebook.

    Attributes
    ----------
    changed : Signal(CodebookUse or None)
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
        self.use: CodebookUse | None = None

    def announce(self) -> None:
        """Tell that nothing is measured yet."""
        self.changed.emit(self.use)

    def measure(self) -> None:
        """Ask how the codebook is used."""
        if self._engine.has_network:
            request_id = self._engine.new_request("codebook")
            self._engine.send(protocol.RequestCodebook(request_id, self.context.case.case.id))

    def _on_codebook(self, message: protocol.CodebookReady) -> None:
        try:
            with np.load(message.path, allow_pickle=False) as file:
                usage = file["usage"]
        except (OSError, ValueError, KeyError):
            return
        self.use = CodebookUse(message.codebook_size, message.utilisation, message.perplexity, usage)
        self.changed.emit(self.use)
