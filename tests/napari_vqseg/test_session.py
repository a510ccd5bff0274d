"""The session without a window: what is saved when, what the engine is told, what people hear."""

import gc
import importlib.util
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from napari_vqseg.session import TrainingState, annotating
from vqseg import protocol
from vqseg.accept import SliceChange
from vqseg.annotations import Origin, SliceRecord, SliceState
from vqseg.config import preset
from vqseg.errors import EngineError
from vqseg.io import read_labels, read_volume, write_map
from vqseg.phantom import synthetic_thorax
from vqseg.project import Project, RunState
from vqseg.step_report import StepReport

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)


def stored(session):
    return Project.open(session.case.project.path).case(session.case.case.id).load_annotations()


def test_a_stroke_makes_a_draft_and_is_saved_a_moment_later(desk):
    session = desk.session
    desk.view.stroke(4)
    assert session.annotations.state(4) is SliceState.DRAFT
    assert session.annotating.unsaved
    assert not stored(session).records
    desk.clock.fire()
    assert not session.annotating.unsaved
    assert stored(session).state(4) is SliceState.DRAFT
    assert np.array_equal(stored(session).labels, session.annotations.labels)


def test_unpainting_a_draft_forgets_it(desk):
    desk.view.stroke(4)
    desk.view.stroke(4, value=0)
    assert 4 not in desk.session.annotations.records


def test_a_stroke_in_an_empty_complete_slice_is_told(desk):
    annotating, heard = desk.session.annotating, []
    annotating.mark(SliceState.COMPLETE, 4)
    annotating.mark(SliceState.COMPLETE, 6)
    assert annotating.empty_complete == [4, 6]
    annotating.slices_changed.connect(lambda: heard.append(annotating.empty_complete))
    desk.view.stroke(4)
    desk.view.stroke(4, where=(slice(0, 2), slice(0, 2)))
    assert heard == [[6]], "the strip draws another mark, once"
    desk.view.stroke(4, value=0, where=(slice(None), slice(None)))
    assert heard == [[6], [4, 6]]
    annotating.change({6: SliceChange(np.ones(fakes.SHAPE[1:], np.uint8), SliceRecord(SliceState.COMPLETE))})
    assert annotating.empty_complete == [4]
    desk.view.annotation.undo()
    assert annotating.empty_complete == [4, 6]


def test_layers_are_drawn_anew_where_they_look_otherwise(desk, monkeypatch):
    view, classes, drawn = desk.view, desk.session.classes, []
    monkeypatch.setattr(view.annotation, "set_colours", lambda colours: drawn.append("annotation"))
    monkeypatch.setattr(view.overlay, "draw_classes", lambda colours, contoured: drawn.append("prediction"))
    classes.lock(1, True)
    classes.rename(1, "mass")
    classes.adopt({1: "lesion"})
    assert drawn == []
    classes.show_predicted(1, False)
    assert drawn == ["prediction"]
    classes.recolour(1, "#00FF00")
    assert drawn == ["prediction", "annotation"], "its prediction is hidden"
    classes.show_predicted(1, True)
    classes.show(1, False)
    assert drawn == ["prediction", "annotation", "prediction", "annotation", "prediction"]


def test_a_volume_on_show_is_read_ahead_to_its_end(desk):
    assert desk.view.image.unread == 0
    desk.view.image.unread = 2
    desk.session.show_layers()
    assert desk.view.image.unread == 0


def test_reading_ahead_waits_while_a_person_scrolls(desk, monkeypatch):
    image = desk.view.image
    image.unread, read_ahead = 4, image.read_ahead

    def scrolled_meanwhile():
        if image.unread == 3:
            desk.view.navigation.z_changed.emit(5)
        return read_ahead()

    monkeypatch.setattr(image, "read_ahead", scrolled_meanwhile)
    desk.session.show_layers()
    assert image.unread == 2
    desk.clock.fire()
    assert image.unread == 0


def test_work_is_found_again_and_said(desk, make_desk, image):
    desk.view.stroke(4, value=1)
    desk.session.annotating.mark(SliceState.COMPLETE, 4)
    desk.session.close()  # without waiting for the timer
    other = make_desk()
    other.session.open_volume(image)
    assert other.session.annotations.complete == [4]
    assert other.view.annotation.labels[4].any()
    assert any("Recovered 1 annotated slice" in text for _, text in other.heard)
    assert other.session.z == 4, "it opens where the work is"


