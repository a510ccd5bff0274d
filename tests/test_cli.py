"""The command line, from arguments to files and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

import vqseg
from vqseg.annotations import Annotations
from vqseg.cli import VERBS, main
from vqseg.cli.benchmark import tables
from vqseg.cli.cleaning import Wish, rules_for
from vqseg.cli.console import table
from vqseg.cli.labels import LabelValues
from vqseg.cli.parser import parse_slices
from vqseg.client import Engine
from vqseg.components import CleanUp
from vqseg.config import Config
from vqseg.errors import AnnotationError, CheckpointError, EngineError
from vqseg.io import read_labels, read_volume, write_segmentation
from vqseg.project import Project, RunState
from vqseg.train import Trainer

QUICK = ["--time-budget", "2", "--set", "size=64", "--set", "encoder=conv", "--set", "codebook_size=64", "--quiet"]
"""A training too short to learn much; what is tested is everything around it."""


@dataclass(frozen=True)
class Files:
    """A small CT with labels, on disk."""

    folder: Path
    image: Path
    labels: Path
    n_slices: int

    @property
    def output(self) -> Path:
        return self.folder / "whole.nii.gz"

    def segment(self, *options: str, slices: str = "3,9") -> list[str]:
        common = ["segment", str(self.image), str(self.labels), "--output", str(self.output), "--slices", slices]
        return [*common, *QUICK, *options]


def stored(array: np.ndarray, affine: np.ndarray, codes: str) -> nibabel.Nifti1Image:
    """An RAS array (i, j, k) as a file of another orientation would hold it."""
    transform = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes)))
    image = nibabel.Nifti1Image(nibabel.orientations.apply_orientation(array, transform),
                                affine @ inv_ornt_aff(transform, array.shape))  # fmt: skip
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=2)
    return image


def make_files(folder: Path, codes: str = "RAS", values: tuple[int, int] = (1, 2), dtype: str = "uint8") -> Files:
    i, j, k = np.meshgrid(np.arange(48), np.arange(40), np.arange(14), indexing="ij")
    labels = np.zeros(i.shape, dtype)
    labels[(i - 16) ** 2 + (j - 20) ** 2 < 80 + 6 * k] = values[0]
    labels[(i - 34) ** 2 + (j - 18) ** 2 < 60 - 2 * k] = values[1]
    image = -900.0 + 600 * (labels == values[0]) + 950 * (labels == values[1])
    image += np.random.default_rng(0).normal(0, 20, image.shape)
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    affine[:3, 3] = [-20, 10, 55]
    paths = folder / "ct.nii.gz", folder / "labels.nii.gz"
    nibabel.save(stored(image.astype(np.int16), affine, codes), paths[0])
    nibabel.save(stored(labels, affine, codes), paths[1])
    return Files(folder, *paths, n_slices=14)


@pytest.fixture
def files(tmp_path) -> Files:
    return make_files(tmp_path)


def array_of(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


def last_json(text: str) -> dict:
    return json.loads(text.splitlines()[-1])


# ---------------------------------------------------------------- help and slices


def test_help_teaches(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "not a medical device" in text
    for verb in VERBS:
        assert verb in text


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "benchmark"])
def test_every_verb_shows_examples(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert f"vqseg {verb}" in capsys.readouterr().out.partition("examples:")[2]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vqseg {vqseg.__version__}\n"


@pytest.mark.parametrize(("text", "expected"), [
    ("3,9,15", [3, 9, 15]),
    ("15, 3,9", [3, 9, 15]),
    ("3-7", [3, 4, 5, 6, 7]),
    ("0-1,5", [0, 1, 5]),
    ("4-4", [4]),
])  # fmt: skip
def test_lists_of_slices(text, expected):
    assert parse_slices(text) == expected


@pytest.mark.parametrize(("text", "words"), [
    ("", "empty"),
    (",,", "empty"),
    ("3,three", "'three' is not a slice"),
    ("-3", "'-3' is not a slice"),
    ("1.5", "'1.5' is not a slice"),
    ("7-3", "write 3-7"),
    ("3,9,3", "slice 3 is listed twice"),
    ("3-5,4", "slice 4 is listed twice"),
    ("3-99999999999", "beyond any image"),
])  # fmt: skip
def test_lists_of_slices_that_make_no_sense(text, words):
    with pytest.raises(AnnotationError, match=words):
        parse_slices(text)


def test_label_values_go_there_and_back():
    labels = np.array([0, 5, 300, 70000, 5])
    known = LabelValues.of(labels)
    classes = known.to_classes(labels)
    assert classes.tolist() == [0, 1, 2, 3, 1]
    assert known.to_labels(classes).tolist() == labels.tolist()
    assert known.to_labels(classes).dtype == np.uint32
    assert LabelValues.of(np.array([2])).to_classes(np.array([0, 1, 2, 3])).tolist() == [0, 0, 1, 0]


# ---------------------------------------------------------------- errors: one line, exit code 2, no work lost


def error_of(arguments: list[str], capsys) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("vqseg: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(("options", "words"), [
    (["--slices", "3,99"], "slice 99 is outside the image; its slices run from 0 to 13 along axis 2"),
    (["--slices", "3,14-99999"], "slices 14, 15, 16, 17, 18, 19, 20, 21 and 99978 more are outside the image"),
    (["--slices", "3,3"], "listed twice"),
    (["--epsilon", "2"], "epsilon is 2.0; it must lie between 0 and 1"),
    (["--epsilon", "much"], "must be a number"),
    (["--method", "magic"], "invalid choice"),
    (["--set", "size"], "has no value"),
    (["--set", "sizes=3"], "unknown setting 'sizes'"),
    (["--set", "use_unlabelled=perhaps"], "true or false"),
    (["--time-budget", "0"], "time budget is 0"),
    (["--output", "whole.txt"], "must end in .nii.gz or .nii"),
    (["--slices-file", "slices.txt"], "not allowed with argument"),
    (["--bogus"], "unrecognized arguments"),
])  # fmt: skip
def test_wrong_options(files, options, words, capsys):
    assert words in error_of(files.segment(*options), capsys)
    assert not files.output.exists()


def test_no_verb_and_no_slices(files, capsys):
    assert "required: VERB" in error_of([], capsys)
    assert "--slices" in error_of(["segment", str(files.image), str(files.labels), "--output", "x.nii.gz"], capsys)


def test_missing_and_broken_inputs(files, capsys):
    arguments = files.segment()
    arguments[1] = str(files.folder / "nothing.nii.gz")
    assert "does not exist" in error_of(arguments, capsys)
    files.image.write_bytes(files.image.read_bytes()[:2000])
    assert "ct.nii.gz" in error_of(files.segment(), capsys)


def test_labels_on_other_voxels(files, capsys):
    nibabel.save(nibabel.Nifti1Image(np.ones((48, 40, 13), np.uint8), np.diag([1, 1, 3, 1])), files.labels)
    assert "The shape of the labels is (13, 40, 48)" in error_of(files.segment(), capsys)


@pytest.mark.parametrize(("value", "words"), [
    (0.5, "fractions in the labels"),
    (-1, "values from -1 to 2 in the labels"),
    (np.nan, "not numbers in the labels"),
    (300.5, "not whole numbers from 0 in the labels"),
    (np.inf, "not whole numbers from 0 in the labels"),
])  # fmt: skip
def test_labels_that_are_no_labels(files, value, words, capsys):
    array = array_of(files.labels).astype(np.float32)
    array[0, 0, 0] = value
    nibabel.save(nibabel.Nifti1Image(array, nibabel.load(files.labels).affine), files.labels)
    assert words in error_of(files.segment(), capsys)


def test_a_file_has_no_series_to_choose(files, capsys):
    assert "ct.nii.gz is one image" in error_of(files.segment("--series", "2"), capsys)


@pytest.mark.parametrize(("options", "words"), [
    (["--slices", "0"], "from 1 to 6 slices"),
    (["--slices", "7"], "from 1 to 6 slices"),
    (["--size", "8", "64", "64"], "choose at least 16x32x32"),
    (["--time-budget", "-1"], "time_budget_s is -1.0"),
    (["--time-budget", "0"], "give it some seconds with --time-budget"),
])  # fmt: skip
def test_a_demo_that_cannot_be(tmp_path, options, words, capsys):
    assert words in error_of(["demo", "--output", str(tmp_path / "demo"), "--no-window", *options], capsys)
    assert not list(tmp_path.iterdir())


def test_a_demo_takes_no_project_away_that_is_another_or_on_show(tmp_path, capsys):
    demo = ["demo", "--output", str(tmp_path), "--no-window"]
    project = Project.create(tmp_path / "project", "Mine", ["lung"])
    assert "is no demo; choose another folder" in error_of(demo, capsys)
    project.info["demo"] = True
    project.save()
    project.lock()
    assert "is in use by another window" in error_of(demo, capsys)
    assert Project.is_project(project.path)
    project.unlock()


def test_listed_slices_without_any_label(files, capsys):
    affine, array = nibabel.load(files.image).affine, array_of(files.labels).copy()
    array[..., :5], array[..., 8:] = 0, 0
    nibabel.save(nibabel.Nifti1Image(array, affine), files.labels)
    assert "no listed slice holds any label; along axis 2 there are labels in slices 5 to 7" in error_of(
        files.segment(), capsys
    )
    nibabel.save(nibabel.Nifti1Image(np.zeros_like(array), affine), files.labels)
    for slices in ("3,9", "all"):
        assert "holds no label at all" in error_of(files.segment(slices=slices), capsys)


@pytest.mark.parametrize(("output", "words"), [
    ("ct.nii.gz", "also an input"),
    ("labels.nii.gz", "also an input"),
    ("folder.nii.gz", "is a folder"),
    ("file/whole.nii.gz", "cannot write to"),
])  # fmt: skip
def test_outputs_are_checked_before_training(files, output, words, monkeypatch, capsys):
    (files.folder / "file").write_text("not a folder")
    (files.folder / "folder.nii.gz").mkdir()
    before = files.image.read_bytes(), files.labels.read_bytes()
    there = sorted(files.folder.iterdir())
    model = files.folder / "new" / "model"
    assert words in error_of(files.segment("--output", str(files.folder / output), "--checkpoint", str(model)), capsys)
    assert "slice 99 is outside" in error_of(files.segment("--checkpoint", str(model), slices="99"), capsys)
    assert (files.image.read_bytes(), files.labels.read_bytes()) == before
    assert sorted(files.folder.iterdir()) == there, "nothing is made of what cannot be"


def test_ctrl_c_keeps_what_was_learnt_where_a_checkpoint_is_asked_for(files, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vqseg.cli.console.Console.training", interrupt)
    arguments = [word for word in files.segment("--checkpoint", str(files.folder / "model")) if word != "--quiet"]
    assert main(arguments) == 130
    assert "what was learnt so far is in" in capsys.readouterr().err
    assert not files.output.exists()
    assert main(["predict", str(files.folder / "model"), str(files.image), "--output", str(files.output)]) == 0
    assert files.output.exists()


def test_ctrl_c_in_the_prediction_keeps_what_was_learnt(files, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vqseg.predict.Predictor.predict", interrupt)
    assert main(files.segment("--checkpoint", str(files.folder / "model"))) == 130
    assert (files.folder / "model" / "checkpoint.json").is_file()
    assert not files.output.exists()


def test_a_training_that_was_killed_goes_on_from_its_checkpoint_as_if_it_had_not_been(files, monkeypatch, capsys):
    class KilledError(BaseException):
        pass

    def kill(console, report):
        if report.step == 5:
            raise KilledError

    model, steps = files.folder / "model", ["--set", "time_budget_s=0", "--set", "iterations=8"]
    assert main(files.segment(*steps)) == 0
    whole = array_of(files.output)
    files.output.unlink()
    monkeypatch.setattr("vqseg.schedule.CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr("vqseg.schedule.CHECKPOINT_SHARE", float("inf"))
    with monkeypatch.context() as killed:
        killed.setattr("vqseg.cli.console.Console.training", kill)
        with pytest.raises(KilledError):
            main(files.segment("--checkpoint", str(model), *steps))
    capsys.readouterr()
    resume = ["segment", str(files.image), str(files.labels), "--output", str(files.output), "--resume"]
    assert "give that folder" in error_of([*resume, "--slices", "3,9"], capsys)
    resume += ["--checkpoint", str(model)]
    assert "leave out --time-budget, --set" in error_of(files.segment("--resume", "--checkpoint", str(model)), capsys)
    assert "with other labelled slices" in error_of([*resume, "--slices", "3,8", "--quiet"], capsys)
    assert main([*resume, "--slices", "3,9", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(event["step"] for event in events if "step" in event) == 5
    assert events[-1]["steps"] == 8
    assert np.array_equal(array_of(files.output), whole)


def test_a_disk_that_refuses_the_checkpoint_on_the_way_does_not_end_the_training(files, monkeypatch, capsys):
    def refuse(trainer, path, **notes):
        if not trainer.finished:
            raise CheckpointError("The checkpoint could not be written (No space left on device); make room there.")
        save(trainer, path, **notes)

    save = Trainer.save
    monkeypatch.setattr(Trainer, "save", refuse)
    monkeypatch.setattr("vqseg.schedule.CHECKPOINT_EVERY_S", 0.0)
    arguments = files.segment("--checkpoint", str(files.folder / "model"))
    assert main([word for word in arguments if word != "--quiet"]) == 0
    assert capsys.readouterr().err.count("goes on meanwhile") == 1
    assert (files.folder / "model" / "checkpoint.json").is_file()


def test_a_mask_that_cannot_be_written_does_not_take_the_training_along(files, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vqseg.io.nifti.write", full)
    assert "No space left" in error_of(files.segment("--checkpoint", str(files.folder / "model")), capsys)
    assert (files.folder / "model" / "checkpoint.json").is_file()
    assert not [path for path in files.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
def test_sigterm_ends_a_command_as_ctrl_c_does(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("vqseg.cli.info.run", lambda args: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)))
    assert main(["info", "x"]) == 130
    assert capsys.readouterr().err == "vqseg: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_file_of_another_program_beside_the_output_stays(files, capsys):
    (files.folder / "whole.json").write_text('{"Modality": "CT"}')
    assert "whole.json would be replaced" in error_of(files.segment(), capsys)
    assert (files.folder / "whole.json").read_text() == '{"Modality": "CT"}'


def test_a_damaged_checkpoint_or_project_is_told_in_a_sentence(tmp_path, capsys):
    (tmp_path / "checkpoint.json").write_text("{")
    assert "checkpoint.json is damaged" in error_of(["info", str(tmp_path)], capsys)
    (tmp_path / "project.json").write_text('{"kind": "project", "schema": 1}')
    assert "project.json is damaged" in error_of(["info", str(tmp_path)], capsys)
    assert "nowhere is no project" in error_of(["train", str(tmp_path / "nowhere")], capsys)


def test_a_table_of_scores_has_a_known_ending_and_slices_are_read_from_a_file_that_is_there(files, capsys):
    pair = [str(files.labels), str(files.labels)]
    assert "must end in .csv or .json" in error_of(["evaluate", *pair, "--output", "scores.txt"], capsys)
    arguments = [word for word in files.segment() if word not in ("--slices", "3,9")]
    assert "check the path, or give --slices" in error_of([*arguments, "--slices-file", "nowhere.txt"], capsys)


def test_one_file_for_two_outputs(files, capsys):
    assert "two outputs" in error_of(files.segment("--uncertainty", str(files.output)), capsys)


def test_a_checkpoint_takes_no_mask_along(files, capsys):
    model = files.folder / "model"
    inside = ["--checkpoint", str(model), "--output", str(model / "whole.nii.gz")]
    assert "would lie in the checkpoint's folder" in error_of(files.segment(*inside), capsys)
    model.mkdir()
    (model / "checkpoint.json").write_text("{}")
    (model / "of another image.nii.gz").write_bytes(b"predicted with it")
    assert "holds other files" in error_of(files.segment("--checkpoint", str(model)), capsys)


def test_a_checkpoint_never_replaces_other_files(files, capsys):
    assert "holds other files" in error_of(files.segment("--checkpoint", str(files.folder)), capsys)
    assert files.image.exists()


def test_a_device_that_is_missing(files, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert "cuda" in error_of(files.segment("--device", "cuda"), capsys).lower()


@pytest.mark.parametrize(("error", "code", "words"), [
    (KeyboardInterrupt(), 130, "interrupted"),
    (MemoryError(), 2, "out of memory; train with a smaller"),
    (RuntimeError("CUDA out of memory."), 2, "out of memory; choose --device cpu"),
    (OSError(28, "No space left on device", "whole.nii.gz"), 2, "No space left on device: whole.nii.gz"),
    (ZeroDivisionError("division by zero"), 2, "unexpected ZeroDivisionError"),
])  # fmt: skip
def test_what_else_may_happen(monkeypatch, error, code, words, capsys):
    def fail(args):
        raise error

    monkeypatch.setattr("vqseg.cli.info.run", fail)
    assert main(["info", "x"]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1


def test_closed_streams_are_no_error():
    command = f'exec "{sys.executable}" -m vqseg info --settings <&- >&- 2>&-'
    assert subprocess.run(command, shell=True, check=False, timeout=120).returncode == 0


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m vqseg info --settings | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("encoder")


# ---------------------------------------------------------------- segment


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SLA"])
def test_listed_slices_come_back_unchanged_where_they_were(tmp_path, codes):
    files = make_files(tmp_path, codes)
    axis = next(index for index, letter in enumerate(codes) if letter in "SI")
    assert main(files.segment(slices="3,9")) == 0
    before, after = nibabel.load(files.labels), nibabel.load(files.output)
    assert after.shape == before.shape
    assert np.array_equal(after.affine, before.affine)
    assert int(after.header["sform_code"]) == 1
    assert int(after.header["qform_code"]) == 2
    assert array_of(files.output).dtype == np.uint8
    for index in (3, 9):
        assert np.array_equal(array_of(files.output).take(index, axis), array_of(files.labels).take(index, axis))


def test_unlisted_labels_are_not_looked_at(files, capsys):
    """A class that only unlisted slices hold must not appear, and that is said."""
    array = array_of(files.labels).copy()
    array[20:30, 2:8, 11] = 7
    nibabel.save(nibabel.Nifti1Image(array, nibabel.load(files.labels).affine), files.labels)
    assert main([word for word in files.segment() if word != "--quiet"]) == 0
    assert set(np.unique(array_of(files.output))) <= {0, 1, 2}
    assert "being in no listed slice: 7\n" in capsys.readouterr().err


def test_label_values_with_gaps_and_beyond_a_byte_survive(tmp_path):
    files = make_files(tmp_path, values=(5, 1000), dtype="int16")
    assert main(files.segment()) == 0
    result = array_of(files.output)
    assert set(np.unique(result)) == {0, 5, 1000}
    assert result.dtype == np.uint16
    assert np.array_equal(result[..., [3, 9]], array_of(files.labels)[..., [3, 9]])


def test_another_axis(files):
    assert main(files.segment("--axis", "0", slices="14-16,34")) == 0
    assert np.array_equal(array_of(files.output)[[15, 34]], array_of(files.labels)[[15, 34]])


def test_labels_drawn_across_the_slices_are_not_taken_for_complete_slices(tmp_path, capsys):
    files = make_files(tmp_path, "LAS")  # i is stored from right to left, so the planes count from the other side
    labels = nibabel.load(files.labels)
    drawn = np.zeros(labels.shape, np.uint8)
    drawn[[13, 31]] = array_of(files.labels)[[13, 31]]
    nibabel.save(nibabel.Nifti1Image(drawn, labels.affine, labels.header), files.labels)
    assert "the labels lie in slices 13, 31 along axis 0" in error_of(files.segment(slices="all"), capsys)
    capsys.readouterr()
    listed = [option for option in files.segment(slices="3,99") if option != "--quiet"]
    assert main(listed) == 2, "a slice beyond the image stops it before the training"
    assert "warning: the labels lie in slices 13, 31 along axis 0" in capsys.readouterr().err
    assert main(files.segment("--axis", "0", slices="all")) == 0
    assert np.array_equal(array_of(files.output)[[13, 31]], drawn[[13, 31]])


def test_slices_from_a_file_and_an_empty_slice(files):
    array = array_of(files.labels).copy()
    array[..., 12] = 0
    nibabel.save(nibabel.Nifti1Image(array, nibabel.load(files.labels).affine), files.labels)
    listing = files.folder / "slices.txt"
    listing.write_text("3  # the first\n9\n\n12  # nothing here\n")
    arguments = files.segment()
    position = arguments.index("--slices")
    arguments[position : position + 2] = ["--slices-file", str(listing)]
    assert main(arguments) == 0
    assert not array_of(files.output)[..., 12].any()


def test_everything_that_can_be_written(files, capsys):
    paths = {name: files.folder / f"{name}.nii.gz" for name in ("probabilities", "uncertainty")}
    extra = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    model = files.folder / "model"
    assert main([*files.segment(*extra, "--checkpoint", str(model), "--json")]) == 0
    result = last_json(capsys.readouterr().out)
    assert result["event"] == "result"
    assert result["labelled_slices"] == [3, 9]
    assert result["steps"] > 0
    for path in result["written"]:
        assert Path(path).exists()
    probabilities = array_of(paths["probabilities"])
    assert probabilities.shape == (48, 40, 14, 3)
    assert np.allclose(probabilities.sum(axis=-1), 1, atol=0.02)
    assert array_of(paths["uncertainty"]).shape == (48, 40, 14)

    again = files.folder / "again.nii.gz"
    assert main(["predict", str(model), str(files.image), "--output", str(again), "--quiet"]) == 0
    assert set(np.unique(array_of(again))) <= {0, 1, 2}
    assert read_labels(again, read_volume(files.image)).names == {1: "1", 2: "2"}
    assert main(["info", str(model)]) == 0
    text = capsys.readouterr().out
    assert "train: method vq-seg," in text
    assert f"versions          napari-vqseg {vqseg.__version__}, torch" in text


def test_a_model_gives_the_values_back_that_its_labels_had(tmp_path):
    files = make_files(tmp_path, values=(3, 70000), dtype="int32")
    model = tmp_path / "model"
    steps = ["--set", "time_budget_s=0", "--set", "iterations=60"]  # however busy the machine is
    assert main(files.segment("--checkpoint", str(model), *steps)) == 0
    assert main(["predict", str(model), str(files.image), "--output", str(tmp_path / "again.nii.gz"), "--quiet"]) == 0
    assert set(np.unique(array_of(tmp_path / "again.nii.gz"))) == {0, 3, 70000}
    assert json.loads((tmp_path / "again.json").read_text())["labels"] == {"3": "3", "70000": "70000"}
    raw = array_of(tmp_path / "again.nii.gz")
    cleaned = ["--output", str(tmp_path / "clean.nii.gz"), "--quiet", "--min-volume", "70000=1e6"]
    assert main(["predict", str(model), str(files.image), *cleaned]) == 0
    assert np.array_equal(array_of(tmp_path / "clean.nii.gz"), np.where(raw == 70000, 0, raw))


def test_clean_up_leaves_labelled_slices(files, capsys):
    assert main([*files.segment("--min-volume", "1e6", "--fill-holes", "2"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["clean_up"]["2"] == {"keep_largest": 0, "min_volume_ml": 1e6, "fill_holes": True}
    result, labels = array_of(files.output), array_of(files.labels)
    assert np.flatnonzero(result.any(axis=(0, 1))).tolist() == [3, 9]
    assert np.array_equal(result[..., [3, 9]], labels[..., [3, 9]])


@pytest.mark.parametrize(("options", "words"), [
    (["--keep-largest", "some"], "--keep-largest is 'some'; give a whole number, or CLASS=a whole number"),
    (["--min-volume", "lung=-1"], "the volume is -1.0; it must be 0 or more"),
    (["--fill-holes", "spleen"], "there is no class 'spleen' to clean up; choose from"),
])  # fmt: skip
def test_clean_up_that_cannot_be(files, options, words, capsys):
    assert words.casefold() in error_of(files.segment(*options), capsys).casefold()
    assert not files.output.exists()


def test_clean_up_for_all_then_for_one_then_on_top_of_the_window():
    names = {1: "tumour", 2: "Left lung", 300: "spine"}
    wishes = (Wish("keep_largest", 2, "left LUNG"), Wish("keep_largest", 1), Wish("fill_holes", True, "300"))
    assert rules_for(wishes, names) == {1: CleanUp(1), 2: CleanUp(2), 300: CleanUp(1, fill_holes=True)}
    window = {1: CleanUp(3, 0.5), 2: CleanUp(1)}
    assert rules_for((Wish("keep_largest", 0),), names, window) == {1: CleanUp(0, 0.5)}


def test_a_dicom_segmentation_as_labels(make_ct, tmp_path, capsys):
    ct = make_ct(tmp_path / "ct")
    volume = read_volume(ct)
    labels = np.zeros(volume.shape, np.uint8)
    labels[3, 2:9, 3:9] = labels[7, 3:10, 3:9] = 2
    seg, output = tmp_path / "seg.dcm", tmp_path / "whole.nii.gz"
    write_segmentation(seg, labels, volume, {2: "liver"})
    common = ["segment", str(ct), str(seg), "--output", str(output), *QUICK]
    assert main([*common, "--slices", "all", "--json"]) == 0
    result = last_json(capsys.readouterr().out)
    assert (result["labelled_slices"], result["classes"]) == ([3, 7], {"2": "liver"})
    assert np.array_equal(read_labels(output, volume).array[[3, 7]], labels[[3, 7]])
    assert main(["evaluate", str(output), str(seg), "--json"]) == 0
    assert last_json(capsys.readouterr().out)["classes"]["2"]["name"] == "liver"
    other = make_ct(tmp_path / "other")
    common[1] = str(other)
    assert "another frame of reference" in error_of([*common, "--slices", "all"], capsys)


def test_progress_is_plain_lines_or_json_lines(files, capsys):
    arguments = [word for word in files.segment() if word != "--quiet"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "training" in captured.err
    assert "\r" not in captured.err
    assert captured.out.startswith("Wrote ")
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert {event["event"] for event in events} >= {"notice", "progress", "result"}
    assert main([*arguments, "--json", "--quiet"]) == 0
    [only] = capsys.readouterr().out.splitlines()
    assert json.loads(only)["event"] == "result"


def test_the_same_seed_and_steps_make_the_same_labels(files):
    options = ["--set", "time_budget_s=0", "--set", "iterations=4", "--device", "cpu"]
    results = []
    for seed in (1, 1):
        assert main(files.segment(*options, "--seed", str(seed))) == 0
        results.append(array_of(files.output))
    assert np.array_equal(results[0], results[1])


# ---------------------------------------------------------------- projects


@pytest.fixture
def project(files) -> Project:
    """A project with one case, two complete slices of it labelled."""
    volume = read_volume(files.image)
    made = Project.create(files.folder / "project", "Two rods", {1: "left", 2: "right"})
    case = made.add_case(volume)
    case.save_annotations(Annotations.from_slices(read_labels(files.labels, volume).array, [3, 9]))
    return made


def test_no_run_is_left_of_a_training_on_a_device_that_is_missing(project, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "'cuda' was asked for" in error_of(["train", str(project.path), "--device", "cuda"], capsys)
    assert not Project.open(project.path).runs


@pytest.mark.slow
def test_a_project_is_trained_predicted_asked_and_exported(project, files, capsys):
    folder = str(project.path)
    assert main(["train", folder, *QUICK, "--json"]) == 0
    result = last_json(capsys.readouterr().out)
    assert (result["state"], result["cases"]) == ("finished", ["case-001"])
    assert result["steps"] > 0

    assert main(["info", folder]) == 0
    assert "2 right" in capsys.readouterr().out
    assert main(["info", result["path"]]) == 0
    described = capsys.readouterr().out
    assert "numbers from 0 to 1" in described, "257 grey values would be no information"
    assert max(map(len, described.splitlines())) < 400
    assert main(["predict", folder, str(files.image), "--output", str(files.output)]) == 0
    capsys.readouterr()

    assert main(["suggest", folder, "--count", "2", "--json"]) == 0
    suggestions = last_json(capsys.readouterr().out)["suggestions"]
    assert 1 <= len(suggestions) <= 2
    assert all(0 <= item["slice"] < files.n_slices and item["slice"] not in (3, 9) for item in suggestions)

    assert main(["export", folder, "--what", "prediction", "--output", str(files.folder / "masks")]) == 0
    exported = nibabel.load(files.folder / "masks" / "case-001_prediction.nii.gz")
    assert np.array_equal(exported.affine, nibabel.load(files.image).affine)
    assert np.array_equal(np.asanyarray(exported.dataobj)[..., 3], array_of(files.labels)[..., 3])


def test_training_where_the_image_lies_elsewhere(project, files, capsys):
    moved = files.image.rename(files.folder / "moved.nii.gz")
    train = ["train", str(project.path), *QUICK, "--set", "time_budget_s=0", "--set", "iterations=2"]
    assert "`vqseg train --image`" in error_of(train, capsys)
    assert "not the image" in error_of([*train, "--image", str(files.labels)], capsys)
    assert "no case 'other'" in error_of([*train, "--image", f"other={moved}"], capsys)
    assert main([*train, "--image", f"case-001={moved}"]) == 0
    assert not project.locked
    assert main(train) == 0, "it is remembered"


def test_export_of_what_was_drawn(project, files):
    assert main(["export", str(project.path), "--output", str(files.folder / "masks"), "--quiet"]) == 0
    drawn = array_of(files.folder / "masks" / "case-001_labels.nii.gz")
    assert np.array_equal(drawn[..., [3, 9]], array_of(files.labels)[..., [3, 9]])
    assert not np.delete(drawn, [3, 9], axis=2).any()
    assert (files.folder / "masks" / "case-001_labels.json").exists()


@pytest.mark.parametrize("arguments", [
    ["export", "{project}", "--output", "{folder}/masks"],
    ["train", "{project}", *QUICK[2:-1], "--time-budget", "0", "--set", "iterations=1"],
])  # fmt: skip
def test_labels_are_not_taken_from_an_older_version_in_silence(project, files, arguments, capsys):
    case = project.case("case-001")
    case.save_annotations(case.load_annotations())
    case.annotations_path.write_bytes(b"junk")
    assert main([part.format(project=project.path, folder=files.folder) for part in arguments]) == 0
    assert "newest annotations of case-001 are damaged; the version saved before" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "words"), [
    (["train", "{project}", "--case", "nobody"], "no case 'nobody'"),
    (["train", "{project}", "--resume", "nothing"], "no run 'nothing'; its runs: none yet"),
    (["train", "{project}", "--resume", "r", "--time-budget", "9", "--set", "size=64"], "out --time-budget, --set"),
    (["train", "{project}", "--resume", "r", "--preset", "paper", "--case", "c"], "out --preset, --case"),
    (["suggest", "{project}"], "no trained run yet"),
    (["predict", "{project}", "{image}", "--output", "x.nii.gz"], "no trained run yet"),
    (["export", "{project}", "--what", "prediction", "--output", "{folder}/masks"], "no prediction yet"),
    (["train", "{folder}"], "is no project; choose the folder"),
])  # fmt: skip
def test_projects_that_cannot_do_that(project, files, arguments, words, capsys):
    places = {"project": project.path, "image": files.image, "folder": files.folder}
    assert words in error_of([argument.format(**places) for argument in arguments], capsys)


def test_an_engine_that_dies_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(EngineError, match="ended unexpectedly"), Engine(tmp_path / "engine.log"):
        pass


# ---------------------------------------------------------------- evaluate, info, benchmark


def test_evaluate(files, capsys):
    worse = array_of(files.labels).copy()
    worse[worse == 2] = 0
    worse[0, 0, 0] = 9
    other = files.folder / "worse.nii.gz"
    nibabel.save(nibabel.Nifti1Image(worse, nibabel.load(files.labels).affine), other)
    assert main(["evaluate", str(other), str(files.labels)]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["1"] == ["1.000", "1.000", "0.00", "0.00"]
    assert rows["2"] == ["0.000", "0.000", "nan", "nan"]
    assert rows["undefined"] == ["0", "0", "2", "2"]

    assert main(["evaluate", str(other), str(files.labels), "--exclude-slices", "0-13", "--json"]) == 0
    result = last_json(capsys.readouterr().out)
    assert result["mean"]["dice"] is None
    assert result["nan"]["dice"] == 3


def test_evaluate_takes_a_mask_of_0_and_255_for_one_class(files, capsys):
    image = nibabel.load(files.labels)
    one = (array_of(files.labels) == 1).astype(np.uint8)
    places = {}
    for name, factor in (("one", 1), ("mask", 255), ("three", 3)):
        places[name] = files.folder / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(one * np.uint8(factor), image.affine), places[name])
    for pair in (("one", "mask"), ("mask", "one")):
        assert main(["evaluate", *(str(places[name]) for name in pair), "--json"]) == 0
        out = capsys.readouterr().out
        assert "255 was read as 1" in out
        assert last_json(out)["classes"]["1"]["dice"] == 1
    assert main(["evaluate", str(places["mask"]), str(places["mask"]), "--json"]) == 0
    assert last_json(capsys.readouterr().out)["classes"]["255"]["dice"] == 1

    assert main(["evaluate", str(places["three"]), str(places["one"])]) == 0
    assert "no label value in common (prediction: 3; reference: 1)" in capsys.readouterr().err


def test_evaluate_tells_what_is_empty_and_what_is_called_otherwise(files, capsys):
    image = nibabel.load(files.labels)
    empty = files.folder / "empty.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros_like(array_of(files.labels)), image.affine), empty)
    full = files.labels
    for pair, told, dice in (((empty, full), "prediction", [0, 0]), ((full, empty), "reference", [0, 0]),
                             ((empty, empty), "reference", [])):  # fmt: skip
        assert main(["evaluate", *map(str, pair), "--json", "--output", str(files.folder / "scores.csv")]) == 0
        out = capsys.readouterr().out
        assert f"the {told} holds no label" in out
        assert [scores["dice"] for scores in last_json(out)["classes"].values()] == dice
        assert last_json(out)["nan"]["hd95_mm"] == len(dice)
    assert (files.folder / "scores.csv").read_text() == "name,status,error\nempty.nii.gz,done,\n"

    other = files.folder / "other.nii.gz"
    other.write_bytes(files.labels.read_bytes())
    for name, path in (("liver", files.labels), ("spleen", other)):
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({"labels": {"1": name}}))
    assert main(["evaluate", str(other), str(files.labels)]) == 0
    assert "label 1 is liver in the reference and spleen in the prediction" in capsys.readouterr().err


def test_distances_between_sheared_voxels_are_said_to_be_approximate(files, capsys):
    affine = nibabel.load(files.labels).affine.copy()
    affine[0, 2] = 1.0
    sheared = files.folder / "sheared.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array_of(files.labels), affine), sheared)
    assert main(["evaluate", str(sheared), str(sheared)]) == 0
    assert (
        "sheared by 18.4 degrees, as by gantry tilt; lengths across slices are approximate" in capsys.readouterr().err
    )


def test_info(files, capsys):
    assert main(["info", str(files.image), "--json"]) == 0
    result = last_json(capsys.readouterr().out)
    assert result["shape"] == [48, 40, 14]
    assert result["orientation"] == "RAS"
    assert (result["slice_axis"], result["slices"], result["slice_0_is"]) == (2, 14, "at the feet")
    assert result["warnings"] == [], "always a list, for machines"
    assert main(["info"]) == 2


def test_tables_put_numbers_to_the_right_and_words_to_the_left():
    assert table(["slice", "score", "why"], [["3", "0.5", "far"], ["12", "nan", "unsure around here"]]) == (
        "slice  score  why\n3        0.5  far\n12       nan  unsure around here"
    )


def test_info_on_a_checkpoint_of_many_cases_tells_their_ends(tmp_path, capsys):
    described = {"classes": {"1": "lung"}, "spacing_mm": [[3.0, 0.5 + index / 100, 0.5] for index in range(20)]}
    (tmp_path / "checkpoint.json").write_text(json.dumps(described))
    assert main(["info", str(tmp_path)]) == 0
    assert "60 numbers from 0.5 to 3" in capsys.readouterr().out


def test_info_tells_series_apart_by_the_number_that_chooses_one(make_ct, tmp_path, capsys):
    make_ct(tmp_path / "ct")
    for file in make_ct(tmp_path / "thin", SeriesNumber=1, SeriesDescription="Thin").iterdir():
        file.rename(tmp_path / "ct" / f"thin-{file.name}")
    assert main(["info", str(tmp_path / "ct")]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:3] for row in rows[1:]] == [["1", "Thin", "CT"], ["2", "Thorax", "CT"]]
    assert main(["info", str(tmp_path / "ct"), "--series", "1"]) == 0
    assert "slice axis   2" in capsys.readouterr().out


def test_training_tells_of_a_run_that_was_interrupted(project, capsys):
    train = ["train", str(project.path), "--time-budget", "0", "--set", "iterations=1", "--set", "size=64"]
    run = project.new_run(Config().replace(time_budget_s=0, iterations=1, size=64), ["case-001"])
    run.set_state(RunState.RUNNING)
    assert main([*train[:2], "--resume", run.id]) == 0
    errors = capsys.readouterr().err
    assert f"Run {run.id} was interrupted before its first checkpoint; it starts anew" in errors
    assert "predicting 100%" in errors
    assert " s left" not in errors, "before the first step nobody can tell"
    run.set_state(RunState.RUNNING)
    assert main(train) == 0
    assert f"--resume {run.id} would go on with it" in capsys.readouterr().err


def test_info_tells_interrupted_runs_and_what_is_unusual(project, files, capsys):
    run = project.new_run(Config(), ["case-001"])
    run.set_state(RunState.RUNNING)
    assert main(["info", str(project.path)]) == 0
    assert f"{run.id}  interrupted" in capsys.readouterr().out
    image = nibabel.load(files.image)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(nibabel.Nifti1Image(array_of(files.image), None, image.header), files.folder / "bare.nii.gz")
    assert main(["info", str(files.folder / "bare.nii.gz")]) == 0
    assert "warnings     The file states no orientation" in capsys.readouterr().out


def test_benchmarks_are_found_without_importing_them(capsys):
    assert all(sentence for sentence in tables().values())
    assert main(["benchmark", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in tables())


def test_info_of_a_project_with_a_damaged_case_tells_of_the_others(project, files, capsys):
    second = project.add_case(read_volume(files.image))
    second.annotations_path.write_bytes(b"junk")
    assert main(["info", str(project.path)]) == 0
    out = capsys.readouterr().out
    assert "case-001" in out
    assert "warning: case-002: annotations damaged" in out


def test_a_damaged_prediction_is_not_exported(project, files, capsys):
    run = project.new_run(Config(), ["case-001"])
    run.prediction_path("case-001").parent.mkdir(parents=True)
    run.prediction_path("case-001").write_bytes(b"\x93NUMPY")
    assert "is damaged; train again" in error_of(
        ["export", str(project.path), "--output", str(files.folder / "masks")], capsys
    )
    assert "--count is 0" in error_of(["suggest", str(project.path), "--count", "0"], capsys)
