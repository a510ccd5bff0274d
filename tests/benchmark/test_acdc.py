import json

import pytest
import torch

from vqseg.benchmark import acdc
from vqseg.benchmark.cohort_training import CohortRun, predict
from vqseg.benchmark.time_limit import UNFINISHED
from vqseg.errors import ConfigError, VolumeError


def options(data, output, methods="supervised", **extra):
    given = {"labelled": 1, "seeds": 0, "iterations": 3, "batch": 2, "size": 32, "device": "cpu", **extra}
    flags = [item for name, value in given.items() for item in (f"--{name.replace('_', '-')}", value)]
    return ["--data", data, "--output", output, "--methods", methods, *flags]


def test_patients_are_split_by_the_lists(acdc_folder):
    cohort = acdc.load_cohort(acdc_folder, "1")
    assert [case.patient for case in cohort.labelled] == ["patient001"]
    assert [case.patient for case in cohort.unlabelled] == ["patient000", "patient002", "patient003"]
    assert [case.patient for case in cohort.evaluation] == ["patient004", "patient005"]
    assert acdc.load_cohort(acdc_folder, "all").unlabelled == []
    assert len(acdc.load_cohort(acdc_folder, "1", acdc_folder).evaluation) == 6
    with pytest.raises(VolumeError, match="labelled_2_patients"):
        acdc.load_cohort(acdc_folder, "2")


def test_table_is_made_once(acdc_folder, tmp_path, parse, capsys):
    args = parse(acdc, *options(acdc_folder, tmp_path / "out", "supervised,fully-supervised"))
    assert acdc.run(args) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [(row["method"], row["labelled"]) for row in rows] == [("supervised", "1"), ("fully-supervised", "all")]
    assert rows[0]["n_volumes"] == 2
    table = (tmp_path / "out" / "table.md").read_text()
    assert "Shortened" in table
    assert "| `supervised` |" in table
    assert ".415 a" not in table  # one labelled patient: nothing is published
    assert "UniMatch's release" in table
    stamp = (tmp_path / "out" / "results.json").stat().st_mtime_ns
    assert acdc.run(args) == 0
    assert (tmp_path / "out" / "results.json").stat().st_mtime_ns == stamp


def test_time_limit_saves_and_goes_on_exactly(acdc_folder, tmp_path, parse, capsys):
    whole = parse(acdc, *options(acdc_folder, tmp_path / "whole", "ua-mt"))
    assert acdc.run(whole) == 0
    parts = parse(acdc, *options(acdc_folder, tmp_path / "parts", "ua-mt", time_limit=0))  # one step a call
    assert [acdc.run(parts) for _ in range(3)] == [UNFINISHED, UNFINISHED, 0]
    first, second = (
        json.loads((tmp_path / name / "results.json").read_text())["rows"][0] for name in ("whole", "parts")
    )
    assert first["per_class"] == second["per_class"]
    assert first["hd95_mm"] == second["hd95_mm"]


def test_it_learns(acdc_folder):
    cohort = acdc.load_cohort(acdc_folder, "1")
    run = CohortRun(
        "supervised", cohort, 4, seed=0, iterations=60, batch=2, size=32, device=torch.device("cpu")
    )  # fmt: skip
    first = run.step()["total"]
    while not run.finished:
        last = run.step()["total"]
    assert last < 0.6 * first
    case = cohort.evaluation[0]
    labels = predict(run.method.network_for_prediction, case, 32, run.device)
    assert labels.shape == case.label.shape
    assert (labels == case.label).mean() > 0.8


def test_every_method_runs_with_settings_of_its_own(acdc_folder, tmp_path, parse, capsys):
    variants = "unimatch,bcp,vq-seg:codebook_size=32:code_dim=8:perturbation=dropout"
    assert acdc.run(parse(acdc, *options(acdc_folder, tmp_path / "out", variants, iterations=2))) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == variants.split(",")


def test_unknown_methods_are_refused_before_training(acdc_folder, tmp_path, parse):
    with pytest.raises(ConfigError, match="Unknown method 'unet'"):
        acdc.run(parse(acdc, *options(acdc_folder, tmp_path / "out", "unet")))