def test_a_second_window_on_the_same_project_is_refused(desk, make_desk, image):
    other = make_desk()
    other.session.open_volume(image)
    assert not other.session.is_open
    assert other.heard[-1][0] == "error"


def test_another_image_of_the_same_name_gets_its_own_project(desk, make_desk, tmp_path):
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "ct.nii.gz"
    write_map(path, fakes.make_volume().array, fakes.make_volume())
    other = make_desk()
    other.session.open_volume(path)
    assert other.session.case.project.path != desk.session.case.project.path


def test_a_chosen_project_folder_is_used(make_desk, image, tmp_path):
    made = make_desk()
    made.session.cases.project_path = tmp_path / "mine"
    made.session.open_volume(image)
    assert made.session.case.project.path == tmp_path / "mine"


def test_a_file_that_cannot_be_read_says_why(make_desk, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"nothing")
    made = make_desk()
    made.session.open_volume(bad)
    assert made.heard[-1][0] == "error"
    assert "bad.nii.gz" in made.heard[-1][1]
    assert not made.session.is_open


def test_training_saves_first_then_starts(desk):
    session = desk.session
    session.training.start()
    assert desk.heard[-1][0] == "warning"
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.training.start()
    opened, started = desk.worker.sent[-2:]
    assert isinstance(opened, protocol.OpenCase)
    assert isinstance(started, protocol.StartTraining)
    assert stored(session).complete == [4]
    run = Project.open(session.case.project.path).runs[-1]
    assert str(run.path) == started.run_path
    assert run.config == session.settings.config
    assert session.training.state is TrainingState.STARTING


def test_python_looks_for_rubbish_among_all_objects_but_while_training(desk):
    before = gc.get_threshold()
    desk.session.annotating.mark(SliceState.COMPLETE, 4)
    desk.session.training.start()
    assert gc.get_threshold()[:2] == before[:2]
    assert gc.get_threshold()[2] > before[2]
    desk.worker.message.emit(protocol.Progress(1, 0.1, 50.0))
    desk.worker.message.emit(protocol.TrainingEnded("finished", 5, "x"))
    assert gc.get_threshold() == before
    desk.session.training.start()
    desk.session.close()
    assert gc.get_threshold() == before


def test_training_can_be_started_again_after_labels_could_not_be_saved(desk, monkeypatch):
    session = desk.session
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)

    def full(self, annotations):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("vqseg.case.Case.save_annotations", full)
        session.training.start()
        assert session.training.is_idle
        assert desk.heard[-1][1].startswith("The disk refused that (No space left on device)")
        assert not desk.worker.sent
    session.training.start()
    assert session.training.state is TrainingState.STARTING
    assert stored(session).complete == [4]


def test_progress_pause_resume_stop(desk, tmp_path):
    session, worker = desk.session, desk.worker
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    states = []
    session.training.changed.connect(states.append)
    session.training.start()
    worker.message.emit(protocol.Progress(1, 0.1, 50.0, {"total": 1.0}))
    session.training.pause()
    worker.message.emit(protocol.Progress(1, 0.1, 50.0, paused=True))
    session.training.resume()
    session.training.stop()
    worker.message.emit(protocol.Progress(2, 0.2, 49.0))
    worker.message.emit(protocol.TrainingEnded("stopped", 1, "x", ["tumour"]))
    level, text = desk.heard[-1]
    assert level == "info"
    assert text.startswith("Training stopped after 1 step. Not learned yet: tumour.")
    assert states == ["starting", "running", "paused", "running", "stopping", "idle"]
    kinds = [type(message).__name__ for message in worker.sent]
    assert kinds == ["OpenCase", "StartTraining", "PauseTraining", "ResumeTraining", "StopTraining"]


def test_slices_finished_after_a_training_reach_the_engine_that_predicts_with_it(desk):
    session, worker = desk.session, desk.worker
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    desk.clock.fire()
    assert worker.sent == [], "no engine is started for that"
    session.training.start()
    worker.message.emit(protocol.Progress(1, 0.1, 50.0))
    session.training.stop()
    desk.view.stroke(8)
    session.annotating.mark(SliceState.COMPLETE, 8)
    desk.clock.fire()
    assert not any(isinstance(sent, protocol.UpdateAnnotations) for sent in worker.sent), "not learnt from any more"
    worker.message.emit(protocol.TrainingEnded("stopped", 5, "x"))
    assert worker.sent[-1] == protocol.UpdateAnnotations(session.case.case.id)
    desk.view.stroke(9)
    session.annotating.mark(SliceState.COMPLETE, 9)
    desk.clock.fire()
    assert [type(message).__name__ for message in worker.sent[-2:]] == ["UpdateAnnotations", "UpdateAnnotations"]


