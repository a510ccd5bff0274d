"""The codebook: how the network uses its words in the case, where they lie, and what one of them stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from vqseg import protocol
from vqseg.tokens import CodebookSurvey, Codeword, Occurrence

__all__ = ["Codebook", "Inspected"]


@dataclass(frozen=True, eq=False)
class Inspected:
    """A code under the magnifying glass.

    Parameters
    ----------
    code : int
        The code.
    occurrence : Occurrence
        Where it occurs in the volume.
    voxel : tuple of int or None
        The voxel (z, y, x) that was clicked, None where the code was chosen by itself.
    here_hu : ndarray or None
        (y, x) the image under the token that was clicked, HU.
    word : Codeword or None
        What it looks like and what replaces it; None until the engine has answered.
    """

    code: int
    occurrence: Occurrence
    voxel: tuple[int, int, int] | None = None
    here_hu: npt.NDArray[np.float32] | None = None
    word: Codeword | None = None


class Codebook(Concern):
    """Surveys the codebook over the case, shows its codes on the image and looks at single ones.

    Attributes
    ----------
    changed : Signal(CodebookSurvey or None)
        What was measured.
    inspected_changed : Signal(Inspected or None)
        Another code, or more about it.
    survey : CodebookSurvey or None
        The last one.
    step : int
        Training step that it was made at.
    inspected : Inspected or None
        The code being looked at.
    """

    changed = Signal(object)
    inspected_changed = Signal(object)

    def __init__(self, context: Context, engine: Engine) -> None:
        super().__init__(context)
        self._engine = engine
        self._pointed: Any = None
        self.forget()
        engine.on(protocol.CodebookReady, self._on_codebook)
        engine.on(protocol.CodewordReady, self._on_codeword)
        context.view.tokens.clicked.connect(self.inspect)
        context.view.pointer.pointed.connect(self._on_pointed)

    def forget(self) -> None:
        """Forget what was measured in the case before."""
        self.survey: CodebookSurvey | None = None
        self.inspected: Inspected | None = None
        self.step = 0
        self._only = False

    def announce(self) -> None:
        """Tell that nothing is measured yet."""
        self.changed.emit(self.survey)
        self.inspected_changed.emit(self.inspected)

    # ------------------------------------------------------------ the whole

    def measure(self) -> None:
        """Ask how the codebook is used."""
        if self._engine.has_network:
            self.context.busy_changed.emit("Reading the codebook")
            request_id = self._engine.new_request("codebook")
            self._engine.send(protocol.RequestCodebook(request_id, self.context.case.case.id))

    def _on_codebook(self, message: protocol.CodebookReady) -> None:
        if not self._engine.is_newest("codebook", message.request_id):
            return

        def take(survey: CodebookSurvey) -> None:
            self.context.busy_changed.emit("")
            if self._engine.is_newest("codebook", message.request_id):
                self.survey, self.step = survey, message.step
                self._look_at(None)
                self.changed.emit(survey)
                self.context.scheduler.in_turns(self._prepare(survey))

        self.context.background(lambda: CodebookSurvey.load(message.path), take)

    def _prepare(self, survey: CodebookSurvey) -> Iterator[None]:
        """Have the codes ready before a person asks to see them; where older ones are on show, show these."""
        tokens = self.context.view.tokens
        if self.survey is survey:
            shown = tokens.visible
            yield from tokens.prepare(survey.codes, survey.grid)
            if shown and self.survey is survey:
                self.show_codes(True)

    def show_codes(self, on: bool) -> None:
        """Show or hide the codes on the image; while they are shown, a click asks about one."""
        tokens = self.context.view.tokens
        if on and self.survey is not None:
            tokens.show(self.survey.codes, self.survey.grid)
            self._highlight()
        else:
            tokens.hide()
        self.context.scheduler.in_turns(self._select())  # once the image is drawn: it draws napari's controls anew

    def _select(self) -> Iterator[None]:
        yield
        self.context.view.tokens.select()

    def show_only(self, on: bool) -> None:
        """Show the inspected code only, wherever it occurs, or all codes."""
        self._only = on
        self._highlight()

    def _highlight(self) -> None:
        only = self.inspected.code if self._only and self.inspected is not None else None
        self.context.view.tokens.highlight(only)

    # ------------------------------------------------------------ one code

    def _on_pointed(self, pointed: Any) -> None:
        self._pointed = pointed

    def inspect_pointed(self) -> None:
        """Key I: look at the code under the mouse."""
        if self.survey is None:
            self._say("Measure the codebook first (section Codebook).")
        elif self._pointed is None:
            self._say("Point at the image, then press I.")
        else:
            self.inspect(self._pointed.index)

    def inspect(self, voxel: tuple[int, int, int]) -> None:
        """Look at the code of a voxel (z, y, x)."""
        survey = self.survey
        if survey is None:
            return
        z, y, x = voxel
        token = survey.grid.token_at(y, x)
        if token is None:
            self._say("The network does not look there: it works on the surroundings of what is labelled.")
            return
        code, rows_columns, volume = int(survey.codes[z][token]), survey.grid.voxels_of(*token), self.context.volume

        def take(here: npt.NDArray[np.float32]) -> None:
            if self.survey is survey:
                self._look_at(Inspected(code, survey.occurrence(code), voxel, here))

        self.context.background(lambda: volume.slice(z)[rows_columns].astype(np.float32), take)

    def inspect_code(self, code: int) -> None:
        """Look at a code by itself."""
        if self.survey is not None:
            self._look_at(Inspected(code, self.survey.occurrence(code)))

    def _look_at(self, inspected: Inspected | None) -> None:
        self.inspected = inspected
        self._highlight()
        self.inspected_changed.emit(inspected)
        if inspected is not None:
            self._engine.send(protocol.RequestCodeword(self._engine.new_request("codeword"), inspected.code))

    def _on_codeword(self, message: protocol.CodewordReady) -> None:
        def take(word: Codeword) -> None:
            before = self.inspected
            if self._engine.is_newest("codeword", message.request_id) and before is not None:
                self.inspected = Inspected(before.code, before.occurrence, before.voxel, before.here_hu, word)
                self.inspected_changed.emit(self.inspected)

        self.context.background(lambda: Codeword.load(message.path), take)

    def _say(self, text: str) -> None:
        self.context.notified.emit(text, "info")
