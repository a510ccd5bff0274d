"""The task list of a project: one task a case, how far it is, and what a person has decided about it.

Whether a task is begun follows from the annotations; only "done" and "flagged" are stored, in case.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from vqseg.annotations import SliceState
from vqseg.errors import ProjectError

if TYPE_CHECKING:
    from vqseg.case import Case
    from vqseg.project import Project

__all__ = ["Task", "TaskState", "decide", "next_open", "task_of", "tasks_of"]


class TaskState(StrEnum):
    """Where the work on a case stands."""

    NOT_STARTED = "not started"
    IN_PROGRESS = "in progress"
    DONE = "done"
    FLAGGED = "flagged"


@dataclass(frozen=True)
class Task:
    """The work on one case.

    Parameters
    ----------
    case_id : str
        The case.
    title : str
        What to call it in a list.
    state : TaskState
        Where it stands.
    labelled, drafts : int
        Number of slices that training learns from (complete or scribbled), and of drafts.
    problem : str
        What keeps the case from being opened, in a few words; "" for nothing.
    """

    case_id: str
    title: str
    state: TaskState
    labelled: int = 0
    drafts: int = 0
    problem: str = ""

    @property
    def is_open(self) -> bool:
        """Whether there is work to do: neither done nor flagged."""
        return self.state in (TaskState.NOT_STARTED, TaskState.IN_PROGRESS)

    @property
    def progress(self) -> str:
        """How far the work is, in a few words."""
        if self.problem:
            return self.problem
        parts = [f"{self.labelled} slice{'s' * (self.labelled != 1)} labelled"] if self.labelled else []
        parts += [f"{self.drafts} draft{'s' * (self.drafts != 1)}"] if self.drafts else []
        return ", ".join(parts) or "nothing labelled"


def task_of(case: Case) -> Task:
    """The task of a case as it is on disk; reads no labels."""
    problem = "" if case.source.exists() else "image not found"
    try:
        counts = Counter(case.load_slice_states().values())
    except ProjectError:
        counts, problem = Counter[SliceState](), "annotations damaged"
    decided = case.info.get("task")
    if decided in (TaskState.DONE, TaskState.FLAGGED):
        state = TaskState(decided)
    else:
        state = TaskState.IN_PROGRESS if counts else TaskState.NOT_STARTED
    drafts = counts[SliceState.DRAFT]
    return Task(case.id, case.title, state, counts.total() - drafts, drafts, problem)


def tasks_of(project: Project) -> list[Task]:
    """The tasks of a project, in the order in which its cases were added.

    Equal titles, such as those of many an image.nii.gz, are told apart by the folders they lie in, else by their case.
    The folders are for this list alone: they may name a patient, and are neither kept nor exported.
    """
    cases = project.cases
    tasks = {case.id: task_of(case) for case in cases}
    alike: dict[str, list[Case]] = {}
    for case in cases:
        alike.setdefault(tasks[case.id].title, []).append(case)
    for title, group in alike.items():
        places = _places(group)
        often = Counter(places)
        for case, place in zip(group, places, strict=True):
            if len(group) > 1:
                told = f"{place}/{title}" if place and often[place] == 1 else f"{title} ({case.id})"
                tasks[case.id] = replace(tasks[case.id], title=told)
    return list(tasks.values())


def _places(cases: Sequence[Case]) -> list[str]:
    """The part of each image's folder that is not common to all; "" for an image that is kept in the project."""
    kept = [not Path(case.info["source"]).is_absolute() for case in cases]
    folders = [() if inside else case.source.parent.parts for case, inside in zip(cases, kept, strict=True)]
    levels = zip(*filter(None, folders), strict=False)
    common = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))
    return ["/".join(folder[common:]) for folder in folders]


def decide(case: Case, state: TaskState) -> None:
    """Record that a person calls a task done or flags it; any other state takes that back."""
    if state in (TaskState.DONE, TaskState.FLAGGED):
        case.update(task=state.value)
    elif "task" in case.info:
        case.update(task=None)


def next_open(tasks: Sequence[Task], case_id: str | None) -> Task | None:
    """The first open task after the one of `case_id`, round the end; None where no other is open."""
    ids = [task.case_id for task in tasks]
    start = ids.index(case_id) + 1 if case_id in ids else 0
    rest = [*tasks[start:], *tasks[: max(start - 1, 0)]]
    return next((task for task in rest if task.is_open), None)
