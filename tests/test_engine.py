"""The engine as a process: the real protocol and loop, a trainer that only counts (tests/fake_engine.py)."""

import contextlib
import errno
import importlib.util
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest

from vqseg.annotations import Annotations, SliceState
from vqseg.config import preset
from vqseg.desk import Desk
from vqseg.engine import Engine
from vqseg.errors import AnnotationError, CheckpointError, DeviceError
from vqseg.io import read_volume
from vqseg.memory import is_of_device, is_out_of_memory, smaller, step_down
from vqseg.overlays import FIRST_AFTER_S
from vqseg.project import Project, Run, RunState
from vqseg.protocol import (
    CaseOpened,
    CodebookReady,
    CodewordReady,
    Failed,
    FillingReady,
    LoadCheckpoint,
    Notice,
    OpenCase,
    PauseTraining,
    PredictionReady,
    PreviewReady,
    Progress,
    Ready,
    RequestCodebook,
    RequestCodeword,
    RequestFilling,
    RequestPrediction,
    RequestPreview,
    RequestStability,
    RequestSuggestions,
    ResumeTraining,
    SettingsApplied,
    Shutdown,
    SlicesReady,
    StabilityReady,
    StartTraining,
    StopTraining,
    SuggestionsReady,
    TrainingEnded,
    UpdateAnnotations,
    UpdateSettings,
    decode,
    encode,
)
from vqseg.run_loop import PausableClock, RunLoop
from vqseg.runner import train_run
from vqseg.tokens import CodebookSurvey, Codeword
from vqseg.turns import Turns
from vqseg.weights import Weights
from vqseg.workspace import Workspace

FAKE = Path(__file__).parent / "fake_engine.py"
spec = importlib.util.spec_from_file_location("fake_engine", FAKE)
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)

WAIT_S = 120


