"""Several volumes in one project without a window: adding, switching, tasks, and that no stroke is lost on the way."""

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_vqseg.cases import Source
from napari_vqseg.session import CUSTOM, Session
from napari_vqseg.session.windowing import AUTO
from vqseg import protocol
from vqseg.annotations import Annotations, SliceState
from vqseg.case import Case
from vqseg.config import Config
from vqseg.errors import ProjectError
from vqseg.io import read_volume, write_map
from vqseg.project import Project
from vqseg.tasks import TaskState
from vqseg.volume import Window

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)


class Desk:
    def __init__(self):
        self.view, self.clock, self.worker = fakes.FakeView(), fakes.FakeScheduler(), fakes.FakeWorker()
        self.session = Session(self.view, self.clock, lambda: self.worker)
        self.heard = []
        self.session.notified.connect(lambda text, level: self.heard.append((level, text)))


@pytest.fixture
def make_desk():
    desks = []

    def make():
        desks.append(Desk())
        return desks[-1]

    yield make
    for desk in desks:
        desk.session.close()


@pytest.fixture
def paths(tmp_path):
    """Three volumes of one shape that differ in their values only."""
    (tmp_path / "study").mkdir()
    found = []
    for number, name in enumerate("abc"):
        volume = fakes.make_volume()
        found.append(tmp_path / "study" / f"{name}.nii.gz")
        write_map(found[-1], volume.array + number, volume)
    return found


@pytest.fixture
def desk(make_desk, paths):
    made = make_desk()
    made.session.cases.add([Source(path) for path in paths])
    assert made.session.is_open, made.heard
    return made


def states(desk):
    return [(task.title, str(task.state), task.progress) for task in desk.session.cases.tasks]


def test_a_training_begun_while_another_volume_is_read_keeps_its_case(make_desk, paths, monkeypatch):
    desk = make_desk()
    session = desk.session
    session.open_volume(paths[0])
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.annotating.save()
    before, waiting = session.case, []
    with monkeypatch.context() as slow:
        slow.setattr(desk.clock, "background", lambda work, done, failed: waiting.append((work, done)))
        session.open_volume(paths[1])
    session.training.start()
    for work, done in waiting:
        done(work())
    assert session.case is before
    assert not session.training.is_idle
    assert "Training has begun, so b was not opened" in desk.heard[-1][1]
    assert before.project.locked


def test_where_labels_cannot_be_saved_nothing_else_is_opened_or_locked(make_desk, paths, tmp_path, monkeypatch):
    other = Project.create(tmp_path / "other", "other", ["tumour"])
    other.add_case(read_volume(paths[1]))
    desk = make_desk()
    session = desk.session
    session.open_volume(paths[0])
    before = session.case
    desk.view.stroke(4)

    def full(self, annotations):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Case, "save_annotations", full)
        session.open_volume(other.path)
    assert session.case is before
    assert session.annotations.labels[4].any()
    assert "are not saved, so b was not opened" in desk.heard[-1][1]
    other.lock()
    other.unlock()


def test_several_join_one_project_and_the_first_is_open(desk, projects_home):
    session = desk.session
    assert session.case.project.path == projects_home / "study"
    assert session.case.name == "a"
    assert states(desk) == [(name, "not started", "nothing labelled") for name in "abc"]


def test_the_same_again_finds_the_project(desk, make_desk, paths):
    desk.session.close()
    again = make_desk()
    again.session.cases.add([Source(path) for path in reversed(paths)])
    assert again.session.case.name == "c"
    assert len(again.session.case.project.cases) == 3


def test_what_cannot_be_read_is_said_and_the_rest_is_added(make_desk, paths):
    bad = paths[0].with_name("bad.nii.gz")
    bad.write_bytes(b"nothing")
    made = make_desk()
    made.session.cases.add([Source(bad), Source(paths[1])])
    assert [task.title for task in made.session.cases.tasks] == ["b"]
    assert [level for level, text in made.heard if "bad.nii.gz" in text] == ["warning"]


def test_nothing_readable_leaves_nothing_behind(make_desk, tmp_path, projects_home):
    (tmp_path / "bad.nii.gz").write_bytes(b"nothing")
    made = make_desk()
    made.session.cases.add([Source(tmp_path / "bad.nii.gz")])
    assert not made.session.is_open
    assert not projects_home.exists()


