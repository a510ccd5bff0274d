"""The engine: a process that trains and answers, so that no fault of it can touch the viewer or the annotations.

``python -m vqseg.engine`` speaks vqseg.protocol over standard input and output. The main thread trains and looks at
its messages between two steps; the desk (vqseg.desk) answers previews and predictions from a copy of the weights, and
the two take turns at the processor (vqseg.turns). A closed input means the same as Shutdown: the work is banked and the
engine leaves.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import queue
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqseg import protocol
from vqseg.desk import UNEXPECTED, Desk
from vqseg.errors import VQSegError
from vqseg.memory import unless_full
from vqseg.overlays import Overlays
from vqseg.pipe import Pipe, hide_in_log, log_to, start_log
from vqseg.project import Project, Run, RunState
from vqseg.run import versions
from vqseg.run_loop import RunLoop, TrainerFactory, make_trainer
from vqseg.tray import PredictionJob
from vqseg.turns import Turns
from vqseg.weights import Weights
from vqseg.workspace import Workspace

if TYPE_CHECKING:
    from vqseg.predict import Predictor
    from vqseg.step_report import StepReport

__all__ = ["Engine", "main"]

PROGRESS_EVERY_S = 0.1
WEIGHTS_EVERY_S = 2.0
UNEXPECTED_IN_TRAINING = "The training ended with an unexpected error; the run's train.log says more."

log = logging.getLogger(__name__)
_DESK = (
    protocol.LoadCheckpoint,
    protocol.OpenCase,
    protocol.RequestCodebook,
    protocol.RequestCodeword,
    protocol.RequestFilling,
    protocol.RequestPrediction,
    protocol.RequestPreview,
    protocol.RequestStability,
    protocol.RequestSuggestions,
)


class Engine:
    """The engine without its pipes: messages in by :meth:`deliver`, out by `send`.

    Parameters
    ----------
    send : callable
        Takes each answer; called from two threads.
    factory : TrainerFactory
        Makes trainers.
    load_predictor : callable, optional
        Loads a checkpoint for previews.
    redirect : callable, optional
        Told the file that everything printed should go to from now on.
    """

    def __init__(
        self,
        send: Callable[[protocol.Message], None],
        factory: TrainerFactory = make_trainer,
        load_predictor: Callable[[Path], Predictor] | None = None,
        redirect: Callable[[Path], None] | None = None,
    ) -> None:
        self._send, self._factory = send, factory
        self._redirect = redirect or (lambda path: None)
        self._inbox: queue.SimpleQueue[protocol.Message | None] = queue.SimpleQueue()
        self.weights, self.turns = Weights(), Turns()
        self.workspace = Workspace(send, self._opened, hide_in_log)
        self.desk = Desk(self.workspace, self.weights, self.turns, send, load_predictor)
        self._loop: RunLoop | None = None
        self._paused = self._stopping = self._leaving = False
        self._later: list[protocol.Message] = []
        self._report: StepReport | None = None
        self._told_at = float("-inf")

    def _opened(self, project: Project) -> None:
        if self._loop is None:
            self._redirect(project.path / "engine.log")

    def deliver(self, item: protocol.Message | VQSegError | None) -> None:
        """Take a message from any thread; None means that nobody listens any more."""
        if isinstance(item, VQSegError):
            self._send(protocol.Failed(str(item)))
        elif isinstance(item, _DESK):
            if isinstance(item, protocol.OpenCase):
                self.workspace.shown = item.case_id
            self.desk.tray.put(item)
        else:
            self._inbox.put(item)

    def serve(self) -> None:
        """Work until Shutdown or the end of the input."""
        self.desk.start()
        try:
            while not self._leaving:
                self._handle(self._later.pop(0) if self._later else self._inbox.get())
        finally:
            self.desk.leave()
            self.desk.join(timeout=10)
            self.workspace.close()

    # --------------------------------------------------------------------------------------------- messages

    def _poll(self, wait_s: float = 0.0) -> None:
        """Handle what has arrived; wait for something first if asked to."""
        try:
            item = self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait()
            while True:
                self._handle(item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _handle(self, item: protocol.Message | None) -> None:
        name = type(item).__name__
        try:
            match item:
                case None | protocol.Shutdown():
                    self._leaving = True
                case protocol.StartTraining() if self._loop is not None:
                    self._later.append(item)
                case protocol.StartTraining():
                    self._train(item)
                case protocol.StopTraining():
                    self._stopping = True
                case protocol.PauseTraining():
                    self._pause(True)
                case protocol.ResumeTraining():
                    self._pause(False)
                case protocol.UpdateSettings():
                    self._update_settings(item)
                case protocol.UpdateAnnotations():
                    self._update_annotations(item)
                case _:
                    self._send(protocol.Failed(f"The engine has no answer to {name}.", name))
        except VQSegError as error:
            self._send(protocol.Failed(str(error), name))
        except Exception as error:
            log.exception("%s failed", name)
            self._send(protocol.Failed(unless_full(error, UNEXPECTED), name))

    def _pause(self, paused: bool) -> None:
        if self._loop is None or self._paused == paused:
            return
        self._paused = paused
        self._tell(force=True)
        if paused:
            self._loop.pause()
        else:
            self._loop.resume()

    def _update_settings(self, message: protocol.UpdateSettings) -> None:
        if self._loop is None:
            self._send(protocol.Notice("No training is under way; the settings count from the next run on."))
            return
        self._loop.update_settings(message.settings)
        self._send(protocol.SettingsApplied(self._loop.step_index, dict(message.settings)))

    def _update_annotations(self, message: protocol.UpdateAnnotations) -> None:
        case = self.workspace.reload_annotations(message.case_id)
        if self._loop is not None and message.case_id in self._loop.run.case_ids:
            self._loop.update_annotations(message.case_id, case.annotations)
        else:
            self.desk.tray.put(message)

    # --------------------------------------------------------------------------------------------- training

    def _train(self, message: protocol.StartTraining) -> None:
        """Train a run to its end, a stop, a shutdown or a failure; every way is told."""
        self._paused = self._stopping = False
        self._report = None
        reason, run = "failed", None
        self.weights.expect(True)
        try:
            run = Run(message.run_path)
            self.workspace.open(run.project_path)
            self._redirect(run.log_path)
            reason = self._steps(self._begin(run, message.resume))
        except VQSegError as error:
            log.info("the training failed: %s", error)
            self._send(protocol.Failed(str(error), "StartTraining"))
        except Exception as error:
            log.exception("the training failed")
            self._send(protocol.Failed(unless_full(error, UNEXPECTED_IN_TRAINING), "StartTraining"))
        finally:
            self.weights.expect(False)
            self._end(run, reason)

    def _begin(self, run: Run, resume: bool) -> RunLoop:
        cases = [self.workspace.reload_annotations(case_id) for case_id in run.case_ids]
        self._loop = RunLoop(
            run, cases, self.workspace.class_names, resume=resume, factory=self._factory,
            on_notice=lambda text: self._send(protocol.Notice(text, "warning")), pause=self.turns.pause,
        )  # fmt: skip
        log.info("run %s on %s, %d case(s)", run.id, self._loop.trainer.device, len(cases))
        return self._loop

    def _end(self, run: Run | None, reason: str) -> None:
        """Record on disk and tell the viewer how a training ended; a shutdown leaves it to be resumed."""
        loop, self._loop = self._loop, None
        step, untaught = 0, list[str]()
        if loop is not None:
            step, untaught = loop.step_index, loop.untaught
            try:
                loop.close(RunState.PAUSED if reason == "shutdown" else RunState(reason))
            except OSError as error:
                why = f"How the run ended could not be written ({error.strerror}); make room on the disk."
                self._send(protocol.Notice(why, "warning"))
        log.info("the run ended: %s at step %d", reason, step)
        if reason != "shutdown":
            banked = run is not None and reason != "failed" and run.has_checkpoint
            path = str(run.checkpoint_path) if run is not None and banked else ""
            self._send(protocol.TrainingEnded(reason, step, path, untaught))
        if run is not None:
            self._redirect(run.project_path / "engine.log")

    def _to_predict(self, run: Run) -> list[str]:
        """The case on show first, whether the run learns from it or not, then the run's own."""
        shown = [self.workspace.shown] if self.workspace.shown else []
        return list(dict.fromkeys([*shown, *run.case_ids]))

    def _steps(self, loop: RunLoop) -> str:
        """The loop itself; returns how it ended."""
        overlays = Overlays(
            lambda: [self.workspace.shown] if self.workspace.shown else loop.run.case_ids,
            offer=lambda: self._offer_weights(loop, force=True),
            submit=self.desk.tray.put,
        )
        while not (loop.finished or self._stopping or self._leaving):
            with self.turns.train():
                self._report = loop.step() or self._report
            self._tell()
            self._offer_weights(loop)
            overlays.advance()
            self._poll()
            while self._paused and not (self._stopping or self._leaving):
                self._poll(wait_s=0.5)
        overlays.cancel()
        self._tell(force=True, predicting=True)
        self._offer_weights(loop, force=True)  # first: a disk too full for the checkpoint leaves them to predict with
        loop.save()
        if not self._leaving:
            reason = "stopped" if self._stopping and not loop.finished else "finished"
            self._wait_for(PredictionJob(self._to_predict(loop.run), final=True))
        return "shutdown" if self._leaving else reason

    def _wait_for(self, job: PredictionJob) -> None:
        """Let the desk do a job while messages are handled."""
        self.desk.tray.put(job)
        while not job.done.is_set():
            if self._leaving:
                job.cancelled.set()
            self._poll(wait_s=0.05)

    def _offer_weights(self, loop: RunLoop, force: bool = False) -> None:
        """Give the desk a copy of the weights: the first at once, later ones when somebody looks at them."""
        age_s = time.monotonic() - self.weights.made_at
        wanted = self.weights.expected or (self.desk.tray.last_request_at > self.weights.made_at)
        if force or (wanted and (age_s > WEIGHTS_EVERY_S or self.weights.expected)):
            predictor = copy.deepcopy(loop.trainer.predictor())
            self.weights.offer(predictor, loop.step_index, loop.run)
            self.weights.expect(False)

    def _tell(self, force: bool = False, predicting: bool = False) -> None:
        """Report the progress, at most ten times a second."""
        report, now = self._report, time.monotonic()
        if report is None or (not force and now - self._told_at < PROGRESS_EVERY_S):
            return
        self._told_at = now
        self._send(protocol.Progress(
            step=int(report.step),
            progress=_number(report.progress) or 0.0,
            time_left_s=_number(report.time_left_s) or 0.0,
            losses={name: value for name, loss in report.losses.items() if (value := _number(loss)) is not None},
            confident_share=_number(report.confident_share),
            utilisation=_number(report.utilisation),
            perplexity=_number(report.perplexity),
            revived=report.revived,
            drift=_number(report.drift),
            paused=self._paused,
            predicting=predicting,
        ))  # fmt: skip


def _number(value: Any) -> float | None:
    """A number that JSON can hold, None for what is none."""
    if value is None or not math.isfinite(float(value)):
        return None
    return float(value)


def _device() -> str:
    """Where "auto" computes; loads torch, so that the engine is warm when it says that it is ready."""
    from vqseg.device import choose_device

    return choose_device("auto").type


def main(factory: TrainerFactory = make_trainer, load_predictor: Callable[[Path], Predictor] | None = None) -> None:
    """Serve the pipes until they close."""
    pipe = Pipe()
    start_log()
    engine = Engine(pipe.send, factory, load_predictor, log_to)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the viewer, which then says what it wants
    signal.signal(signal.SIGTERM, lambda *_: engine.deliver(protocol.Shutdown()))
    pipe.listen(engine.deliver)
    pipe.send(protocol.Ready(protocol.PROTOCOL_VERSION, _device(), versions()))
    _step_aside()
    engine.serve()


def _step_aside() -> None:
    """Let the viewer have the processor first, once the start, which is waited for, is over."""
    if hasattr(os, "nice"):
        os.nice(10)
    if hasattr(os, "SCHED_BATCH"):  # never takes the processor from the viewer when the viewer wakes
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


if __name__ == "__main__":
    main()
