import copy
import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest
import scipy.stats
import torch
from safetensors.torch import save_file

from vqseg.annotations import Annotations
from vqseg.codebook import survey_codebook
from vqseg.config import preset
from vqseg.data import ShapePrior, TrainingCase
from vqseg.errors import AnnotationError, CheckpointError, ConfigError, TrainingError
from vqseg.models.priors import PRIORS
from vqseg.predict import CHUNK, Predictor
from vqseg.segment import segment
from vqseg.train import Trainer
from vqseg.volume import StoredLayout, Volume

NAMES = {1: "ball", 2: "rod"}
TINY = {"size": 64, "codebook_size": 64, "batch_x": 2, "batch_u": 2, "time_budget_s": 0.0}


@pytest.fixture(scope="module")
def ball():
    shape = (16, 48, 56)
    z, y, x = np.mgrid[:16, :48, :56]
    labels = np.zeros(shape, np.uint8)
    labels[np.hypot((z - 8) * 2, np.hypot(y - 24, x - 24)) < 14] = 1
    labels[:, 6:14, 38:46] = 2
    noise = np.random.default_rng(0).normal(0, 20, shape)
    array = (-100 + 200.0 * (labels == 1) + 400.0 * (labels == 2) + noise).astype(np.float32)
    volume = Volume(array, StoredLayout(shape[::-1], np.diag([-1.0, -1.0, 2.0, 1.0])))
    return volume, labels, Annotations.from_slices(labels, [2, 8, 13])


def trainer_of(ball, **settings):
    volume, _, annotations = ball
    return Trainer(preset("fast", **{**TINY, **settings}), [TrainingCase(volume, annotations)], NAMES)


def run(trainer, steps=None):
    while not trainer.finished and steps != 0:
        trainer.step()
        steps = None if steps is None else steps - 1
    return trainer


def test_learns_a_ball_and_a_rod_and_keeps_the_labelled_slices(ball):
    volume, labels, annotations = ball
    prediction, trainer = segment(volume, annotations, NAMES, preset("fast", **TINY, iterations=80))
    for value in NAMES:
        found, truth = prediction.labels == value, labels == value
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85
    for z in annotations.complete:
        assert (prediction.labels[z] == labels[z]).all()
        assert (prediction.uncertainty[z] == 0).all()
    assert prediction.labels.shape == volume.shape
    assert trainer.finished and trainer.step_index == 80


def test_where_the_memory_is_full_it_goes_on_with_less_and_says_so(ball, monkeypatch):
    steps = []

    class Limited(Trainer):
        def step(self):
            if self.config.data.batch_x > 1 and self.step_index == 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            steps.append(self.step_index)
            return super().step()

    monkeypatch.setattr("vqseg.segment.Trainer", Limited)
    volume, _, annotations = ball
    notices = []
    prediction, trainer = segment(
        volume, annotations, NAMES, preset("fast", **TINY, iterations=3), on_notice=notices.append
    )
    assert (trainer.config.data.batch_x, trainer.step_index) == (1, 3)
    assert steps == [0, 1, 2], "no step is lost"
    assert prediction.labels.any()
    [notice] = notices
    assert notice == "The memory is full: training goes on with batches of 1 + 1 slices at 64 pixels."

    class Broken(Trainer):
        def step(self):
            raise RuntimeError("no kernel")

    monkeypatch.setattr("vqseg.segment.Trainer", Broken)
    with pytest.raises(RuntimeError, match="no kernel"):
        segment(volume, annotations, NAMES, preset("fast", **TINY, iterations=3))


def test_tells_which_labelled_classes_are_left_to_geometry(ball):
    volume, labels, annotations = ball
    trainer = Trainer(preset("fast", **TINY, iterations=1), [TrainingCase(volume, annotations)], NAMES | {3: "absent"})
    assert trainer.untaught == ["ball", "rod"]
    trainer.method.network_for_prediction.class_fit[2] = 0.6
    assert trainer.untaught == ["ball"]
    supervised = preset("fast", **TINY, method="supervised", iterations=1)
    assert Trainer(supervised, [TrainingCase(volume, annotations)], NAMES).untaught == []


