"""Codebook: how many of its words the network uses, and how evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_vqseg.panels.parts import Panel, button, note, row
from napari_vqseg.panels.plots import HistogramPlot
from vqseg.tokens import CodebookSurvey

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["CodebookPanel"]


class CodebookPanel(Panel):
    """Utilisation, perplexity, dead codes and the usage histogram."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.facts = note("How the network uses its codebook in this volume.")
        self.plot = HistogramPlot()
        self.measure = button("Measure", "Count how often each codeword is used in this volume.",
                              session.codebook.measure)  # fmt: skip
        self.column.addWidget(self.facts)
        self.column.addWidget(self.plot)
        self.column.addLayout(row(self.measure))
        self.plot.hide()
        self.listen(session.codebook.changed, self.show_survey)

    @property
    def useful(self) -> bool:
        """Once there is a network."""
        return self.session.is_open and self.session.engine.has_network

    def show_survey(self, survey: CodebookSurvey | None) -> None:
        """Show what was measured."""
        self.plot.setVisible(survey is not None)
        if survey is None:
            self.facts.setText("How the network uses its codebook in this volume.")
            return
        report = survey.report
        self.facts.setText(
            f"<b>{100 * report.utilisation:.1f} %</b> of {report.codebook_size} codewords used "
            f"({report.codebook_size - report.dead}; {report.dead} dead). Perplexity <b>{report.perplexity:.0f}</b>."
        )
        self.plot.show_usage(report.usage)