def test_corrections_reach_a_running_training_after_they_are_saved(desk):
    session, worker = desk.session, desk.worker
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.training.start()
    worker.message.emit(protocol.Progress(1, 0.1, 50.0))
    desk.view.stroke(8)
    desk.clock.fire()
    assert not isinstance(worker.sent[-1], protocol.UpdateAnnotations)  # a draft is not learnt from
    session.annotating.mark(SliceState.COMPLETE, 8)
    desk.clock.fire()
    assert worker.sent[-1] == protocol.UpdateAnnotations(session.case.case.id)
    assert stored(session).complete == [4, 8]


def test_a_correction_made_while_another_is_being_saved_reaches_the_training_too(desk, monkeypatch):
    session, worker = desk.session, desk.worker
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.training.start()
    worker.message.emit(protocol.Progress(1, 0.1, 50.0))
    later = []
    with monkeypatch.context() as slow:
        slow.setattr(desk.clock, "background", lambda *job: later.append(job))
        session.annotating.mark(SliceState.COMPLETE, 6)
        desk.clock.fire()  # the first is being saved...
        session.annotating.mark(SliceState.COMPLETE, 8)  # ...when the second is made
    [(work, done, _)] = later
    done(work())
    assert stored(session).complete == [4, 6]
    assert worker.sent[-1] == protocol.UpdateAnnotations(session.case.case.id)
    told = len(worker.sent)
    desk.clock.fire()
    assert stored(session).complete == [4, 6, 8]
    assert worker.sent[told:] == [protocol.UpdateAnnotations(session.case.case.id)]


@pytest.mark.parametrize(("refusals", "heard"), [(0, "then"), (1, "then"), (2, "failed")])
def test_what_waits_for_a_save_waits_for_the_one_under_way(desk, monkeypatch, refusals, heard):
    session, jobs, told, written = desk.session, [], [], []
    monkeypatch.setattr(desk.clock, "background", lambda *job: jobs.append(job))

    def save(annotations):
        if len(written) < refusals:
            written.append(False)
            raise OSError(28, "No space left on device")
        written.append(annotations.complete)

    monkeypatch.setattr(session.case.case, "save_annotations", save)
    session.annotating.mark(SliceState.COMPLETE, 4)
    desk.clock.fire()  # it is being saved...
    session.annotating.save(then=lambda: told.append("then"), failed=lambda: told.append("failed"))
    assert not told  # ...and may not be on the disk before a case is closed, or another process reads it
    while jobs:
        work, done, failed = jobs.pop(0)
        try:
            answer = work()
        except OSError as error:
            failed(error)
        else:
            done(answer)
    assert told == [heard]
    assert session.annotating.unsaved == (heard == "failed")
    assert (written[-1] == [4]) == (heard == "then")
    monkeypatch.undo()


def test_a_training_stopped_before_it_has_begun_does_not_begin(desk, monkeypatch):
    session, worker, later = desk.session, desk.worker, []
    session.annotating.mark(SliceState.COMPLETE, 4)
    desk.clock.fire()
    with monkeypatch.context() as slow:
        slow.setattr(desk.clock, "background", lambda *job: later.append(job))
        session.training.start()
        session.training.stop()
        assert session.training.state is TrainingState.STOPPING
    [(work, done, _)] = later
    done(work())
    assert session.training.is_idle
    assert not [message for message in worker.sent if not isinstance(message, protocol.OpenCase)]
    session.training.start()
    assert isinstance(worker.sent[-1], protocol.StartTraining)


def test_live_settings_reach_a_running_training_and_others_wait(desk):
    session, worker = desk.session, desk.worker
    session.settings.update("epsilon", 0.5)
    assert session.settings.config.model.epsilon == 0.5
    assert not worker.sent
    session.settings.update("epsilon", 7)
    assert desk.heard[-1][0] == "warning"
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.training.start()
    worker.message.emit(protocol.Progress(1, 0.1, 50.0))
    session.settings.update("epsilon", 0.2)
    session.settings.update("confidence", 0.8)
    desk.clock.fire()
    assert worker.last(protocol.UpdateSettings).settings == {"epsilon": 0.2, "confidence": 0.8}


