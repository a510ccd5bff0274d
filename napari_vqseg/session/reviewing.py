"""Reviewing: the prediction of the volume, cleaned up where wanted, and previews of a slice under perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.session.cleaning import Cleaning
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine
from vqseg import protocol
from vqseg.components import clean_up
from vqseg.io.mapped import open_array
from vqseg.profiles import class_means, wavering_mm2

__all__ = ["Preview", "Reviewing"]

PREVIEW_AFTER_S = 0.02
PREVIEW_DRAWS = 4
FOLLOW_EVERY_S = 1.5
ANNOUNCE_AFTER_S = 0.05
"""The overlay is drawn before the panels are, so that neither holds the event loop long."""


@dataclass(frozen=True)
class Preview:
    """A slice predicted at an epsilon.

    Parameters
    ----------
    z : int
        The slice.
    epsilon : float
        Perturbation intensity.
    elapsed_s : float
        How long the engine took.
    labels : ndarray
        (y, x) uint8, the plain prediction.
    agreement : ndarray
        (y, x) float32, share of the draws that agree.
    confidence, stability : dict of int to float
        Mean within each predicted class, in [0, 1].
    wavering_mm2 : float
        Area on which the draws disagree, mm^2.
    """

    z: int
    epsilon: float
    elapsed_s: float
    labels: npt.NDArray[np.uint8]
    agreement: npt.NDArray[np.float32]
    confidence: dict[int, float]
    stability: dict[int, float]
    wavering_mm2: float


class Reviewing(Concern):
    """What the network says of the case.

    Attributes
    ----------
    prediction_changed : Signal()
        Another prediction of the volume.
    preview_changed : Signal(Preview or None)
        Another preview of a slice.
    epsilon_changed : Signal()
        Another perturbation intensity.
    prediction : ndarray or None
        (z, y, x) uint8, cleaned up where there are rules: what is shown, accepted and exported.
    predicted : list of int
        The slices in which it holds a structure.
    learnt : frozenset of int
        The slices whose labels shaped it.
    run_path : Path or None
        Folder of the run whose network predicted it.
    outdated : bool
        Whether a newer prediction could not be shown.
    """

    prediction_changed = Signal()
    preview_changed = Signal(object)
    epsilon_changed = Signal()

    def __init__(self, context: Context, engine: Engine, cleaning: Cleaning) -> None:
        super().__init__(context)
        self._engine, self._cleaning = engine, cleaning
        self._at_work = False
        self.forget()
        self._timer = context.scheduler.debounce(PREVIEW_AFTER_S, self._request_preview)
        self._announcing = context.scheduler.debounce(ANNOUNCE_AFTER_S, self.prediction_changed.emit)
        self._following = context.scheduler.debounce(FOLLOW_EVERY_S, self._request_preview)
        engine.on(protocol.CaseOpened, self._on_case_opened)
        engine.on(protocol.Progress, self._follow)
        engine.on(protocol.PredictionReady, self._on_prediction)
        engine.on(protocol.PreviewReady, self._on_preview)
        engine.on(protocol.SlicesReady, self._on_slices)
        context.view.navigation.z_changed.connect(self._on_z)
        cleaning.changed.connect(self._prepare)

    def forget(self) -> None:
        """Forget the prediction of the case before."""
        self._raw: npt.NDArray[np.uint8] | None = None
        self._uncertainty: npt.NDArray[np.float16] | None = None
        self.prediction: npt.NDArray[np.uint8] | None = None
        self.predicted: list[int] = []
        self.learnt = self._raw_learnt = frozenset[int]()
        self.prediction_step = self._raw_step = 0
        self.run_path: Path | None = None
        self._raw_run_path: Path | None = None
        self.outdated = False
        self.epsilon = 0.0

    def announce(self) -> None:
        """Tell that there is none yet."""
        self.prediction_changed.emit()

    # ------------------------------------------------------------ the volume

    def predict_with(self, run_path: Path) -> None:
        """Predict the case with the network of a run."""
        self._engine.send(protocol.LoadCheckpoint(str(run_path)))
        self.request_prediction()

    def go_on_with(self, run_path: Path) -> None:
        """Predict the case with the network of a run that a person has chosen, also when it is opened again."""
        project, case_id = self.context.case.project, self.context.case.case.id
        self.context.background(lambda: project.choose_run(case_id, run_path.name), lambda _: None)
        self.predict_with(run_path)

    def request_prediction(self) -> None:
        """Ask for a prediction of the whole case."""
        self.context.busy_changed.emit("Predicting")
        request_id = self._engine.new_request("prediction")
        self._engine.send(protocol.RequestPrediction(request_id, self.context.case.case.id))

    def _on_case_opened(self, message: protocol.CaseOpened) -> None:
        """An engine that comes back with a network owes what the one before it had not finished."""
        opened = self.context.opened
        mine = opened is not None and message.case_id == opened.case.id
        if mine and self._engine.has_network and self.prediction is None:
            self.request_prediction()

    def _on_prediction(self, message: protocol.PredictionReady) -> None:
        opened = self.context.opened
        if opened is None or message.case_id != opened.case.id:
            return
        self._engine.has_network = True

        def take(maps: tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]) -> None:
            if self.context.opened is opened:
                self._raw, self._uncertainty = maps
                self._raw_step, self._raw_learnt = message.step, frozenset(message.learnt)
                self._raw_run_path = message.run_path
                self._prepare()

        def failed(error: BaseException) -> None:
            self._keep_old(f"The prediction could not be read ({error})")

        self.context.scheduler.background(lambda: _map_files(message), take, failed)

    def _prepare(self) -> None:
        """Clean the newest prediction up, in the background, by the newest rules; then show it."""
        raw, rules = self._raw, self._cleaning.rules
        if raw is None or self._at_work:
            return
        self._at_work = True
        if rules:
            self.context.busy_changed.emit("Cleaning up")
        voxel_ml = self.context.volume.voxel_ml

        def work() -> tuple[npt.NDArray[np.uint8], list[int]]:
            cleaned = clean_up(raw, rules, voxel_ml) if rules else raw
            return cleaned, [z for z in range(len(cleaned)) if cleaned[z].any()]

        def done(result: tuple[npt.NDArray[np.uint8], list[int]]) -> None:
            self._at_work = False
            if raw is self._raw and rules == self._cleaning.rules:
                self._show(*result)
            else:
                self._prepare()

        def failed(error: BaseException) -> None:
            self._at_work = False
            if raw is self._raw:
                self._keep_old(f"The prediction could not be prepared ({error})")
            else:
                self._prepare()

        self.context.scheduler.aside(work, done, failed)

    def _keep_old(self, why: str) -> None:
        """Say that what is shown is not the newest."""
        self.outdated = self.prediction is not None
        self.context.busy_changed.emit("")
        self.context.notified.emit(f"{why}; {'the one before stays' if self.outdated else 'predict again'}.", "warning")
        self.prediction_changed.emit()

    def _show(self, labels: npt.NDArray[np.uint8], predicted: list[int]) -> None:
        self.context.busy_changed.emit("")
        self.prediction, self.predicted, self.learnt = labels, predicted, self._raw_learnt
        self.prediction_step, self.run_path, self.outdated = self._raw_step, self._raw_run_path, False
        self.context.view.overlay.show(labels)
        if self.epsilon > 0:
            self._timer.start()
        self._announcing.start()

    def confidence(self, z: int) -> dict[int, float]:
        """Mean confidence within each predicted class of slice z, in [0, 1]."""
        if self.prediction is None or self._uncertainty is None:
            return {}
        return class_means(self.prediction[z], 1 - self._uncertainty[z].astype(np.float32))

    # ------------------------------------------------------------ a slice

    def preview(self, epsilon: float) -> None:
        """Predict the shown slice at perturbation intensity `epsilon`, once the slider rests."""
        self.epsilon = epsilon
        self.epsilon_changed.emit()
        if epsilon == 0:
            self.context.view.overlay.show_stability(self.context.z, None)
        if self._engine.has_network and self.context.is_open:
            self._timer.start()

    def _follow(self, message: protocol.Progress) -> None:
        """Until the volume is predicted, which takes a large one long, keep predicting the shown slice."""
        if self.prediction is None and not message.paused and not self._following.waiting:
            self._following.start()

    def _on_z(self, z: int) -> None:
        if not self._engine.has_network:
            return
        if self.epsilon > 0:
            self.context.view.overlay.show_stability(z, None)
        if self.epsilon > 0 or self.prediction is None:
            self._timer.start()

    def _request_preview(self) -> None:
        if not self.context.is_open or not self._engine.has_network:
            return
        draws = PREVIEW_DRAWS if self.epsilon > 0 else 1
        request_id, case_id = self._engine.new_request("preview"), self.context.case.case.id
        self._engine.send(protocol.RequestPreview(request_id, case_id, self.context.z, self.epsilon, draws))

    def _on_slices(self, message: protocol.SlicesReady) -> None:
        """Show the first prediction as it grows; it counts once it is whole."""
        opened = self.context.opened
        if opened is None or message.case_id != opened.case.id or self.prediction is not None:
            return

        def show(slices: dict[int, npt.NDArray[np.uint8]]) -> None:
            if self.context.opened is opened and self.prediction is None:
                for z, labels_yx in slices.items():
                    self._show_slice(z, labels_yx)

        self.context.scheduler.background(lambda: _read_slices(message), show, lambda _: None)  # the whole will come

    def _show_slice(self, z: int, labels_yx: npt.NDArray[np.uint8]) -> None:
        if z not in self.context.annotations.used and not self._cleaning.rules:
            self.context.view.overlay.show_slice(z, labels_yx)

    def _on_preview(self, message: protocol.PreviewReady) -> None:
        def show(preview: Preview) -> None:
            if self._engine.is_newest("preview", message.request_id):
                self._show_preview(preview)

        def failed(error: BaseException) -> None:
            if self._engine.is_newest("preview", message.request_id):
                self.context.notified.emit(f"The preview could not be read ({error}); move ε again.", "warning")

        if self.context.is_open:
            spacing_mm = self.context.volume.spacing_mm
            self.context.scheduler.background(lambda: _read_preview(message, spacing_mm), show, failed)

    def _show_preview(self, preview: Preview) -> None:
        if preview.epsilon > 0:
            self.context.view.overlay.show_stability(preview.z, preview.agreement)
        else:
            self._show_slice(preview.z, preview.labels)
        self.preview_changed.emit(preview)


def _map_files(message: protocol.PredictionReady) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """Labels, which may be changed without changing the file, and uncertainty of a prediction."""
    return open_array(message.labels_path), open_array(message.uncertainty_path)


def _read_slices(message: protocol.SlicesReady) -> dict[int, npt.NDArray[np.uint8]]:
    with np.load(message.path, allow_pickle=False) as file:
        return dict(zip(file["z"].tolist(), file["labels"], strict=True))


def _read_preview(message: protocol.PreviewReady, spacing_mm: Sequence[float]) -> Preview:
    with np.load(message.path, allow_pickle=False) as file:
        labels, agreement = file["labels"], file["stability"].astype(np.float32)
        confidence = class_means(labels, file["confidence"])
    return Preview(
        message.z, message.epsilon, message.elapsed_s, labels, agreement, confidence,
        class_means(labels, agreement), wavering_mm2(agreement, spacing_mm),
    )  # fmt: skip
