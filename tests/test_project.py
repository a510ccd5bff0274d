"""A project on disk: whole at any moment, never on another image, never written by two."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from vqseg.annotations import Annotations, Origin, SliceState
from vqseg.cli import main
from vqseg.config import Config, preset
from vqseg.errors import AnnotationError, ProjectError, VQSegError
from vqseg.io import read_volume
from vqseg.lock import FolderLock
from vqseg.project import Case, Project, Run, RunState
from vqseg.records import read_record, write_record


def write_image(path, seed=0, shape=(8, 9, 7), affine=None):
    array = np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([0.7, 0.7, 3.0, 1]) if affine is None else affine), path)
    return path


@pytest.fixture
def image_path(tmp_path):
    return write_image(tmp_path / "image.nii.gz")


@pytest.fixture
def project(tmp_path):
    return Project.create(tmp_path / "project", "Lungs", ["lung", "tumour"])


@pytest.fixture
def case(project, image_path):
    return project.add_case(read_volume(image_path))


def labelled(shape, slices=(1, 4), value=1):
    annotations = Annotations.empty(shape)
    for z in slices:
        annotations.set_slice(z, np.full(shape[1:], value, np.uint8), SliceState.COMPLETE)
    return annotations


def test_a_project_opens_as_it_was_saved(project):
    project.class_names[7] = "heart"
    project.info["colours"] = {"1": "#ff0000"}
    project.save()
    for again in (Project.open(project.path), Project.open(project.path / "project.json")):
        assert again.name == "Lungs"
        assert again.class_names == {1: "lung", 2: "tumour", 7: "heart"}
        assert again.info["colours"] == {"1": "#ff0000"}
    assert Project.is_project(project.path)
    assert Project.is_project(project.path / "project.json")
    assert not Project.is_project(project.path / "cases")


def test_create_refuses_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "mine").mkdir()
    Project.create(tmp_path / "mine", "One", {})
    with pytest.raises(ProjectError, match="not empty"):
        Project.create(tmp_path / "mine", "Two", {})


@pytest.mark.parametrize("classes", [{0: "nothing"}, {255: "background"}, [" "]])
def test_class_values_are_checked(tmp_path, classes):
    with pytest.raises(ProjectError, match="1 to 254"):
        Project.create(tmp_path / "project", "One", classes)
    assert list(tmp_path.iterdir()) == []


def test_opening_something_else_says_so(tmp_path):
    with pytest.raises(ProjectError, match="is no project; choose the folder"):
        Project.open(tmp_path)
    (tmp_path / "project.json").write_text("{")
    with pytest.raises(ProjectError, match="damaged"):
        Project.open(tmp_path)
    write_record(tmp_path / "project.json", "project", 1, {"name": "lung"})
    with pytest.raises(ProjectError, match="damaged"):
        Project.open(tmp_path)
    write_record(tmp_path / "project.json", "project", 99, {})
    with pytest.raises(ProjectError, match="update"):
        Project.open(tmp_path)
    write_record(tmp_path / "project.json", "run", 1, {})
    with pytest.raises(ProjectError, match="'run'"):
        Project.open(tmp_path)


def test_a_case_reads_its_image_again(project, case, image_path):
    assert case.id == "case-001"
    assert [found.id for found in project.cases] == ["case-001"]
    volume = project.case("case-001").load_volume()
    np.testing.assert_array_equal(volume.array, read_volume(image_path).array)
    assert case.shape == volume.shape == (7, 9, 8)
    np.testing.assert_allclose(case.spacing_mm, (3, 0.7, 0.7), rtol=1e-5)


def test_a_volume_without_a_file_is_stored_in_the_project(project, image_path):
    from dataclasses import replace

    volume = read_volume(image_path)
    case = project.add_case(replace(volume, source=""), "sample")
    again = Project.open(project.path).case("sample").load_volume()
    np.testing.assert_array_equal(again.array, volume.array)
    assert case.source.parent == case.path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "other values"),
        ({"shape": (8, 9, 6)}, "shape"),
        ({"affine": np.diag([0.8, 0.7, 3.0, 1])}, "mm elsewhere"),
    ],
)
def test_another_image_is_refused(case, image_path, change, words):
    write_image(image_path, **change)
    with pytest.raises(ProjectError, match=words) as caught:
        case.load_volume()
    assert str(image_path.parent) not in str(caught.value)


def test_a_moved_image_is_found_again(project, case, image_path, tmp_path):
    moved = image_path.rename(tmp_path / "elsewhere.nii.gz")
    with pytest.raises(ProjectError, match="no longer"):
        case.load_volume()
    with pytest.raises(ProjectError, match="not the image"):
        case.relocate(write_image(tmp_path / "other.nii.gz", seed=5))
    case.relocate(moved)
    assert project.case(case.id).load_volume().shape == case.shape


def test_a_project_that_comes_back_from_another_machine_finds_its_image(project, case, image_path, tmp_path):
    there = tmp_path / "cluster.nii.gz"
    shutil.copy(image_path, there)
    case.relocate(there)
    case.relocate(there)
    assert project.case(case.id).source == there
    there.unlink()
    again = project.case(case.id)
    assert again.source == image_path
    assert again.info["elsewhere"] == [str(image_path)]
    assert again.load_volume().shape == case.shape


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "a b"])
def test_case_names_stay_inside_the_project(project, image_path, name):
    with pytest.raises(ProjectError, match="use letters"):
        project.add_case(read_volume(image_path), name)


def test_a_taken_or_unknown_case_is_named(project, case, image_path):
    with pytest.raises(ProjectError, match="exists already"):
        project.add_case(read_volume(image_path), case.id)
    with pytest.raises(ProjectError, match="its cases: case-001"):
        project.case("case-002")
    assert not [path for path in (project.path / "cases").iterdir() if path.name.startswith(".")]


# ------------------------------------------------------------------------------------------- annotations


def test_annotations_come_back_exactly(project, case):
    assert case.load_annotations().records == {}
    annotations = labelled(case.shape)
    annotations.mark(2, SliceState.COMPLETE, Origin.ACCEPTED)
    annotations.labels[6, 3, 3] = 255
    case.save_annotations(annotations)
    again = project.case(case.id).load_annotations()
    np.testing.assert_array_equal(again.labels, annotations.labels)
    assert again.records == annotations.records
    with np.load(case.annotations_path) as file:
        assert file["z"].tolist() == [1, 2, 4, 6]


def test_annotations_of_another_shape_are_refused(case):
    with pytest.raises(AnnotationError, match="shape"):
        case.save_annotations(Annotations.empty((1, 2, 3)))


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "gone", "pickle", "array"])
def test_damaged_annotations_fall_back_to_the_version_before(project, case, damage):
    case.save_annotations(labelled(case.shape, (1,)))
    case.save_annotations(labelled(case.shape, (1, 4)))
    path = case.annotations_path
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "pickle":
        with path.open("wb") as file:
            np.save(file, np.array([object()]), allow_pickle=True)
    elif damage == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.unlink()
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "zeros": b"\0" * len(whole)}[damage])
    again = project.case(case.id)
    annotations = again.load_annotations()
    assert annotations.complete == [1]
    assert "saved before" in again.warnings[0]
    again.save_annotations(labelled(case.shape, (1, 2)))
    assert project.case(case.id).load_annotations().complete == [1, 2]
    path.write_bytes(b"")
    assert project.case(case.id).load_annotations().complete == [1], "the damaged version replaced the good one"


def test_annotations_without_a_whole_version_are_an_error(case):
    case.annotations_path.write_bytes(b"PK")
    with pytest.raises(ProjectError, match="restore"):
        case.load_annotations()


SAVER = """
import sys, numpy as np
from vqseg.annotations import Annotations, SliceState
from vqseg.project import Project
case = Project.open(sys.argv[1]).case("case-001")
print("go", flush=True)
for value in range(1, 255):
    annotations = Annotations.empty(case.shape)
    for z in range(case.shape[0]):
        annotations.set_slice(z, np.full(case.shape[1:], value), SliceState.COMPLETE)
    case.save_annotations(annotations)