def test_switching_saves_and_brings_everything_back(desk):
    session = desk.session
    project = session.case.project
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.classes.add("vessel")
    session.cases.open_case("case-002")
    assert project.case("case-001").load_annotations().complete == [4]  # without waiting for the timer
    assert (session.case.name, session.annotations.records) == ("b", {})
    assert session.case.project is project
    assert project.locked
    desk.view.stroke(7, value=2)
    session.cases.open_case("case-001")
    assert session.annotations.complete == [4]
    assert (session.annotations.labels[4] == 1).sum() == 16
    assert session.classes.names == {1: "tumour", 2: "vessel"}
    assert states(desk)[:2] == [("a", "in progress", "1 slice labelled"), ("b", "in progress", "1 draft")]
    assert not any("Recovered" in text for _, text in desk.heard)


def test_a_stroke_while_the_next_case_is_read_is_saved(desk, monkeypatch):
    original = Case.load_volume
    monkeypatch.setattr(Case, "load_volume", lambda case: (desk.view.stroke(6), original(case))[1])
    desk.session.cases.open_case("case-002")
    assert desk.session.case.name == "b"
    assert desk.session.case.project.case("case-001").load_annotations().draft == [6]


def test_opening_what_is_open_keeps_the_newest_strokes(desk, paths, monkeypatch):
    original = Case.load_annotations
    monkeypatch.setattr(Case, "load_annotations", lambda case: (original(case), desk.view.stroke(6))[0])
    desk.session.cases.add([Source(paths[0])])
    assert desk.session.annotations.draft == [6]
    assert desk.view.annotation.labels is desk.session.annotations.labels


def test_a_case_is_not_left_while_it_cannot_be_saved(desk, monkeypatch):
    def full(*_):
        raise ProjectError("The disk is full.")

    desk.view.stroke(4)
    monkeypatch.setattr(Case, "save_annotations", full)
    desk.session.cases.open_case("case-002")
    assert desk.session.case.name == "a"
    assert desk.session.annotations.draft == [4]
    assert desk.session.annotating.unsaved
    assert ("error", "The disk is full.") in desk.heard


def test_the_engine_follows(desk):
    session = desk.session
    session.engine.send(protocol.LoadCheckpoint("x"))
    session.cases.open_case("case-003")
    session.engine.send(protocol.LoadCheckpoint("y"))
    opened = [message.case_id for message in desk.worker.sent if isinstance(message, protocol.OpenCase)]
    assert opened == ["case-001", "case-003"]
    session.reviewing.request_prediction()
    assert desk.worker.sent[-1].case_id == "case-003"


def test_tasks_are_decided_and_survive_a_restart(desk, make_desk):
    cases, project_path = desk.session.cases, desk.session.case.project.path
    cases.decide(TaskState.DONE)
    cases.decide(TaskState.FLAGGED, "case-002")
    assert [task.state for task in cases.tasks] == [TaskState.DONE, TaskState.FLAGGED, TaskState.NOT_STARTED]
    cases.next()
    assert desk.session.case.name == "c"
    cases.next()
    assert desk.heard[-1] == ("info", "No other task is open.")
    desk.view.stroke(4)  # a task that is worked on is not decided by that
    assert cases.tasks[2].state is TaskState.IN_PROGRESS
    desk.session.close()
    again = make_desk()
    again.session.cases.open(project_path)
    assert again.session.case.name == "c"  # where the person was
    assert [str(task.state) for task in again.session.cases.tasks] == ["done", "flagged", "in progress"]
    again.session.cases.decide(TaskState.DONE, "case-001")
    assert again.session.cases.tasks[0].state is TaskState.NOT_STARTED


def test_opening_one_more_joins_the_open_project(desk, tmp_path):
    other = tmp_path / "elsewhere.nii.gz"
    write_map(other, fakes.make_volume().array + 9, fakes.make_volume())
    desk.session.open_volume(other)
    assert desk.session.case.name == "elsewhere"
    assert len(desk.session.cases.tasks) == 4


def test_annotations_that_a_volume_has_elsewhere_are_pointed_out(make_desk, paths):
    alone = make_desk()
    alone.session.open_volume(paths[1])
    alone.view.stroke(3)
    alone.session.close()
    other = make_desk()
    other.session.open_volume(paths[0])
    other.session.open_volume(paths[1])
    assert other.session.annotations.records == {}
    assert any("b has annotations of its own" in text for _, text in other.heard)


def test_a_damaged_project_of_the_same_name_does_not_keep_a_volume_from_being_opened(make_desk, paths):
    alone = make_desk()
    alone.session.open_volume(paths[1])
    folder = alone.session.case.project.path
    alone.session.close()
    for name in ("project.json", "project.copy.json"):
        (folder / name).write_text("{")
    other = make_desk()
    other.session.open_volume(paths[0])
    other.session.open_volume(paths[1])
    assert other.session.case.name == "b"
    assert any("b may have annotations" in text and "is damaged" in text for _, text in other.heard)


