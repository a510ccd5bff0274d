import json

import numpy as np
import pytest
import torch

from vqseg.benchmark import acdc
from vqseg.benchmark.cohort import UNFINISHED, CohortRun, predict
from vqseg.errors import ConfigError, VolumeError


@pytest.fixture
def data(tmp_path):
    """Six patients with bright discs, two slices each, in the layout of ACDC."""
    folder = tmp_path / "acdc"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = []
    for patient in range(6):
        label = np.zeros((2, 40, 36), np.uint8)
        y, x = np.ogrid[:40, :36]
        distance = np.hypot(y - 20, x - 14 - patient)
        label[:, distance < 12] = 1
        label[:, distance < 8] = 2
        label[:, distance < 4] = 3
        image = (60 * label + rng.integers(0, 30, label.shape)).astype(np.uint8)
        names.append(f"patient{patient:03d}_frame01")
        np.savez(folder / f"{names[-1]}.npz", image=image, label=label)
    (folder / "train.list").write_text("\n".join(names[:4]) + "\n")
    (folder / "val.list").write_text("\n".join(names[4:]) + "\n")
    (folder / "labelled_1_patients.txt").write_text("patient001\n")
    return folder


def options(data, output, methods="supervised", **extra):
    given = {"labelled": 1, "seeds": 0, "iterations": 3, "batch": 2, "size": 32, "device": "cpu", **extra}
    flags = [item for name, value in given.items() for item in (f"--{name.replace('_', '-')}", value)]
    return ["--data", data, "--output", output, "--methods", methods, *flags]


def test_patients_are_split_by_the_lists(data):
    cohort = acdc.load_cohort(data, "1")
    assert [case.patient for case in cohort.labelled] == ["patient001"]
    assert [case.patient for case in cohort.unlabelled] == ["patient000", "patient002", "patient003"]
    assert [case.patient for case in cohort.evaluation] == ["patient004", "patient005"]
    assert acdc.load_cohort(data, "all").unlabelled == []
    assert len(acdc.load_cohort(data, "1", data).evaluation) == 6
    with pytest.raises(VolumeError, match="labelled_2_patients"):
        acdc.load_cohort(data, "2")


def test_table_is_made_once(data, tmp_path, parse, capsys):
    args = parse(acdc, *options(data, tmp_path / "out", "supervised,fully-supervised"))
    assert acdc.run(args) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [(row["method"], row["labelled"]) for row in rows] == [("supervised", "1"), ("fully-supervised", "all")]
    assert rows[0]["n_volumes"] == 2
    table = (tmp_path / "out" / "table.md").read_text()
    assert "Shortened" in table
    assert "0.914" in table
    stamp = (tmp_path / "out" / "results.json").stat().st_mtime_ns
    assert acdc.run(args) == 0
    assert (tmp_path / "out" / "results.json").stat().st_mtime_ns == stamp


def test_time_limit_saves_and_goes_on_exactly(data, tmp_path, parse, capsys):
    whole = parse(acdc, *options(data, tmp_path / "whole", "ua-mt"))
    assert acdc.run(whole) == 0
    parts = parse(acdc, *options(data, tmp_path / "parts", "ua-mt", time_limit=0))  # one step a call
    assert [acdc.run(parts) for _ in range(3)] == [UNFINISHED, UNFINISHED, 0]
    first, second = (
        json.loads((tmp_path / name / "results.json").read_text())["rows"][0] for name in ("whole", "parts")
    )
    assert first["per_class"] == second["per_class"]
    assert first["hd95_mm"] == second["hd95_mm"]


def test_it_learns(data):
    cohort = acdc.load_cohort(data, "1")
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


def test_every_method_runs_with_settings_of_its_own(data, tmp_path, parse, capsys):
    variants = "unimatch,bcp,vq-seg:codebook_size=32:code_dim=8:perturbation=dropout"
    assert acdc.run(parse(acdc, *options(data, tmp_path / "out", variants, iterations=2))) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == variants.split(",")


def test_unknown_methods_are_refused_before_training(data, tmp_path, parse):
    with pytest.raises(ConfigError, match="Unknown method 'unet'"):
        acdc.run(parse(acdc, *options(data, tmp_path / "out", "unet")))
