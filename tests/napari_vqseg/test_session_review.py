"""Filling between, accepting, cleaning up and the profiles, without a window: what becomes of slices, and undo."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_vqseg.layers import Pointed
from vqseg import protocol
from vqseg.accept import SliceChange
from vqseg.annotations import Origin, SliceRecord, SliceState
from vqseg.components import CleanUp
from vqseg.project import Project

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)

ACCEPTED = SliceRecord(SliceState.COMPLETE, Origin.ACCEPTED)


def predict(desk, tmp_path, labels=None):
    fakes.ready_to_predict(desk, tmp_path, labels)
    return desk.session


def two_parts(shape):
    """A structure in slices 2 to 8, a speck in slice 8, and another class in slice 5."""
    labels = np.zeros(shape, np.uint8)
    labels[2:9, 5:15, 5:15] = 1
    labels[8, 25, 20] = 1
    labels[5, 20:24, 4:8] = 2
    return labels


# ------------------------------------------------------------ whole slices and undo


def test_undo_gives_back_the_state_of_a_slice_too(desk):
    session = desk.session
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.annotating.clear_slice(4)
    assert not session.annotations.records
    desk.view.annotation.undo()
    assert session.annotations.complete == [4]
    assert session.annotations.labels[4].any()


def test_copying_takes_the_nearest_complete_slice_as_a_draft(desk):
    session = desk.session
    session.go_to(5)
    session.annotating.copy_nearest()
    assert desk.heard[-1][0] == "warning"
    for z, value in ((1, 1), (6, 2)):
        desk.view.stroke(z, value)
        session.annotating.mark(SliceState.COMPLETE, z)
    session.annotating.copy_nearest()
    assert np.array_equal(session.annotations.labels[5], session.annotations.labels[6])
    assert session.annotations.state(5) is SliceState.DRAFT


# ------------------------------------------------------------ fill between


@pytest.fixture
def gap(desk):
    """Slices 2 and 8 complete with a square, slice 5 on show."""
    for z in (2, 8):
        desk.view.stroke(z)
        desk.session.annotating.mark(SliceState.COMPLETE, z)
    desk.session.go_to(5)
    return desk


def test_filling_is_shown_first_and_accepted_slice_by_slice(gap):
    session, view = gap.session, gap.view
    session.filling.propose()
    assert sorted(view.proposal.shown) == [3, 4, 5, 6, 7]
    assert view.proposal.shown[5][6, 6] == 1
    assert session.annotations.complete == [2, 8], "nothing is taken over unasked"
    session.filling.accept_slice()
    assert session.annotations.records[5] == ACCEPTED
    assert session.annotations.labels[5][6, 6] == 1
    assert sorted(view.proposal.shown) == [3, 4, 6, 7]
    session.filling.accept_all()
    assert session.annotations.complete == list(range(2, 9))
    assert not session.filling.proposals
    assert not view.proposal.shown
    view.annotation.undo()
    assert session.annotations.complete == [2, 5, 8], "all slices between are one step"


def test_what_is_painted_after_the_proposal_stands(gap):
    session = gap.session
    session.filling.propose()
    gap.view.stroke(5, value=255)
    session.filling.accept_all()
    assert (session.annotations.labels[5][5:9, 5:9] == 255).all()


def test_a_proposal_goes_when_it_is_dismissed_or_loses_an_end(gap):
    session, view = gap.session, gap.view
    session.filling.propose()
    session.filling.dismiss()
    assert not view.proposal.shown
    session.filling.accept_all()
    assert session.annotations.complete == [2, 8]
    session.filling.propose()
    session.annotating.mark(SliceState.DRAFT, 8)
    assert not session.filling.proposals
    session.filling.propose()
    assert "either side" in gap.heard[-1][1]


def test_an_end_that_is_reopened_while_the_gap_is_filled_leaves_no_proposal(gap, monkeypatch):
    session, waiting = gap.session, []
    with monkeypatch.context() as slow:
        slow.setattr(gap.clock, "background", lambda *task: waiting.append(task))
        session.filling.propose()
        session.annotating.clear_slice(8)
    for work, done, _ in waiting:
        done(work())
    assert not session.filling.proposals
    assert not gap.view.proposal.shown


def test_from_a_finished_slice_the_gap_beside_it_is_filled_and_shown(gap):
    gap.session.go_to(8)
    gap.session.filling.propose()
    assert gap.session.z == 5


def test_all_gaps_at_once_are_one_step_and_lose_only_what_is_without_an_end(gap):
    session, view = gap.session, gap.view
    view.stroke(11)
    session.annotating.mark(SliceState.COMPLETE, 11)
    session.annotating.mark(SliceState.COMPLETE, 0)
    session.go_to(11)
    session.filling.propose_all()
    assert sorted(view.proposal.shown) == session.filling.left == [1, 3, 4, 5, 6, 7, 9, 10]
    assert session.annotations.complete == [0, 2, 8, 11], "nothing is taken over unasked"
    assert session.z == 9, "where something is proposed"
    session.filling.accept_slice()
    session.annotating.mark(SliceState.DRAFT, 0)
    assert sorted(view.proposal.shown) == [3, 4, 5, 6, 7, 10]
    session.filling.accept_all()
    assert session.annotations.complete == list(range(2, 12))
    assert session.annotations.labels[10][6, 6] == 1
    view.annotation.undo()
    assert session.annotations.complete == [2, 8, 9, 11]
    for z in (2, 8, 9, 11):
        session.annotating.clear_slice(z)
        session.annotating.mark(SliceState.COMPLETE, z)
    session.filling.propose_all()
    assert "at least one of them with a structure" in gap.heard[-1][1]


# ------------------------------------------------------------ fill between, along the anatomy


def follow(gap, tmp_path, request=None, value=2):
    """Answer, as the engine does, with a block of `value` in each slice that was asked for."""
    request = request or gap.worker.last(protocol.RequestFilling)
    labels = np.zeros((len(request.slices), *gap.session.volume.shape[1:]), np.uint8)
    labels[:, 10:14, 10:14] = value
    np.savez(tmp_path / "filling.npz", z=np.array(request.slices), labels=labels)
    gap.worker.message.emit(protocol.FillingReady(request.request_id, request.case_id, str(tmp_path / "filling.npz")))


def test_shapes_that_follow_the_anatomy_take_the_place_of_the_straight_ones(gap, tmp_path):
    session, view = gap.session, gap.view
    session.filling.propose()
    assert view.proposal.shown[5][6, 6] == 1
    assert session.filling.awaited
    assert gap.worker.last(protocol.RequestFilling).slices == [3, 4, 5, 6, 7]
    assert session.case.case.load_annotations().complete == [2, 8], "the engine reads them from disk"
    session.filling.accept_slice()
    follow(gap, tmp_path)
    assert not session.filling.awaited
    assert session.filling.proposals[0].follows_anatomy
    assert sorted(view.proposal.shown) == [3, 4, 6, 7]
    assert view.proposal.shown[4][11, 11] == 2
    assert session.annotations.labels[5][6, 6] == 1, "what was taken over is what was on show"
    assert not session.annotations.labels[5][11, 11]
    view.stroke(4, value=255)
    session.filling.accept_all()
    assert session.annotations.records[6] == ACCEPTED
    assert session.annotations.labels[6][11, 11] == 2
    assert session.annotations.labels[4][6, 6] == 255
    assert not session.annotations.labels[6][6, 6]


def test_a_late_answer_changes_nothing(gap, tmp_path):
    session, view = gap.session, gap.view
    session.filling.propose()
    first = gap.worker.last(protocol.RequestFilling)
    session.filling.dismiss()
    follow(gap, tmp_path)
    assert not view.proposal.shown
    session.filling.propose()
    follow(gap, tmp_path, first)
    assert view.proposal.shown[5][6, 6] == 1, "an answer to the question before"
    session.filling.accept_all()
    follow(gap, tmp_path)
    assert not view.proposal.shown
    assert session.annotations.labels[5][6, 6] == 1
    view.annotation.undo()
    session.filling.propose()
    session.annotating.mark(SliceState.DRAFT, 8)
    follow(gap, tmp_path)
    assert not session.filling.proposals
    assert not view.proposal.shown


def test_between_ends_that_were_painted_on_meanwhile_the_straight_shapes_stay(gap, tmp_path):
    session, view = gap.session, gap.view
    view.stroke(11)
    session.annotating.mark(SliceState.COMPLETE, 11)
    session.filling.propose_all()
    view.stroke(2, value=2, where=(slice(20, 24), slice(5, 9)))
    follow(gap, tmp_path)
    assert [filling.follows_anatomy for filling in session.filling.proposals] == [False, True]
    assert view.proposal.shown[5][6, 6] == 1
    assert view.proposal.shown[9][11, 11] == 2


@pytest.mark.parametrize("how", ["refused", "crashed", "not saved"])
def test_without_the_engine_the_straight_shapes_stay(gap, tmp_path, monkeypatch, how):
    session, view = gap.session, gap.view
    if how == "not saved":
        gap.view.stroke(0)
        monkeypatch.setattr(type(session.case.case), "save_annotations", lambda *_: 1 / 0)
    session.filling.propose()
    if how == "refused":
        gap.worker.message.emit(protocol.Failed("No.", "RequestFilling"))
    elif how == "crashed":
        gap.worker.crashed.emit("The engine has gone.")
    assert not session.filling.awaited
    assert sorted(view.proposal.shown) == [3, 4, 5, 6, 7]
    assert not session.filling.proposals[0].follows_anatomy
    session.filling.accept_all()
    assert session.annotations.labels[5][6, 6] == 1


# ------------------------------------------------------------ accepting


def test_accepting_nothing_is_said_and_impossible_without_a_prediction(desk, tmp_path):
    desk.session.go_to(10)
    desk.session.accepting.shown()
    assert "not predicted yet" in desk.heard[-1][1]
    assert not desk.session.annotations.records
    session = predict(desk, tmp_path, two_parts(desk.session.volume.shape))
    session.accepting.shown()
    assert session.annotations.records == {10: ACCEPTED}
    assert desk.heard[-1] == ("info", "Slice 10 is accepted as holding no structure; Ctrl+Z takes it back.")
    session.accepting.range(7, 11)
    assert "5 slices accepted, 3 of them without any structure" in desk.heard[-1][1]
    desk.heard.clear()
    session.accepting.slice(5)
    assert not desk.heard


def test_accepting_makes_a_complete_slice_that_remembers_the_machine(desk, tmp_path):
    session = desk.session
    session.accepting.slice(3)
    assert desk.heard[-1][0] == "warning"
    predict(desk, tmp_path)
    session.accepting.slice(3)
    assert session.annotations.records[3] == ACCEPTED
    assert (session.annotations.labels[3] == 1).all()
    desk.view.annotation.undo()
    assert not session.annotations.records, "undo must not leave an empty slice that counts as complete"
    assert not session.annotations.labels.any()
    session.accepting.slice(3)
    desk.view.stroke(3, value=2)
    assert session.annotations.records[3].origin is Origin.DRAWN
    session.accepting.slice(3)  # drawn by hand now: not overwritten
    assert (session.annotations.labels[3] == 2).any()


def test_a_range_leaves_drawn_slices_and_is_one_step_of_undo(desk, tmp_path):
    session = predict(desk, tmp_path)
    desk.view.stroke(4, value=2)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.accepting.range(6, 3)
    assert session.annotations.complete == [3, 4, 5, 6]
    assert session.annotations.records[4].origin is Origin.DRAWN
    assert "3 slices accepted" in desk.heard[-1][1]
    desk.view.annotation.undo()
    assert session.annotations.complete == [4]


def test_the_component_under_the_mouse(desk, tmp_path):
    labels = two_parts(desk.session.volume.shape)
    session = predict(desk, tmp_path, labels)
    session.accepting.component()
    assert "Point at" in desk.heard[-1][1]
    desk.view.pointer.pointed.emit(Pointed((4, 8, 8), 40.0, (0.0, 0.0, 0.0)))
    session.accepting.component()
    assert session.annotations.complete == [2, 3, 4, 6, 7], "slices that hold nothing else"
    assert session.annotations.scribbled == [5, 8]
    assert session.annotations.labels[5, 20, 4] == 0
    assert "7 slices" in desk.heard[-1][1]
    assert "2 of them hold other predicted structures" in desk.heard[-1][1]
    desk.view.pointer.pointed.emit(Pointed((5, 20, 4), 40.0, (0.0, 0.0, 0.0)))
    session.accepting.component()
    assert session.annotations.scribbled == [8], "nothing predicted is left to accept in slice 5"
    assert session.annotations.labels[5, 8, 8]
    assert "scribbled" not in desk.heard[-1][1]
    desk.view.annotation.undo()
    desk.view.annotation.undo()
    assert not session.annotations.records


def test_a_stroke_while_a_component_is_looked_for_stands(desk, tmp_path, monkeypatch):
    session = predict(desk, tmp_path, two_parts(desk.session.volume.shape))
    desk.view.pointer.pointed.emit(Pointed((4, 8, 8), 40.0, (0.0, 0.0, 0.0)))
    at_once, waiting = desk.clock.background, []
    with monkeypatch.context() as slow:
        slow.setattr(desk.clock, "background", lambda work, done, failed: waiting.append((work(), done)))
        session.accepting.component()
        desk.view.stroke(4, value=2, where=(slice(6, 9), slice(6, 9)))
    assert desk.clock.background == at_once
    [(answer, done)] = waiting
    done(answer)
    assert (session.annotations.labels[4, 6:9, 6:9] == 2).all()
    assert session.annotations.labels[4, 10, 10] == 1
    assert session.annotations.state(4) is SliceState.COMPLETE


def test_stable_slices_above_a_threshold(desk, tmp_path):
    session = predict(desk, tmp_path, two_parts(desk.session.volume.shape))
    desk.clock.fire()
    request = desk.worker.last(protocol.RequestStability)
    assert request.epsilon == 0.5
    answer = {2: 0.99, 3: 0.8, 4: 0.97, 9: None, 10: 1.0}
    desk.worker.message.emit(
        protocol.StabilityReady(request.request_id, request.case_id, 0.5, list(answer), list(answer.values()))
    )
    assert session.profiles.surveying
    assert session.profiles.stable_slices(0.95) == [2, 4], "slice 10 holds no structure"
    session.accepting.stable(0.995)
    assert desk.heard[-1][0] == "warning"
    session.accepting.stable(0.95)
    assert session.annotations.complete == [2, 4]
    assert session.profiles.stable_slices(0.95) == []


# ------------------------------------------------------------ clean-up


def test_cleaning_is_reversible_kept_and_counts_for_accepting_and_export(desk, tmp_path, make_desk, image):
    labels = two_parts(desk.session.volume.shape)
    session = predict(desk, tmp_path, labels)
    session.cleaning.set(1, CleanUp(keep_largest=1))
    assert not session.reviewing.prediction[8, 25, 20]
    assert not desk.view.overlay.prediction[8, 25, 20]
    session.accepting.slice(8)
    assert not session.annotations.labels[8, 25, 20]
    assert not session.exporting.result()[8, 25, 20]
    session.cleaning.set(2, CleanUp(min_volume_ml=10))
    assert not (session.reviewing.prediction == 2).any()
    session.cleaning.set(2, CleanUp())
    assert (session.reviewing.prediction == 2).any()
    assert Project.open(session.case.project.path).info["clean_up"] == {
        "1": {"keep_largest": 1, "min_volume_ml": 0.0, "fill_holes": False}
    }
    session.close()
    again = make_desk()
    again.session.open_volume(image)
    assert again.session.cleaning.rule(1) == CleanUp(keep_largest=1)
    predict(again, tmp_path, labels)
    assert not again.session.reviewing.prediction[8, 25, 20], "the next prediction is cleaned too"
    again.session.cleaning.set(1, CleanUp())
    assert np.array_equal(again.session.reviewing.prediction, labels)


# ------------------------------------------------------------ profiles


def test_a_prediction_that_came_meanwhile_is_shown_where_the_one_before_could_not_be(desk, tmp_path, monkeypatch):
    waiting = []
    with monkeypatch.context() as slow:
        slow.setattr(desk.clock, "aside", lambda *task: waiting.append(task))
        for value in (1, 2):
            session = predict(desk, tmp_path, np.full(desk.session.volume.shape, value, np.uint8))
    [(_, _, failed)] = waiting
    failed(MemoryError("full"))
    assert (session.reviewing.prediction == 2).all()
    assert not session.reviewing.outdated


def test_a_new_prediction_takes_the_old_stability_away(desk, tmp_path):
    session = predict(desk, tmp_path)
    assert session.profiles.confidence == pytest.approx(np.ones(12))
    desk.clock.fire()
    first = desk.worker.last(protocol.RequestStability)
    session.reviewing.preview(0.8)
    desk.clock.fire()
    second = desk.worker.last(protocol.RequestStability)
    assert second.epsilon == 0.8
    desk.worker.message.emit(protocol.StabilityReady(first.request_id, first.case_id, 0.5, [3], [0.1]))
    assert np.isnan(session.profiles.stability).all(), "an answer to an older question"
    desk.worker.message.emit(protocol.StabilityReady(second.request_id, first.case_id, 0.8, [3], [0.7], done=True))
    assert session.profiles.stability[3] == pytest.approx(0.7)
    assert not session.profiles.surveying
    predict(desk, tmp_path)
    assert session.profiles.stability is None


@pytest.mark.parametrize("left_at", [0.0, 0.6])
def test_training_ends_the_survey_and_is_not_slowed_by_another(desk, tmp_path, left_at):
    session = predict(desk, tmp_path)
    session.reviewing.preview(left_at)
    desk.clock.fire()
    session.annotating.change({1: SliceChange(np.zeros(session.volume.shape[1:], np.uint8), ACCEPTED)})
    session.training.start()
    assert desk.worker.last(protocol.RequestStability).epsilon == 0
    count = len(desk.worker.sent)
    predict(desk, tmp_path)
    desk.clock.fire()
    assert not [m for m in desk.worker.sent[count:] if isinstance(m, protocol.RequestStability)]
    desk.worker.message.emit(protocol.TrainingEnded("finished", 5, ""))
    desk.clock.fire()
    assert desk.worker.last(protocol.RequestStability).epsilon == (left_at or 0.5)