def test_a_prediction_is_mapped_and_shown(desk, tmp_path):
    desk.session.engine.send(protocol.LoadCheckpoint("x"))
    fakes.ready_to_predict(desk, tmp_path)
    assert isinstance(desk.session.reviewing.prediction, np.memmap)
    assert desk.view.overlay.visible
    assert desk.view.overlay.prediction is desk.session.reviewing.prediction


def test_previews_are_debounced_and_only_the_newest_counts(desk, tmp_path):
    session, worker = desk.session, desk.worker
    session.engine.send(protocol.LoadCheckpoint("x"))
    fakes.ready_to_predict(desk, tmp_path)
    for epsilon in (0.1, 0.2, 0.3):
        session.reviewing.preview(epsilon)
    desk.clock.fire()
    asked = [message for message in worker.sent if isinstance(message, protocol.RequestPreview)]
    assert [(message.epsilon, message.draws) for message in asked] == [(0.3, 4)]
    shape = session.volume.shape[1:]
    np.savez(tmp_path / "p.npz", labels=np.ones(shape, np.uint8), confidence=np.full(shape, 0.9, np.float16),
             stability=np.full(shape, 0.8, np.float16))  # fmt: skip
    seen = []
    session.reviewing.preview_changed.connect(seen.append)
    answer = protocol.PreviewReady(0, session.case.case.id, 0, 0.3, str(tmp_path / "p.npz"), 0.02)
    worker.message.emit(answer)
    assert not seen
    worker.message.emit(protocol.PreviewReady(asked[0].request_id, answer.case_id, 0, 0.3, answer.path, 0.02))
    assert seen[0].stability == {1: pytest.approx(0.8, abs=1e-3)}
    assert seen[0].confidence == {1: pytest.approx(0.9, abs=1e-3)}
    assert seen[0].wavering_mm2 == pytest.approx(shape[0] * shape[1] * 0.8 * 0.9)
    assert desk.view.overlay.stability[0] == 0
    session.reviewing.preview(0.0)
    assert desk.view.overlay.stability is None


def test_accepting_makes_a_complete_slice_that_remembers_the_machine(desk, tmp_path):
    session = desk.session
    session.accepting.slice(3)
    assert desk.heard[-1][0] == "warning"
    session.engine.send(protocol.LoadCheckpoint("x"))
    fakes.ready_to_predict(desk, tmp_path)
    session.accepting.slice(3)
    assert session.annotations.records[3].origin is Origin.ACCEPTED
    assert (session.annotations.labels[3] == 1).all()
    desk.view.stroke(3, value=2)
    assert session.annotations.records[3].origin is Origin.DRAWN
    session.accepting.slice(3)  # drawn by hand now: not overwritten
    assert (session.annotations.labels[3] == 2).any()


def test_result_and_export_keep_what_was_drawn(desk, tmp_path):
    session = desk.session
    session.engine.send(protocol.LoadCheckpoint("x"))
    fakes.ready_to_predict(desk, tmp_path)
    session.annotating.mark(SliceState.COMPLETE, 2)  # empty
    desk.view.stroke(5, value=255)
    session.annotating.mark(SliceState.SCRIBBLED, 5)
    session.exporting.export(tmp_path / "out.nii.gz")
    written = read_labels(tmp_path / "out.nii.gz", read_volume(session.case.case.source))
    assert np.array_equal(written.array, session.exporting.result())
    assert not written.array[2].any()
    assert (written.array[5] == 0).sum() == 16
    assert written.names == {1: "tumour"}


def test_a_crash_keeps_the_work_and_says_so(desk):
    session = desk.session
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.training.start()
    desk.worker.crashed.emit("The engine ended unexpectedly.")
    assert session.training.state is TrainingState.IDLE
    level, text = desk.heard[-1]
    assert level == "error"
    assert "no checkpoint was written yet, so train again" in text
    assert not session.training.resumable
    session.training.start()  # and it can be started again, with the case told anew
    assert [type(m).__name__ for m in desk.worker.sent[-2:]] == ["OpenCase", "StartTraining"]


