"""Predicting and evaluating many images: real processes, a bad image among good ones, the table of what became."""

import csv
import json
from contextlib import contextmanager

import nibabel
import numpy as np
import pytest

from vqseg.annotations import Annotations, SliceState
from vqseg.cli import main
from vqseg.cli.predict import Job, Predicted, predict_image
from vqseg.cohort import Image
from vqseg.config import preset
from vqseg.data import TrainingCase
from vqseg.io import read_volume
from vqseg.train import Trainer


@pytest.fixture
def cohort(tmp_path):
    """Two images, one that is none, and a checkpoint."""
    images, truth = tmp_path / "images", tmp_path / "truth"
    images.mkdir()
    truth.mkdir()
    i, j, k = np.indices((40, 36, 8))
    ball = np.hypot(np.hypot(i - 20, j - 18), 3 * (k - 4)) < 10
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    for number in (1, 2):
        noise = np.random.default_rng(number).normal(0, 10, ball.shape)
        nibabel.save(nibabel.Nifti1Image((ball * 200 + noise).astype(np.int16), affine), images / f"ct{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(ball.astype(np.uint8), affine), truth / f"ct{number}.nii.gz")
    (images / "bad.nii.gz").write_bytes(b"no image")
    volume = read_volume(images / "ct1.nii.gz").load()
    labels = read_volume(truth / "ct1.nii.gz").load().array
    settings = {"size": 64, "codebook_size": 64, "time_budget_s": 0, "iterations": 30, "device": "cpu"}
    case = TrainingCase(volume, Annotations.from_slices(labels, [2, 4, 6]))
    trainer = Trainer(preset("fast", **settings), [case], {1: "ball"})
    while not trainer.finished:
        trainer.step()
    trainer.save(tmp_path / "model")
    return tmp_path


@pytest.mark.slow
def test_a_folder_is_predicted_and_compared_and_what_fails_is_told(cohort, capsys):
    masks = cohort / "masks"
    arguments = [str(cohort / "model"), str(cohort / "images"), "--output", str(masks), "--device", "cpu"]
    assert main(["predict", *arguments, "--uncertainty", str(cohort / "doubt"), "--json"]) == 2
    output, errors = capsys.readouterr()
    assert errors.count("\n") == 1
    assert "1 of 3 images failed" in errors
    result = json.loads(output.splitlines()[-1])
    assert {row["name"]: row["status"] for row in result["results"]} == {"bad": "failed", "ct1": "done", "ct2": "done"}
    with (masks / "results.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert "bad.nii.gz" in rows["bad"]["error"]
    for name in ("ct1", "ct2"):
        mask = nibabel.load(masks / f"{name}.nii.gz")
        assert np.allclose(mask.affine, nibabel.load(cohort / "images" / f"{name}.nii.gz").affine)
        assert float(rows[name]["ball [mL]"]) == pytest.approx(np.asarray(mask.dataobj).sum() * 3 / 1000, rel=1e-5)
        assert (cohort / "doubt" / f"{name}.nii.gz").is_file()

    unknown = ["--min-volume", "spleen=1", "--output", str(cohort / "more")]
    assert main(["predict", *arguments[:2], *unknown]) == 2
    _, errors = capsys.readouterr()
    assert errors.count("\n") == errors.count("no class 'spleen' to clean up; choose from ball") == 1
    assert not (cohort / "more").exists()

    (cohort / "truth" / "ct3.nii.gz").write_bytes((cohort / "truth" / "ct2.nii.gz").read_bytes())
    scores = cohort / "scores.csv"
    assert main(["evaluate", str(masks), str(cohort / "truth"), "--output", str(scores), "--json"]) == 2
    output, errors = capsys.readouterr()
    assert "1 of 3 pairs" in errors
    with scores.open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert "no segmentation called ct3" in rows["ct3"]["error"]
    dice = [float(rows[name]["dice"]) for name in ("ct1", "ct2")]
    assert min(dice) > 0.5
    mean = json.loads(output.splitlines()[-1])["classes"]["ball"]["dice"]
    assert mean == pytest.approx(np.mean(dice), abs=1e-5)


@pytest.fixture
def last_first(monkeypatch):
    """Work that is done here and now, and ends in the opposite order."""

    @contextmanager
    def cluster_of(*_):
        yield lambda work, jobs: [(job, work(job)) for job in reversed(jobs)]

    for verb in ("predict", "evaluate"):
        monkeypatch.setattr(f"vqseg.cli.{verb}.cluster_of", cluster_of)


def test_tables_keep_the_order_of_the_files_whichever_is_done_first(tmp_path, last_first, monkeypatch, capsys):
    names = ["a", "b", "c"]
    for folder in ("images", "masks", "truth", "model"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(names):
        labels = np.full((6, 5, 4), 3 - number, np.uint8)
        for folder in ("images", "masks", "truth"):
            nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / folder / f"{name}.nii.gz")

    assert main(["evaluate", str(tmp_path / "masks"), str(tmp_path / "truth"), "--json",
                 "--output", str(tmp_path / "scores.csv")]) == 0  # fmt: skip
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(result["classes"]) == ["3", "2", "1"]
    assert [row["name"] for row in result["results"]] == names

    (tmp_path / "model" / "checkpoint.json").write_text("{}")
    answer = Predicted([], {1: "ball", 2: "box"}, {1: 0.5, 2: 0.0}, (), 1.0)
    monkeypatch.setattr("vqseg.cli.predict.predict_image", lambda job: answer)
    assert main(["predict", str(tmp_path / "model"), str(tmp_path / "images"), "--output", str(tmp_path / "out")]) == 0
    assert "c: not found: box\n" in capsys.readouterr().err
    for table in (tmp_path / "scores.csv", tmp_path / "out" / "results.csv"):
        with table.open(newline="") as file:
            assert [row["name"] for row in csv.DictReader(file)] == names


def test_a_process_that_predicts_again_takes_the_network_that_lies_there_now(tmp_path):
    image = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((32, 32, 4), np.int16), np.diag([-1.0, -1.0, 3.0, 1.0])), image)
    case = TrainingCase(read_volume(image).load(), Annotations.empty((4, 32, 32)))
    case.annotations.mark(0, SliceState.COMPLETE)
    settings = {"size": 32, "codebook_size": 16, "time_budget_s": 0, "iterations": 1, "device": "cpu"}
    job = Job(tmp_path / "model", Image("ct", image), tmp_path / "mask.nii.gz", None, None, "cpu")
    for names in ({1: "ball"}, {1: "ball", 2: "box"}):
        Trainer(preset("fast", **settings), [case], names).save(job.checkpoint)
        assert predict_image(job).names == names


