"""Review: look at the prediction, shake it, accept it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QSlider

from napari_vqseg.panels.parts import Panel, button, note, row, silently
from napari_vqseg.session import Preview

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["ReviewPanel"]


def _slider(tip: str, steps: int) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, steps)
    slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    slider.setToolTip(tip)
    return slider


class ReviewPanel(Panel):
    """The overlay, its stability under perturbation, and accepting slices."""

    EPSILON_STEPS = 20

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.visible = QCheckBox("Overlay (G)")
        self.contour = QCheckBox("Contour")
        for box in (self.visible, self.contour):
            box.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.visible.toggled.connect(self._show_overlay)
        self.contour.toggled.connect(self._draw_contour)
        self.opacity = _slider("Opacity of the overlay.", 100)
        self.opacity.valueChanged.connect(self._set_opacity)
        self.epsilon = _slider("Perturb the codes of this slice: at 0 the plain prediction; above, magenta shows "
                               "where the label flips.", self.EPSILON_STEPS)  # fmt: skip
        self.epsilon.valueChanged.connect(self._perturb)
        self.epsilon_value = QLabel("0.00")
        self.epsilon_value.setMinimumWidth(32)
        self.words = note()
        self.accept = button("Accept slice (A)", "Make this slice's prediction a complete annotation.",
                             session.accepting.slice, strong=True)  # fmt: skip
        self.again = button("Predict again", "Predict the volume with the newest weights.",
                            session.reviewing.request_prediction)  # fmt: skip
        self.column.addLayout(row(self.visible, self.contour, QLabel("Opacity"), self.opacity, stretch=3))
        self.column.addLayout(row(QLabel("Perturb  ε"), self.epsilon, self.epsilon_value, stretch=1))
        self.column.addWidget(self.words)
        self.column.addLayout(row(self.accept, self.again))
        self.listen(session.view.overlay.changed, self.show_overlay)
        self.listen(session.reviewing.prediction_changed, self.show_prediction)
        self.listen(session.reviewing.preview_changed, self.show_preview)
        self.listen(session.view.navigation.z_changed, self.show_prediction)
        self.listen(session.case_changed, self._reset)
        self._reset()

    @property
    def useful(self) -> bool:
        """Once there is a prediction."""
        return self.session.is_open and self.session.reviewing.prediction is not None

    # ------------------------------------------------------------ session -> widget

    def _reset(self) -> None:
        blocked = silently(self.epsilon)
        self.epsilon.setValue(0)
        blocked.unblock()
        self.epsilon_value.setText("0.00")
        self.show_overlay()
        self.show_prediction()

    def show_overlay(self) -> None:
        """Show how the overlay is drawn."""
        overlay = self.session.view.overlay
        blocked = [silently(widget) for widget in (self.visible, self.contour, self.opacity)]
        self.visible.setChecked(overlay.visible)
        self.contour.setChecked(overlay.contour)
        self.opacity.setValue(round(100 * overlay.opacity))
        for blocker in blocked:
            blocker.unblock()

    def show_prediction(self, *_: object) -> None:
        """Say how sure the prediction of the shown slice is, within each structure."""
        self.show_overlay()
        reviewing = self.session.reviewing
        if reviewing.prediction is None:
            self.words.setText("")
            return
        z = self.session.z
        means = self._by_class(reviewing.confidence(z))
        self.words.setText(f"Slice {z}: confidence in {means}." if means else f"Slice {z}: nothing is predicted here.")

    def show_preview(self, preview: Preview | None) -> None:
        """Say how stable the prediction of a slice is, within each structure, and how much of it wavers."""
        if preview is None or preview.z != self.session.z:
            return
        if preview.epsilon == 0:
            self.show_prediction()
            return
        means = self._by_class(preview.stability) or "nothing predicted"
        self.words.setText(
            f"Slice {preview.z} at ε {preview.epsilon:.2f}: stable in {means}; "
            f"{preview.wavering_mm2:.0f} mm² waver (magenta)."
        )

    def _by_class(self, means: dict[int, float]) -> str:
        names = self.session.classes.names
        return ", ".join(f"{names.get(value, value)} {100 * mean:.0f} %" for value, mean in means.items())

    # ------------------------------------------------------------ person -> session

    def _show_overlay(self, on: bool) -> None:
        self.session.view.overlay.visible = on

    def _draw_contour(self, on: bool) -> None:
        self.session.view.overlay.contour = on

    def _set_opacity(self, percent: int) -> None:
        self.session.view.overlay.opacity = percent / 100

    def _perturb(self, steps: int) -> None:
        epsilon = steps / self.EPSILON_STEPS
        self.epsilon_value.setText(f"{epsilon:.2f}")
        self.session.reviewing.preview(epsilon)