def test_a_run_whose_engine_crashed_can_be_resumed_at_once(desk):
    session, worker = desk.session, desk.worker
    desk.view.stroke(4)
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.training.start()
    run = session.case.project.runs[-1]
    run.set_state(RunState.RUNNING)  # as the engine does, which leaves a checkpoint now and then
    run.checkpoint_path.mkdir()
    (run.checkpoint_path / "checkpoint.json").write_text("{}")
    worker.message.emit(protocol.Progress(9, 0.1, 50.0))
    worker.crashed.emit("The engine ended unexpectedly.")
    assert "Resume goes on from the last checkpoint" in desk.heard[-1][1]
    assert session.training.resumable
    session.settings.update("time_budget_s", 5.0)
    for step in (8, 9):
        run.append_metrics(StepReport(step, 0.1, 50.0, {"total": 1.0}, 0.5).as_metrics())
    run.append_metrics({"step": 9, "settings": {"epsilon": 0.5}})
    earlier = []
    session.training.earlier.connect(earlier.extend)
    session.training.resume()
    assert [(told.step, told.confident_share) for told in earlier] == [(8, 0.5), (9, 0.5)], "the curves go on"
    assert worker.sent[-1] == protocol.StartTraining(str(run.path), resume=True)
    assert session.settings.config.train == run.config.train, "what is shown is what it goes on with"
    worker.message.emit(protocol.Failed("The memory is too full for this run to go on.", "StartTraining"))
    worker.message.emit(protocol.TrainingEnded("failed", 0))
    assert session.training.resumable, "what has not begun can be tried again"
    session.training.resume()
    worker.message.emit(protocol.TrainingEnded("finished", 20, "x"))
    assert not session.training.resumable


def test_a_crashed_engine_comes_back_with_the_case_and_the_newest_network_once(desk):
    session, worker = desk.session, desk.worker
    project, case_id = session.case.project, session.case.case.id
    trained, untrained = (project.new_run(preset("fast"), [case_id]) for _ in range(2))
    trained.checkpoint_path.mkdir()
    (trained.checkpoint_path / "checkpoint.json").write_text("{}")
    assert trained.has_checkpoint
    assert not untrained.has_checkpoint
    session.engine.send(protocol.LoadCheckpoint(str(trained.path)))
    session.engine.send(protocol.StartTraining(str(untrained.path)))
    worker.message.emit(protocol.CaseOpened(case_id, [8, 16, 16]))
    sent = len(worker.sent)
    worker.crashed.emit("The engine ended unexpectedly.")
    assert worker.sent[sent:] == [
        protocol.OpenCase(str(project.path), case_id),
        protocol.LoadCheckpoint(str(trained.path)),
    ]
    assert session.engine.has_network
    level, text = desk.heard[-1]
    assert level == "error"
    assert "being started again with the open volume" in text
    sent = len(worker.sent)
    worker.crashed.emit("The engine ended unexpectedly.")  # before it had the case again
    assert len(worker.sent) == sent
    session.reviewing.request_prediction()
    worker.message.emit(protocol.CaseOpened(case_id, [8, 16, 16]))
    worker.crashed.emit("The engine ended unexpectedly.")
    worker.message.emit(protocol.CaseOpened(case_id, [8, 16, 16]))
    kinds = [type(message).__name__ for message in worker.sent[-3:]]
    assert kinds == ["OpenCase", "LoadCheckpoint", "RequestPrediction"], "what the one before had not finished"
    assert desk.heard[-1] == ("info", "The engine is back with the open volume.")


def test_damaged_annotations_are_told_of_once(desk, make_desk, image):
    desk.view.stroke(4)
    for _ in range(2):
        desk.session.annotating.mark(SliceState.COMPLETE, 4)
        desk.clock.fire()
    path = desk.session.case.case.annotations_path
    desk.session.close()
    path.write_bytes(path.read_bytes()[:100])
    again = make_desk()
    again.session.open_volume(image)
    again.session.training.start()
    [warning] = [text for level, text in again.heard if level == "warning"]
    assert "damaged" in warning
    again.worker.message.emit(protocol.Notice(warning, "warning"))
    again.worker.message.emit(protocol.Notice("The memory is full.", "warning"))
    assert [text for level, text in again.heard if level == "warning"] == [warning, "The memory is full."]


def test_a_refused_request_is_an_error_message(desk):
    desk.session.engine.send(protocol.LoadCheckpoint("x"))
    desk.worker.message.emit(protocol.Failed("No weights.", "LoadCheckpoint"))
    assert desk.heard[-1] == ("error", "No weights.")


