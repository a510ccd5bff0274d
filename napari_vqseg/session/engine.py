"""The engine as the session sees it: messages out, answers in, and what it knows of the case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from psygnal import Signal

from napari_vqseg.session.context import Concern, Context
from vqseg import protocol
from vqseg.run import Run

__all__ = ["Engine", "Worker"]

M = TypeVar("M", bound=protocol.Message)


class Worker(Protocol):
    """What the session needs of the owner of the engine process."""

    message: Any  # signal(protocol.Message)
    crashed: Any  # signal(str)

    def send(self, message: protocol.Message) -> None:
        """Send a message; starts the engine where it is not running."""

    def close(self) -> None:
        """End the engine: message, terminate, kill."""


class Engine(Concern):
    """Requests to the engine process and its answers.

    An engine that crashes is started again with the open case and the newest network that is on disk; but not where it
    crashed before the case was open, which it would only do again.

    Parameters
    ----------
    context : Context
        The open case.
    make_worker : callable
        Makes the owner of the engine process, when it is first needed.

    Attributes
    ----------
    crashed : Signal(str)
        The engine has gone unasked, with a sentence for the person.
    has_network : bool
        Whether the engine has a network for this case.
    device : str
        What the engine computes on, "" until it has said so.
    """

    crashed = Signal(str)

    def __init__(self, context: Context, make_worker: Callable[[], Worker]) -> None:
        super().__init__(context)
        self._make_worker = make_worker
        self.worker: Worker | None = None
        self.device = ""
        self._request_id = 0
        self._answers: dict[type[protocol.Message], list[Callable[[Any], None]]] = {}
        self.forget()
        self.on(protocol.Ready, self._on_ready)
        self.on(protocol.CaseOpened, self._on_case_opened)
        self.on(protocol.Notice, self._on_notice)
        self.on(protocol.Failed, self._on_failed)

    def forget(self) -> None:
        """Forget what the engine knew of the case before."""
        self.has_network = False
        self._case_id = ""
        self._newest: dict[str, int] = {}
        self._run_paths: list[Path] = []
        self._has_case = self._coming_back = False

    def on(self, kind: type[M], answer: Callable[[M], None]) -> None:
        """Call `answer` with each message of a kind."""
        self._answers.setdefault(kind, []).append(answer)

    def send(self, message: protocol.Message) -> None:
        """Send a message, after telling the engine the case where it does not know it."""
        if self.worker is None:
            self.worker = self._make_worker()
            self.worker.message.connect(self._on_message)
            self.worker.crashed.connect(self._on_crash)
        self._tell_case()
        if isinstance(message, protocol.LoadCheckpoint | protocol.StartTraining):
            self._run_paths.append(Path(message.run_path))
        self.worker.send(message)

    def _tell_case(self) -> None:
        """Let the engine open the open case where it has another, or none."""
        opened = self.context.opened
        if self.worker is not None and opened is not None and self._case_id != opened.case.id:
            self._case_id = opened.case.id
            self.worker.send(protocol.OpenCase(str(opened.project.path), self._case_id))

    def new_request(self, kind: str) -> int:
        """The number of a new request; answers to those before are out of date."""
        self._request_id += 1
        self._newest[kind] = self._request_id
        return self._request_id

    def is_newest(self, kind: str, request_id: int | None) -> bool:
        """Whether an answer is the one waited for."""
        return self._newest.get(kind) == request_id

    def close(self) -> None:
        """End the engine."""
        if self.worker is not None:
            self.worker.message.disconnect(self._on_message)
            self.worker.crashed.disconnect(self._on_crash)
            self.worker.close()

    def _on_message(self, message: protocol.Message) -> None:
        for answer in self._answers.get(type(message), []):
            answer(message)

    def _on_ready(self, message: protocol.Ready) -> None:
        self.device = message.device

    def _on_case_opened(self, message: protocol.CaseOpened) -> None:
        self._has_case = message.case_id == self._case_id
        if self._has_case and self._coming_back:
            self._coming_back = False
            network = "" if self.has_network else "; its network was not on disk yet, so train again"
            self.context.notified.emit(f"The engine is back with the open volume{network}.", "info")

    def _on_notice(self, message: protocol.Notice) -> None:
        """Pass a notice on, unless it was said when the case was opened."""
        opened = self.context.opened
        if opened is None or message.text not in opened.warnings:
            self.context.notified.emit(message.text, message.level)

    def _on_failed(self, message: protocol.Failed) -> None:
        self.context.busy_changed.emit("")
        self.context.notified.emit(message.text, "error")

    def _on_crash(self, text: str) -> None:
        had_case = self._has_case
        self._case_id, self._has_case, self._coming_back = "", False, had_case
        run_path = next((path for path in reversed(self._run_paths) if _is_trained(path)), None)
        self.has_network = run_path is not None
        self.context.busy_changed.emit("")
        again = "It is being started again with the open volume." if had_case else "The next request starts it again."
        self.crashed.emit(f"{text} {again}")
        if had_case:
            self._tell_case()
            if run_path is not None and self.worker is not None:
                self.worker.send(protocol.LoadCheckpoint(str(run_path)))


def _is_trained(run_path: Path) -> bool:
    return (run_path / "run.json").exists() and Run(run_path).has_checkpoint
