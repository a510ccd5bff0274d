"""Answers of the engine that need no training: previews, predictions, codebook, suggestions; filling between slices.

A thread of its own serves them from a copy of the weights, in the order of its tray (vqseg.tray) and in turns with the
training's steps (vqseg.turns). Previews are served in the midst of a step, a prediction or a survey as well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from vqseg.errors import EngineError, VQSegError
from vqseg.io.mapped import open_array
from vqseg.memory import unless_full
from vqseg.project import Run
from vqseg.protocol import (
    CodebookReady,
    CodewordReady,
    Failed,
    FillingReady,
    LoadCheckpoint,
    Message,
    OpenCase,
    PredictionReady,
    PreviewReady,
    RequestCodebook,
    RequestCodeword,
    RequestFilling,
    RequestPrediction,
    RequestPreview,
    RequestStability,
    RequestSuggestions,
    SlicesReady,
    UpdateAnnotations,
)
from vqseg.runner import predict_case
from vqseg.survey import StabilitySurvey, SuggestionSurvey
from vqseg.tokens import HISTORY_COLUMNS
from vqseg.tray import PredictionJob, Request, Tray
from vqseg.turns import Turns
from vqseg.weights import Weights
from vqseg.workspace import Workspace

if TYPE_CHECKING:
    from vqseg.data import TrainingCase
    from vqseg.predict import Predictor

__all__ = ["UNEXPECTED", "Desk"]

T = TypeVar("T")

KEPT_FILES = 16
UNEXPECTED = "The engine could not do that because of an unexpected error; its log says more."

log = logging.getLogger(__name__)


class _CancelledError(Exception):
    """A prediction was given up because the engine leaves or something better is under way."""


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
        self.tray = Tray()
        self._told: set[str] = set()
        self._sent_slices = 0
        self._prepared: tuple[Predictor, TrainingCase] | None = None
        self._surveyed: Predictor | None = None
        self._previewing = False

    def leave(self) -> None:
        """End the thread after what it is doing now; predictions are given up."""
        self.tray.leave()

    def run(self) -> None:
        """Serve until :meth:`leave`."""
        while (item := self.tray.take()) is not None:
            self._serve(item)

    def _serve(self, item: Request) -> None:
        name = type(item).__name__
        try:
            self._answer(item)
        except _CancelledError:
            log.info("%s was given up", name)
        except VQSegError as error:
            self._send(Failed(str(error), name))
        except Exception as error:
            log.exception("%s failed", name)
            self._send(Failed(unless_full(error, UNEXPECTED), name))
        finally:
            if isinstance(item, PredictionJob):
                item.done.set()

    def _answer(self, item: Request) -> None:
        match item:
            case LoadCheckpoint():
                self._load(item)
            case OpenCase():
                self._open(item)
            case UpdateAnnotations():
                self._update(item)
            case PredictionJob():
                self._predict(item)
            case RequestPrediction():
                self._predict(PredictionJob([item.case_id], request_id=item.request_id))
            case RequestPreview():
                self._answer_preview(item)
            case RequestStability():
                self._answer_stability(item)
            case RequestSuggestions():
                self._answer_suggestions(item)
            case RequestCodebook():
                self._answer_codebook(item)
            case RequestCodeword():
                self._answer_codeword(item)
            case RequestFilling():
                self._answer_filling(item)
            case StabilitySurvey() | SuggestionSurvey():
                self._advance(item)

    def _between(self, *_progress: Any) -> None:
        """Serve a waiting preview in the midst of something longer, or give that up to leave."""
        if self.tray.leaving:
            raise _CancelledError
        preview = None if self._previewing else self.tray.take_preview()
        if preview is not None:
            self._previewing = True
            try:
                self._serve(preview)
            finally:
                self._previewing = False

    # ---------------------------------------------------------------------------------------------- answers

    def _load(self, message: LoadCheckpoint) -> None:
        self.tray.end_surveys()
        run = Run(message.run_path)
        self.workspace.open(run.project_path)
        self.weights.offer(self._load_predictor(run.require_checkpoint()), int(run.info.get("step", 0)), run)

    def _open(self, message: OpenCase) -> None:
        self.tray.end_surveys()
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
        """A turn at the processor for a part of something longer; a preview that comes meanwhile hastens it."""
        with self.turns.answer(urgent=lambda: self.tray.has_preview):
            self._between()
            yield
            self._between()

    def _aside(self, work: Callable[[], T]) -> T:
        """Have something done that needs no network, and serve previews meanwhile."""
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(work)
            future.add_done_callback(lambda _: self.tray.look_up())
            while not future.done():
                self.tray.wait(future.done)
                self._between()
            return future.result()

    def _answer_preview(self, message: RequestPreview) -> None:
        start = time.monotonic()
        predictor, _, _ = self.weights.get()
        case = self._prepare(predictor, message.case_id)
        if not 0 <= message.z < case.volume.shape[0]:
            raise EngineError(f"Slice {message.z} lies outside the volume of {case.volume.shape[0]} slices.")
        with self.turns.answer(urgent=lambda: True):
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
                predictor, case, run, case_id, nearest_to=self.tray.looked_at(case_id, case.volume.shape[0] // 2),
                on_slices=partial(self._send_slices, case_id) if self._is_awaited(case_id) else None,
                should_stop=lambda: self.tray.leaving or job.cancelled.is_set(), turn=turn, pause=self._between,
                aside=self._aside,
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
        self.tray.end(StabilitySurvey)
        if message.epsilon > 0:
            predictor, _, run = self.weights.get()
            case = self._prepare(predictor, message.case_id)
            self.tray.begin(StabilitySurvey(message, predictor, case.volume, run.confidence_path(message.case_id)))

    def _advance(self, survey: StabilitySurvey | SuggestionSurvey) -> None:
        """Do a slice of a survey; one that fails is not tried again."""
        with self._turn():
            answer = survey.advance()
        if answer is not None:
            self._send(answer)
        if not survey.finished:
            self.tray.begin(survey)

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
        return open_array(run.prediction_path(case_id))

    def _answer_suggestions(self, message: RequestSuggestions) -> None:
        predictor, _, run = self.weights.get()
        case = self._prepare(predictor, message.case_id)
        predicted = self._predicted(run, message.case_id)
        uncertainty = open_array(run.uncertainty_path(message.case_id))
        names = self.workspace.class_names
        self.tray.end(SuggestionSurvey)
        self._advance(SuggestionSurvey(message, predictor, case, predicted, uncertainty, names))

    def _answer_filling(self, message: RequestFilling) -> None:
        from vqseg.data.between import fill_along

        case = self.workspace.reload_annotations(message.case_id)
        labels = self._aside(lambda: fill_along(case, message.slices))
        path = self._write(f"filling-{message.request_id % KEPT_FILES}.npz", z=np.array(message.slices), labels=labels)
        self._send(FillingReady(message.request_id, message.case_id, str(path)))


def _load_predictor(checkpoint: Path) -> Predictor:
    from vqseg.predict import Predictor

    return Predictor.load(checkpoint)
