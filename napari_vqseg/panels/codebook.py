"""Codebook: how many of its words the network uses, and how evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_vqseg.panels.parts import Panel, button, note, row
from napari_vqseg.panels.plots import HistogramPlot
from napari_vqseg.session import Codebook

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
                              session.request_codebook)  # fmt: skip
        self.column.addWidget(self.facts)
        self.column.addWidget(self.plot)
        self.column.addLayout(row(self.measure))
        self.plot.hide()
        self.listen(session.codebook_changed, self.show_codebook)

    @property
    def useful(self) -> bool:
        """Once there is a network."""
        return self.session.is_open and self.session.has_network

    def show_codebook(self, codebook: Codebook | None) -> None:
        """Show a report."""
        self.plot.setVisible(codebook is not None)
        if codebook is None:
            self.facts.setText("How the network uses its codebook in this volume.")
            return
        used = codebook.size - codebook.dead
        self.facts.setText(
            f"<b>{100 * codebook.utilisation:.1f} %</b> of {codebook.size} codewords used ({used}; "
            f"{codebook.dead} dead). Perplexity <b>{codebook.perplexity:.0f}</b>."
        )
        self.plot.show_usage(codebook.usage)