def test_classes(desk):
    session = desk.session
    session.classes.add("vessel")
    session.classes.add("vessel")
    assert desk.heard[-1][0] == "warning"
    session.classes.rename(2, "artery")
    session.classes.recolour(2, "#123456")
    assert [(item.value, item.name) for item in session.classes.all] == [(1, "tumour"), (2, "artery")]
    assert desk.view.annotation.colours[2] == "#123456"
    desk.view.stroke(1, value=2)
    session.classes.remove(2)
    assert "erase it there" in desk.heard[-1][1]
    session.annotating.clear_slice(1)
    session.classes.remove(2)
    assert len(session.classes.all) == 1
    assert Project.open(session.case.project.path).class_names == {1: "tumour"}


def test_the_sample_keeps_its_project_to_itself(make_desk, image, monkeypatch):
    monkeypatch.setattr("vqseg.phantom.synthetic_thorax", partial(synthetic_thorax, shape=(16, 48, 48)))
    session = make_desk().session
    session.open_sample()
    sample = session.case.project
    session.open_sample()
    assert session.case.project is sample
    session.open_volume(image)
    assert session.case.project is not sample
    assert [case.title for case in sample.cases] == ["synthetic-thorax"]
    assert not sample.locked
    own = session.case.project
    session.open_volume(sample.path)
    assert session.case.is_sample
    session.open_volume(own.path)
    assert session.case.project.path == own.path


def test_next_suggestion_without_a_network_gives_a_reason(desk):
    session, suggesting = desk.session, desk.session.suggesting
    middle = session.volume.shape[0] // 2
    session.go_to(middle)
    suggesting.next()
    assert session.z == suggesting.current.z == middle, "the slice on show may be the best to begin with"
    assert "Nothing is labelled yet" in suggesting.current.reason
    suggesting.next()
    assert session.z != middle
    for z in (5, 6):
        desk.view.stroke(z)
        session.annotating.mark(SliceState.COMPLETE, z)
    for side in ("head", "feet"):
        suggesting.next()
        assert f"end towards the {side}" in suggesting.current.reason, "what is found is followed to its ends first"
        desk.view.stroke(session.z)
        session.annotating.mark(SliceState.COMPLETE, session.z)
    assert suggesting.current is None, "what is labelled is asked for no longer"
    suggesting.next()
    assert suggesting.current is not None
    session.annotating.mark(SliceState.COMPLETE, session.z - 1)
    assert suggesting.current is None, "its reason was that of the labels before"


def test_the_next_slice_waits_for_the_ranking_that_knows_of_the_last_one(desk, monkeypatch):
    session, suggesting = desk.session, desk.session.suggesting
    desk.view.stroke(5)
    session.annotating.mark(SliceState.COMPLETE, 5)
    suggesting.next()
    head = session.z
    assert "towards the head" in suggesting.current.reason
    at_work = []
    with monkeypatch.context() as patched:
        patched.setattr(desk.clock, "background", lambda *parts: at_work.append(parts))
        session.annotating.mark(SliceState.COMPLETE, head)  # empty: the end is known
        suggesting.next()
        assert session.z == head, "not by the ranking from before"
        suggested = [parts for parts in at_work if "suggest_slices" in parts[0].__code__.co_names]
        assert len(suggested) == 1
    work, done, _ = suggested[0]
    done(work())
    assert session.z != head
    assert "towards the feet" in suggesting.current.reason
    suggesting.next()
    assert session.z == suggesting.current.z, "and goes on by itself after that"


def test_windows_set_training_too(desk):
    desk.session.windowing.choose("lung")
    assert desk.session.settings.config.data.window_level_hu == -500
    assert desk.session.settings.config.data.window_width_hu == 1400
    desk.session.windowing.choose("auto")
    assert desk.session.settings.config.data.window_width_hu == 0


def test_closing_leaves_nothing(desk):
    desk.session.engine.send(protocol.LoadCheckpoint("x"))
    desk.view.stroke(4)
    project = desk.session.case.project
    desk.session.close()
    desk.session.close()
    assert desk.worker.closed
    assert desk.clock.closed
    assert desk.view.closed
    assert not any(timer.waiting for timer in desk.clock.timers)
    assert not project.locked
    assert len(desk.worker.message) == 0
    assert project.case("case-001").load_annotations().draft == [4]


