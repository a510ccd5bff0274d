"""Honest quality without a window: which slices count, against which prediction, and what is kept."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from vqseg import protocol
from vqseg.accept import SliceChange
from vqseg.annotations import SliceRecord, SliceState
from vqseg.quality import QualityCurve

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)


def square(shape, y=5):
    """A square of 4 x 4 in every slice, where FakeView.stroke paints it for y = 5."""
    labels = np.zeros(shape, np.uint8)
    labels[:, y : y + 4, 5:9] = 1
    return labels


@pytest.fixture
def predicted(desk, tmp_path):
    """Slice 2 learnt, and a prediction half a square too low, in all slices."""
    desk.view.stroke(2)
    desk.session.annotating.mark(SliceState.COMPLETE, 2)
    fakes.ready_to_predict(desk, tmp_path, square(desk.session.volume.shape, y=7), learnt=[2], step=40)
    return desk


def draw(desk, z):
    desk.view.stroke(z)
    desk.session.annotating.mark(SliceState.COMPLETE, z)


def on_disk(desk):
    return QualityCurve.load(desk.session.case.case.quality_path)


def test_a_drawn_slice_is_scored_against_what_was_predicted_before(predicted):
    session, told = predicted.session, []
    session.quality.changed.connect(lambda: told.append(1))
    draw(predicted, 6)
    score = session.quality.curve.score_of(6)
    assert score.overlap == {1: (8, 16, 16)}
    assert score.dice == pytest.approx(0.5)
    assert score.hd95_mm[1] == pytest.approx(1.8)  # two rows of 0.9 mm
    assert (score.taught, score.step) == (1, 40)
    assert session.quality.curve.estimate.n_slices == 1
    assert told
    assert on_disk(predicted) == session.quality.curve


def test_what_the_network_has_learnt_is_no_news(predicted):
    draw(predicted, 2)
    assert predicted.session.quality.curve.scores == []


def test_before_any_prediction_there_is_nothing_to_score(desk):
    draw(desk, 4)
    assert desk.session.quality.curve.scores == []


def test_accepted_slices_do_not_count_even_when_corrected(predicted):
    session = predicted.session
    session.accepting.slice(6)
    predicted.view.stroke(6)
    session.annotating.toggle_complete() if session.z == 6 else session.annotating.mark(SliceState.DRAFT, 6)
    draw(predicted, 6)
    assert session.quality.curve.scores == []
    assert on_disk(predicted).accepted == {6}


def test_many_slices_at_once_count_for_what_was_predicted_before_them(predicted, tmp_path, monkeypatch):
    session, turns, told = predicted.session, [], []
    monkeypatch.setattr("napari_vqseg.session.quality.AT_ONCE", 2)
    monkeypatch.setattr(session._context.scheduler, "in_turns", turns.append)
    drawn = SliceChange(square(session.volume.shape)[0], SliceRecord(SliceState.COMPLETE))
    session.annotating.change(dict.fromkeys([5, 6, 7], drawn))
    (steps,) = turns
    later = tmp_path / "later"
    later.mkdir()
    fakes.ready_to_predict(predicted, later, square(session.volume.shape), learnt=[2, 5, 6, 7], step=80)
    for _ in steps:
        pass
    assert [(score.z, score.step, score.dice) for score in session.quality.curve.scores] == [
        (z, 40, pytest.approx(0.5)) for z in (5, 6, 7)
    ]
    session.quality.changed.connect(lambda: told.append(1))
    session.accepting.range(8, 11)
    assert on_disk(predicted).accepted == {8, 9, 10, 11}
    assert len(told) == 1


def test_a_slice_that_is_mended_is_scored_again_against_the_same_prediction(predicted, tmp_path):
    session = predicted.session
    draw(predicted, 6)
    fakes.ready_to_predict(predicted, tmp_path, square(session.volume.shape), learnt=[2, 6], step=90)
    session.annotations.labels[6] = 0
    predicted.view.stroke(6, where=(slice(7, 11), slice(5, 9)))
    predicted.clock.fire()
    score = session.quality.curve.score_of(6)
    assert score.dice == 1, "against the prediction made before, which lies exactly there"
    assert (score.taught, score.step) == (1, 40)
    assert len(session.quality.curve.scores) == 1


def test_scribbles_teach_and_are_scored_once_the_slice_is_finished(predicted, tmp_path):
    session = predicted.session
    predicted.view.stroke(6)
    session.annotating.mark(SliceState.SCRIBBLED, 6)
    assert session.quality.curve.scores == []
    fakes.ready_to_predict(predicted, tmp_path, square(session.volume.shape), learnt=[2, 6], step=90)
    session.annotating.mark(SliceState.COMPLETE, 6)
    assert session.quality.curve.score_of(6).step == 40, "the newer prediction has seen the scribbles"


def test_scores_are_there_again_and_a_damaged_file_is_left_alone(predicted, make_desk, image):
    draw(predicted, 6)
    path = predicted.session.case.case.quality_path
    predicted.session.close()
    again = make_desk()
    again.session.open_volume(image)
    assert again.session.quality.curve.score_of(6).dice == pytest.approx(0.5)
    assert again.session.quality.curve.score_of(2) is None, "what was drawn in the session before is not scored now"
    again.session.close()
    path.write_text("damaged")
    third = make_desk()
    third.session.open_volume(image)
    assert any("damaged" in text for _, text in third.heard)
    third.session.quality.curve.note_accepted(3)
    third.session.quality._save()
    assert path.read_text() == "damaged"


# ------------------------------------------------------------ the next slice


def test_the_network_is_asked_when_it_has_something_new_to_say(predicted):
    predicted.clock.fire()
    session, request = predicted.session, predicted.worker.last(protocol.RequestSuggestions)
    items = [{"z": 9, "score": 0.4, "reason": "unsure"}, {"z": 5, "score": 0.2, "reason": "far"}]
    answer = protocol.SuggestionsReady(request.request_id, request.case_id, items, final=False)
    predicted.worker.message.emit(answer)
    session.suggesting.next()
    assert (session.z, session.suggesting.current.reason) == (9, "unsure")
    better = protocol.SuggestionsReady(request.request_id, request.case_id, items[::-1])
    predicted.worker.message.emit(better)
    session.suggesting.next()
    assert session.z == 5
    session.go_to(1)
    assert session.suggesting.current is None
    draw(predicted, 5)
    session.suggesting.next()
    assert session.z == 9
    predicted.clock.fire()  # the slice is saved
    kinds = [type(message).__name__ for message in predicted.worker.sent[-2:]]
    assert kinds == ["UpdateAnnotations", "RequestSuggestions"], "it is ranked anew, by what is drawn now"


def test_a_running_training_is_not_slowed_by_questions_nobody_asked(predicted, tmp_path):
    session = predicted.session
    session.training.start()
    count = len(predicted.worker.sent)
    fakes.ready_to_predict(predicted, tmp_path, learnt=[2])
    predicted.clock.fire()
    assert not [m for m in predicted.worker.sent[count:] if isinstance(m, protocol.RequestSuggestions)]
    predicted.worker.message.emit(protocol.TrainingEnded("finished", 5, ""))
    assert isinstance(predicted.worker.last(protocol.RequestSuggestions), protocol.RequestSuggestions)


# ------------------------------------------------------------ the codebook


@pytest.fixture
def measured(predicted, tmp_path):
    session = predicted.session
    session.codebook.measure()
    request = predicted.worker.last(protocol.RequestCodebook)
    fakes.make_survey(session.volume.shape).save(tmp_path / "codebook.npz")
    path = str(tmp_path / "codebook.npz")
    predicted.worker.message.emit(protocol.CodebookReady(request.request_id, request.case_id, 40, path))
    return predicted


def test_a_click_tells_the_code_at_once_and_the_engine_the_rest(measured, tmp_path):
    from vqseg.tokens import Codeword, Substitutes

    codebook, told = measured.session.codebook, []
    codebook.inspected_changed.connect(told.append)
    tokens = measured.view.tokens
    assert tokens.codes.shape[0] == 12, "ready before they are asked for"
    assert not tokens.visible
    codebook.show_codes(True)
    assert tokens.visible
    assert tokens.selected
    measured.view.tokens.clicked.emit((4, 13, 3))
    found = told[-1]
    assert (found.code, found.voxel, found.here_hu.shape) == (2, (4, 13, 3), (6, 6))
    assert (found.occurrence.tokens, found.occurrence.slices) == (48, 12)
    assert found.word is None
    request = measured.worker.last(protocol.RequestCodeword)
    assert request.code == 2
    Codeword(2, Substitutes(np.array([3]), np.array([0.7])), np.zeros((2, 4, 4), np.float32)).save(tmp_path / "w.npz")
    measured.worker.message.emit(protocol.CodewordReady(request.request_id - 1, 2, str(tmp_path / "w.npz")))
    assert told[-1].word is None, "an answer to an older question"
    measured.worker.message.emit(protocol.CodewordReady(request.request_id, 2, str(tmp_path / "w.npz")))
    assert told[-1].word.substitutes.codes.tolist() == [3]
    codebook.show_only(True)
    assert measured.view.tokens.code == 2
    codebook.inspect_code(3)
    assert measured.view.tokens.code == 3
    codebook.show_only(False)
    assert measured.view.tokens.code is None


def test_the_key_looks_under_the_mouse(predicted, measured):
    from napari_vqseg.layers import Pointed

    session = measured.session
    session.codebook.inspect_pointed()
    assert "Point at the image" in measured.heard[-1][1]
    measured.view.pointer.pointed.emit(Pointed((4, 18, 3), 40.0, (0.0, 0.0, 0.0)))
    session.codebook.inspect_pointed()
    assert session.codebook.inspected.code == 3
    session.codebook.survey = None
    session.codebook.inspect_pointed()
    assert "Measure the codebook first" in measured.heard[-1][1]
