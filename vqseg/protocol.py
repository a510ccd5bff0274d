"""The messages between viewer and engine: one frozen dataclass each, one JSON line on a pipe each.

Arrays never travel through the pipe; messages name files in the project folder that the other side maps.
Slice indices `z` are canonical (vqseg.volume). Unknown message names raise; unknown fields are an error too,
so that two versions never misunderstand each other silently.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqseg.errors import EngineError
from vqseg.step_report import StepReport

__all__ = ["PROTOCOL_VERSION", "Message", "decode", "encode"]

PROTOCOL_VERSION = 1

_MESSAGES: dict[str, type[Message]] = {}


@dataclass(frozen=True)
class Message:
    """Base of all messages."""

    def __init_subclass__(cls) -> None:
        _MESSAGES[cls.__name__] = cls


def encode(message: Message) -> str:
    """One line of JSON, without the newline."""
    return json.dumps({"message": type(message).__name__, **dataclasses.asdict(message)}, allow_nan=False)


def decode(line: str) -> Message:
    """The message in one line.

    Raises
    ------
    EngineError
        If the line is not a message of this protocol version.
    """
    try:
        values = json.loads(line)
        return _MESSAGES[values.pop("message")](**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"Not a message of protocol version {PROTOCOL_VERSION}: {line[:120]!r} ({type(error).__name__})."
        ) from None


# ---------------------------------------------------------------- viewer -> engine


@dataclass(frozen=True)
class OpenCase(Message):
    """Load a case of a project; answered by CaseOpened (or Failed). The engine holds one project at a time."""

    project_path: str
    case_id: str


@dataclass(frozen=True)
class StartTraining(Message):
    """Train a run folder that the viewer has made (its config.json and the annotations are on disk)."""

    run_path: str
    resume: bool = False


@dataclass(frozen=True)
class PauseTraining(Message):
    """Hold training after the current step; the time budget stands still."""


@dataclass(frozen=True)
class ResumeTraining(Message):
    """Go on after a pause."""


@dataclass(frozen=True)
class StopTraining(Message):
    """Stop after the current step, keep a checkpoint and a final prediction; answered by TrainingEnded."""


@dataclass(frozen=True)
class UpdateSettings(Message):
    """Live settings by name (config fields with live=True); answered by SettingsApplied."""

    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateAnnotations(Message):
    """The case's annotations on disk have changed; read them again between two steps."""

    case_id: str


@dataclass(frozen=True)
class RequestPreview(Message):
    """Predict slice z, `draws` times behind QPM when epsilon > 0; a newer request replaces a waiting one."""

    request_id: int
    case_id: str
    z: int
    epsilon: float = 0.0
    draws: int = 1


@dataclass(frozen=True)
class RequestPrediction(Message):
    """Predict the whole case with the newest weights; answered by PredictionReady."""

    request_id: int
    case_id: str


@dataclass(frozen=True)
class RequestCodebook(Message):
    """Survey the codebook over a case; answered by CodebookReady."""

    request_id: int
    case_id: str


@dataclass(frozen=True)
class RequestCodeword(Message):
    """One codeword of the network that was surveyed last; answered by CodewordReady."""

    request_id: int
    code: int


@dataclass(frozen=True)
class RequestSuggestions(Message):
    """Rank the slices that are worth labelling next; answered by SuggestionsReady."""

    request_id: int
    case_id: str
    count: int = 5


@dataclass(frozen=True)
class RequestFilling(Message):
    """Fill slices between complete ones with shapes that follow the anatomy; answered by FillingReady.

    It takes the annotations on disk and no network.
    """

    request_id: int
    case_id: str
    slices: list[int]


@dataclass(frozen=True)
class RequestStability(Message):
    """Stability of the predicted slices, `draws` times behind QPM, whenever nothing else is asked for.

    Answered by StabilityReady, several times. A newer request replaces the one under way; epsilon 0 only ends it.
    """

    request_id: int
    case_id: str
    epsilon: float
    draws: int = 4