class Process:
    """An engine process and what it said."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, *(arguments or (str(FAKE),))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(FAKE.parent.parent)},
        )
        self.messages, self.lines = queue.Queue(), []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            self.messages.put(decode(line.decode()))

    def send(self, *messages):
        self.process.stdin.write("".join(encode(message) + "\n" for message in messages).encode())
        self.process.stdin.flush()

    def until(self, kind, timeout_s=WAIT_S, **fields):
        """The next message of a kind; everything before it is passed over."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                message = self.messages.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind.__name__}; engine said {self.lines[-5:]}") from None
            if isinstance(message, kind) and all(getattr(message, name) == value for name, value in fields.items()):
                return message
            assert not isinstance(message, Failed) or kind is Failed, message

    def processor_s(self):
        """Processor time that the engine has used so far, its start included."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def wait(self):
        return self.process.wait(WAIT_S)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.thread.join()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@pytest.fixture
def engine():
    process = Process()
    yield process
    process.close()


@pytest.fixture
def project(tmp_path):
    array = np.random.default_rng(0).integers(-1000, 1000, (12, 10, 8)).astype(np.int16)
    source = tmp_path / "Doe_Jane.nii"
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1, 3, 1])), source)
    project = Project.create(tmp_path / "project", "One", ["lung"])
    case = project.add_case(read_volume(source))
    annotations = Annotations.empty(case.shape)
    annotations.labels[3, 2:5, 2:5] = 1
    annotations.mark(3, SliceState.COMPLETE)
    case.save_annotations(annotations)
    return project


def new_run(project, time_budget_s=0.5, behaviour=fake.NORMAL, **settings):
    config = preset("fast", time_budget_s=time_budget_s, seed=behaviour, **settings)
    return project.new_run(config, ["case-001"])


def test_a_case_that_is_opened_again_warns_once(project):
    case = project.case("case-001")
    case.save_annotations(case.load_annotations())
    case.annotations_path.write_bytes(b"damaged")
    told = []
    workspace = Workspace(told.append)
    for _ in range(2):
        workspace.open_case(OpenCase(str(project.path), "case-001"))
    [notice] = told
    assert "damaged" in notice.text


def test_a_run_from_start_to_end(engine, project):
    ready = engine.until(Ready)
    assert ready.protocol_version == 1
    assert ready.device in ("cpu", "cuda", "mps")
    assert ready.versions["python"]
    run = new_run(project)
    engine.send(OpenCase(str(project.path), "case-001"), StartTraining(str(run.path)))
    assert engine.until(CaseOpened).shape == [8, 10, 12]
    progress = engine.until(Progress)
    assert progress.losses["total"] > 0
    assert (progress.utilisation, progress.revived, progress.drift) == (None, 2, None)
    prediction = engine.until(PredictionReady, final=True)
    assert prediction.step > 1
    assert prediction.learnt == [3]
    labels = np.load(prediction.labels_path, mmap_mode="r")
    assert labels.shape == (8, 10, 12)
    assert labels.dtype == np.uint8
    assert np.load(prediction.uncertainty_path).dtype == np.float16
    np.testing.assert_allclose(np.load(prediction.confidence_path), np.full(8, 0.75))
    ended = engine.until(TrainingEnded)
    assert ended.reason == "finished"
    assert Path(ended.checkpoint_path) == run.checkpoint_path
    engine.send(Shutdown())
    assert engine.wait() == 0
    run = Run(run.path)
    assert run.state == RunState.FINISHED
    assert run.info["step"] == ended.step
    assert not run.is_live
    assert not (project.path / "scratch").exists()


def test_prints_never_reach_the_pipe_and_no_path_reaches_the_log(engine, project):
    run = new_run(project, behaviour=fake.CHATTY)
    engine.send(StartTraining(str(run.path)))
    engine.until(TrainingEnded)
    log = run.log_path.read_text()
    assert "a library prints" in log
    assert "a C library writes" in log
    broken = new_run(project, behaviour=fake.BROKEN)
    engine.send(StartTraining(str(broken.path)))
    failed = engine.until(Failed)
    assert "Doe" not in failed.text
    assert failed.request == "StartTraining"
    assert engine.until(TrainingEnded).reason == "failed"
    log = broken.log_path.read_text()
    assert "Traceback" in log
    assert "cannot handle <image>" in log
    assert "Doe" not in log
    broken = Run(broken.path)
    assert broken.state == RunState.FAILED
    engine.send(StartTraining(str(new_run(project, 0.1).path)))
    assert engine.until(TrainingEnded).reason == "finished", "one failed run must not end the engine"


def test_progress_is_throttled_and_numbers_that_are_none_are_left_out(engine, project):
    engine.send(StartTraining(str(new_run(project, 1.5, fake.NOT_A_NUMBER).path)))
    assert engine.until(Progress).losses == {}
    engine.until(TrainingEnded)
    progress = [line for line in engine.lines if b'"Progress"' in line]
    assert 5 <= len(progress) <= 20


def test_pause_freezes_the_budget_and_stop_keeps_everything(engine, project):
    run = new_run(project, 30)
    engine.send(StartTraining(str(run.path)))
    engine.until(Progress)
    engine.send(PauseTraining())
    paused = engine.until(Progress, paused=True)
    time.sleep(1)
    run = Run(run.path)
    assert run.state == RunState.PAUSED
    assert run.is_live
    assert not run.interrupted
    engine.send(ResumeTraining())
    resumed = engine.until(Progress, paused=False)
    assert paused.time_left_s - resumed.time_left_s < 0.5
    engine.send(StopTraining())
    assert engine.until(PredictionReady, final=True).step >= resumed.step
    ended = engine.until(TrainingEnded)
    assert ended.reason == "stopped"
    assert ended.untaught == ["lesion"]
    assert ended.checkpoint_path
    run = Run(run.path)
    assert run.state == RunState.STOPPED


def test_stop_works_during_a_pause(engine, project):
    run = new_run(project, 30)
    engine.send(StartTraining(str(run.path)), PauseTraining())
    engine.until(Progress, paused=True)
    engine.send(StopTraining())
    assert engine.until(TrainingEnded).reason == "stopped"


def test_previews_are_served_while_training_and_the_newest_wins(engine, project):
    engine.send(OpenCase(str(project.path), "case-001"), StartTraining(str(new_run(project, 30).path)))
    engine.until(Progress)
    engine.send(RequestPreview(1, "case-001", 3))
    engine.until(PreviewReady, request_id=1)
    start = time.monotonic()
    engine.send(*(RequestPreview(number, "case-001", 5, epsilon=0.5, draws=3) for number in range(2, 60)))
    ready = engine.until(PreviewReady, request_id=59)
    assert time.monotonic() - start < 2
    with np.load(ready.path) as file:
        assert file["labels"].shape == (10, 12)
        assert file["labels"].dtype == np.uint8
        np.testing.assert_allclose(file["stability"], 0.5)
    previews = [line for line in engine.lines if b'"PreviewReady"' in line]
    assert len(previews) < 20, "waiting previews must be replaced"
    engine.send(RequestPreview(99, "case-001", 500))
    assert "outside the volume" in engine.until(Failed).text


def test_the_survey_of_stability_waits_for_everything_else_and_can_be_ended(engine, project):
    engine.send(OpenCase(str(project.path), "case-001"), StartTraining(str(new_run(project, 30).path)))
    engine.until(PredictionReady)
    engine.send(RequestStability(1, "case-001", 0.25), RequestPreview(2, "case-001", 3))
    engine.until(PreviewReady, request_id=2)
    surveyed = {}
    while True:
        message = engine.until(StabilityReady, request_id=1)
        surveyed |= dict(zip(message.slices, message.stability, strict=True))
        if message.done:
            break
    assert surveyed == dict.fromkeys(range(8), 0.75)
    engine.send(RequestStability(3, "case-001", 0.25), RequestStability(4, "case-001", 0.0))
    engine.send(RequestPreview(5, "case-001", 3))
    engine.until(PreviewReady, request_id=5)
    time.sleep(0.2)
    engine.send(RequestStability(6, "case-001", 0.5))
    assert engine.until(StabilityReady).request_id == 6, "a survey that was ended must not answer"


def test_overlays_come_while_training(engine, project):
    """The first within 15 s of Start, by what the engine does: its steps, each of which lasts, and its processor time.

    How long that takes by the clock on the wall depends on what else the machine does.
    """
    engine.send(StartTraining(str(new_run(project, 30).path)))
    first = engine.until(PredictionReady)
    assert first.step <= FIRST_AFTER_S / fake.STEP_S + 1
    assert not first.final
    assert first.request_id is None
    after = engine.until(Progress).step
    assert after * fake.STEP_S + engine.processor_s() < 15
    engine.send(StopTraining())
    assert engine.until(PredictionReady, final=True).step > first.step


def test_the_first_overlay_of_the_case_on_show_comes_slice_by_slice(engine, project):
    engine.send(OpenCase(str(project.path), "case-001"), StartTraining(str(new_run(project, 30).path)))
    with np.load(engine.until(SlicesReady, case_id="case-001").path) as file:
        assert file["labels"].shape == (1, *project.case("case-001").shape[1:])
        assert file["labels"].all()
        assert file["z"].shape == (1,)
    engine.until(PredictionReady)
    count = sum(b'"SlicesReady"' in line for line in engine.lines)
    assert count == project.case("case-001").shape[0]
    engine.send(StopTraining())
    engine.until(PredictionReady, final=True)
    assert sum(b'"SlicesReady"' in line for line in engine.lines) == count


def test_the_case_on_show_is_predicted_while_training_and_all_at_the_end(engine, project):
    for _ in range(2):
        project.add_case(project.case("case-001").load_volume())
    run = project.new_run(preset("fast", time_budget_s=30, seed=fake.NORMAL), ["case-001", "case-002"])
    engine.send(OpenCase(str(project.path), "case-003"), StartTraining(str(run.path)))
    assert engine.until(PredictionReady).case_id == "case-003"  # which has no label, and is not learnt from
    engine.send(StopTraining())
    finals = [engine.until(PredictionReady, final=True).case_id for _ in range(3)]
    assert finals == ["case-003", "case-001", "case-002"]
    engine.until(TrainingEnded)


def test_settings_and_annotations_change_between_two_steps(engine, project):
    engine.send(StartTraining(str(new_run(project, 30).path)))
    step = engine.until(Progress).step
    engine.send(UpdateSettings({"epsilon": 0.3}))
    applied = engine.until(SettingsApplied)
    assert applied.step >= step
    assert applied.settings == {"epsilon": 0.3}
    engine.send(UpdateSettings({"epsilon": 2}))
    assert engine.until(Failed).request == "UpdateSettings"
    case = project.case("case-001")
    annotations = case.load_annotations()
    annotations.mark(5, SliceState.COMPLETE)
    case.save_annotations(annotations)
    engine.send(UpdateAnnotations("case-001"), RequestPrediction(7, "case-001"), RequestSuggestions(8, "case-001", 4))
    prediction = engine.until(PredictionReady, request_id=7)
    assert prediction.case_id == "case-001"
    assert prediction.learnt == [3, 5]
    suggestions = engine.until(SuggestionsReady, final=True).suggestions
    assert len(suggestions) == 4
    assert not {item["z"] for item in suggestions} & {3, 5}
    assert all(item["reason"] for item in suggestions)
    engine.send(StopTraining())
    engine.until(TrainingEnded)
    engine.send(UpdateSettings({"epsilon": 0.3}))
    assert "next run" in engine.until(Notice).text
    annotations.clear(5)
    case.save_annotations(annotations)
    engine.send(UpdateAnnotations("case-001"), RequestPrediction(9, "case-001"))
    assert engine.until(PredictionReady, request_id=9).learnt == [3, 5], "what was learnt stays learnt"


@pytest.mark.parametrize("way", ["shutdown", "closed pipe", "terminate"])
def test_leaving_banks_the_work_and_the_run_resumes(engine, project, way):
    run = new_run(project, 30)
    engine.send(StartTraining(str(run.path)))
    step = engine.until(Progress).step
    if way == "shutdown":
        engine.send(Shutdown())
    elif way == "terminate":
        engine.process.terminate()
    else:
        engine.process.stdin.close()
    assert engine.wait() == 0
    run = Run(run.path)
    assert run.interrupted
    assert [found.id for found in project.interrupted_runs] == [run.id]
    assert not any(b'"Failed"' in line or b'"TrainingEnded"' in line for line in engine.lines)
    again = Process()
    try:
        again.send(StartTraining(str(run.path), resume=True))
        assert again.until(Progress).step > step
        again.send(StopTraining())
        again.until(TrainingEnded)
    finally:
        again.close()


def test_a_killed_engine_leaves_a_run_that_can_be_found(engine, project):
    run = new_run(project, 30)
    engine.send(StartTraining(str(run.path)))
    engine.until(Progress)
    engine.send(PauseTraining())
    engine.until(Progress, paused=True)
    engine.send(UpdateSettings({"epsilon": 0.5}))
    engine.until(SettingsApplied)
    os.kill(engine.process.pid, signal.SIGKILL)
    engine.wait()
    assert [found.id for found in project.interrupted_runs] == [run.id]
    assert run.read_metrics()


def test_two_engines_never_train_one_run(engine, project):
    run = new_run(project, 30)
    engine.send(StartTraining(str(run.path)))
    engine.until(Progress)
    other = Process()
    try:
        other.send(StartTraining(str(run.path)))
        assert "in use" in other.until(Failed).text
        assert other.until(TrainingEnded).reason == "failed"
    finally:
        other.close()
    run = Run(run.path)
    assert run.state == RunState.RUNNING


def test_a_checkpoint_serves_without_training(engine, project):
    engine.send(OpenCase(str(project.path), "case-001"), RequestPreview(1, "case-001", 2))
    assert "Nothing is trained yet" in engine.until(Failed).text
    run = new_run(project, 0.2)
    engine.send(LoadCheckpoint(str(run.path)))
    assert "no checkpoint" in engine.until(Failed).text
    train_run(run, factory=fake.make_fake)
    engine.send(LoadCheckpoint(str(run.path)), RequestPreview(2, "case-001", 2))
    assert engine.until(PreviewReady).request_id == 2


def test_memory_that_runs_out_makes_it_smaller(engine, project):
    run = new_run(project, 0.5, fake.OUT_OF_MEMORY)
    engine.send(StartTraining(str(run.path)))
    notices = [engine.until(Notice) for _ in range(3)]
    assert {notice.level for notice in notices} == {"warning"}
    assert "1 + 1 slices at 192 pixels" in notices[-1].text
    assert engine.until(TrainingEnded).reason == "finished"


def test_slices_are_filled_before_and_during_a_training(engine, project):
    case = project.case("case-001")
    annotations = case.load_annotations()
    engine.send(OpenCase(str(project.path), case.id), RequestFilling(1, case.id, [4, 5]))
    engine.until(FillingReady, request_id=1)
    annotations.set_slice(6, annotations.labels[3], SliceState.COMPLETE)
    case.save_annotations(annotations)
    engine.send(StartTraining(str(new_run(project, 30).path)))
    engine.until(Progress)
    engine.send(RequestFilling(2, case.id, [4, 5]))
    with np.load(engine.until(FillingReady, request_id=2).path) as file:
        assert file["z"].tolist() == [4, 5]
        assert file["labels"].shape == (2, 10, 12)
        assert file["labels"].dtype == np.uint8
        assert (file["labels"][:, 3, 3] == 1).all(), "as in slice 6, which was saved meanwhile"
        assert not file["labels"][:, 9].any()
    for z in (3, 6):
        annotations.clear(z)
    case.save_annotations(annotations)
    engine.send(RequestFilling(3, case.id, [4, 5]), StopTraining())
    failed = engine.until(Failed)
    assert failed.request == "RequestFilling"
    assert "complete one on either side" in failed.text


def test_bad_requests_are_answered_and_survived(engine, project, tmp_path):
    engine.process.stdin.write(b"not a message\n\n")
    engine.process.stdin.flush()
    assert "Not a message" in engine.until(Failed).text
    engine.send(StartTraining(str(tmp_path / "nowhere")))
    assert engine.until(Failed).request == "StartTraining"
    assert engine.until(TrainingEnded).reason == "failed"
    engine.send(OpenCase(str(project.path), "case-009"))
    assert "no case" in engine.until(Failed).text
    engine.send(UpdateAnnotations("case-009"))
    engine.until(Failed)
    engine.send(OpenCase(str(project.path), "case-001"))
    engine.until(CaseOpened)


# -------------------------------------------------------------------------------------------- the real trainer


@pytest.mark.slow
def test_the_real_trainer_in_a_real_process(tmp_path):
    z, y, x = np.indices((14, 48, 48))
    ball = ((z - 7) * 3) ** 2 + (y - 24) ** 2 + (x - 24) ** 2 < 14**2
    array = (ball * 200 + np.random.default_rng(0).normal(0, 10, ball.shape)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.0, -1, 3, 1])), tmp_path / "ball.nii")
    project = Project.create(tmp_path / "project", "Ball", ["ball"])
    case = project.add_case(read_volume(tmp_path / "ball.nii"))
    case.save_annotations(Annotations.from_slices(ball.astype(np.uint8), [1, 5, 9, 13]))
    run = project.new_run(preset("fast", encoder="conv", time_budget_s=6, size=64, device="cpu"), [case.id])
    engine = Process("-m", "vqseg.engine")
    try:
        engine.send(OpenCase(str(project.path), case.id), StartTraining(str(run.path)))
        engine.until(Progress)
        engine.send(RequestPreview(1, case.id, 7, epsilon=0.7, draws=3))
        with np.load(engine.until(PreviewReady, request_id=1).path) as file:
            assert file["stability"].shape == (48, 48)
        engine.send(UpdateSettings({"epsilon": 0.2}), UpdateAnnotations(case.id))
        engine.until(SettingsApplied)
        prediction = engine.until(PredictionReady, final=True)
        labels = np.load(prediction.labels_path)
        assert 2 * (labels[ball] == 1).sum() / (labels.astype(bool).sum() + ball.sum()) > 0.8
        assert engine.until(TrainingEnded).reason == "finished"
        engine.send(RequestCodebook(3, case.id), RequestSuggestions(4, case.id, 2))
        codebook = engine.until(CodebookReady)
        assert codebook.step == prediction.step
        survey = CodebookSurvey.load(codebook.path)
        assert survey.codes.shape[0] == 14
        assert survey.history[-1, 0] <= codebook.step
        code = int(survey.codes[7][survey.grid.token_at(24, 24)])
        first = engine.until(SuggestionsReady, final=False)
        final = engine.until(SuggestionsReady, final=True)
        assert len(first.suggestions) == len(final.suggestions) == 2
        engine.send(RequestCodeword(5, code))
        word = Codeword.load(engine.until(CodewordReady, request_id=5).path)
        assert word.code == code
        assert word.decoded_hu.shape == (1 + len(word.substitutes.codes), 16, 16)
        engine.send(RequestCodeword(6, 99999))
        assert "not in the codebook" in engine.until(Failed).text
        engine.send(RequestStability(5, case.id, 0.7))
        survey = engine.until(StabilityReady, done=True)
        assert survey.slices
        assert all(value is None or 0 < value <= 1 for value in survey.stability)
        engine.send(Shutdown())
        assert engine.wait() == 0
    finally:
        engine.close()
    again = Process("-m", "vqseg.engine")
    try:
        again.send(OpenCase(str(project.path), case.id), LoadCheckpoint(str(run.path)), RequestPreview(5, case.id, 7))
        with np.load(again.until(PreviewReady).path) as file:
            assert file["labels"][24, 24] == 1
        again.send(UpdateAnnotations(case.id), StartTraining(str(run.path), resume=True))
        assert again.until(TrainingEnded).step == prediction.step
    finally:
        again.close()


# ------------------------------------------------------------------------------------------ without a process


def test_train_run_needs_no_pipe(project):
    run = new_run(project, 0.3)
    steps = []
    assert train_run(run, lambda report: steps.append(report.step), factory=fake.make_fake) == RunState.FINISHED
    assert steps == list(range(1, len(steps) + 1))
    assert run.prediction_path("case-001").exists()
    assert run.has_checkpoint
    assert not run.is_live


def test_train_run_steps_down_where_the_memory_is_full_and_says_so(project):
    notices, steps = [], []
    run = new_run(project, 0.3, fake.OUT_OF_MEMORY)
    assert train_run(
        run, lambda report: steps.append(report.step), factory=fake.make_fake, on_notice=notices.append
    ) == RunState.FINISHED  # fmt: skip
    assert steps == list(range(4, run.info["step"] + 1)), "it goes on from where it stood, thrice"
    assert [text.split(" with ")[1] for text in notices] == [
        "batches of 2 + 2 slices at 256 pixels.",
        "batches of 1 + 1 slices at 256 pixels.",
        "batches of 1 + 1 slices at 192 pixels.",
    ]


def test_a_run_that_goes_on_is_not_begun_anew_where_the_memory_is_full(project):
    run = new_run(project, 0.3)
    train_run(run, factory=fake.make_fake)
    banked = (run.checkpoint_path / "state.json").read_text()
    notices = []

    def full(*arguments):
        raise MemoryError

    with pytest.raises(DeviceError, match="close other programs, then resume it"):
        train_run(run, resume=True, factory=full, on_notice=notices.append)
    assert notices == []
    assert (run.checkpoint_path / "state.json").read_text() == banked
    assert not run.is_live


def test_a_disk_that_is_full_for_a_while_does_not_end_the_training(project, monkeypatch):
    monkeypatch.setattr("vqseg.schedule.CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr("vqseg.run_loop.METRICS_EVERY_S", 0.0)
    run, notices, saves = new_run(project, 0.6), [], itertools.count(1)
    save, append = fake.FakeTrainer.save, Run.append_metrics

    def save_late(trainer, path):
        if next(saves) in (1, 2, 4):
            raise CheckpointError("The checkpoint could not be written (No space left on device); make room there.")
        save(trainer, path)

    def append_late(run, values):
        if values["step"] == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(run, values)

    monkeypatch.setattr(fake.FakeTrainer, "save", save_late)
    monkeypatch.setattr(Run, "append_metrics", append_late)
    assert train_run(run, factory=fake.make_fake, on_notice=notices.append) == RunState.FINISHED
    assert len(notices) == 2, "each time it begins, and no more"
    assert all("No space left on device" in text and text.endswith("goes on meanwhile.") for text in notices)
    assert json.loads((run.checkpoint_path / "state.json").read_text())["step"] == run.info["step"]


def test_a_disk_that_is_full_at_the_end_of_a_run_does_not_keep_the_next_from_starting(project, monkeypatch):
    first, second = new_run(project, 0.1), new_run(project, 0.1)
    set_state = Run.set_state

    def refuse(run, state, **values):
        if run.id == first.id and state == RunState.FINISHED:
            raise OSError(errno.ENOSPC, "No space left on device")
        set_state(run, state, **values)

    monkeypatch.setattr(Run, "set_state", refuse)
    told = queue.Queue()
    engine = Engine(told.put, fake.make_fake, fake.FakePredictor.load)
    thread = threading.Thread(target=engine.serve, daemon=True)
    thread.start()
    ended, notices = [], []
    engine.deliver(StartTraining(str(first.path)))
    while len(ended) < 2:
        message = told.get(timeout=WAIT_S)
        if isinstance(message, Notice):
            notices.append(message.text)
        if isinstance(message, TrainingEnded):
            ended.append(message.reason)
            engine.deliver(StartTraining(str(second.path)) if len(ended) == 1 else Shutdown())
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert ended == ["finished", "finished"]
    assert "No space left on device" in notices[0]
    assert Run(first.path).interrupted, "so that it can be gone on with"


def test_what_a_full_disk_keeps_from_being_banked_at_the_end_can_still_be_predicted_with(project, monkeypatch):
    def refuse(trainer, path):
        raise CheckpointError("The checkpoint could not be written (No space left on device); make room there.")

    monkeypatch.setattr(fake.FakeTrainer, "save", refuse)
    told, run = queue.Queue(), new_run(project, 0.3)
    engine = Engine(told.put, fake.make_fake, fake.FakePredictor.load)
    thread = threading.Thread(target=engine.serve, daemon=True)
    thread.start()
    engine.deliver(StartTraining(str(run.path)))
    while not isinstance(ended := told.get(timeout=WAIT_S), TrainingEnded):
        pass
    assert ended.reason == "failed"
    engine.deliver(RequestPrediction(1, run.case_ids[0]))
    while getattr(predicted := told.get(timeout=WAIT_S), "request_id", None) != 1:
        pass
    assert predicted.step == ended.step, "by the network as it was at the end"
    engine.deliver(Shutdown())
    thread.join(WAIT_S)


def test_an_interrupt_keeps_the_checkpoint(project):
    run = new_run(project, 30)

    def interrupt(report):
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(run, interrupt, factory=fake.make_fake)
    run = Run(run.path)
    assert run.state == RunState.STOPPED
    assert json.loads((run.checkpoint_path / "state.json").read_text())["step"] == 3


def test_a_run_without_labels_says_what_to_do(project):
    case = project.case("case-001")
    case.save_annotations(Annotations.empty(case.shape))
    with pytest.raises(AnnotationError, match="mark it complete"):
        train_run(new_run(project), factory=fake.make_fake)


def test_a_failed_start_gives_the_run_back(project):
    run = new_run(project)
    case = project.case("case-001")

    class Case:
        annotations = case.load_annotations()

    def broken(*_):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        RunLoop(run, [Case()], {}, factory=broken)
    assert not run.is_live


def test_the_clock_stands_still():
    now = 0.0
    clock = PausableClock(lambda: now)
    now = 3.0
    clock.pause()
    clock.pause()
    now = 10.0
    assert clock() == 3.0
    clock.resume()
    now = 11.0
    assert clock() == 4.0


@pytest.mark.parametrize(("words", "of_device"), [
    ("CUDA out of memory. Tried to allocate 2.00 GiB", True),
    ("DefaultCPUAllocator: can't allocate memory: you tried 4 bytes", False),
    ("DefaultCPUAllocator: not enough memory: you tried 4 bytes", False),
    ("could not create a primitive", False), ("could not create a memory object", False),
    ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
    ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
])  # fmt: skip
def test_a_full_memory_is_known_by_its_words(words, of_device):
    error = RuntimeError(words)
    assert is_out_of_memory(error)
    assert is_of_device(error) is of_device
    with pytest.raises(DeviceError, match="or choose the CPU" if of_device else "close other programs, then") as raised:
        step_down(preset("fast", batch_x=1, batch_u=1, size=64), error)
    assert ("CPU" in str(raised.value)) is of_device, "nobody is sent to the CPU from the CPU"


@pytest.mark.parametrize("words", [
    "shapes do not match", "could not create a primitive descriptor for a convolution forward propagation primitive",
])  # fmt: skip
def test_other_errors_are_not_taken_for_a_full_memory(words):
    assert not is_out_of_memory(RuntimeError(words))


@pytest.mark.parametrize(("error", "words"), [
    (RuntimeError("could not create a primitive"), "The memory is too full for that; close other programs"),
    (RuntimeError("shapes do not match"), "unexpected error; its log says more"),
])  # fmt: skip
def test_an_answer_for_which_the_memory_is_too_full_says_so(project, error, words):
    run, sent = new_run(project, 0.1), []
    train_run(run, factory=fake.make_fake)

    def load(path):
        raise error

    workspace = Workspace(sent.append)
    desk = Desk(workspace, Weights(), Turns(), sent.append, load)
    desk.tray.put(LoadCheckpoint(str(run.path)))
    desk.start()
    deadline = time.monotonic() + 20
    while not any(isinstance(message, Failed) for message in sent) and time.monotonic() < deadline:
        time.sleep(0.01)
    desk.leave()
    desk.join(20)
    failed = next(message for message in sent if isinstance(message, Failed))
    assert failed.request == "LoadCheckpoint"
    assert words in failed.text


def test_smaller_ends():
    config, seen = preset("fast"), []
    while config is not None:
        seen.append((config.data.batch_x, config.data.batch_u, config.data.size))
        config = smaller(config)
    assert seen == [(4, 4, 256), (2, 2, 256), (1, 1, 256), (1, 1, 192), (1, 1, 128), (1, 1, 96), (1, 1, 64)]
    assert smaller(preset("fast", batch_u=0)).data.batch_u == 0
