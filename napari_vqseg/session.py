"""The session: one person, one case, one engine. Panels talk to it; it talks to project, viewer and engine.

Knows no widget and no viewer: the view, the clock and the engine's worker are handed in, so that everything here
runs in a test without a window.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.cases import OpenedCase, open_sample, open_source, open_volume
from napari_vqseg.classes import SegmentClass
from napari_vqseg.timers import Scheduler
from vqseg import protocol
from vqseg.annotations import PAINTED_BACKGROUND, Annotations, Origin, SliceState
from vqseg.config import WINDOWS, Config, preset
from vqseg.errors import AnnotationError, VQSegError
from vqseg.suggest import Suggestion, suggest_slices
from vqseg.volume import Volume, Window

__all__ = ["Codebook", "Preview", "Session", "Training", "Worker"]

SAVE_AFTER_S = 1.0
PREVIEW_AFTER_S = 0.06
SETTINGS_AFTER_S = 0.2
LOST_AFTER_S = 0.5
PREVIEW_DRAWS = 4
AUTO = "auto"


class Worker(Protocol):
    """What the session needs of the owner of the engine process."""

    message: Any  # signal(protocol.Message)
    crashed: Any  # signal(str)

    def send(self, message: protocol.Message) -> None:
        """Send a message; starts the engine where it is not running."""

    def close(self) -> None:
        """End the engine: message, terminate, kill."""


class Training(StrEnum):
    """What the engine is doing about training."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Preview:
    """A slice predicted at an epsilon."""

    z: int
    epsilon: float
    labels: npt.NDArray[np.uint8]
    confidence: float
    stability: float
    elapsed_s: float


@dataclass(frozen=True)
class Codebook:
    """How the codebook is used in the case."""

    size: int
    utilisation: float
    perplexity: float
    usage: npt.NDArray[np.int64]

    @property
    def dead(self) -> int:
        """Number of codes that no token falls to."""
        return int((self.usage == 0).sum())


