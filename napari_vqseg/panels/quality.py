"""Quality: how well each newly drawn slice had been predicted before it was seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QHBoxLayout

from napari_vqseg.panels.parts import Panel, note
from napari_vqseg.panels.plots import Chart, Curve, Line

if TYPE_CHECKING:
    from napari_vqseg.session import Session
    from vqseg.quality import QualityCurve

__all__ = ["QualityPanel", "estimate_in_words"]

DOTS, LINE = "#56B4E9", "#F6A600"


def estimate_in_words(curve: QualityCurve) -> str:
    """The estimate and what it rests on; "" without any."""
    estimate = curve.estimate
    if estimate is None:
        return ""
    distance = "" if math.isnan(estimate.hd95_mm) else f", HD95 {estimate.hd95_mm:.1f} mm"
    slices = "1 new slice" if estimate.n_slices == 1 else f"{estimate.n_slices} newest slices"
    return f"Dice {estimate.dice:.2f}{distance} on {slices}"


class QualityPanel(Panel):
    """Dice and HD95 of the drawn slices, over the labelled slices that the predictions rested on."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.words = note()
        self.dice = Chart(130, "Dice · slices learnt")
        self.hd95 = Chart(130, "HD95 mm · slices learnt")
        plots = QHBoxLayout()
        plots.setSpacing(2)
        for plot in (self.dice, self.hd95):
            plot.setToolTip("Dots: slices, each before it was seen. Line: all slices of a round together.")
            plots.addWidget(plot)
        self.column.addWidget(self.words)
        self.column.addLayout(plots)
        self.listen(session.quality.changed, self.show_curve)
        self.show_curve()

    @property
    def useful(self) -> bool:
        """Once there is a prediction that a new slice can be held against."""
        session = self.session
        return session.is_open and (session.reviewing.prediction is not None or bool(session.quality.curve.scores))

    def show_curve(self) -> None:
        """Show the scores and what they come to."""
        curve = self.session.quality.curve
        self.words.setText(self._words(curve))
        rounds, counted = curve.rounds, curve.counted
        for plot, dots, line in (
            (self.dice, [(s.taught, s.dice) for s in counted], [(r.taught, r.dice) for r in rounds]),
            (self.hd95, [(s.taught, s.mean_hd95_mm) for s in counted], [(r.taught, r.hd95_mm) for r in rounds]),
        ):
            plot.limits = _limits(dots, 1.0 if plot is self.dice else 0.0)
            plot.curves = {
                "rounds": Curve(Line(LINE), _known(line)),
                "slices": Curve(Line(DOTS), _known(dots), dots=True),
            }
            plot.setVisible(bool(counted))
            plot.update()

    def _words(self, curve: QualityCurve) -> str:
        estimate = estimate_in_words(curve)
        if not estimate:
            text = "Draw and complete (C) one more slice: it is scored against what was predicted before you drew it."
        else:
            text = f"<b>{estimate}</b>, each against the prediction made before it was seen."
        empty, accepted = len(curve.scores) - len(curve.counted), len(curve.accepted)
        if empty:
            text += f" {empty} empty in both drawing and prediction."
        if accepted:
            text += f" {accepted} accepted from a prediction: not counted, as that would flatter it."
        return text


def _limits(points: list[tuple[int, float]], top: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Whole slices along the axis, and upwards what holds all points, `top` at least."""
    taught = [x for x, _ in points] or [0]
    highest = max([top, *(y for _, y in points if not math.isnan(y))])
    return (min(taught) - 1.0, 0.0), (max(max(taught) + 1.0, min(taught) + 4.0), highest or 1.0)


def _known(points: list[tuple[int, float]]) -> np.ndarray:
    """Points (n, 2) without those that are undefined."""
    return np.array([point for point in points if not math.isnan(point[1])], dtype=float).reshape(-1, 2)
