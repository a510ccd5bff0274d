"""Codebook: how the network uses its words, where they lie on the image, and what one of them stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSlider, QStackedWidget, QTabBar

from napari_vqseg.panels.codebook_map import SHAPES, CodebookMap
from napari_vqseg.panels.codeword import Look, SubstitutionBars
from napari_vqseg.panels.parts import Panel, button, note, row, silently
from napari_vqseg.panels.plots import Chart, Curve, HistogramPlot
from napari_vqseg.session import TrainingState
from napari_vqseg.timers import Paced
from vqseg import protocol

if TYPE_CHECKING:
    from napari_vqseg.session import Session
    from napari_vqseg.session.codebook import Inspected
    from vqseg.tokens import CodebookSurvey

__all__ = ["CodebookPanel"]

DRAW_EVERY_S = 1.0
LONGEST = 400
EPSILON_STEPS = 20
UTILISATION, PERPLEXITY = "#56B4E9", "#F6A600"
NOT_MEASURED = "Measure reads the code of every patch of this volume."


class CodebookPanel(Panel):
    """The codebook's use, its map, its codes on the image, and the inspector."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._history: list[tuple[float, float, float]] = []
        self.facts = note(NOT_MEASURED)
        self.column.addWidget(self.facts)
        self._build_buttons()
        self._build_plots()
        self._build_inspector()
        self._drawing = Paced(DRAW_EVERY_S, self.show_history, self)
        self.listen(session.codebook.changed, self.show_survey)
        self.listen(session.codebook.inspected_changed, self.show_inspected)
        self.listen(session.view.tokens.changed, self.show_tokens)
        self.listen(session.reviewing.epsilon_changed, self.show_epsilon)
        self.listen(session.classes.changed, self.show_classes)
        self.listen(session.training.progressed, self.note_progress)
        self.listen(session.training.changed, self._on_training)
        self.show_survey(session.codebook.survey)
        self.show_inspected(session.codebook.inspected)

    def _build_buttons(self) -> None:
        codebook = self.session.codebook
        self.measure = button("Measure", "Read the codes of this volume with the newest weights.", codebook.measure)
        self.codes = button("Codes on image", "Show the code of every patch; then click one to look at it.",
                            lambda: codebook.show_codes(self.codes.isChecked()))  # fmt: skip
        self.only = button("Only this one", "Show only the patches of the code below, in all slices.",
                           lambda: codebook.show_only(self.only.isChecked()))  # fmt: skip
        for toggle in (self.codes, self.only):
            toggle.setCheckable(True)
        self.column.addLayout(row(self.measure, self.codes, self.only))

    def _build_plots(self) -> None:
        self.map = CodebookMap(self.session.codebook.inspect_code)
        self.usage = HistogramPlot()
        self.history = Chart(150, "training step")
        self.tabs, self.pages = QTabBar(), QStackedWidget()
        self.tabs.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.tabs.setExpanding(False)
        self.tabs.setDrawBase(False)
        for name, tip, page in (
            ("Map", "Codewords in use: near ones look alike, size is use, colour and shape are the class.", self.map),
            ("Usage", "How often each codeword is used, the most used first.", self.usage),
            ("History", "Utilisation and perplexity over the training.", self.history),
        ):
            self.tabs.setTabToolTip(self.tabs.addTab(name), tip)
            self.pages.addWidget(page)
        self.pages.setFixedHeight(self.map.sizeHint().height())
        self.legend = note()
        self.tabs.currentChanged.connect(self._turn_to)
        for widget in (self.tabs, self.pages, self.legend):
            self.column.addWidget(widget)

    def _build_inspector(self) -> None:
        self.look = Look("The codeword as the image decoder paints it, from the codeword alone.")
        self.here = Look("The image under the patch that was clicked.")
        self.words = note()
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.LinksAccessibleByMouse)
        self.words.linkActivated.connect(lambda z: self.session.go_to(int(z)))
        self.epsilon = QSlider(Qt.Orientation.Horizontal)
        self.epsilon.setRange(0, EPSILON_STEPS)
        self.epsilon.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.epsilon.setToolTip("The chance that a code is replaced by a similar one; the same slider as in Review.")
        self.epsilon.valueChanged.connect(lambda steps: self.session.reviewing.preview(steps / EPSILON_STEPS))
        self.epsilon_words = QLabel()
        self.bars = SubstitutionBars(self.session.codebook.inspect_code)
        self.column.addLayout(row(self.look, self.here, self.words, stretch=2))
        self.column.addLayout(row(self.epsilon_words, self.epsilon, stretch=1))
        self.column.addWidget(self.bars)

    @property
    def useful(self) -> bool:
        """Once there is a network."""
        return self.session.is_open and self.session.engine.has_network

    def release(self) -> None:
        """Disconnect, and draw no more."""
        self._drawing.stop()
        super().release()

    # ------------------------------------------------------------ the whole

    def show_survey(self, survey: CodebookSurvey | None) -> None:
        """Show what was measured."""
        self.codes.setEnabled(survey is not None)
        if survey is None:
            self.facts.setText(NOT_MEASURED)
        else:
            report = survey.report
            self.facts.setText(
                f"<b>{100 * report.utilisation:.1f} %</b> of {report.codebook_size} codewords used "
                f"({report.codebook_size - report.dead}; {report.dead} dead). Perplexity "
                f"<b>{report.perplexity:.0f}</b>. Step {self.session.codebook.step}."
            )
            self.usage.show_usage(report.usage)
            self._history = [tuple(point) for point in survey.history.tolist()]
        self.show_classes()
        self.show_history()
        self.show_tokens()

    def show_classes(self) -> None:
        """Draw the map in the classes' colours."""
        survey = self.session.codebook.survey
        if survey is not None and self.session.is_open:
            self.map.show_survey(survey, self.session.case.colours, self.session.classes.names)
        self._turn_to(self.tabs.currentIndex())

    def show_tokens(self) -> None:
        """Show whether the codes are on the image."""
        for toggle, on in ((self.codes, self.session.view.tokens.visible), (self.only, self.only.isChecked())):
            blocked = silently(toggle)
            toggle.setChecked(on)
            blocked.unblock()
        self.only.setEnabled(self.session.view.tokens.visible and self.session.codebook.inspected is not None)

    def _turn_to(self, page: int) -> None:
        self.pages.setCurrentIndex(page)
        shown = self.session.codebook.survey is not None or (page == 2 and bool(self._history))
        self.pages.setVisible(shown)
        self.legend.setVisible(shown)
        self.tabs.setVisible(self.session.codebook.survey is not None or bool(self._history))
        self.legend.setText((self._map_legend, str, self._history_legend)[page]())

    def _map_legend(self) -> str:
        survey = self.session.codebook.survey
        if survey is None or not self.session.is_open:
            return ""
        names, colours = self.session.classes.names, self.session.case.colours
        owners = sorted(set(survey.owner[survey.report.usage > 0].tolist()) - {0})
        signs = [f'<span style="color:{colours.get(v)}">{SHAPES[v % len(SHAPES)]}</span>&nbsp;{names.get(v, v)}'
                 for v in owners]  # fmt: skip
        grey = '<span style="color:#8a93a3">●</span>&nbsp;background'
        return f"{' &nbsp; '.join([*signs, grey])}. Two directions of {100 * survey.explained:.0f} % of the variance."

    @staticmethod
    def _history_legend() -> str:
        return (
            f'<span style="color:{UTILISATION}">━</span>&nbsp;utilisation &nbsp; '
            f'<span style="color:{PERPLEXITY}">╍</span>&nbsp;perplexity, as a share of the codebook'
        )

    # ------------------------------------------------------------ history

    def _on_training(self, state: TrainingState) -> None:
        if state is TrainingState.STARTING:
            self._history.clear()

    def note_progress(self, progress: protocol.Progress) -> None:
        """Take up a step; it is drawn in a while."""
        if progress.utilisation is not None and progress.perplexity is not None:
            self._history.append((progress.step, progress.utilisation, progress.perplexity))
            if len(self._history) > LONGEST:
                del self._history[::2]
            self._drawing.ask()

    def show_history(self) -> None:
        """Draw utilisation and perplexity."""
        points = np.array(self._history, dtype=float).reshape(-1, 3)
        size = self.session.settings.config.model.codebook_size
        if self.session.codebook.survey is not None:
            size = self.session.codebook.survey.report.codebook_size
        self.history.limits = (0.0, 0.0), (max(1.0, float(points[:, 0].max(initial=1.0))), 1.0)
        self.history.curves = {
            "utilisation": Curve(UTILISATION, points[:, :2]),
            "perplexity": Curve(PERPLEXITY, np.column_stack([points[:, 0], points[:, 2] / size]), dashed=True),
        }
        self.history.update()
        if self.tabs.isHidden() and len(points):
            self._turn_to(self.tabs.currentIndex())

    # ------------------------------------------------------------ one code

    def show_inspected(self, inspected: Inspected | None) -> None:
        """Show a code, and what is known of it so far."""
        window = self.session.windowing.window
        word = None if inspected is None else inspected.word
        self.look.show_hu(None if word is None or not word.looks_hu.size else word.looks_hu[0], window)
        self.here.show_hu(None if inspected is None else inspected.here_hu, window)
        self.words.setVisible(inspected is not None)
        self.words.setText("" if inspected is None else self._describe(inspected))
        self.bars.show_word(word, window)
        for widget in (self.epsilon, self.epsilon_words):
            widget.setVisible(word is not None)
        self.map.show_chosen(None if inspected is None else inspected.code)
        self.show_epsilon()
        self.show_tokens()

    def _describe(self, inspected: Inspected) -> str:
        survey, code, found = self.session.codebook.survey, inspected.code, inspected.occurrence
        assert survey is not None
        names = {0: "background", **self.session.classes.names}
        voxels = survey.class_voxels[code]
        shares = voxels / max(1, int(voxels.sum()))
        classes = ", ".join(
            f"{names.get(int(v), v)} {100 * shares[v]:.0f} %" for v in np.argsort(-shares)[:3] if shares[v] >= 0.005
        )
        return (
            f"<b>Code {code}</b>: {found.tokens} patches in {found.slices} slices, most in slice "
            f'<a href="{found.most_in}" style="color:#56B4E9">{found.most_in}</a>.<br>{classes}.<br>'
            f"{survey.hu_mean[code]:.0f} ± {survey.hu_sd[code]:.0f} HU."
        )

    def show_epsilon(self) -> None:
        """Move the bars to the current perturbation."""
        epsilon = self.session.reviewing.epsilon
        blocked = silently(self.epsilon)
        self.epsilon.setValue(round(epsilon * EPSILON_STEPS))
        blocked.unblock()
        self.epsilon_words.setText(f"Replaced by, at ε {epsilon:.2f}")
        self.bars.show_epsilon(epsilon)