def test_another_window_keeps_its_project(desk, make_desk):
    other = make_desk()
    other.session.cases.open(desk.session.case.project.path)
    assert not other.session.is_open
    assert "in use by another window" in other.heard[-1][1]


def test_two_layers_of_one_shape_are_two_cases(make_desk):
    made = make_desk()
    volumes = [fakes.make_volume(), fakes.make_volume()]
    volumes[1].array[:] = volumes[1].array[::-1].copy()
    for volume in volumes:
        made.view.image.selected_volume = lambda volume=volume: ("layer", volume)
        made.session.cases.open_layer()
    assert np.array_equal(made.session.volume.array, volumes[1].array)
    assert len(made.session.case.project.cases) == 2
    made.view.image.selected_volume = lambda: ("layer", volumes[0])
    made.session.cases.open_layer()
    assert made.session.case.case.id == "case-001"


def test_a_moved_image_is_found_again_by_a_person(desk, paths, tmp_path):
    desk.session.cases.open_case("case-002")
    shutil.move(paths[0], tmp_path / "moved.nii.gz")
    desk.session.cases.refresh()
    assert desk.session.cases.task("case-001").progress == "image not found"
    desk.session.cases.open_case("case-001")
    assert desk.session.case.name == "b"
    assert "no longer where it was" in desk.heard[-1][1]
    desk.session.cases.relocate("case-001", paths[2])
    assert "is not the image" in desk.heard[-1][1]
    desk.session.cases.relocate("case-001", tmp_path / "moved.nii.gz")
    assert desk.session.case.name == "a"


def test_a_bad_run_is_said_and_the_project_opens(make_desk, desk, paths):
    path = desk.session.case.project.path
    run = desk.session.case.project.new_run(Config(), ["case-001"])
    desk.session.close()
    run.config_path.write_text("{")
    again = make_desk()
    again.session.open_volume(path)
    assert again.session.is_open
    said = [text for level, text in again.heard if level == "warning"]
    assert any(text.startswith(f"runs/{run.id} is left out: The config is not JSON") for text in said)


def label(project, case_id):
    case = project.case(case_id)
    annotations = Annotations.empty(case.shape)
    annotations.set_slice(3, np.ones(case.shape[1:], np.uint8), SliceState.COMPLETE)
    case.save_annotations(annotations)


def test_training_takes_all_labelled_volumes_if_told_so(desk):
    session, project = desk.session, desk.session.case.project
    label(project, "case-003")
    session.cases.refresh()
    assert session.training.other_labelled == 1
    assert not session.training.can_start
    session.training.use_all(True)
    assert session.training.can_start
    session.training.start()
    assert project.runs[-1].case_ids == ["case-003"]
    desk.worker.message.emit(protocol.TrainingEnded("finished", 5, "x"))
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.training.start()
    assert project.runs[-1].case_ids == ["case-001", "case-003"]
    desk.worker.message.emit(protocol.TrainingEnded("finished", 5, "x"))
    session.training.use_all(False)
    session.training.start()
    assert project.runs[-1].case_ids == ["case-001"]


def test_while_training_volumes_are_added_and_none_is_opened(desk, tmp_path):
    session = desk.session
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.training.start()
    write_map(tmp_path / "d.nii.gz", fakes.make_volume().array + 9, fakes.make_volume())
    session.cases.add([Source(tmp_path / "d.nii.gz")])
    assert [task.title for task in session.cases.tasks] == ["a", "b", "c", "d"]
    session.cases.open_case("case-002")
    assert session.case.name == "a"
    assert "stop it before" in desk.heard[-1][1]


def test_a_network_from_other_volumes_is_offered(desk):
    project = desk.session.case.project
    run = project.new_run(Config(), ["case-002"])
    run.checkpoint_path.mkdir()
    (run.checkpoint_path / "model").write_text("weights")
    desk.session.cases.open_case("case-003")
    assert (desk.session.case.last_run, desk.session.case.other_run) == (None, run.path)
    desk.session.cases.open_case("case-002")
    assert desk.session.case.last_run == run.path
    assert desk.worker.sent[-2] == protocol.LoadCheckpoint(str(run.path))


# ------------------------------------------------------------------------------------------------ window / level


