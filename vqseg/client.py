"""The engine process without a window: the command line speaks to it as the viewer does.

The viewer's own counterpart is ``napari_vqseg.worker``.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from vqseg.errors import EngineError
from vqseg.project import Project, Run
from vqseg.protocol import (
    CaseOpened,
    Failed,
    Message,
    Notice,
    OpenCase,
    PredictionReady,
    Progress,
    Ready,
    RequestPrediction,
    Shutdown,
    StartTraining,
    StopTraining,
    TrainingEnded,
    decode,
    encode,
)

__all__ = ["Engine"]

LEAVE_WITHIN_S = 20.0

Answer = TypeVar("Answer", bound=Message)


class Engine:
    """An engine process for the length of a ``with`` block.

    Parameters
    ----------
    log_path : Path
        File for whatever the engine and its libraries print.
    on_progress : callable, optional
        Called with each :class:`Progress` message.
    on_notice : callable, optional
        Called with each :class:`Notice` message.
    """

    def __init__(
        self,
        log_path: Path,
        on_progress: Callable[[Progress], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> None:
        self.log_path = log_path
        self._on_progress = on_progress
        self._on_notice = on_notice

    def __enter__(self) -> Engine:
        with self.log_path.open("a", encoding="utf-8") as log:
            # A session of its own: Ctrl-C reaches this process only, which then stops the engine in good order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vqseg.engine"], text=True, encoding="utf-8", bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            self.ready = self.wait_for(Ready)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Ask the engine to go, and end it if it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(EngineError):
            self.send(Shutdown())
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(LEAVE_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    # -------------------------------------------------------------------------------------------- messages

    def send(self, message: Message) -> None:
        """Write a message to the engine's pipe."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(message) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._gone() from None

    def wait_for(self, kind: type[Answer]) -> Answer:
        """The next message of a kind; progress and notices on the way are passed on, others passed over.

        Raises
        ------
        EngineError
            If a request failed, or the engine has ended.
        """
        for message in self._messages():
            if isinstance(message, kind):
                return message
        raise self._gone()

    def _messages(self) -> Iterator[Message]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = decode(line)
            if isinstance(message, Failed):
                raise EngineError(message.text)
            if isinstance(message, Progress) and self._on_progress is not None:
                self._on_progress(message)
            if isinstance(message, Notice) and self._on_notice is not None:
                self._on_notice(message)
            yield message

    def _gone(self) -> EngineError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self._process.poll()
        return EngineError(f"The engine process ended unexpectedly (exit code {code}); its log is {self.log_path}.")

    # ---------------------------------------------------------------------------------------------- verbs

    def open_case(self, project: Project, case_id: str) -> None:
        """Load a case into the engine's memory."""
        self.send(OpenCase(str(project.path), case_id))
        self.wait_for(CaseOpened)

    def train(self, run: Run, resume: bool = False) -> TrainingEnded:
        """Train a run to its end. After Ctrl-C the engine keeps a checkpoint first, then the interrupt goes on.

        Raises
        ------
        EngineError
            If the training failed.
        """
        self.send(StartTraining(str(run.path), resume=resume))
        try:
            ended = self.wait_for(TrainingEnded)
        except KeyboardInterrupt:
            self.send(StopTraining())
            self.wait_for(TrainingEnded)
            raise
        if ended.reason == "failed":
            raise EngineError(f"The training failed; its log is {run.log_path}.")
        return ended

    def predict(self, case_id: str) -> PredictionReady:
        """Predict a whole case with the newest weights."""
        self.send(RequestPrediction(request_id=0, case_id=case_id))
        while True:
            answer = self.wait_for(PredictionReady)
            if answer.case_id == case_id:
                return answer