class Session:
    """The facade that the panels know.

    Parameters
    ----------
    view : object
        The layers of a case, as :class:`napari_vqseg.layers.ViewerLayers`.
    scheduler : Scheduler
        Timers and the background thread.
    make_worker : callable
        Makes the owner of the engine process, when it is first needed.
    """

    case_changed = Signal()
    classes_changed = Signal()
    slices_changed = Signal()
    z_changed = Signal(int)
    class_selected = Signal(int)
    brush_changed = Signal(float)
    pointed = Signal(object)
    window_changed = Signal()
    settings_changed = Signal()
    training_changed = Signal(object)  # Training
    progressed = Signal(object)  # protocol.Progress
    prediction_changed = Signal()
    preview_changed = Signal(object)  # Preview or None
    codebook_changed = Signal(object)  # Codebook or None
    suggestions_changed = Signal()
    overlay_changed = Signal()
    busy_changed = Signal(str)  # what is going on in the background, "" for nothing
    saved_changed = Signal(bool)
    exported = Signal(object)  # list of Path
    measured = Signal(object)  # {class name: volume in ml}
    notified = Signal(str, str)  # text, level: "info", "warning", "error"

    def __init__(self, view: Any, scheduler: Scheduler, make_worker: Callable[[], Worker]) -> None:
        self.view = view
        self._scheduler = scheduler
        self._make_worker = make_worker
        self._worker: Worker | None = None
        self.device = ""
        self.config: Config = preset("fast")
        self.window_name = "mediastinum"
        self.epsilon = 0.0
        self.project_path: Path | None = None
        self.unsaved = False
        self._closed = False
        self._forget_case()
        self._save_timer = scheduler.debounce(SAVE_AFTER_S, self.save)
        self._preview_timer = scheduler.debounce(PREVIEW_AFTER_S, self._request_preview)
        self._lost: set[str] = set()
        self._lost_timer = scheduler.debounce(LOST_AFTER_S, self._say_lost)
        self._settings_timer = scheduler.debounce(SETTINGS_AFTER_S, self._send_settings)
        self._answers: dict[type[protocol.Message], Callable[[Any], None]] = {
            protocol.Ready: self._on_ready,
            protocol.Progress: self._on_progress,
            protocol.PreviewReady: self._on_preview,
            protocol.PredictionReady: self._on_prediction,
            protocol.CodebookReady: self._on_codebook,
            protocol.SuggestionsReady: self._on_suggestions,
            protocol.TrainingEnded: self._on_ended,
            protocol.Notice: lambda message: self.notified.emit(message.text, message.level),
            protocol.Failed: self._on_failed,
        }
        view.painted.connect(self._on_painted)
        view.z_changed.connect(self._on_z)
        view.pointed.connect(self.pointed.emit)
        view.class_selected.connect(self.class_selected.emit)
        view.brush_changed.connect(self.brush_changed.emit)
        view.overlay_changed.connect(self.overlay_changed.emit)
        view.lost.connect(self._note_lost)

    def _forget_case(self) -> None:
        self._opened: OpenedCase | None = None
        self.training = Training.IDLE
        self.progress: protocol.Progress | None = None
        self.prediction: npt.NDArray[np.uint8] | None = None
        self.prediction_step = 0
        self.has_network = False
        self.codebook: Codebook | None = None
        self.suggestions: list[Suggestion] = []
        self._request_id = 0
        self._newest: dict[str, int] = {}
        self._pending_settings: dict[str, Any] = {}
        self._engine_case = ""
        self._run_path: Path | None = None
        self._annotations_sent = True

    # ------------------------------------------------------------ opening

    def open_volume(self, path: str | os.PathLike[str], series: str | None = None) -> None:
        """Open a volume's file or folder, with the annotations made on it before; reads in the background."""
        source, project = Path(path), self.project_path
        self._open(f"Reading {source.name}", lambda: open_source(source, project, series))

    def open_sample(self) -> None:
        """Open the synthetic thorax."""
        self._open("Making the sample CT", lambda: open_sample(self.project_path))

    def open_layer(self) -> None:
        """Open the image layer that is selected in the viewer."""
        found = self.view.selected_volume()
        if found is None:
            self.notified.emit("Select a three-dimensional image layer in the layer list first.", "warning")
            return
        name, volume = found
        project = self.project_path
        self._open(f"Taking over {name}", lambda: open_volume(name, volume, project))

    def _open(self, what: str, work: Callable[[], OpenedCase]) -> None:
        if self.training is not Training.IDLE:
            self.notified.emit("Training is under way; stop it before opening another volume.", "warning")
            return
        self.save()
        self.busy_changed.emit(what)
        self._scheduler.background(work, self._show, self._refused)

    def _show(self, opened: OpenedCase) -> None:
        if self._opened is not None:
            self._opened.project.unlock()
        self._forget_case()
        self._opened = opened
        self.window_name = opened.window_name
        self.epsilon = 0.0
        self.view.show_volume(opened.volume, self.window, opened.name)
        self._show_label_layers()
        self.set_window(self.window_name)
        self.busy_changed.emit("")
        self.case_changed.emit()
        self.classes_changed.emit()
        self.slices_changed.emit()
        self.prediction_changed.emit()
        self.codebook_changed.emit(None)
        self.training_changed.emit(self.training)
        for text in opened.warnings:
            self.notified.emit(text, "warning")
        if opened.recovered:
            self.notified.emit(opened.recovered, "info")
        if opened.last_run is not None:
            self._run_path = opened.last_run
            self.send(protocol.LoadCheckpoint(str(opened.last_run)))
            self.request_prediction()

    def _show_label_layers(self) -> None:
        assert self._opened is not None
        if self.prediction is None:
            self.view.show_prediction(np.zeros(self._opened.volume.shape, dtype=np.uint8), self.colours)
        else:
            self.view.show_prediction(self.prediction, self.colours)
        self.view.show_stability(0, None)
        self.view.show_annotation(self._opened.annotations.labels, self.colours)

    def show_layers(self) -> None:
        """Show the case's layers again, after a person has removed one."""
        if self._opened is not None:
            z = self.view.z
            self.view.show_volume(self._opened.volume, self.window, self._opened.name)
            self._show_label_layers()
            self.view.go_to(z)

    def _refused(self, error: BaseException) -> None:
        """Say what went wrong in the background."""
        self.busy_changed.emit("")
        if not isinstance(error, VQSegError):
            self.notified.emit(f"{type(error).__name__}: {error}. Please report this.", "error")
            return
        self.notified.emit(str(error), "error")

    # ------------------------------------------------------------ the case

    @property
    def is_open(self) -> bool:
        """Whether a case is open."""
        return self._opened is not None

    @property
    def case(self) -> OpenedCase:
        """The open case.

        Raises
        ------
        AnnotationError
            If none is open.
        """
        if self._opened is None:
            raise AnnotationError("No volume is open; open a CT first.")
        return self._opened

    @property
    def volume(self) -> Volume:
        """The open volume."""
        return self.case.volume

    @property
    def annotations(self) -> Annotations:
        """The annotations of the open volume; the viewer paints into their labels."""
        return self.case.annotations

    @property
    def z(self) -> int:
        """The shown slice."""
        return int(self.view.z)

    def go_to(self, z: int) -> None:
        """Show slice z."""
        self.view.go_to(z)

    # ------------------------------------------------------------ classes

    @property
    def classes(self) -> list[SegmentClass]:
        """The project's classes by value."""
        return self.case.classes if self._opened is not None else []

    @property
    def colours(self) -> dict[int, str]:
        """Colour of each label value, painted background among them."""
        return self.case.colours

    def add_class(self, name: str) -> None:
        """Add a class; it takes the next free value."""
        self._reclass(lambda: self.case.add_class(name))
        self.select_class(self.classes[-1].value)

    def rename_class(self, value: int, name: str) -> None:
        """Give a class another name."""
        self._reclass(lambda: self.case.change_class(value, name=name))

    def recolour_class(self, value: int, colour: str) -> None:
        """Give a class another colour."""
        self._reclass(lambda: self.case.change_class(value, colour=colour))

    def remove_class(self, value: int) -> None:
        """Remove a class that nothing is painted with."""
        self._reclass(lambda: self.case.remove_class(value))

    def use_class_set(self, names: Sequence[str]) -> None:
        """Add the classes of a ready set; what is painted keeps its class."""
        self._reclass(lambda: self.case.use_class_set(names))

    def _reclass(self, change: Callable[[], None]) -> None:
        try:
            change()
        except VQSegError as error:
            self.notified.emit(str(error), "warning")
        else:
            self.view.set_colours(self.colours)
        self.classes_changed.emit()

    def select_class(self, value: int) -> None:
        """Paint with a class, 0 to erase, 255 for background."""
        if value in self.colours or value == 0:
            self.view.select_class(value)
            self.view.paint()

    # ------------------------------------------------------------ window / level

    @property
    def window(self) -> Window:
        """The display window."""
        return WINDOWS.get(self.window_name) or self.view.visible_quantiles() or WINDOWS["mediastinum"]

    def set_window(self, name: str) -> None:
        """Show, and train, in a preset of vqseg.config.WINDOWS, or "auto"."""
        self.window_name = name
        window = self.window
        self.view.set_window(window)
        width = 0.0 if name == AUTO else window.width_hu
        self.config = self.config.replace(window_level_hu=window.level_hu, window_width_hu=width)
        if self._opened is not None:
            self._opened.remember(window=name)
        self.window_changed.emit()
        self.settings_changed.emit()

    # ------------------------------------------------------------ slices

    def _on_z(self, z: int) -> None:
        self.z_changed.emit(z)
        if self.epsilon > 0 and self.has_network:
            self.view.show_stability(z, None)
            self._preview_timer.start()

    def _on_painted(self, slices: set[int]) -> None:
        annotations = self.annotations
        changed = False
        for z in slices:
            record = annotations.records.get(z)
            if record is None:
                annotations.mark(z, SliceState.DRAFT)
                changed = True
            elif record.state is SliceState.DRAFT and not annotations.labels[z].any():
                del annotations.records[z]
                changed = True
            elif record.origin is Origin.ACCEPTED:
                annotations.mark(z, record.state, Origin.DRAWN)
                changed = True
        self._changed(used=any(z in annotations.used for z in slices))
        if changed:
            self.slices_changed.emit()

    def _changed(self, used: bool) -> None:
        """Note unsaved work; `used` where training learns from what changed."""
        if used:
            self._annotations_sent = False
        self.unsaved = True
        self.saved_changed.emit(False)
        self._save_timer.start()

    def mark(self, state: SliceState, z: int | None = None) -> None:
        """Give the shown slice, or slice z, a state; complete means that unpainted is background."""
        z = self.z if z is None else z
        was_used = z in self.annotations.used
        self.annotations.mark(z, state)
        self._changed(used=was_used or state is not SliceState.DRAFT)
        self.slices_changed.emit()

    def mark_complete(self, z: int | None = None) -> None:
        """Declare a slice finished; an empty one says that nothing is there."""
        self.mark(SliceState.COMPLETE, z)

    def toggle_complete(self) -> None:
        """Key C: declare the shown slice finished, or a draft again."""
        complete = self.annotations.state(self.z) is SliceState.COMPLETE
        self.mark(SliceState.DRAFT if complete else SliceState.COMPLETE)

    def clear_slice(self, z: int | None = None) -> None:
        """Unpaint a slice; the layer's undo brings the voxels back."""
        z = self.z if z is None else z
        was_used = z in self.annotations.used
        self.view.set_slice(z, np.zeros(self.volume.shape[1:], dtype=np.uint8))
        self.annotations.clear(z)
        self._changed(used=was_used)
        self.slices_changed.emit()

    def accept_slice(self, z: int | None = None) -> None:
        """Make the prediction of a slice a complete annotation, marked as accepted by a person."""
        z = self.z if z is None else z
        if self.prediction is None:
            self.notified.emit("There is no prediction yet; train first.", "warning")
            return
        record = self.annotations.records.get(z)
        if record is not None and record.state is SliceState.COMPLETE and record.origin is Origin.DRAWN:
            self.notified.emit(f"Slice {z} is already drawn and complete; clear it before accepting.", "warning")
            return
        labels = np.array(self.prediction[z])
        self.view.set_slice(z, labels)
        self.annotations.set_slice(z, labels, SliceState.COMPLETE, Origin.ACCEPTED)
        self._changed(used=True)
        self.slices_changed.emit()

    def copy_previous(self) -> None:
        """Copy the nearest complete slice below into the shown one, as a draft."""
        below = [z for z in self.annotations.complete if z < self.z]
        if not below:
            self.notified.emit("No complete slice lies below this one.", "warning")
            return
        z = self.z
        self.view.set_slice(z, self.annotations.labels[below[-1]].copy())
        self._on_painted({z})

    # ------------------------------------------------------------ saving

    def save(self, then: Callable[[], None] | None = None) -> None:
        """Save the annotations in the background, whole or not at all; `then` is called afterwards."""
        self._save_timer.stop()
        if self._opened is None or not self.unsaved:
            if then is not None:
                then()
            return
        opened, snapshot = self._opened, self._snapshot()
        self.unsaved = False

        def saved(_: Any) -> None:
            self.saved_changed.emit(not self.unsaved)
            self._send_annotations()
            if then is not None:
                then()

        def failed(error: BaseException) -> None:
            self.unsaved = True
            self._refused(error)

        self._scheduler.background(lambda: opened.case.save_annotations(snapshot), saved, failed)

    def _snapshot(self) -> Annotations:
        """A copy of the annotated slices; costs as much as they do, not as the volume does."""
        annotations = self.annotations
        labels = np.zeros(annotations.labels.shape, dtype=np.uint8)
        for z in annotations.records:
            labels[z] = annotations.labels[z]
        return Annotations(labels, annotations.records)

    # ------------------------------------------------------------ settings

    def use_preset(self, name: str) -> None:
        """Take a preset's settings for the next run."""
        window = self.config.data
        self.config = preset(
            name, window_level_hu=window.window_level_hu, window_width_hu=window.window_width_hu
        )  # fmt: skip
        self.settings_changed.emit()

    def update(self, name: str, value: Any) -> None:
        """Change a setting; a running training takes live ones over between two steps."""
        try:
            self.config = self.config.replace(**{name: value})
        except VQSegError as error:
            self.notified.emit(str(error), "warning")
            self.settings_changed.emit()
            return
        if self.training in (Training.RUNNING, Training.PAUSED):
            self._pending_settings[name] = value
            self._settings_timer.start()

    def _send_settings(self) -> None:
        if self._pending_settings and self.training is not Training.IDLE:
            self.send(protocol.UpdateSettings(dict(self._pending_settings)))
        self._pending_settings.clear()

    # ------------------------------------------------------------ engine

    def send(self, message: protocol.Message) -> None:
        """Send a message to the engine, after telling it the case where it does not know it."""
        if self._worker is None:
            self._worker = self._make_worker()
            self._worker.message.connect(self._on_message)
            self._worker.crashed.connect(self._on_crash)
        if self._opened is not None and self._engine_case != self._opened.case.id:
            self._engine_case = self._opened.case.id
            self._worker.send(protocol.OpenCase(str(self._opened.project.path), self._engine_case))
        self._worker.send(message)

    def _on_message(self, message: protocol.Message) -> None:
        answer = self._answers.get(type(message))
        if answer is not None and not self._closed:
            answer(message)

    def _on_ready(self, message: protocol.Ready) -> None:
        self.device = message.device

    def _on_crash(self, text: str) -> None:
        was = self.training
        self._engine_case = ""
        self._set_training(Training.IDLE)
        if was is not Training.IDLE:
            text = f"{text} Your annotations are saved; Resume goes on from the last checkpoint."
        self.notified.emit(text, "error")

    def _on_failed(self, message: protocol.Failed) -> None:
        self.busy_changed.emit("")
        if message.request == "StartTraining":
            self._set_training(Training.IDLE)
        self.notified.emit(message.text, "error")

    # ------------------------------------------------------------ training

    def _set_training(self, training: Training) -> None:
        if training is not self.training:
            if training is Training.STARTING:
                gc.freeze()  # collecting napari's 300 000 objects took 85 to 125 ms of the event loop
            elif training is Training.IDLE:
                gc.unfreeze()
            self.training = training
            self.training_changed.emit(training)

    @property
    def can_train(self) -> bool:
        """Whether there is a slice to learn from."""
        return self._opened is not None and bool(self.annotations.used)

    @property
    def resumable(self) -> bool:
        """Whether an earlier run can be taken up where it stood."""
        return self.training is Training.IDLE and self._opened is not None and self._opened.resumable is not None

    def start_training(self) -> None:
        """Save, make a run folder and train it."""
        if self.training is not Training.IDLE:
            return
        if not self.can_train:
            self.notified.emit("Mark a slice as complete (key C) before training.", "warning")
            return
        opened, config = self.case, self.config
        self._set_training(Training.STARTING)
        self.progress = None

        def make_run() -> Path:
            return opened.project.new_run(config, [opened.case.id]).path

        def start(path: Path) -> None:
            self._run_path = path
            self._annotations_sent = True
            self.send(protocol.StartTraining(str(path)))

        self.save(then=lambda: self._scheduler.background(make_run, start, self._not_started))

    def resume_training(self) -> None:
        """Go on after a pause, or with the run that was interrupted."""
        if self.training is Training.PAUSED:
            self.send(protocol.ResumeTraining())
            self._set_training(Training.RUNNING)
        elif self.resumable:
            path = self.case.resumable
            self._run_path = path
            self._set_training(Training.STARTING)
            self.save(then=lambda: self.send(protocol.StartTraining(str(path), resume=True)))

    def _not_started(self, error: BaseException) -> None:
        self._set_training(Training.IDLE)
        self._refused(error)

    def pause_training(self) -> None:
        """Hold training; the time budget stands still."""
        if self.training is Training.RUNNING:
            self.send(protocol.PauseTraining())
            self._set_training(Training.PAUSED)

    def stop_training(self) -> None:
        """Stop training and keep what it has learnt."""
        if self.training not in (Training.IDLE, Training.STOPPING):
            self.send(protocol.StopTraining())
            self._set_training(Training.STOPPING)

    def _on_progress(self, message: protocol.Progress) -> None:
        self.progress = message
        self.has_network = True
        if self.training is not Training.STOPPING:
            self._set_training(Training.PAUSED if message.paused else Training.RUNNING)
        self.progressed.emit(message)

    def _on_ended(self, message: protocol.TrainingEnded) -> None:
        self._set_training(Training.IDLE)
        if self._opened is not None:
            self._opened.resumable = None
        if message.reason == "failed":
            return
        self.has_network = True
        done = "Training finished" if message.reason == "finished" else "Training stopped"
        self.notified.emit(f"{done} after {message.step} steps.", "info")
        self.prediction_changed.emit()

    def _send_annotations(self) -> None:
        """Tell a running training that the annotations it learns from have changed."""
        if not self._annotations_sent and self.training in (Training.RUNNING, Training.PAUSED):
            self._annotations_sent = True
            self.send(protocol.UpdateAnnotations(self.case.case.id))

    # ------------------------------------------------------------ predictions

    def _ask(self, kind: str) -> int:
        self._request_id += 1
        self._newest[kind] = self._request_id
        return self._request_id

    def request_prediction(self) -> None:
        """Ask for a prediction of the whole case."""
        self.busy_changed.emit("Predicting")
        self.send(protocol.RequestPrediction(self._ask("prediction"), self.case.case.id))

    def _on_prediction(self, message: protocol.PredictionReady) -> None:
        if self._opened is None or message.case_id != self._opened.case.id:
            return
        try:
            labels = np.load(message.labels_path, mmap_mode="c")
        except (OSError, ValueError) as error:
            self.notified.emit(f"The prediction could not be read ({error}); the one before stays.", "warning")
            return
        self.prediction = labels
        self.prediction_step = message.step
        self.has_network = True
        self.busy_changed.emit("")
        self.view.show_prediction(labels, self.colours)
        if self.epsilon > 0:
            self._preview_timer.start()
        self.prediction_changed.emit()

    def preview(self, epsilon: float) -> None:
        """Predict the shown slice at perturbation intensity `epsilon`, once the slider rests."""
        self.epsilon = epsilon
        if epsilon == 0:
            self.view.show_stability(self.z, None)
        if self.has_network and self._opened is not None:
            self._preview_timer.start()

    def _request_preview(self) -> None:
        if self._opened is None or not self.has_network:
            return
        draws = PREVIEW_DRAWS if self.epsilon > 0 else 1
        self.send(protocol.RequestPreview(self._ask("preview"), self.case.case.id, self.z, self.epsilon, draws))

    def _on_preview(self, message: protocol.PreviewReady) -> None:
        if self._newest.get("preview") != message.request_id or self.prediction is None:
            return
        try:
            with np.load(message.path, allow_pickle=False) as file:
                labels, confidence, stability = file["labels"], file["confidence"], file["stability"]
        except (OSError, ValueError, KeyError):
            return
        if message.epsilon > 0:
            self.view.show_stability(message.z, stability)
        elif message.z not in self.annotations.used:
            self.view.show_predicted_slice(message.z, labels)
        self.preview_changed.emit(
            Preview(
                message.z, message.epsilon, labels, float(confidence.mean(dtype=np.float32)),
                float(stability.mean(dtype=np.float32)), message.elapsed_s,
            )
        )  # fmt: skip

    def toggle_overlay(self) -> None:
        """Key G: show or hide the prediction."""
        self.view.overlay_visible = not self.view.overlay_visible
        self.overlay_changed.emit()

    # ------------------------------------------------------------ codebook, suggestions

    def request_codebook(self) -> None:
        """Ask how the codebook is used."""
        if self.has_network:
            self.send(protocol.RequestCodebook(self._ask("codebook"), self.case.case.id))

    def _on_codebook(self, message: protocol.CodebookReady) -> None:
        try:
            with np.load(message.path, allow_pickle=False) as file:
                usage = file["usage"]
        except (OSError, ValueError, KeyError):
            return
        self.codebook = Codebook(message.codebook_size, message.utilisation, message.perplexity, usage)
        self.codebook_changed.emit(self.codebook)

    def next_suggestion(self) -> None:
        """Key N: go to the slice most worth labelling next."""
        remaining = [item for item in self.suggestions if item.z not in self.annotations.records and item.z != self.z]
        if not remaining:
            names = {item.value: item.name for item in self.classes}
            remaining = suggest_slices(self.annotations, self.volume.spacing_mm, class_names=names)
            remaining = [item for item in remaining if item.z != self.z] or remaining
            if self.has_network:
                self.send(protocol.RequestSuggestions(self._ask("suggestions"), self.case.case.id))
        if not remaining:
            self.notified.emit("Every slice is labelled.", "info")
            return
        self.suggestions = remaining
        self.suggestions_changed.emit()
        self.go_to(remaining[0].z)
        self.notified.emit(f"Slice {remaining[0].z}: {remaining[0].reason}", "hint")

    def _on_suggestions(self, message: protocol.SuggestionsReady) -> None:
        if self._newest.get("suggestions") == message.request_id:
            self.suggestions = [
                Suggestion(int(item["z"]), float(item["score"]), str(item["reason"])) for item in message.suggestions
            ]
            self.suggestions_changed.emit()

    # ------------------------------------------------------------ export

    def result(self) -> npt.NDArray[np.uint8]:
        """The labels as they stand (z, y, x): the prediction, with the labelled slices as drawn or accepted."""
        return _merged(self._snapshot(), self.prediction)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the labels as they stand to a NIfTI file; asking before overwriting is the caller's."""
        from vqseg.io import write_labels

        target, volume, snapshot, prediction = Path(path), self.volume, self._snapshot(), self.prediction
        names = {item.value: item.name for item in self.classes}
        self.save()
        self.busy_changed.emit(f"Writing {target.name}")
        self._scheduler.background(
            lambda: write_labels(target, _merged(snapshot, prediction), volume, names), self._on_exported, self._refused
        )

    def _on_exported(self, paths: list[Path]) -> None:
        self.busy_changed.emit("")
        self.notified.emit(f"Exported {', '.join(path.name for path in paths)}.", "info")
        self.exported.emit(paths)

    def measure(self) -> None:
        """Measure the volume of each class, ml."""
        snapshot, prediction, classes = self._snapshot(), self.prediction, self.classes
        voxel_ml = float(np.prod(self.volume.spacing_mm)) / 1000

        def count() -> dict[str, float]:
            counts = np.bincount(_merged(snapshot, prediction).ravel(), minlength=256)
            return {item.name: float(counts[item.value]) * voxel_ml for item in classes}

        self._scheduler.background(count, self.measured.emit, self._refused)

    # ------------------------------------------------------------ the end

    def _note_lost(self, kind: str) -> None:
        """A layer is gone: by a person's hand, or because the viewer closes, when nothing need be said."""
        self.save()
        self._lost.add(kind)
        self._lost_timer.start()

    def _say_lost(self) -> None:
        kinds = sorted(self._lost & {"image", "annotation"})
        self._lost.clear()
        if kinds:
            self.notified.emit(
                f"Removed from the view: {' and '.join(kinds)}. Your work is saved; "
                "'Show layers' in the section Data brings it back.", "warning",
            )  # fmt: skip

    def close(self) -> None:
        """Bank the work, end the engine, let go of the viewer."""
        if self._closed:
            return
        self.save()
        self._closed = True
        for timer in (self._save_timer, self._preview_timer, self._settings_timer, self._lost_timer):
            timer.stop()
        if self._worker is not None:
            self._worker.message.disconnect(self._on_message)
            self._worker.crashed.disconnect(self._on_crash)
            self._worker.close()
        self._scheduler.close()
        if self._opened is not None:
            self._opened.project.unlock()
        self.view.close()


def _merged(annotations: Annotations, prediction: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """Prediction and annotations in one: complete slices as they are, painted voxels elsewhere."""
    if prediction is None:
        labels = np.zeros(annotations.labels.shape, dtype=np.uint8)
    else:
        labels = np.array(prediction, dtype=np.uint8)
    for z, record in annotations.records.items():
        drawn = annotations.labels[z]
        labels[z] = drawn if record.state is SliceState.COMPLETE else np.where(drawn > 0, drawn, labels[z])
    labels[labels == PAINTED_BACKGROUND] = 0
    return labels