def test_same_seed_same_weights_other_seed_others(ball):
    first, second, other = (run(trainer_of(ball, iterations=4, seed=seed)) for seed in (1, 1, 2))
    weights = [trainer.method.state_dict() for trainer in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


@pytest.mark.parametrize("method", ["vq-seg", "ua-mt"])
def test_resumes_exactly(ball, tmp_path, method):
    volume, _, annotations = ball
    straight = run(trainer_of(ball, iterations=8, method=method))
    halted = run(trainer_of(ball, iterations=8, method=method), steps=5)
    halted.save(tmp_path / "checkpoint")
    resumed = run(Trainer.load(tmp_path / "checkpoint", [TrainingCase(volume, annotations)]))
    assert resumed.step_index == 8
    expected = straight.method.state_dict()
    for name, value in resumed.method.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_aligns_to_several_priors_and_resumes_exactly(ball, tmp_path, monkeypatch):
    for name in ("dinov2", "mae"):
        spec = PRIORS[name]
        shallow = dataclasses.replace(spec, options={**spec.options, "depth": 1})
        monkeypatch.setitem(PRIORS, name, shallow)
        save_file(shallow.build().state_dict(), tmp_path / f"{name}.safetensors")
    trainer = trainer_of(ball, prior="dinov2+mae", prior_path=str(tmp_path), iterations=20)
    assert 0 < trainer.step().losses["alignment"] < np.log(15 * 15)
    trainer.save(tmp_path / "checkpoint")
    expected = trainer.step().losses
    resumed = Trainer.load(tmp_path / "checkpoint", [TrainingCase(ball[0], ball[2])])
    assert resumed.step().losses == expected
    assert Predictor.load(tmp_path / "checkpoint").preview(ball[0], 8).labels.shape == ball[0].shape[1:]


def test_tells_how_the_codebook_settles_and_training_takes_no_notice(ball, monkeypatch):
    unwatched = run(trainer_of(ball, iterations=12))
    monkeypatch.setattr("vqseg.train.LOOK_EVERY", 2)
    trainer = trainer_of(ball, iterations=12)
    reports = [trainer.step() for _ in range(12)]
    assert all(0 <= report.revived <= TINY["codebook_size"] for report in reports)
    assert any(report.revived for report in reports)
    drifts = [report.drift for report in reports]
    assert drifts[:2] == [None, None]
    assert all(0 <= drift <= 1 for drift in drifts[2:])
    assert drifts[2] == drifts[3]
    for name, value in unwatched.method.state_dict().items():
        assert torch.equal(value, trainer.method.state_dict()[name]), name
    supervised = trainer_of(ball, iterations=1, method="supervised").step()
    assert (supervised.revived, supervised.drift) == (None, None)


def test_checkpoint_predicts_alike_without_the_trainer(ball, tmp_path):
    volume, _, annotations = ball
    trainer = run(trainer_of(ball, iterations=4))
    trainer.save(tmp_path / "checkpoint")
    loaded = Predictor.load(tmp_path / "checkpoint", "cpu")
    here, there = trainer.predictor().predict(volume, annotations), loaded.predict(volume, annotations)
    assert (here.labels == there.labels).all()
    assert loaded.class_names == NAMES
    assert loaded.predict(volume).labels.shape == volume.shape


def test_checkpoint_of_other_weights_is_refused(ball, tmp_path):
    trainer = run(trainer_of(ball, iterations=1))
    trainer.save(tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "checkpoint.json"
    file.write_text(file.read_text().replace('"codebook_size": 64', '"codebook_size": 32'))
    with pytest.raises(CheckpointError, match="do not fit"):
        Predictor.load(tmp_path / "checkpoint", "cpu")


def test_budget_is_time_on_the_clock_and_a_paused_clock_pauses_it(ball):
    volume, _, annotations = ball
    now = iter(np.arange(0, 1000, 0.5))
    config = preset("fast", **{**TINY, "time_budget_s": 2.0})
    trainer = Trainer(config, [TrainingCase(volume, annotations)], NAMES, clock=lambda: float(next(now)))
    reports = [trainer.step() for _ in range(4)]
    assert trainer.finished
    assert [report.progress for report in reports] == [0.0, 0.25, 0.5, 0.75]
    assert trainer.schedule.time_left_s == 0


def test_warm_up_comes_on_top_and_learns_the_image(ball):
    volume, _, annotations = ball
    now = iter(np.arange(0, 1000, 0.5))
    config = preset("fast", **{**TINY, "time_budget_s": 1.0, "warmup_s": 1.5})
    trainer = Trainer(config, [TrainingCase(volume, annotations)], NAMES, clock=lambda: float(next(now)))
    reports = []
    while not trainer.finished:
        reports.append(trainer.step())
    assert ["segmentation" in report.losses for report in reports] == [False] * 3 + [True] * 2


def test_the_time_budget_cannot_be_taken_away_while_training(ball):
    trainer = trainer_of(ball, time_budget_s=60.0)
    with pytest.raises(ConfigError, match="time_budget_s and iterations are 0"):
        trainer.update_settings(time_budget_s=0.0)
    assert 0 <= trainer.step().progress < 1


@pytest.mark.parametrize("settings", [{"method": "supervised"}, {"image_branch": False}])
def test_warm_up_without_an_image_decoder_is_refused(ball, settings):
    with pytest.raises(ConfigError, match="set warmup_s to 0"):
        trainer_of(ball, iterations=1, warmup_s=1.0, **settings)


def test_live_settings_take_effect_and_others_are_refused(ball):
    trainer = trainer_of(ball, iterations=10)
    trainer.update_settings(epsilon=0.2, use_unlabelled=False)
    assert trainer.method.config.model.epsilon == 0.2
    trainer.step()
    with pytest.raises(ConfigError, match="cannot change while training"):
        trainer.update_settings(codebook_size=32)


def test_corrections_are_used_from_the_next_step(ball):
    volume, labels, annotations = ball
    trainer = trainer_of(ball, iterations=10)
    trainer.step()
    corrected = Annotations.from_slices(labels, [*annotations.complete, 5])
    trainer.update_annotations(0, corrected)
    assert 5 in trainer.cases[0].labels
    assert (0, 5) not in trainer.sampler.unlabelled
    trainer.step()


def test_a_checkpoint_goes_on_with_smaller_batches_and_slices(ball, tmp_path):
    volume, _, annotations = ball
    cases = [TrainingCase(volume, annotations)]
    before = Trainer(preset("fast", **TINY, iterations=4), cases, NAMES)
    before.step()
    before.update_settings(epsilon=0.3)
    before.save(tmp_path / "checkpoint")
    after = Trainer.load(tmp_path / "checkpoint", cases, config=before.config.replace(batch_x=1, batch_u=1, size=48))
    assert after.step_index == 1
    assert after.config.data.batch_x == 1
    assert after.config.model.epsilon == 0.3
    assert after.cases[0].size == tuple(max(32, round(side * 48 / 64)) for side in before.cases[0].size)
    for name, value in before.method.state_dict().items():
        assert torch.equal(after.method.state_dict()[name], value), name
    assert after.step().step == 2


def test_label_values_may_have_gaps(ball, tmp_path):
    volume, labels, _ = ball
    gapped = np.where(labels == 2, 5, labels).astype(np.uint8)
    annotations = Annotations.from_slices(gapped, [2, 8, 13])
    prediction, trainer = segment(volume, annotations, {1: "ball", 5: "rod"}, preset("fast", **TINY, iterations=60))
    assert set(np.unique(prediction.labels)) == {0, 1, 5}
    found, truth = prediction.labels == 5, gapped == 5
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85
    trainer.save(tmp_path / "checkpoint")
    again = Trainer.load(tmp_path / "checkpoint", [TrainingCase(volume, annotations)])
    assert [value for value, name in again.class_names.items() if name] == [1, 5]


def test_the_last_labels_of_one_case_may_go_while_another_has_some(ball):
    volume, _, annotations = ball
    cases = [TrainingCase(volume, annotations), TrainingCase(volume, annotations.copy())]
    trainer = Trainer(preset("fast", **TINY, iterations=4), cases, NAMES)
    trainer.step()
    trainer.update_annotations(1, Annotations.empty(volume.shape))
    assert {case for case, _ in trainer.sampler.labelled} == {0}
    trainer.step()
    with pytest.raises(AnnotationError, match="No slice is labelled"):
        trainer.update_annotations(0, Annotations.empty(volume.shape))
    assert trainer.cases[0].annotations is annotations


def test_numbers_that_are_not_finite_end_the_training_before_they_reach_the_weights(ball):
    trainer = trainer_of(ball, iterations=4, method="supervised")
    trainer.step()
    before = copy.deepcopy(dict(trainer.method.student.named_parameters()))
    losses = trainer.method.losses
    trainer.method.losses = lambda *batch: {name: loss * np.nan for name, loss in losses(*batch).items()}
    with pytest.raises(TrainingError, match="not finite at step 2; start it again"):
        trainer.step()
    for name, weight in trainer.method.student.named_parameters():
        assert torch.equal(weight, before[name]), name


def test_unusable_labels_are_refused(ball):
    volume, labels, _ = ball
    with pytest.raises(AnnotationError, match="No slice is labelled"):
        Trainer(preset("fast"), [TrainingCase(volume, Annotations.empty(volume.shape))], NAMES)
    with pytest.raises(AnnotationError, match="class 2"):
        Trainer(preset("fast"), [TrainingCase(volume, Annotations.from_slices(labels, [8]))], {1: "ball"})
    with pytest.raises(ConfigError, match="time_budget_s and iterations"):
        trainer_of(ball)


def test_preview_is_plain_at_zero_and_varies_behind_the_perturbation(ball):
    volume, _, annotations = ball
    predictor = run(trainer_of(ball, iterations=30)).predictor()
    plain = predictor.preview(volume, 8)
    assert plain.labels.shape == volume.shape[1:] and (plain.stability == 1).all()
    shaken = predictor.preview(volume, 8, epsilon=0.9, draws=8, seed=3)
    again = predictor.preview(volume, 8, epsilon=0.9, draws=8, seed=3)
    assert shaken.stability.min() < 1
    assert (shaken.stability == again.stability).all()


def test_stability_is_a_share_of_however_many_draws(ball):
    predictor = run(trainer_of(ball, iterations=2)).predictor()
    stability = predictor.preview(ball[0], 8, epsilon=0.01, draws=300).stability
    assert stability.max() == 1
    assert stability.min() > 0.3  # of three labels one has a third of the draws


def test_the_last_complete_slice_may_go_while_others_are_predicted(ball, monkeypatch):
    volume, _, _ = ball
    predictor = run(trainer_of(ball, iterations=1)).predictor()
    case, interpolate = predictor.prepare(volume), ShapePrior.at

    def at(shape, *arguments, **options):
        case.shape = None  # as the training's thread does when it is told of changed labels
        return interpolate(shape, *arguments, **options)

    monkeypatch.setattr(ShapePrior, "at", at)
    shape = case.shape
    predictor.preview(volume, 5)
    case.shape = shape
    assert predictor.predict_slices(volume).labels.shape == volume.shape


@pytest.mark.parametrize("learned", [False, True])
def test_far_from_the_labels_geometry_speaks_alone_only_for_what_the_network_has_not_learned(learned):
    labels = np.zeros((9, 48, 48), np.uint8)
    labels[:, 16:32, 16:32] = 1
    volume = Volume(labels * np.float32(100), StoredLayout((48, 48, 9), np.diag([-1.0, -1.0, 20.0, 1.0])))
    annotations = Annotations.from_slices(labels, [0, 8])
    trainer = Trainer(preset("fast", **TINY, iterations=1), [TrainingCase(volume, annotations)], {1: "rod"})
    network = trainer.method.network_for_prediction
    with torch.no_grad():
        network.segmentation_decoder.head.bias.copy_(torch.tensor([-50.0, 50.0]))
    network.class_fit.fill_(float(learned))
    found = trainer.predictor().preview(volume, 4).labels
    assert (found == (1 if learned else labels[4])).all()


def test_a_copied_predictor_keeps_its_weights_and_shares_the_volume(ball):
    volume, _, _ = ball
    trainer = trainer_of(ball, iterations=6)
    run(trainer, steps=3)
    kept = copy.deepcopy(trainer.predictor())
    before = kept.preview(volume, 5).confidence
    run(trainer)
    assert (kept.preview(volume, 5).confidence == before).all()
    assert kept.prepare(volume) is trainer.cases[0]


def test_prediction_can_be_stopped_and_tells_its_progress(ball):
    volume, _, annotations = ball
    predictor = run(trainer_of(ball, iterations=2)).predictor()
    shares = []
    prediction = predictor.predict(volume, annotations, keep_probabilities=True, on_progress=shares.append)
    assert shares[-1] == 1.0 and shares == sorted(shares)
    np.testing.assert_allclose(prediction.probabilities.astype(np.float32).sum(0), 1, atol=5e-3)
    stopped = predictor.predict_slices(volume, should_stop=lambda: True)
    assert not stopped.labels.any()


def test_the_slices_nearest_to_the_shown_one_come_first_and_each_chunk_has_a_turn(ball):
    volume, _, annotations = ball
    predictor = run(trainer_of(ball, iterations=2)).predictor()
    turns = []

    @contextmanager
    def turn():
        turns.append(1)
        yield

    halfway = predictor.predict_slices(
        volume, annotations, nearest_to=5, turn=turn, should_stop=lambda: len(turns) == 1
    )
    told = []
    whole = predictor.predict_slices(
        volume, annotations, nearest_to=5, turn=turn, on_slices=lambda slices, labels: told.append((slices, labels))
    )
    assert told[0][0] == [5, 4, 6, 3]
    for slices, labels in told:
        np.testing.assert_array_equal(labels, whole.labels[slices])
    assert len(turns) == 1 + -(-volume.shape[0] // CHUNK)
    first = range(5 - CHUNK // 2, 5 + CHUNK // 2)
    done = halfway.uncertainty.any((1, 2))
    assert np.flatnonzero(done).tolist() == list(first)
    np.testing.assert_array_equal(halfway.labels[first], whole.labels[first])
    entropy = scipy.stats.entropy(predictor.predict(volume, keep_probabilities=True).probabilities.astype(float))
    np.testing.assert_allclose(
        predictor.predict_slices(volume).uncertainty, entropy / np.log(len(NAMES) + 1), atol=4e-3
    )


def test_says_when_the_window_hides_what_is_labelled(ball):
    assert not trainer_of(ball, iterations=1).warnings
    [warning] = trainer_of(ball, iterations=1, window_level_hu=5000.0, window_width_hu=100.0).warnings
    assert "4950 to 5050" in warning and "choose another window" in warning


@pytest.mark.parametrize("method", ["vq-seg", "ua-mt"])
def test_previews_in_the_midst_of_steps_leave_the_weights_the_same_to_the_bit(ball, method):
    settings = {"method": method, "iterations": 4, "unlabelled_from": 0.0}
    undisturbed = run(trainer_of(ball, **settings))
    trainer = trainer_of(ball, **settings)
    twin, pauses = [], []

    def pause():
        pauses.append(len(pauses))
        if pauses[-1] % 40 == 0:
            twin[0].preview(ball[0], len(pauses) % 16, epsilon=0.7, draws=2)

    while not trainer.finished:
        twin[:] = [copy.deepcopy(trainer.predictor())]
        before = len(pauses)
        trainer.step(pause)
        assert len(pauses) - before > 50
    count = len(pauses)
    twin[0].preview(ball[0], 3)
    trainer.predictor().preview(ball[0], 3)
    assert len(pauses) == count, "nothing pauses outside the steps"
    for name, expected in undisturbed.method.state_dict().items():
        assert torch.equal(trainer.method.state_dict()[name], expected), name


def test_a_prediction_that_pauses_is_the_same_and_pauses_within_each_chunk(ball):
    volume, _, annotations = ball
    predictor = run(trainer_of(ball, iterations=2)).predictor()
    pauses = []
    found = predictor.predict_slices(volume, annotations, pause=lambda: pauses.append(1))
    assert len(pauses) > 20 * volume.shape[0] / CHUNK
    np.testing.assert_array_equal(found.uncertainty, predictor.predict_slices(volume, annotations).uncertainty)


def test_gaps_between_label_values_cost_nothing(ball, tmp_path):
    volume, labels, _ = ball
    table = np.array([0, 5, 200], np.uint8)
    names, config = {5: "ball", 200: "rod"}, preset("fast", **TINY, iterations=3)
    gapped = Annotations.from_slices(table[labels], [2, 8, 13])
    prediction, trainer = segment(volume, gapped, names, config, keep_probabilities=True)
    same, _ = segment(volume, Annotations.from_slices(labels, [2, 8, 13]), NAMES, config, keep_probabilities=True)
    assert (prediction.labels == table[same.labels]).all()
    assert (prediction.probabilities == same.probabilities).all()
    seen = survey_codebook(trainer.predictor(), volume, prediction.labels).class_voxels.sum(0)
    assert [seen[value] for value in (0, 5, 200)] == np.bincount(same.labels.ravel(), minlength=3).tolist()
    trainer.save(tmp_path / "model")
    predictor = Predictor.load(tmp_path / "model")
    assert (predictor.n_classes, predictor.values) == (2, [5, 200])
    assert set(np.unique(predictor.preview(volume, 8).labels)) <= {0, 5, 200}
    assert (predictor.predict(volume, gapped).labels == prediction.labels).all()
    resumed = Trainer.load(tmp_path / "model", [TrainingCase(volume, gapped)])
    resumed.update_annotations(0, Annotations.from_slices(table[labels], [2, 8]))
    assert set(torch.cat([item.flatten() for item in resumed.cases[0].labels.values()]).tolist()) == {0, 1, 2}
