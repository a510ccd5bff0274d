"""Classes without a window: order, locks and visibility on disk, label sets, and what a lock protects."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_vqseg.classes import CLASS_SETS, ClassList, class_set
from napari_vqseg.looks import EVERY
from napari_vqseg.session import Session
from vqseg.accept import SliceChange
from vqseg.annotations import Annotations, SliceRecord, SliceState
from vqseg.errors import ProjectError
from vqseg.io import write_map
from vqseg.io.label_set import LabelClass, read_label_set
from vqseg.project import Project

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)


@pytest.fixture
def project(tmp_path):
    return Project.create(tmp_path / "project", "Thorax", ["tumour", "left lung", "right lung"])


@pytest.fixture
def desk(tmp_path):
    write_map(tmp_path / "ct.nii.gz", fakes.make_volume().array, fakes.make_volume())
    session = Session(fakes.FakeView(), fakes.FakeScheduler(), fakes.FakeWorker)
    session.heard = []
    session.notified.connect(lambda text, level: session.heard.append(text))
    session.open_volume(tmp_path / "ct.nii.gz")
    session.classes.use_set(class_set(["tumour", "lung", "heart"]))
    yield session
    session.close()


def names(classes):
    return [item.name for item in classes.all]


def test_order_lock_and_visibility_are_kept_and_values_stay(project):
    classes = ClassList(project)
    classes.move(3, -2)
    classes.move(1, 99)
    classes.lock(2, True)
    classes.show(3, False)
    classes.recolour(2, "#123456")
    project.save()
    again = ClassList(Project.open(project.path))
    assert [(item.value, item.name) for item in again.all] == [(3, "right lung"), (2, "left lung"), (1, "tumour")]
    assert [item.locked for item in again.all] == [False, True, False]
    assert [item.visible for item in again.all] == [False, True, True]
    assert again.locked == {2}
    assert again.colours == {3: "transparent", 2: "#123456", 1: "#E8601C", 255: "#FFFFFF"}
    again.lock(2, False)
    again.show(3, True)
    assert not again.locked
    assert "transparent" not in again.colours.values()


def test_a_removed_class_leaves_no_look_behind(project):
    classes = ClassList(project)
    classes.lock(2, True)
    classes.recolour(2, "#123456")
    classes.remove(2)
    assert classes.add("vein") == 2
    assert not classes.locked
    assert classes.colours[2] == "#56B4E9"
    with pytest.raises(ProjectError, match="taken"):
        classes.add("vein")


def test_each_class_has_a_look_that_is_found_again(desk):
    looks, overlay, path = desk.looks, desk.view.overlay, desk.case.project.path
    assert (looks.of(2).contour, looks.of(2).opacity) == (False, 0.4)
    looks.draw_contour(2, True)
    assert looks.of(2).opacity == 0.9, "a contour is not lost in the image"
    looks.set_opacity(EVERY, 0.5)
    assert [looks.of(value).opacity for value in (EVERY, 1, 2)] == [0.5, 0.5, 0.5]
    looks.set_opacity(1, 0.2)
    assert overlay.contours == {2}
    assert overlay.colours == {1: "#E8601C33", 2: "#56B4E980", 3: "#F0E44280"}
    desk.classes.move(2, 1)
    desk.classes.show_predicted(1, False)
    assert overlay.contours == {2}, "the look goes with the class, not with its place"
    assert overlay.colours[1] == "transparent"
    overlay.contoured.emit(True)  # napari's own control
    assert overlay.contours == {1, 2, 3}
    looks.draw_contour(3, False)
    assert "3" not in Project.open(path).info.get("prediction_look", {}), "not at every step of a slider"
    desk.close()  # what a slider has just chosen is on disk
    kept = ClassList(Project.open(path))
    assert kept.contoured == {1, 2}
    kept.remove(1)
    assert kept.looks.of(1) == kept.looks.of(EVERY), "a class of the same value starts anew"
    again = Session(fakes.FakeView(), fakes.FakeScheduler(), fakes.FakeWorker)
    again.open_volume(path)
    assert again.view.overlay.contours == {1, 2}
    assert again.view.overlay.colours[2] == "#56B4E980"
    again.close()


def test_a_set_replaces_everything_where_nothing_is_painted(project):
    classes = ClassList(project)
    classes.lock(1, True)
    assert classes.take_set([LabelClass(9, "spleen", "#00FF00"), LabelClass(4, "liver")], painted=()) == []
    assert [(item.value, item.name) for item in classes.all] == [(9, "spleen"), (4, "liver")]
    assert classes.colours[9] == "#00FF00"
    assert not classes.locked


def test_a_set_never_changes_what_a_painted_value_means(project):
    classes = ClassList(project)
    remarks = classes.take_set([LabelClass(2, "Liver"), LabelClass(7, "Tumour", "#00FF00")], painted={1, 2})
    assert [(item.value, item.name) for item in classes.all] == [(3, "Liver"), (1, "tumour"), (2, "left lung")]
    assert classes.colours[1] == "#00FF00"
    assert remarks == ["'Liver' became 3; 2 is 'left lung' here."]


def test_a_set_that_finds_no_room_beside_what_is_painted_changes_nothing(project):
    project.class_names.update({value: f"painted {value}" for value in range(1, 201)})
    project.class_names[220] = "not painted"
    project.info["hidden"] = [220]
    before = dict(project.class_names)
    with pytest.raises(ProjectError, match="All 254"):
        ClassList(project).take_set([LabelClass(value, f"new {value}") for value in range(1, 101)], range(1, 201))
    assert project.class_names == before
    assert project.info["hidden"] == [220]


@pytest.mark.parametrize("name", CLASS_SETS)
def test_ready_sets(project, name):
    classes = ClassList(project)
    classes.take_set(class_set(CLASS_SETS[name]), painted=())
    assert tuple(names(classes)) == CLASS_SETS[name]
    assert len(set(classes.colours.values())) == len(CLASS_SETS[name]) + 1


def test_sets_go_through_a_file(desk, tmp_path):
    desk.classes.move(3, -2)
    desk.classes.save_set(tmp_path / "set.json")
    assert [item.name for item in read_label_set(tmp_path / "set.json")] == ["heart", "tumour", "lung"]
    (tmp_path / "slicer.ctbl").write_text("1 spleen 1 2 3 255")
    desk.classes.load_set(tmp_path / "slicer.ctbl")
    assert names(desk.classes) == ["spleen"]
    desk.classes.load_set(tmp_path / "set.json")
    assert names(desk.classes) == ["heart", "tumour", "lung"]
    (tmp_path / "bad.txt").write_text("hello")
    desk.classes.load_set(tmp_path / "bad.txt")
    assert "no label set" in desk.heard[-1]


def test_what_is_painted_in_another_case_is_not_removed(desk):
    other = desk.case.project.add_case(fakes.make_volume(), title="second")
    annotations = Annotations.empty(other.shape)
    annotations.set_slice(2, np.full(other.shape[1:], 3, np.uint8), SliceState.DRAFT)
    other.save_annotations(annotations)
    desk.classes.remove(3)
    assert "'heart' is painted in second; erase it there" in desk.heard[-1]
    desk.classes.use_set(class_set(["liver"]))
    assert desk.classes.names == {1: "liver", 3: "heart"}


def test_copy_accept_and_clear_leave_locked_voxels_alone(desk):
    labels = desk.annotations.labels
    desk.view.stroke(4, value=2)
    desk.view.stroke(2, value=1, where=(slice(0, 30), slice(0, 24)))
    desk.annotating.mark(SliceState.COMPLETE, 2)
    desk.classes.lock(2, True)
    assert desk.view.annotation.locked == {2}
    desk.go_to(4)
    desk.annotating.copy_nearest()
    assert (labels[4] == 2).sum() == 16
    assert (labels[4] == 1).sum() == 30 * 24 - 16
    desk.annotating.change({4: SliceChange(np.full((30, 24), 3, np.uint8), SliceRecord(SliceState.COMPLETE))})
    assert (labels[4] == 2).sum() == 16
    desk.annotating.clear_slice(4)
    assert (labels[4] == 2).sum() == labels[4].astype(bool).sum() == 16
    assert desk.annotations.state(4) is SliceState.DRAFT
    desk.classes.lock(2, False)
    desk.annotating.clear_slice(4)
    assert desk.annotations.state(4) is None
    assert not labels[4].any()


def test_a_hidden_class_in_hand_shows_itself(desk):
    desk.classes.show(2, False)
    assert desk.view.annotation.colours[2] == "transparent"
    desk.classes.select(2)
    assert desk.view.annotation.selected == 2
    assert desk.view.annotation.colours[2] == "#56B4E9"


def test_a_lock_says_once_why_nothing_happens(desk):
    desk.classes.lock(2, True)
    desk.heard.clear()
    for _ in range(3):
        desk.view.annotation.refused.emit({2})
    assert desk.heard == ["'lung' stays as painted: locked in Classes."]
