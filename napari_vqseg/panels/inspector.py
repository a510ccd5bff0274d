"""The code that was clicked: what it looks like, where it occurs, in what, and what QPM makes of it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSlider, QVBoxLayout, QWidget

from napari_vqseg.panels.codeword import SubstitutionBars, Thumbnail
from napari_vqseg.panels.parts import note, row, silently

if TYPE_CHECKING:
    from napari_vqseg.session import Session
    from napari_vqseg.session.codebook import Inspected

__all__ = ["CodewordInspector"]

EPSILON_STEPS = 20
LINK = "#56B4E9"


class CodewordInspector(QWidget):
    """Two pictures, three facts, and bars that move with epsilon."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.decoded = Thumbnail("The codeword as the image decoder paints it, from the codeword alone.")
        self.here = Thumbnail("The image under the patch that was clicked.")
        self.words = note()
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.LinksAccessibleByMouse)
        self.words.linkActivated.connect(lambda z: session.go_to(int(z)))
        self.epsilon = QSlider(Qt.Orientation.Horizontal)
        self.epsilon.setRange(0, EPSILON_STEPS)
        self.epsilon.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.epsilon.setToolTip("The chance that a code is replaced by a similar one; the same slider as in Review.")
        self.epsilon.valueChanged.connect(lambda steps: session.reviewing.preview(steps / EPSILON_STEPS))
        self.epsilon_words = QLabel()
        self.bars = SubstitutionBars(session.codebook.inspect_code)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 2, 0, 0)
        column.setSpacing(3)
        column.addLayout(row(self.decoded, self.here, self.words, stretch=2))
        column.addLayout(row(self.epsilon_words, self.epsilon, stretch=1))
        column.addWidget(self.bars)
        column.addStretch(1)

    def show_inspected(self, inspected: Inspected | None) -> None:
        """Show a code, and what is known of it so far."""
        window = self._session.windowing.window
        word = None if inspected is None else inspected.word
        self.decoded.show_hu(None if word is None or not word.decoded_hu.size else word.decoded_hu[0], window)
        self.here.show_hu(None if inspected is None else inspected.here_hu, window)
        self.words.setText("" if inspected is None else self._describe(inspected))
        self.bars.show_word(word, window)
        self.show_epsilon()

    def _describe(self, inspected: Inspected) -> str:
        survey, code, found = self._session.codebook.survey, inspected.code, inspected.occurrence
        assert survey is not None
        names = {0: "background", **self._session.classes.names}
        voxels = survey.class_voxels[code]
        shares = voxels / max(1, int(voxels.sum()))
        most = [int(value) for value in np.argsort(-shares)[:3] if shares[value] >= 0.005]
        classes = ", ".join(
            f"{escape(names.get(value, str(value)))} {100 * shares[value]:.0f}\u00a0%" for value in most
        )
        slices = f'slice <a href="{found.most_in}" style="color:{LINK}">{found.most_in}</a>'
        if found.slices > 1:
            slices = f"{found.slices} slices, most in {slices}"
        patches = "1 patch" if found.tokens == 1 else f"{found.tokens} patches"
        hu = f"{survey.hu_mean[code]:.0f} ± {survey.hu_sd[code]:.0f} HU"
        return f"<b>Code {code}</b>: {patches} in {slices}.<br>{classes}.<br>{hu}."

    def show_epsilon(self) -> None:
        """Move the bars to the current perturbation."""
        epsilon = self._session.reviewing.epsilon
        blocked = silently(self.epsilon)
        self.epsilon.setValue(round(epsilon * EPSILON_STEPS))
        blocked.unblock()
        self.epsilon_words.setText(f"Replaced by, at ε {epsilon:.2f}")
        self.bars.show_epsilon(epsilon)
