"""Reviewing: the prediction of the volume, previews of a slice under perturbation, and accepting slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from vqseg import protocol
from vqseg.annotations import Origin, SliceState

__all__ = ["Preview", "Reviewing"]

PREVIEW_AFTER_S = 0.06
PREVIEW_DRAWS = 4
ANNOUNCE_AFTER_S = 0.05
"""The overlay is drawn before the panels are, so that neither holds the event loop long."""


@dataclass(frozen=True)
class Preview:
    """Slice z predicted at an epsilon: labels, confidence and stability (y, x), and the means of the latter two."""

    z: int
    epsilon: float
    elapsed_s: float
    labels: npt.NDArray[np.uint8]
    stability: npt.NDArray[np.float32]
    mean_confidence: float
    mean_stability: float


class Reviewing(Concern):
    """What the network says of the case.

    Attributes
    ----------
    prediction_changed : Signal()
        Another prediction of the volume.
    preview_changed : Signal(Preview or None)
        Another preview of a slice.
    """

    prediction_changed = Signal()
    preview_changed = Signal(object)

    def __init__(self, context: Context, engine: Engine, annotating: Annotating) -> None:
        super().__init__(context)
        self._engine, self._annotating = engine, annotating
        self.forget()
        self._timer = context.scheduler.debounce(PREVIEW_AFTER_S, self._request_preview)
        self._announcing = context.scheduler.debounce(ANNOUNCE_AFTER_S, self.prediction_changed.emit)
        engine.on(protocol.PredictionReady, self._on_prediction)
        engine.on(protocol.PreviewReady, self._on_preview)
        context.view.navigation.z_changed.connect(self._on_z)

    def forget(self) -> None:
        """Forget the prediction of the case before."""
        self.prediction: npt.NDArray[np.uint8] | None = None
        self.prediction_step = 0
        self.epsilon = 0.0

    def announce(self) -> None:
        """Tell that there is none yet."""
        self.prediction_changed.emit()

    # ------------------------------------------------------------ the volume

    def request_prediction(self) -> None:
        """Ask for a prediction of the whole case."""
        self.context.busy_changed.emit("Predicting")
        request_id = self._engine.new_request("prediction")
        self._engine.send(protocol.RequestPrediction(request_id, self.context.case.case.id))

    def _on_prediction(self, message: protocol.PredictionReady) -> None:
        opened = self.context.opened
        if opened is None or message.case_id != opened.case.id:
            return
        self._engine.has_network = True

        def show(labels: npt.NDArray[np.uint8]) -> None:
            if self.context.opened is opened:
                self._show_prediction(labels, message.step)

        def failed(error: BaseException) -> None:
            self.context.busy_changed.emit("")
            self.context.notified.emit(f"The prediction could not be read ({error}); the one before stays.", "warning")

        self.context.scheduler.background(lambda: np.load(message.labels_path, mmap_mode="c"), show, failed)

    def _show_prediction(self, labels: npt.NDArray[np.uint8], step: int) -> None:
        self.prediction, self.prediction_step = labels, step
        self.context.busy_changed.emit("")
        self.context.view.overlay.show(labels, self.context.case.colours)
        if self.epsilon > 0:
            self._timer.start()
        self._announcing.start()

    # ------------------------------------------------------------ a slice

    def preview(self, epsilon: float) -> None:
        """Predict the shown slice at perturbation intensity `epsilon`, once the slider rests."""
        self.epsilon = epsilon
        if epsilon == 0:
            self.context.view.overlay.show_stability(self.context.z, None)
        if self._engine.has_network and self.context.is_open:
            self._timer.start()

    def _on_z(self, z: int) -> None:
        if self.epsilon > 0 and self._engine.has_network:
            self.context.view.overlay.show_stability(z, None)
            self._timer.start()

    def _request_preview(self) -> None:
        if not self.context.is_open or not self._engine.has_network:
            return
        draws = PREVIEW_DRAWS if self.epsilon > 0 else 1
        request_id, case_id = self._engine.new_request("preview"), self.context.case.case.id
        self._engine.send(protocol.RequestPreview(request_id, case_id, self.context.z, self.epsilon, draws))

    def _on_preview(self, message: protocol.PreviewReady) -> None:
        def show(preview: Preview) -> None:
            if self._engine.is_newest("preview", message.request_id) and self.prediction is not None:
                self._show_preview(preview)

        def failed(error: BaseException) -> None:
            if self._engine.is_newest("preview", message.request_id):
                self.context.notified.emit(f"The preview could not be read ({error}); move ε again.", "warning")

        self.context.scheduler.background(lambda: _read_preview(message), show, failed)

    def _show_preview(self, preview: Preview) -> None:
        if preview.epsilon > 0:
            self.context.view.overlay.show_stability(preview.z, preview.stability)
        elif preview.z not in self.context.annotations.used:
            self.context.view.overlay.show_slice(preview.z, preview.labels)
        self.preview_changed.emit(preview)

    # ------------------------------------------------------------ accepting

    def accept_slice(self, z: int | None = None) -> None:
        """Make the prediction of a slice a complete annotation, marked as accepted by a person."""
        context = self.context
        z = context.z if z is None else z
        if self.prediction is None:
            context.notified.emit("There is no prediction yet; train first.", "warning")
            return
        record = context.annotations.records.get(z)
        if record is not None and record.state is SliceState.COMPLETE and record.origin is Origin.DRAWN:
            context.notified.emit(f"Slice {z} is already drawn and complete; clear it before accepting.", "warning")
            return
        self._annotating.put(z, np.array(self.prediction[z]), SliceState.COMPLETE, Origin.ACCEPTED)


def _read_preview(message: protocol.PreviewReady) -> Preview:
    with np.load(message.path, allow_pickle=False) as file:
        labels, stability = file["labels"], file["stability"].astype(np.float32)
        mean_confidence = float(file["confidence"].mean(dtype=np.float32))
    mean_stability = float(stability.mean())
    return Preview(
        message.z, message.epsilon, message.elapsed_s, labels, stability, mean_confidence, mean_stability
    )  # fmt: skip