@pytest.mark.parametrize(("arguments", "words"), [
    (["predict", "{0}/model", "{0}/images", "--output", "{0}/one.nii.gz"], "3 images cannot share the output"),
    (["predict", "{0}/model", "{0}/images/ct1.nii.gz", "--output", "{0}/one.nii.gz", "--uncertainty", "{0}/folder"],
     "must end in .nii.gz"),
    (["predict", "{0}/model", "{0}/images", "--output", "{0}/images"], "also an input"),
    (["predict", "{0}/model", "{0}/images", "--output", "{0}/masks", "--workers", "0"], "--workers is 0"),
    (["predict", "{0}/model", "{0}/images", "--output", "{0}/masks", "--tls-ca", "x"], "belong together"),
    (["predict", "{0}/model", "{0}/nowhere", "--output", "{0}/masks"], "nowhere does not exist"),
    (["predict", "{0}/truth", "{0}/images", "--output", "{0}/masks"], "truth holds no trained network"),
    (["evaluate", "{0}/images/ct1.nii.gz"], "the reference is missing"),
    (["evaluate", "{0}/images", "{0}/truth", "--exclude-slices", "3"], "are for one pair"),
])  # fmt: skip
def test_what_cannot_be_is_said_before_any_work(tmp_path, arguments, words, capsys):
    for folder, names in (("images", ("ct1", "ct2", "ct3")), ("truth", ("ct1",)), ("model", ())):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.nii.gz").write_bytes(b"x")
    (tmp_path / "model" / "checkpoint.json").write_text("{}")
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    assert words in capsys.readouterr().err
    assert (tmp_path / "images" / "ct1.nii.gz").read_bytes() == b"x"
    assert not (tmp_path / "masks").exists()
