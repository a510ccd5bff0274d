"""Review: look at the prediction, see how sure and how stable it is, clean it up, accept it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QSlider, QSpinBox

from napari_vqseg.looks import EVERY
from napari_vqseg.panels.cleanup import CleanUpPanel
from napari_vqseg.panels.comparing import ComparePanel
from napari_vqseg.panels.parts import FOLLOW_EVERY_S, Panel, Section, button, choice, lay_out, note, row, silently
from napari_vqseg.panels.profile import ProfilePlot
from napari_vqseg.session import Preview
from napari_vqseg.timers import Paced

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["ReviewPanel"]


def _slider(tip: str, steps: int) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, steps)
    slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    slider.setToolTip(tip)
    return slider


def _spin(tip: str, suffix: str = "") -> QSpinBox:
    spin = QSpinBox()
    spin.setToolTip(tip)
    spin.setSuffix(suffix)
    spin.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
    spin.setAlignment(Qt.AlignmentFlag.AlignRight)
    spin.setStyleSheet("QSpinBox { min-width: 40px; max-width: 48px; }")  # napari's own are 90 wide
    spin.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
    return spin


class ReviewPanel(Panel):
    """The overlay, its confidence and stability, and accepting what is right."""

    EPSILON_STEPS = 20

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._build_overlay()
        self._build_profile()
        self._build_accepting()
        self.comparing = ComparePanel(session)
        self.compare = Section("Compare trainings (W)", self.comparing)
        self.column.addWidget(self.compare)
        self.cleanup = CleanUpPanel(session)
        self.column.addWidget(Section("Clean up", self.cleanup))
        self.listen(session.view.overlay.changed, self.show_overlay)
        self.listen(session.looks.changed, self.show_look)
        self.listen(session.classes.changed, self.show_classes)
        self.listen(session.reviewing.prediction_changed, self.show_prediction)
        self.listen(session.reviewing.preview_changed, self.show_preview)
        self.listen(session.profiles.changed, self.show_profiles)
        self.listen(session.annotating.slices_changed, self.show_prediction)
        self._following = Paced(FOLLOW_EVERY_S, lambda: self.show_z(session.z), self)
        self.listen(session.view.navigation.z_changed, self._follow)
        self.listen(session.case_changed, self._reset)
        self._reset()

    def _build_overlay(self) -> None:
        self.visible = QCheckBox("Overlay (G)")
        self.visible.setToolTip("Show or hide the prediction.")
        self.drawn = choice("Which classes Contour and opacity are for; the signs in Classes show and hide them.")
        self.drawn.activated.connect(lambda _: self.show_look())
        self.contour = QCheckBox("Contour")
        self.contour.setToolTip("Draw the outline alone.")
        for widget in (self.visible, self.contour):
            widget.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.visible.toggled.connect(self._show_overlay)
        self.contour.toggled.connect(self._draw_contour)
        self.opacity = _slider("Opacity of the overlay.", 100)
        self.opacity.valueChanged.connect(self._set_opacity)
        self.opacity_value = QLabel()
        self.opacity_value.setMinimumWidth(36)
        self.epsilon = _slider("Perturb the codes of this slice: at 0 the plain prediction; above, magenta shows "
                               "where the label flips.", self.EPSILON_STEPS)  # fmt: skip
        self.epsilon.valueChanged.connect(self._perturb)
        self.epsilon_value = QLabel("0.00")
        self.epsilon_value.setMinimumWidth(32)
        self.words = note()
        self.words.setTextFormat(Qt.TextFormat.RichText)  # whatever the classes are called
        self.column.addLayout(row(self.visible, self.drawn, stretch=1))
        self.column.addLayout(row(self.contour, self.opacity, self.opacity_value, stretch=1))
        self.column.addLayout(row(QLabel("Perturb  ε"), self.epsilon, self.epsilon_value, stretch=1))
        self.column.addWidget(self.words)

    def _build_profile(self) -> None:
        self.plot = ProfilePlot(self.session.go_to)
        self.legend = note()
        self.column.addWidget(self.plot)
        self.column.addWidget(self.legend)

    def _build_accepting(self) -> None:
        accepting = self.session.accepting
        self.accept = button("", "", accepting.slice, strong=True)
        self.component = button("Component (⇧A)", "Point at a structure in the image and press Shift+A: it is accepted "
                                "in all slices it lies in.", accepting.component)  # fmt: skip
        self.again = button("Predict again", "Predict the volume with the newest weights.",
                            self.session.reviewing.request_prediction)  # fmt: skip
        self.first, self.last = _spin("First slice of the range."), _spin("Last slice of the range.")
        self.accept_range = button("Accept these", "Accept these slices; drawn and finished ones stay as they are.",
                                   lambda: accepting.range(self.first.value(), self.last.value()))  # fmt: skip
        self.threshold = _spin("Slices at least so stable behind the perturbation; the dotted line above.", " %")
        self.threshold.setRange(0, 100)
        self.threshold.setValue(95)
        self.threshold.valueChanged.connect(self.show_stable)
        self.accept_stable = button("", "Accept the unlabelled slices that are at least so stable.",
                                    lambda: accepting.stable(self.threshold.value() / 100))  # fmt: skip
        self.column.addLayout(row(self.accept, self.component, self.again))
        self.column.addLayout(row(QLabel("Slices"), self.first, QLabel("to"), self.last, self.accept_range, stretch=4))
        self.column.addLayout(row(QLabel("Stable from"), self.threshold, self.accept_stable, stretch=2))

    @property
    def useful(self) -> bool:
        """Once there is a prediction."""
        return self.session.is_open and self.session.reviewing.prediction is not None

    def release(self) -> None:
        """Disconnect from the session."""
        self._following.stop()
        self.comparing.release()
        self.cleanup.release()
        super().release()

    # ------------------------------------------------------------ session -> widget

    def _reset(self) -> None:
        blocked = silently(self.epsilon)
        self.epsilon.setValue(0)
        blocked.unblock()
        self.epsilon_value.setText("0.00")
        self._proposed = 0, 0
        if self.session.is_open:
            for spin in (self.first, self.last):
                spin.setRange(0, self.session.volume.shape[0] - 1)
                spin.setValue(0)
        self.show_prediction()

    def show_overlay(self) -> None:
        """Show whether the overlay is."""
        blocked = silently(self.visible)
        self.visible.setChecked(self.session.view.overlay.visible)
        blocked.unblock()

    def show_classes(self) -> None:
        """List the classes whose look can be changed."""
        value = self._drawn_value
        self.drawn.clear()
        self.drawn.addItem("All classes", EVERY)
        for item in self.session.classes.all:
            self.drawn.addItem(item.name, item.value)
        self.drawn.setCurrentIndex(max(self.drawn.findData(value), 0))
        self.show_look()

    @property
    def _drawn_value(self) -> int:
        return int(self.drawn.currentData() or EVERY)

    def show_look(self) -> None:
        """Show how the chosen classes are drawn."""
        look = self.session.looks.of(self._drawn_value)
        blocked = [silently(widget) for widget in (self.contour, self.opacity)]
        self.contour.setChecked(look.contour)
        self.opacity.setValue(round(100 * look.opacity))
        for blocker in blocked:
            blocker.unblock()
        self.opacity_value.setText(f"{self.opacity.value()} %")

    def show_prediction(self) -> None:
        """Show what there is to review."""
        predicted = self.session.reviewing.predicted
        if predicted and (self.first.value(), self.last.value()) == self._proposed:  # nobody has typed another range
            self._proposed = predicted[0], predicted[-1]
            self.first.setValue(predicted[0])
            self.last.setValue(predicted[-1])
        self.show_overlay()
        self.show_profiles()
        self.show_z(self.session.z)

    def show_z(self, z: int) -> None:
        """Say how sure the prediction of the shown slice is, within each structure."""
        self.plot.show_z(z)
        self._offer(z)
        reviewing = self.session.reviewing
        if reviewing.prediction is None:
            self.words.setText("")
            return
        if z in self.session.annotations.complete:
            text = f"Slice {z} is complete: its own labels stand."
        elif means := self._by_class(reviewing.confidence(z)):
            text = f"Slice {z}: confidence in {means}."
        else:
            text = f"Slice {z}: nothing is predicted here."
        self.words.setText(f"{text} {self._origin()}")
        lay_out(self.words)

    def _follow(self, z: int) -> None:
        """Follow a person who scrolls: the button at once, the rest, which takes 9 ms, now and then."""
        self._offer(z)
        self._following.ask()

    def _offer(self, z: int) -> None:
        """Let the button say what accepting the shown slice would mean."""
        reviewing = self.session.reviewing
        holds = reviewing.prediction is None or z in reviewing.predicted
        self.accept.setText("Accept (A)" if holds else "Empty (A)")
        self.accept.setEnabled(reviewing.prediction is not None)
        if reviewing.prediction is None:
            self.accept.setToolTip("There is nothing to accept yet: the volume is not predicted.")
        elif holds:
            self.accept.setToolTip("Make this slice's prediction a complete annotation.")
        else:
            self.accept.setToolTip("Nothing is predicted in this slice. Where that is right, this makes it a complete "
                                   "slice without any structure.")  # fmt: skip

    def _origin(self) -> str:
        """Which prediction this is, so that an old one is never taken for a new one."""
        reviewing = self.session.reviewing
        if reviewing.outdated:
            return f"<b>Old: of step {reviewing.prediction_step}; the newest could not be shown.</b>"
        return f"Prediction of step {reviewing.prediction_step}."

    def show_preview(self, preview: Preview | None) -> None:
        """Say how stable the prediction of a slice is, within each structure, and how much of it wavers."""
        if preview is None or preview.z != self.session.z or preview.epsilon != self.session.reviewing.epsilon:
            return
        self._following.stop()
        self.show_z(preview.z)
        if preview.epsilon == 0:
            return
        means = self._by_class(preview.stability)
        stable = f"stable in {means}" if means else "nothing is predicted here"
        self.words.setText(
            f"Slice {preview.z} at ε {preview.epsilon:.2f}: {stable}; {preview.wavering_mm2:.0f} mm² waver (magenta)."
        )

    def _by_class(self, means: dict[int, float]) -> str:
        names = self.session.classes.names
        shares = ((escape(names.get(value, str(value))), 100 * mean) for value, mean in means.items())
        return ", ".join(f"{name} {percent:.0f}\u00a0%" for name, percent in shares)

    def show_profiles(self) -> None:
        """Draw the profiles, as far as they are known."""
        profiles = self.session.profiles
        n_slices = self.session.volume.shape[0] if self.session.is_open else 0
        self.plot.show_profiles(n_slices, self._where_predicted(profiles.confidence),
                                self._where_predicted(profiles.stability))  # fmt: skip
        names = []
        for name, line in ProfilePlot.LINES.items():
            if self.plot.values[name] is not None:
                at = f" at ε {profiles.epsilon:.2f}" if name == "stability" else ""
                going = " …" if name == "stability" and profiles.surveying else ""
                names.append(f"{line.sign}&nbsp;{name}{at}{going}")
        self.legend.setText(" &nbsp;".join(names))
        self.legend.setVisible(bool(names))
        self.show_stable()

    def _where_predicted(self, profile: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32] | None:
        """A profile without the slices in which nothing is predicted: empty, cleaned up, or complete and so known."""
        if profile is None:
            return None
        shown = np.full_like(profile, np.nan)
        predicted = sorted(set(self.session.reviewing.predicted) - set(self.session.annotations.complete))
        shown[predicted] = profile[predicted]
        return shown

    def show_stable(self) -> None:
        """Say how many slices are stable enough."""
        threshold = self.threshold.value() / 100
        count = len(self.session.profiles.stable_slices(threshold))
        self.plot.show_threshold(threshold if self.session.profiles.stability is not None else None)
        self.accept_stable.setText(f"Accept {count} slice{'s' * (count != 1)}")
        self.accept_stable.setEnabled(count > 0)

    # ------------------------------------------------------------ person -> session

    def _show_overlay(self, on: bool) -> None:
        self.session.view.overlay.visible = on

    def _draw_contour(self, on: bool) -> None:
        self.session.looks.draw_contour(self._drawn_value, on)

    def _set_opacity(self, percent: int) -> None:
        self.session.looks.set_opacity(self._drawn_value, percent / 100)

    def _perturb(self, steps: int) -> None:
        epsilon = steps / self.EPSILON_STEPS
        self.epsilon_value.setText(f"{epsilon:.2f}")
        self.session.reviewing.preview(epsilon)
