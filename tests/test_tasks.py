"""The task list: what is begun follows from the labels, what is decided survives on disk."""

from dataclasses import replace

import numpy as np
import pytest

from vqseg.annotations import Annotations, SliceState
from vqseg.project import Project
from vqseg.tasks import Task, TaskState, decide, next_open, task_of, tasks_of
from vqseg.volume import StoredLayout, Volume


def make_volume(seed=0):
    array = np.random.default_rng(seed).normal(size=(5, 4, 3)).astype(np.float32)
    return Volume(array, StoredLayout((3, 4, 5), np.diag([-1.0, -1.0, 2.0, 1.0])))


@pytest.fixture
def project(tmp_path):
    made = Project.create(tmp_path / "project", "Lungs", ["lung"])
    for seed, title in enumerate(["a", "b", "b"]):
        made.add_case(make_volume(seed), title=title)
    return made


def save(case, **states):
    annotations = Annotations.empty(case.shape)
    for state, slices in states.items():
        for z in slices:
            annotations.mark(z, SliceState(state))
    case.save_annotations(annotations)


def test_progress_follows_from_the_labels(project):
    case = project.cases[0]
    assert (task_of(case).state, task_of(case).progress) == (TaskState.NOT_STARTED, "nothing labelled")
    save(case, draft=[1])
    assert (task_of(case).state, task_of(case).progress) == (TaskState.IN_PROGRESS, "1 draft")
    save(case, complete=[0, 2], scribbled=[3], draft=[1])
    assert task_of(case).progress == "3 slices labelled, 1 draft"
    save(case)
    assert task_of(case).state is TaskState.NOT_STARTED


def test_decisions_survive_and_can_be_taken_back(project):
    case = project.cases[1]
    save(case, complete=[2])
    for state in (TaskState.DONE, TaskState.FLAGGED):
        decide(case, state)
        assert task_of(Project.open(project.path).case(case.id)).state is state
    decide(case, TaskState.IN_PROGRESS)
    assert task_of(Project.open(project.path).case(case.id)).state is TaskState.IN_PROGRESS


def test_equal_titles_are_told_apart(project):
    assert [task.title for task in tasks_of(project)] == ["a", "b (case-002)", "b (case-003)"]


def test_images_of_one_name_are_told_apart_by_their_folders(project, tmp_path):
    places = ["archive/patient1/ct/image.nii.gz", "archive/patient2/ct/image.nii.gz", "archive/patient2/ct/image.nrrd"]
    for seed, place in enumerate(places):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        project.add_case(replace(make_volume(seed), source=str(path)))
    assert [task.title for task in tasks_of(project)[3:]] == [
        "patient1/ct/image", "image (case-005)", "image (case-006)",
    ]  # fmt: skip
    assert {case.title for case in project.cases[3:]} == {"image"}, "what is exported is named by no folder"


def test_what_cannot_be_opened_says_so(project):
    case = project.cases[0]
    save(case, complete=[1])
    for path in (case.annotations_path, case.path / "annotations.previous.npz"):
        path.write_bytes(b"damaged")
    assert task_of(case).problem == "annotations damaged"
    save(project.cases[1], complete=[1])
    project.cases[1].source.unlink()
    assert task_of(project.cases[1]).progress == "image not found"


def test_a_damaged_file_falls_back_to_the_version_before(project):
    case = project.cases[0]
    save(case, complete=[1])
    save(case, complete=[1, 2])
    case.annotations_path.write_bytes(b"damaged")
    assert task_of(case).progress == "1 slice labelled"


def test_the_next_open_task_goes_round():
    def task(case_id, state):
        return Task(case_id, case_id, state)

    tasks = [task("a", TaskState.IN_PROGRESS), task("b", TaskState.DONE), task("c", TaskState.FLAGGED),
             task("d", TaskState.NOT_STARTED)]  # fmt: skip
    assert next_open(tasks, "a").case_id == "d"
    assert next_open(tasks, "d").case_id == "a"
    assert next_open(tasks, None).case_id == "a"
    assert next_open(tasks[1:3], "b") is None
    assert next_open(tasks[:1], "a") is None