"""


def test_a_killed_writer_leaves_whole_annotations(project, case):
    for delay_s in (0.003, 0.011, 0.023, 0.05):
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(project.path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        again = project.case(case.id)
        annotations = again.load_annotations()
        assert again.warnings == []
        assert len(np.unique(annotations.labels)) == 1, "a mixture of two versions"


@pytest.mark.parametrize(("damaged", "change", "words"), [
    ("runs/{run}/config.json", lambda text: text.replace('"seed"', '"gone"'), "Unknown setting gone"),
    ("runs/{run}/config.json", lambda text: text[:40], "not JSON"),
    ("runs/{run}/run.json", lambda text: text.replace('"schema": 1', '"schema": 9'), "update napari-vqseg"),
    ("runs/{run}/config.json", lambda text: "[]", "holds no settings"),
    ("runs/{run}/config.json", lambda text: '{"model": 3}', "are no group"),
    ("runs/{run}/config.json", lambda text: '{"train": {"seed": "x"}}', "seed is 'x'; it must be a whole number"),
    ("runs/{run}/config.json", lambda text: '{"data": {"size": 64.5}}', "size is 64.5; it must be a whole number"),
    ("runs/{run}/config.json", lambda text: '{"train": {"use_unlabelled": "false"}}', "must be true or false"),
    ("runs/{run}/config.json", lambda text: '{"loss": {"alignment": true}}', "it must be a number"),
    ("runs/{run}/config.json", lambda text: '{"model": {"prior_path": 3}}', "it must be a text"),
    ("runs/{run}/run.json", lambda text: '{"kind": "run", "schema": 1}', "damaged"),
    ("runs/{run}/run.json", lambda text: text.replace('"new"', '"asleep"'), "damaged"),
    ("cases/case-002/case.json", lambda text: "", "damaged"),
    ("cases/case-002/case.json", lambda text: '{"kind": "case", "schema": 1}', "damaged"),
])  # fmt: skip
def test_one_bad_file_does_not_close_the_project(project, case, image_path, damaged, change, words):
    project.add_case(read_volume(image_path))
    run = project.new_run(Config(), [case.id])
    path = project.path / damaged.format(run=run.id)
    path.write_text(change(path.read_text()))
    again = Project.open(project.path)
    again.lock()
    again.unlock()
    (problem,) = again.problems
    assert words in problem
    assert problem.startswith(f"{path.parent.parent.name}/{path.parent.name} is left out: ")
    assert [len(again.cases), len(again.runs)] == ([1, 1] if "case-002" in damaged else [2, 0])
    assert project.problems == again.problems
    with pytest.raises(VQSegError, match=words):
        Case(path.parent) if "case-002" in damaged else again.run(run.id)


def test_a_damaged_project_file_has_a_copy(project, case):
    project.info["window"] = "lung"
    project.save()
    (project.path / "project.json").write_text("{")
    again = Project.open(project.path)
    assert (again.name, again.class_names, again.info["window"]) == (project.name, project.class_names, "lung")
    assert "its copy was read" in again.problems[0]
    again.save()
    assert Project.open(project.path).problems == []


# -------------------------------------------------------------------------------------------------- lock


def test_a_glance_at_a_lock_keeps_nobody_out(tmp_path):
    glance, lock = FolderLock(tmp_path / "engine.lock"), FolderLock(tmp_path / "engine.lock")
    assert glance.try_acquire(leave_name=False)
    threading.Timer(0.02, glance.release).start()
    lock.acquire("The run")
    assert lock.held
    lock.release()


def test_a_project_that_cannot_be_written_to_says_so_and_is_shown_all_the_same(project, case, monkeypatch):
    run = project.new_run(Config(), [case.id])
    run.claim()
    run.set_state(RunState.RUNNING)
    run.release()
    openly = Path.open

    def read_only(path, mode="r", *arguments, **options):
        if "r" not in mode:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return openly(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(ProjectError, match=r"cannot be written to \(Permission denied\); copy it"):
        project.lock()
    assert not project.locked
    assert [found.id for found in project.runs] == [run.id]
    assert project.interrupted_runs == [], "nobody could resume it here"


def test_two_windows_cannot_hold_one_project(project):
    other = Project.open(project.path)
    project.lock()
    project.lock()
    assert project.locked
    with pytest.raises(ProjectError, match=f"process {os.getpid()}"):
        other.lock()
    project.unlock()
    other.lock()
    other.unlock()


HOLDER = """
import sys, time
from vqseg.project import Project, Run, RunState
project = Project.open(sys.argv[1])
project.lock()
for run in project.runs:
    run.claim()
    run.set_state(RunState.RUNNING)
    (run.checkpoint_path).mkdir(exist_ok=True)
    (run.checkpoint_path / "weights").write_text("")
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_window_gives_its_locks_back_and_its_run_can_be_resumed(project, case):
    run = project.new_run(Config(), [case.id])
    assert project.interrupted_runs == []
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(project.path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    run = Run(run.path)
    assert run.is_live
    assert project.interrupted_runs == []
    with pytest.raises(ProjectError, match=f"process {process.pid}"):
        project.lock()
    with pytest.raises(ProjectError, match=run.id):
        run.claim()
    process.kill()
    process.communicate()
    project.lock()
    assert [found.id for found in project.interrupted_runs] == [run.id]
    run.claim()
    run.release()
    project.unlock()


WRITER = """
import sys, time
from vqseg.io.atomic import atomic_path
from vqseg.project import Project
from vqseg.records import new_folder
project = Project.open(sys.argv[1])
with new_folder(project.path / "cases" / "case-002") as folder, atomic_path(folder / "case.json") as file:
    file.write_text("half")
    with atomic_path(project.cases[0].annotations_path) as other, atomic_path(project.runs[0].checkpoint_path) as third:
        other.write_text("half")
        third.write_text("half")
        print("writing", flush=True)
        time.sleep(60)
"""


def hidden(project):
    return sorted(path.name[10:] for path in project.path.rglob(".*"))


def test_what_a_killed_process_was_writing_goes_at_the_next_opening(project, case):
    run = project.new_run(Config(), [case.id])
    case.save_annotations(labelled(case.shape))
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(project.path)], stdout=subprocess.PIPE)
    assert process.stdout.readline()
    process.kill()
    process.communicate()
    half = ["new-case-002", "tmp-annotations.npz", "tmp-case.json", "tmp-checkpoint"]
    assert hidden(project) == half
    for name in (".mine.tmp-notes", ".01234567.tmp", ".annotations.previous.npz"):
        (case.path / name).write_text("not ours to remove")
    other = Project.open(project.path)
    other.lock()
    with pytest.raises(ProjectError):
        project.lock()
    other.unlock()
    mine = sorted(path.name for path in case.path.glob(".*"))
    assert len(mine) == 3, "only names that the program itself gives, and only by who holds the lock"
    assert hidden(project).count("tmp-checkpoint") == 1, "an engine may outlive its window for a moment"
    leftover = next(run.path.glob(".*"))
    os.utime(leftover, (time.time() - 3600,) * 2)
    run.claim()
    project.lock()
    assert leftover.exists(), "an engine trains this run"
    run.release()
    project.unlock()
    project.lock()
    assert not leftover.exists()
    assert len(case.load_annotations().complete) == 2
    project.unlock()