def test_a_preset_sets_what_training_sees_and_says_so(desk):
    windowing, settings = desk.session.windowing, desk.session.settings
    windowing.choose("lung")
    assert (settings.config.data.window_level_hu, settings.config.data.window_width_hu) == (-500, 1400)
    assert windowing.training_words == "Training sees -1200 to 200 HU, as shown."
    settings.update("window_width_hu", 500.0)
    assert windowing.training_words == "Training sees -750 to -250 HU, not as shown."
    windowing.choose("auto")
    assert windowing.training_words == "Training chooses its own window, from the labelled slices."


def test_a_window_by_hand_is_trained_in_and_found_again(desk, make_desk):
    windowing = desk.session.windowing
    desk.view.image.window_changed.emit(Window(10.0, 300.0))
    assert (windowing.name, windowing.window) == (CUSTOM, Window(10.0, 300.0))
    desk.clock.fire()
    assert desk.session.settings.config.data.window_width_hu == 300
    path = desk.session.case.project.path
    desk.session.cases.open_case("case-002")
    assert (windowing.name, desk.view.image.window) == (CUSTOM, Window(10.0, 300.0))
    desk.session.close()
    again = make_desk()
    again.session.cases.open(path)
    assert again.session.windowing.window == Window(10.0, 300.0)
    assert again.session.settings.config.data.window_level_hu == 10


def test_a_window_by_hand_stays_within_what_training_takes(desk):
    desk.view.image.window_changed.emit(Window(2e6, 0.0))
    desk.clock.fire()
    assert desk.session.settings.config.data.window_level_hu == 1e6
    assert desk.session.settings.config.data.window_width_hu == 1e-4


def test_an_image_on_another_scale_leaves_the_window_of_the_ct(desk, tmp_path):
    session, ct = desk.session, desk.session.case.case.id
    session.windowing.choose("lung")
    volume = fakes.make_volume()
    write_map(tmp_path / "mr.nii.gz", (volume.array.astype(np.float32) + 1000) / volume.array.size, volume)
    session.cases.open(tmp_path / "mr.nii.gz")
    assert (session.windowing.name, session.case.case.id != ct) == (AUTO, True)
    assert desk.view.image.window.limits_hu == pytest.approx(session.volume.value_range)
    mr = session.case.case.id
    desk.view.image.window_changed.emit(Window(0.4, 0.2))
    desk.clock.fire()
    session.cases.open_case(ct)
    assert session.windowing.name == "lung"
    desk.view.image.window_changed.emit(Window(-300.0, 900.0))
    desk.clock.fire()
    session.cases.open_case(mr)
    assert (session.windowing.name, session.windowing.window) == (CUSTOM, Window(0.4, 0.2)), "its own, not the CT's"
    session.cases.open_case(ct)
    assert (session.windowing.name, session.windowing.window) == (CUSTOM, Window(-300.0, 900.0))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30_000.0])
def test_an_image_on_another_scale_opens_in_its_own_window(make_desk, tmp_path, scale):
    volume = fakes.make_volume()
    path = tmp_path / "mr.nii.gz"
    write_map(path, (volume.array.astype(np.float32) + 1000) / volume.array.size * scale, volume)
    desk = make_desk()
    session = desk.session
    session.open_volume(path)
    assert session.windowing.name == AUTO
    assert session.settings.config.data.window_width_hu == 0
    by_hand = Window(0.4 * scale, 0.2 * scale)
    desk.view.image.window_changed.emit(by_hand)
    assert "HU" not in session.windowing.training_words
    desk.clock.fire()
    assert session.settings.config.data.window_width_hu == by_hand.width_hu
    assert "as shown" in session.windowing.training_words
    assert "not as shown" not in session.windowing.training_words


@pytest.mark.parametrize("entry", ["wide", [40], [40, None], [40, "400"]])
def test_a_damaged_window_entry_is_passed_over(desk, make_desk, entry):
    project = Project.open(desk.session.case.project.path)
    desk.session.close()
    project.info.update(window=CUSTOM, window_hu=entry)
    project.save()
    again = make_desk()
    again.session.cases.open(project.path)
    assert again.session.windowing.name == "mediastinum"


def test_a_stroke_before_the_next_case_is_shown_is_saved_with_its_own(desk, tmp_path):
    session, first = desk.session, desk.session.case
    path = tmp_path / "two.nii.gz"
    write_map(path, fakes.make_volume().array + 1, fakes.make_volume())
    waiting = []
    desk.clock.in_turns = waiting.append
    session.open_volume(path)
    desk.view.stroke(4)  # the event loop has had a turn
    while waiting:
        for _ in waiting.pop(0):
            pass
    assert session.case.name == "two"
    assert not session.annotations.records
    assert first.case.load_annotations().draft == [4]
