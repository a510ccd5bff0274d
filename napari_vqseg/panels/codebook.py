"""Codebook: how many of its words the network uses, and how evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_vqseg.panels.parts import Panel, button, note, row
from napari_vqseg.panels.plots import HistogramPlot
from napari_vqseg.session import CodebookUse

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
        self.listen(session.codebook.changed, self.show_use)

    @property
    def useful(self) -> bool:
        """Once there is a network."""
        return self.session.is_open and self.session.engine.has_network

    def show_use(self, use: CodebookUse | None) -> None:
        """Show a report."""
        self.plot.setVisible(use is not None)
        if use is None:
            self.facts.setText("How the network uses its codebook in this volume.")
            return
        used = use.size - use.dead
        self.facts.setText(
            f"<b>{100 * use.utilisation:.1f} %</b> of {use.size} codewords used ({used}; "
            f"{use.dead} dead). Perplexity <b>{use.perplexity:.0f}</b>."
        )
        self.plot.show_usage(use.usage)