# -------------------------------------------------------------------------------------------------- runs


def test_a_run_keeps_its_settings(project, case):
    config = preset("balanced", epsilon=0.3, seed=11)
    run = project.new_run(config, [case.id])
    again = Run(run.path)
    assert again.config == config
    assert again.case_ids == [case.id]
    assert again.info["seed"] == 11
    assert again.info["versions"]["python"]
    assert again.state == RunState.NEW
    assert not again.interrupted
    assert again.project_path == project.path
    assert again.prediction_path(case.id).parent.parent.parent == run.path
    second = project.new_run(config, [case.id])
    assert [found.id for found in project.runs] == [run.id, second.id]


def test_a_number_that_another_process_takes_first_is_left_to_it(project, case, monkeypatch):
    rename, theirs = os.rename, []

    def too_late(source, target):
        if not theirs:
            theirs.append(shutil.copytree(source, target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", too_late)
    run = project.new_run(Config(), [case.id])
    assert [found.path for found in project.runs] == [theirs[0], run.path]
    assert not list(run.path.parent.glob(".*"))


def trained(project, case, ended):
    run = project.new_run(preset("fast"), [case.id])
    run.checkpoint_path.mkdir()
    (run.checkpoint_path / "model").write_text("weights")
    run.prediction_path(case.id).parent.mkdir(parents=True)
    np.save(run.prediction_path(case.id), np.full(case.shape, len(project.runs), np.uint8))
    run.set_state(RunState.FINISHED, ended=ended)
    write_record(run.path / "run.json", "run", 1, {**run.info, "ended": ended})
    return run


def test_a_chosen_run_stands_for_its_case_until_another_is_trained(project, case, image_path, tmp_path):
    first, second = (
        trained(project, case, "2020-01-01T00:00:00+00:00"),
        trained(project, case, "2020-01-02T00:00:00+00:00"),
    )
    assert project.chosen_run(case.id) is None
    project.choose_run(case.id, first.id)
    assert Project.open(project.path).chosen_run(case.id).id == first.id
    assert (
        main(["export", str(project.path), "--what", "prediction", "--output", str(tmp_path / "out"), "--quiet"]) == 0
    )
    assert (nibabel.load(tmp_path / "out" / f"{case.id}_prediction.nii.gz").get_fdata() == 1).all()
    other = project.add_case(read_volume(image_path), "other")
    trained(project, other, "2999-01-01T00:00:00+00:00")
    assert project.chosen_run(case.id).id == first.id, "that one learnt from another case"
    third = trained(project, case, "2999-01-01T00:00:00+00:00")
    assert project.chosen_run(case.id) is None
    shutil.rmtree(third.path)
    assert project.chosen_run(case.id).id == first.id
    shutil.rmtree(first.path)
    assert project.chosen_run(case.id) is None
    assert second.has_checkpoint


def test_the_newest_run_is_the_newest_where_the_clock_was_set_back(project, case, monkeypatch):
    runs = []
    for stamp, created in (("20261025-023000", "00:30"), ("20261025-020500", "01:05")):  # the end of summer time
        monkeypatch.setattr("vqseg.project.time.strftime", lambda _, stamp=stamp: stamp)
        run = project.new_run(Config(), [case.id])
        write_record(run.path / "run.json", "run", 1, {**run.info, "created": f"2026-10-25T{created}:00+00:00"})
        runs.append(run.id)
    assert [run.id for run in project.runs] == runs


def test_run_states_are_dated(project, case):
    run = project.new_run(Config(), [case.id])
    run.set_state(RunState.RUNNING)
    run.set_state(RunState.FINISHED, step=12)
    values = read_record(run.path / "run.json", "run", 1)
    assert values["started"]
    assert values["ended"]
    assert values["step"] == 12
    assert project.run(run.id).state == RunState.FINISHED


def test_a_run_without_its_settings_says_so(project, case):
    run = project.new_run(Config(), [case.id])
    run.config_path.unlink()
    with pytest.raises(ProjectError, match=r"config\.json is missing .* restore it"):
        project.run(run.id)
    assert [problem.startswith(f"runs/{run.id} is left out: ") for problem in project.problems] == [True]


def test_metrics_survive_a_cut_line_and_numbers_that_are_none(project, case):
    run = project.new_run(Config(), [case.id])
    run.append_metrics({"step": 1, "losses": {"total": float("nan")}})
    with run.metrics_path.open("a") as file:
        file.write('{"step": 2, "los')
    assert run.read_metrics() == [{"step": 1, "losses": {"total": None}}]
    run.append_metrics({"step": 3})
    run.append_metrics({"step": 4})
    assert [row["step"] for row in run.read_metrics()] == [1, 3, 4]


def test_a_run_needs_known_cases_and_a_checkpoint_needs_training(project, case):
    with pytest.raises(ProjectError, match="at least one"):
        project.new_run(Config(), [])
    with pytest.raises(ProjectError, match="no case"):
        project.new_run(Config(), ["case-009"])
    with pytest.raises(ProjectError, match="train it first"):
        project.new_run(Config(), [case.id]).require_checkpoint()


def test_a_case_opens_by_its_folder(case):
    case.update(task="done")
    assert Case(case.path).info["task"] == "done"


def test_a_case_knows_its_image_and_what_is_painted_on_it(project, case, image_path, tmp_path):
    assert case.title == "image"
    assert case.holds(read_volume(image_path))
    assert not case.holds(read_volume(write_image(tmp_path / "other.nii", seed=1)))
    assert case.load_painted_values() == set()
    case.save_annotations(labelled(case.shape, value=2))
    assert case.load_painted_values() == {2}
    assert project.add_case(case.load_volume(), title="Chest").title == "Chest"