@dataclass(frozen=True)
class LoadCheckpoint(Message):
    """Load a run's checkpoint for previews and predictions, without training."""

    run_path: str


@dataclass(frozen=True)
class Shutdown(Message):
    """Bank the work and leave. A closed pipe means the same."""


# ---------------------------------------------------------------- engine -> viewer


@dataclass(frozen=True)
class Ready(Message):
    """The engine has started and waits."""

    protocol_version: int
    device: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseOpened(Message):
    """The case's volume is in the engine's memory."""

    case_id: str
    shape: list[int]


@dataclass(frozen=True)
class Progress(StepReport, Message):
    """State of the training, at most ten times a second; `predicting` once only the last prediction is left to do."""

    paused: bool = False
    predicting: bool = False


@dataclass(frozen=True)
class SettingsApplied(Message):
    """Live settings are in force from `step` on."""

    step: int
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PreviewReady(Message):
    """Preview of a slice: `path` is an .npz with labels uint8, confidence and stability float16, each (y, x)."""

    request_id: int
    case_id: str
    z: int
    epsilon: float
    path: str
    elapsed_s: float


@dataclass(frozen=True)
class SlicesReady(Message):
    """Slices of a case's first prediction as they come: `path` is an .npz with z (n,) and labels uint8 (n, y, x)."""

    case_id: str
    path: str


@dataclass(frozen=True)
class PredictionReady(Message):
    """Prediction of the case: paths of .npy files to map.

    Labels uint8 (z, y, x), uncertainty float16 (z, y, x), mean confidence of each slice float32 (z,), NaN where nothing
    is predicted. `learnt` are the slices whose labels shaped it: what it says about them is no news.
    """

    request_id: int | None
    case_id: str
    step: int
    labels_path: str
    uncertainty_path: str
    final: bool = False
    confidence_path: str = ""
    learnt: list[int] = field(default_factory=list)

    @property
    def run_path(self) -> Path:
        """Folder of the run whose network predicted it: `labels_path` is RUN/predictions/CASE/labels.npy."""
        return Path(self.labels_path).parents[2]


@dataclass(frozen=True)
class CodebookReady(Message):
    """The codebook over a case: `path` is a vqseg.tokens.CodebookSurvey, made with the weights of `step`."""

    request_id: int
    case_id: str
    step: int
    path: str


@dataclass(frozen=True)
class CodewordReady(Message):
    """A codeword by itself: `path` is a vqseg.tokens.Codeword."""

    request_id: int
    code: int
    path: str


@dataclass(frozen=True)
class SuggestionsReady(Message):
    """Slices worth labelling, best first: {"z": int, "score": float, "reason": str}.

    What is known at once comes first; the `final` answer follows when a spread of slices has been measured.
    """

    request_id: int
    case_id: str
    suggestions: list[dict[str, Any]] = field(default_factory=list)
    final: bool = True


@dataclass(frozen=True)
class FillingReady(Message):
    """Slices filled between complete ones: `path` is an .npz with z (n,) and labels uint8 (n, y, x)."""

    request_id: int
    case_id: str
    path: str


@dataclass(frozen=True)
class StabilityReady(Message):
    """Stability in [0, 1] of some more slices, None in one without a structure; `done` with the last of them."""

    request_id: int
    case_id: str
    epsilon: float
    slices: list[int] = field(default_factory=list)
    stability: list[float | None] = field(default_factory=list)
    done: bool = False


@dataclass(frozen=True)
class TrainingEnded(Message):
    """Training is over: reason is "finished", "stopped" or "failed"; the checkpoint is on disk unless failed.

    `untaught` names the labelled classes that are not learned: what is predicted of them is geometry.
    """

    reason: str
    step: int
    checkpoint_path: str = ""
    untaught: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Notice(Message):
    """Something to tell the person: level is "info" or "warning"."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class Failed(Message):
    """A request could not be served; one sentence for the person. `request` is the message's name."""

    text: str
    request: str = ""