def test_a_wrong_protocol_line_is_an_error():
    with pytest.raises(EngineError):
        protocol.decode("{}")


def test_until_the_volume_is_predicted_the_shown_slice_is_followed(desk, tmp_path):
    session, worker = desk.session, desk.worker
    session.annotating.mark(SliceState.COMPLETE, 4)
    session.training.start()
    worker.message.emit(protocol.Progress(1, 0.1, 50.0))
    desk.clock.fire()
    asked = worker.last(protocol.RequestPreview)
    assert (asked.z, asked.epsilon) == (session.z, 0)
    session.go_to(7)
    desk.clock.fire()
    asked = worker.last(protocol.RequestPreview)
    assert asked.z == 7
    shape = session.volume.shape[1:]
    np.savez(tmp_path / "p.npz", labels=np.ones(shape, np.uint8), confidence=np.ones(shape, np.float16),
             stability=np.ones(shape, np.float16))  # fmt: skip
    worker.message.emit(
        protocol.PreviewReady(asked.request_id, session.case.case.id, 7, 0.0, str(tmp_path / "p.npz"), 0.02)
    )
    assert desk.view.overlay.prediction[7].all()
    assert not desk.view.overlay.prediction[6].any()
    np.savez(tmp_path / "s.npz", z=[3, 4, 5], labels=np.full((3, *shape), 2, np.uint8))
    worker.message.emit(protocol.SlicesReady(session.case.case.id, str(tmp_path / "s.npz")))
    shown = desk.view.overlay.prediction[2:8].max(axis=(1, 2))
    assert shown.tolist() == [0, 2, 0, 2, 0, 1], "a labelled slice is shown as labelled"
    assert session.reviewing.prediction is None
    fakes.ready_to_predict(desk, tmp_path)
    worker.message.emit(protocol.SlicesReady(session.case.case.id, str(tmp_path / "s.npz")))
    assert (desk.view.overlay.prediction == 1).all(), "the whole prediction counts from now on"
    count = len(worker.sent)
    worker.message.emit(protocol.Progress(2, 0.2, 40.0))
    desk.clock.fire()
    assert len(worker.sent) == count


def test_closing_amid_a_change_of_many_slices_loses_none_and_a_stroke_upon_a_changed_one_is_hers(desk, monkeypatch):
    monkeypatch.setattr(annotating, "AT_ONCE", 2)
    session, waiting, record = desk.session, [], SliceRecord(SliceState.COMPLETE, Origin.ACCEPTED)
    monkeypatch.setattr(desk.clock, "in_turns", waiting.append, raising=False)
    whole, case = np.ones(session.volume.shape[1:], np.uint8), session.case.case
    session.annotating.change({z: SliceChange(whole, record) for z in range(5)})
    next(waiting[0])
    desk.view.stroke(1, value=2)
    session.close()
    saved = case.load_annotations()
    assert saved.complete == [0, 1, 2, 3, 4]
    assert {z: kept.origin for z, kept in saved.records.items()} == {
        0: Origin.ACCEPTED, 1: Origin.DRAWN, 2: Origin.ACCEPTED, 3: Origin.ACCEPTED, 4: Origin.ACCEPTED,
    }  # fmt: skip


def test_many_slices_change_in_turns_and_a_stroke_meanwhile_stays(desk, monkeypatch):
    monkeypatch.setattr(annotating, "AT_ONCE", 2)
    session, waiting, record = desk.session, [], SliceRecord(SliceState.COMPLETE, Origin.IMPORTED)
    monkeypatch.setattr(desk.clock, "in_turns", waiting.append, raising=False)
    whole = np.ones(session.volume.shape[1:], np.uint8)
    session.annotating.change({z: SliceChange(whole, record) for z in range(6)})
    (steps,) = waiting
    next(steps)
    assert session.annotations.labels[:3].any(axis=(1, 2)).tolist() == [True, True, False]
    assert not session.annotations.records
    desk.view.stroke(4, value=2)
    assert list(steps) == [None, None]
    assert session.annotations.complete == [0, 1, 2, 3, 5]
    assert session.annotations.draft == [4]
    assert set(np.unique(session.annotations.labels[4])) == {0, 2}
    desk.view.annotation.undo()
    assert list(session.annotations.records) == [4]
    assert session.annotations.labels.any(axis=(1, 2)).nonzero()[0].tolist() == [4]
