"""A run folder from beginning to end: train it, predict its cases. Scripts take this road, the engine parts of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqseg.io.atomic import atomic_path
from vqseg.profiles import confidence_profile
from vqseg.project import Project, Run, RunState
from vqseg.run_loop import RunLoop, TrainerFactory, make_trainer

if TYPE_CHECKING:
    from vqseg.data import TrainingCase
    from vqseg.predict import Predictor
    from vqseg.step_report import StepReport

__all__ = ["load_cases", "predict_case", "train_run"]


def train_run(
    run: Run,
    on_report: Callable[[StepReport], None] | None = None,
    *,
    resume: bool = False,
    factory: TrainerFactory = make_trainer,
    on_notice: Callable[[str], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
    devices: int = 1,
) -> RunState:
    """Train a run to its end, and predict its cases.

    Parameters
    ----------
    run : Run
        A run folder.
    on_report : callable, optional
        Called after each step.
    resume : bool
        Go on from the run's checkpoint.
    factory : TrainerFactory
        What makes the trainer.
    on_notice : callable, optional
        Told what the person should know, in sentences.
    on_progress : callable, optional
        Told the share of all slices that are predicted.
    devices : int
        Number of devices that share each batch; a process on each.

    Returns
    -------
    RunState
        FINISHED; an interrupt (Ctrl-C) keeps a checkpoint, marks the run as stopped, and goes on.
    """
    project = Project.open(run.project_path)
    cases = load_cases(project, run.case_ids, on_notice)
    with contextlib.ExitStack() as together:
        team = None
        if devices > 1:
            from vqseg.team import lead

            team = together.enter_context(lead(run, devices, resume=resume))
        loop = RunLoop(run, cases, project.class_names, resume=resume, factory=factory, on_notice=on_notice, team=team)
        state = RunState.FAILED
        try:
            while not loop.finished:
                report = loop.step()
                if report is not None and on_report is not None:
                    on_report(report)
            loop.save()
            together.close()
            predictor = loop.trainer.predictor()
            tell = _share_of(sum(case.volume.shape[0] for case in cases), on_progress)
            for case_id, training_case in zip(run.case_ids, cases, strict=True):
                predict_case(predictor, training_case, run, case_id, on_slices=tell)
            state = RunState.FINISHED
        except KeyboardInterrupt:
            loop.save()
            state = RunState.STOPPED
            raise
        finally:
            loop.close(state)
    return state


def _share_of(
    n_slices: int, on_progress: Callable[[float], None] | None
) -> Callable[[list[int], npt.NDArray[np.uint8]], None] | None:
    """What tells the share of the slices so far, where somebody listens."""
    if on_progress is None:
        return None
    done = 0

    def tell(slices: list[int], labels: npt.NDArray[np.uint8]) -> None:
        nonlocal done
        done += len(slices)
        on_progress(done / n_slices)

    return tell


def load_cases(
    project: Project, case_ids: Sequence[str], on_notice: Callable[[str], None] | None = None
) -> list[TrainingCase]:
    """Cases of a project with their volumes in memory and their labels as they are now.

    `on_notice` is told what is wrong with the labels, such as that an older version of them was read.
    """
    from vqseg.data import TrainingCase

    loaded = []
    for case in map(project.case, case_ids):
        loaded.append(TrainingCase(case.load_volume().load(), case.load_annotations()))
        if on_notice is not None:
            for warning in case.warnings:
                on_notice(warning)
    return loaded


def predict_case(
    predictor: Predictor,
    case: TrainingCase,
    run: Run,
    case_id: str,
    *,
    nearest_to: int = 0,
    on_slices: Callable[[list[int], npt.NDArray[np.uint8]], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    pause: Callable[[], None] | None = None,
    aside: Callable[[Callable[[], None]], None] = lambda work: work(),
) -> bool:
    """Predict a case and write it into the run.

    Parameters
    ----------
    predictor : Predictor
        The network.
    case : TrainingCase
        The case.
    run : Run
        Where the prediction goes.
    case_id : str
        The case's name there.
    nearest_to : int
        The slice that is predicted first.
    on_slices : callable, optional
        Told each chunk of slices, and their labels (n, y, x), before :meth:`Predictor.tidy`.
    should_stop : callable
        Asked between chunks of slices.
    turn : callable
        Makes the context that each chunk of slices is predicted in.
    pause : callable, optional
        Called in the midst of each chunk of slices, again and again.
    aside : callable
        Calls what needs no network: it takes seconds on a large volume.

    Returns
    -------
    bool
        False where `should_stop` ended it first; then nothing is written.
    """
    annotations = case.annotations
    prediction = predictor.predict_slices(
        case.volume, annotations, nearest_to=nearest_to, on_slices=on_slices, should_stop=should_stop, turn=turn,
        pause=pause,
    )  # fmt: skip
    if should_stop():
        return False

    def finish() -> None:
        predictor.tidy(prediction, case.volume, annotations)
        _save_array(run.confidence_path(case_id), confidence_profile(prediction.labels, prediction.uncertainty))
        _save_array(run.uncertainty_path(case_id), prediction.uncertainty)
        _save_array(run.rests_on_path(case_id), np.array(sorted(annotations.used), np.int64))
        _save_array(run.prediction_path(case_id), prediction.labels)

    aside(finish)
    return True


def _save_array(path: Path, array: Any) -> None:
    """Write an .npy file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.asarray(array), allow_pickle=False)
