"""Codebook: how the network uses its words, where they lie on the image, and what one of them stands for."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QStackedWidget, QTabBar

from napari_vqseg.panels.codebook_map import SHAPES, CodebookMap
from napari_vqseg.panels.inspector import CodewordInspector
from napari_vqseg.panels.parts import DRAW_EVERY_S, Panel, button, note, row, silently
from napari_vqseg.panels.plots import Chart, Curve, HistogramPlot, Line
from napari_vqseg.session import TrainingState
from napari_vqseg.timers import Paced
from vqseg import protocol
from vqseg.tokens import HISTORY_COLUMNS

if TYPE_CHECKING:
    from napari_vqseg.session import Session
    from napari_vqseg.session.codebook import Inspected
    from vqseg.tokens import CodebookSurvey

__all__ = ["CodebookPanel"]

LONGEST = 400
MAP, USAGE, HISTORY, CODE = range(4)
UTILISATION, REVIVED = Line("#56B4E9"), Line("#009E73")
PERPLEXITY, DRIFT = Line("#F6A600", Qt.PenStyle.DashLine), Line("#CC79A7", Qt.PenStyle.DotLine)
NOT_MEASURED = "Measure reads the code of every patch of this volume."


class CodebookPanel(Panel):
    """The codebook's use, its map, its codes on the image, and the inspector."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._history: list[tuple[float | None, ...]] = []
        self.facts = note(NOT_MEASURED)
        self.column.addWidget(self.facts)
        self._build_buttons()
        self._build_pages()
        self._drawing = Paced(DRAW_EVERY_S, self.show_history, self)
        self.listen(session.codebook.changed, self.show_survey)
        self.listen(session.codebook.inspected_changed, self.show_inspected)
        self.listen(session.view.tokens.changed, self.show_tokens)
        self.listen(session.reviewing.epsilon_changed, self.inspector.show_epsilon)
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

    def _build_pages(self) -> None:
        self.map = CodebookMap(self.session.codebook.inspect_code)
        self.usage = HistogramPlot()
        self.history = Chart(150, "training step")
        self.inspector = CodewordInspector(self.session)
        self.tabs, self.pages = QTabBar(), QStackedWidget()
        self.tabs.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.tabs.setExpanding(False)
        self.tabs.setDrawBase(False)
        for name, tip, page in (
            ("Map", "Codewords in use: near ones look alike, size is use, colour and shape are the class.", self.map),
            ("Usage", "How often each codeword is used, the most used first.", self.usage),
            ("History", "How the codebook was used and settled over the training.", self.history),
            (
                "Code",
                "The code that was clicked: its looks, its places, and what replaces it.",
                self.inspector,
            ),
        ):
            self.tabs.setTabToolTip(self.tabs.addTab(name), tip)
            self.pages.addWidget(page)
        self.legend = note()
        self.tabs.currentChanged.connect(self._turn_to)
        for widget in (self.tabs, self.pages, self.legend):
            self.column.addWidget(widget)

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
                f"In this volume <b>{100 * report.utilisation:.1f} %</b> of {report.codebook_size} codewords are used "
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
        self.pages.setFixedHeight((self.map, self.usage, self.history, self.inspector)[page].sizeHint().height())
        shown = self.session.codebook.survey is not None or (page == HISTORY and bool(self._history))
        self.pages.setVisible(shown)
        self.tabs.setVisible(self.session.codebook.survey is not None or bool(self._history))
        legend = {MAP: self._map_legend, HISTORY: self._history_legend}.get(page, str)()
        self.legend.setText(legend)
        self.legend.setVisible(shown and bool(legend))

    def _map_legend(self) -> str:
        survey = self.session.codebook.survey
        if survey is None or not self.session.is_open:
            return ""
        names, colours = self.session.classes.names, self.session.case.colours
        owners = sorted(set(survey.owner[survey.report.usage > 0].tolist()) - {0})
        signs = [
            f'<span style="color:{colours.get(v)}">{SHAPES[v % len(SHAPES)]}</span>&nbsp;{escape(names.get(v, str(v)))}'
            for v in owners
        ]
        grey = '<span style="color:#8a93a3">●</span>&nbsp;background'
        return (
            f"{' &nbsp; '.join([*signs, grey])}. The two directions hold {100 * survey.explained:.0f} % of the "
            "variance; the middle is spread out."
        )

    @staticmethod
    def _history_legend() -> str:
        return (
            f"Of the codebook: {UTILISATION.sign}&nbsp;utilisation &nbsp; {PERPLEXITY.sign}&nbsp;perplexity &nbsp; "
            f'<span style="color:{REVIVED.colour}">█</span>&nbsp;revived in a step. '
            f"Of the patches: {DRIFT.sign}&nbsp;another code than 50 steps before."
        )

    # ------------------------------------------------------------ history

    def _on_training(self, state: TrainingState) -> None:
        if state is TrainingState.STARTING:
            self._history.clear()

    def note_progress(self, progress: protocol.Progress) -> None:
        """Take up a step; it is drawn in a while."""
        if progress.utilisation is not None:
            self._history.append(tuple(getattr(progress, name) for name in HISTORY_COLUMNS))
            if len(self._history) > LONGEST:
                del self._history[::2]
            self._drawing.ask()

    def show_history(self) -> None:
        """Draw how the codebook was used and settled."""
        points = np.array(self._history, dtype=float).reshape(-1, len(HISTORY_COLUMNS))
        size = self.session.settings.config.model.codebook_size
        if self.session.codebook.survey is not None:
            size = self.session.codebook.survey.report.codebook_size
        step, utilisation, perplexity, revived, drift = points.T
        self.history.limits = (0.0, 0.0), (float(step.max(initial=1.0)), 1.0)
        self.history.curves = {
            "revived": Curve(REVIVED, np.column_stack([step, revived / size]), filled=True),
            "utilisation": Curve(UTILISATION, np.column_stack([step, utilisation])),
            "perplexity": Curve(PERPLEXITY, np.column_stack([step, perplexity / size])),
            "drift": Curve(DRIFT, np.column_stack([step, drift])),
        }
        self.history.update()
        if self.tabs.isHidden() and len(points):
            self._turn_to(self.tabs.currentIndex())

    # ------------------------------------------------------------ one code

    def show_inspected(self, inspected: Inspected | None) -> None:
        """Show a code, and what is known of it so far."""
        before = self.map.chosen
        self.inspector.show_inspected(inspected)
        self.map.show_chosen(None if inspected is None else inspected.code)
        self.tabs.setTabEnabled(CODE, inspected is not None)
        if inspected is not None and inspected.code != before:
            self.tabs.setCurrentIndex(CODE)
        self.show_tokens()
