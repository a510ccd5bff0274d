"""Answers of the engine that need a network but no training: previews, predictions, codebook, suggestions.

A thread of its own serves them from a copy of the weights, in turns with the training's steps (vqseg.turns).
Previews go first, also in the middle of a step or of a prediction, and a newer one replaces a waiting one. Surveys of
all slices go last: a slice at a time, while nobody asks for anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqseg.errors import EngineError, VQSegError
from vqseg.project import Run
from vqseg.protocol import (
    CodebookReady,
    CodewordReady,
    Failed,
    LoadCheckpoint,
    Message,
    OpenCase,
    PredictionReady,
    PreviewReady,
    RequestCodebook,
    RequestCodeword,
    RequestPrediction,
    RequestPreview,
    RequestStability,
    RequestSuggestions,
    SlicesReady,
    UpdateAnnotations,
)
from vqseg.runner import predict_case
from vqseg.survey import StabilitySurvey, SuggestionSurvey, Survey
from vqseg.tokens import HISTORY_COLUMNS
from vqseg.turns import Turns
from vqseg.weights import Weights
from vqseg.workspace import Workspace

if TYPE_CHECKING:
    from vqseg.data import TrainingCase
    from vqseg.predict import Predictor

__all__ = ["UNEXPECTED", "Desk", "PredictionJob"]

KEPT_FILES = 16
UNEXPECTED = "The engine could not do that because of an unexpected error; its log says more."

log = logging.getLogger(__name__)


class _CancelledError(Exception):
    """A prediction was given up because the engine leaves or something better is under way."""


@dataclass
class PredictionJob:
    """A prediction of whole cases; `seconds` is how long the network had the processor for it."""

    case_ids: list[str]
    final: bool = False
    request_id: int | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0


class Desk(threading.Thread):
    """The serving thread.

    Parameters
    ----------
    workspace : Workspace
        The open project and its cases.
    weights : Weights
        Where the network comes from.
    turns : Turns
        When it may compute.
    send : callable
        Takes the answers.
    load_predictor : callable, optional
        Loads a checkpoint folder; the project's own Predictor by default.
    """

    def __init__(
        self,
        workspace: Workspace,
        weights: Weights,
        turns: Turns,
        send: Callable[[Message], None],
        load_predictor: Callable[[Path], Predictor] | None = None,
    ) -> None:
        super().__init__(name="desk", daemon=True)
        self.workspace, self.weights, self.turns, self._send = workspace, weights, turns, send
        self._load_predictor = load_predictor or _load_predictor
        self._wake = threading.Condition()
        self._preview: RequestPreview | None = None
        self._waiting: deque[Message | PredictionJob] = deque()
        self._surveys: dict[str, Survey] = {}
        self._leaving = False
        self._looked_at: dict[str, int] = {}
        self._told: set[str] = set()
        self._sent_slices = 0
        self._prepared: tuple[Predictor, TrainingCase] | None = None
        self._surveyed: Predictor | None = None
        self.last_request_at = float("-inf")

    def submit(self, item: Message | PredictionJob) -> None:
        """Queue a request; a preview replaces the waiting one."""
        with self._wake:
            if isinstance(item, RequestPreview):
                self._preview = item
                self._looked_at[item.case_id] = item.z
            else:
                self._waiting.append(item)
            if isinstance(item, Message):
                self.last_request_at = time.monotonic()
            self._wake.notify()

    def leave(self) -> None:
        """End the thread after what it is doing now; predictions are given up."""
        with self._wake:
            self._leaving = True
            self._wake.notify()

    def run(self) -> None:
        """Serve until :meth:`leave`."""
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._leaving or self._preview or self._waiting or self._surveys)
                if self._leaving:
                    return
                item = self._next()
            self._serve(item)

    def _next(self) -> Message | PredictionJob | Survey:
        # A preview of a case that is still waiting to be opened must not overtake its opening.
        opening = any(isinstance(item, OpenCase | LoadCheckpoint | UpdateAnnotations) for item in self._waiting)
        if self._preview is not None and not opening:
            return self._take_preview()
        if self._waiting:
            return self._waiting.popleft()
        return next(iter(self._surveys.values()))

    def _take_preview(self) -> RequestPreview:
        preview, self._preview = self._preview, None
        assert preview is not None
        return preview

    def _serve(self, item: Message | PredictionJob | Survey) -> None:
        name = type(item).__name__
        try:
            _HANDLERS[name](self, item)
        except _CancelledError:
            log.info("%s was given up", name)
        except VQSegError as error:
            self._send(Failed(str(error), name))
        except Exception:
            log.exception("%s failed", name)
            self._send(Failed(UNEXPECTED, name))
        finally:
            if isinstance(item, PredictionJob):
                item.done.set()

    def _between(self, *_progress: Any) -> None:
        """Serve a waiting preview in the middle of something longer, or give that up to leave."""
        with self._wake:
            if self._leaving:
                raise _CancelledError
            preview = self._take_preview() if self._preview is not None else None
        if preview is not None:
            self._serve(preview)

    # ---------------------------------------------------------------------------------------------- answers

    def _load(self, message: LoadCheckpoint) -> None:
        self._surveys.clear()
        run = Run(message.run_path)
        self.workspace.open(run.project_path)
        self.weights.offer(self._load_predictor(run.require_checkpoint()), int(run.info.get("step", 0)), run)

    def _open(self, message: OpenCase) -> None:
        self._surveys.clear()
        self._told.discard(message.case_id)
        self._send(self.workspace.open_case(message))

    def _prepare(self, predictor: Predictor, case_id: str) -> TrainingCase:
        """A case that `predictor` knows with its annotations; they frame it and tell the shapes."""
        case = self.workspace.case(case_id)
        if self._prepared is None or self._prepared[0] is not predictor or self._prepared[1] is not case:
            predictor.prepare(case.volume, case.annotations)
            self._prepared = (predictor, case)
        return case

    def _update(self, message: UpdateAnnotations) -> None:
        """Let a network that is not being trained see changed annotations; a trainer tells its own."""
        if self.weights.has_any:
            predictor, _, _ = self.weights.get()
            case = self._prepare(predictor, message.case_id)
            prepared = predictor.prepare(case.volume)
            if prepared.annotations is not case.annotations:
                prepared.update_annotations(case.annotations)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """A turn at the processor for a part of something longer; a preview that has come meanwhile shares it."""
        with self.turns.answer():
            yield
            self._between()

    def _aside(self, work: Callable[[], None]) -> None:
        """Have something done that needs no network, and serve previews meanwhile."""
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(work)
            future.add_done_callback(lambda _: self._look_up())
            while not future.done():
                with self._wake:
                    self._wake.wait_for(lambda: future.done() or self._preview is not None)
                self._between()
            future.result()

    def _look_up(self) -> None:
        with self._wake:
            self._wake.notify()

    def _answer_preview(self, message: RequestPreview) -> None:
        start = time.monotonic()
        predictor, _, _ = self.weights.get()
        case = self._prepare(predictor, message.case_id)
        if not 0 <= message.z < case.volume.shape[0]:
            raise EngineError(f"Slice {message.z} lies outside the volume of {case.volume.shape[0]} slices.")
        with self.turns.answer(urgent=True):
            found = predictor.preview(
                case.volume, message.z, epsilon=message.epsilon, draws=message.draws, seed=message.z
            )
        path = self._write(
            f"preview-{message.request_id % KEPT_FILES}.npz",
            labels=np.asarray(found.labels, np.uint8),
            confidence=np.asarray(found.confidence, np.float16),
            stability=np.asarray(found.stability, np.float16),
        )
        elapsed_s = time.monotonic() - start
        self._send(PreviewReady(message.request_id, message.case_id, message.z, message.epsilon, str(path), elapsed_s))

    def _answer_prediction(self, message: RequestPrediction) -> None:
        self._predict(PredictionJob([message.case_id], request_id=message.request_id))

    def _predict(self, job: PredictionJob) -> None:
        @contextmanager
        def turn() -> Iterator[None]:
            with self._turn():
                start = time.monotonic()
                yield
                job.seconds += time.monotonic() - start

        predictor, step, run = self.weights.get()
        for case_id in job.case_ids:
            case = self.workspace.case(case_id)
            learnt = set(case.annotations.used)
            if not predict_case(
                predictor, case, run, case_id, nearest_to=self._looked_at.get(case_id, case.volume.shape[0] // 2),
                on_slices=partial(self._send_slices, case_id) if self._is_awaited(case_id) else None,
                should_stop=lambda: self._leaving or job.cancelled.is_set(), turn=turn, aside=self._aside,
            ):  # fmt: skip
                raise _CancelledError
            self._told.add(case_id)
            learnt |= run.learnt(case_id).union(case.annotations.used)  # they may have grown meanwhile
            self._send(
                PredictionReady(
                    job.request_id, case_id, step, str(run.prediction_path(case_id)),
                    str(run.uncertainty_path(case_id)), final=job.final,
                    confidence_path=str(run.confidence_path(case_id)), learnt=sorted(learnt),
                )
            )  # fmt: skip

    def _is_awaited(self, case_id: str) -> bool:
        """Whether a case is on show and nothing of it is, so that each slice counts; later only the whole does."""
        return case_id == self.workspace.shown and case_id not in self._told

    def _send_slices(self, case_id: str, slices: list[int], labels: npt.NDArray[np.uint8]) -> None:
        self._sent_slices += 1
        path = self._write(f"slices-{self._sent_slices % KEPT_FILES}.npz", z=np.array(slices), labels=labels)
        self._send(SlicesReady(case_id, str(path)))

    def _write(self, name: str, **arrays: npt.NDArray[Any]) -> Path:
        """Write a short-lived file that the viewer reads."""
        path = self.workspace.scratch(name)
        temporary = path.with_name(f".{path.name}")
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
        return path

    def _answer_stability(self, message: RequestStability) -> None:
        self._surveys.pop(StabilitySurvey.__name__, None)
        if message.epsilon > 0:
            predictor, _, run = self.weights.get()
            case = self._prepare(predictor, message.case_id)
            self._begin(StabilitySurvey(message, predictor, case.volume, run.confidence_path(message.case_id)))

    def _begin(self, survey: Survey) -> None:
        """Start a survey in place of one of its kind."""
        self._surveys[type(survey).__name__] = survey

    def _advance(self, survey: Survey) -> None:
        kind = type(survey).__name__
        del self._surveys[kind]  # a survey that fails is not tried again
        with self.turns.answer():
            answer = survey.advance()
        if answer is not None:
            self._send(answer)
        if not survey.finished:
            self._surveys[kind] = survey  # behind the others

    def _answer_codebook(self, message: RequestCodebook) -> None:
        from vqseg.codebook import survey_codebook, token_grid

        predictor, step, run = self.weights.get()
        case = self._prepare(predictor, message.case_id)
        token_grid(predictor, case.volume)  # says so at once where there is no codebook
        labels = self._predicted(run, message.case_id)
        rows = [row for row in run.read_metrics() if row.get("utilisation") is not None]
        history = [[row.get(name) for name in HISTORY_COLUMNS] for row in rows]
        survey = survey_codebook(predictor, case.volume, labels, history=history, on_progress=self._between)
        self._surveyed = predictor
        path = self.workspace.scratch(f"codebook-{message.request_id % KEPT_FILES}.npz")
        survey.save(path)
        self._send(CodebookReady(message.request_id, message.case_id, step, str(path)))

    def _answer_codeword(self, message: RequestCodeword) -> None:
        from vqseg.codebook import codeword

        if self._surveyed is None:
            raise EngineError("The codebook has not been measured yet; press Measure first.")
        if not 0 <= message.code < self._surveyed.config.model.codebook_size:
            raise EngineError(f"Code {message.code} is not in the codebook; measure it again.")
        path = self.workspace.scratch(f"codeword-{message.request_id % KEPT_FILES}.npz")
        codeword(self._surveyed, message.code).save(path)
        self._send(CodewordReady(message.request_id, message.code, str(path)))

    def _predicted(self, run: Run, case_id: str) -> npt.NDArray[np.uint8]:
        """The run's prediction of a case, made where there is none yet."""
        if not run.prediction_path(case_id).exists():
            self._predict(PredictionJob([case_id]))
        labels: npt.NDArray[np.uint8] = np.load(run.prediction_path(case_id), mmap_mode="r", allow_pickle=False)
        return labels

    def _answer_suggestions(self, message: RequestSuggestions) -> None:
        predictor, _, run = self.weights.get()
        case = self._prepare(predictor, message.case_id)
        predicted = self._predicted(run, message.case_id)
        uncertainty = np.load(run.uncertainty_path(message.case_id), mmap_mode="r", allow_pickle=False)
        names = self.workspace.class_names
        survey = SuggestionSurvey(message, predictor, case, predicted, uncertainty, names)
        self._begin(survey)
        self._advance(survey)


_HANDLERS: dict[str, Callable[[Desk, Any], None]] = {
    "LoadCheckpoint": Desk._load,
    "OpenCase": Desk._open,
    "PredictionJob": Desk._predict,
    "RequestCodebook": Desk._answer_codebook,
    "RequestCodeword": Desk._answer_codeword,
    "RequestPrediction": Desk._answer_prediction,
    "RequestPreview": Desk._answer_preview,
    "RequestStability": Desk._answer_stability,
    "RequestSuggestions": Desk._answer_suggestions,
    "StabilitySurvey": Desk._advance,
    "SuggestionSurvey": Desk._advance,
    "UpdateAnnotations": Desk._update,
}


def _load_predictor(checkpoint: Path) -> Predictor:
    from vqseg.predict import Predictor

    return Predictor.load(checkpoint)
