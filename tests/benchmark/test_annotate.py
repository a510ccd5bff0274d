"""The simulated annotator: who labels what, and that nothing is measured twice."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest

from vqseg.benchmark import annotate
from vqseg.benchmark.few_slices import load_subject
from vqseg.errors import ConfigError


@pytest.fixture
def files(tmp_path):
    """A ball of 24 slices in a volume of 30, and its reference."""
    z, y, x = np.indices((30, 40, 40))
    ball = ((z - 15) * 1.5) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 17**2
    image = (ball * 300 + np.random.default_rng(0).normal(0, 20, ball.shape)).astype(np.int16)
    for name, array in (("image", image), ("mask", ball.astype(np.uint8))):
        nib.save(
            nib.Nifti1Image(array.transpose(2, 1, 0)[::-1, ::-1], np.diag([1, 1, 1.5, 1])), tmp_path / f"{name}.nii"
        )
    return tmp_path / "image.nii", tmp_path / "mask.nii"


def test_a_row_scores_the_volume_and_says_what_to_label_next(files):
    subject = load_subject(f"{files[0]}={files[1]}")
    row = annotate.measure(subject, [8, 15, 22], steps=3, seed=0, suggestions=3)
    assert 0 <= row["dice_unlabelled"] < row["dice"] < 1, "drawn slices count as drawn"
    assert len(set(row["ranking"])) == 3
    assert not {8, 15, 22} & set(row["ranking"])


def test_without_steps_the_shape_is_interpolated(files):
    subject = load_subject(f"{files[0]}={files[1]}")
    row = annotate.measure(subject, [6, 15, 24], steps=0, seed=0, suggestions=4)
    assert row == annotate.measure(subject, [6, 15, 24], steps=0, seed=1, suggestions=4) | {"cpu_s": row["cpu_s"]}
    more = annotate.measure(subject, [6, 15, 24, *row["ranking"]], steps=0, seed=0, suggestions=4)
    assert 0.8 < row["dice"] < more["dice"] < 1


@pytest.fixture
def counted(monkeypatch):
    """Rows without a network: the next slices are the lowest free ones; which rows were measured."""
    asked = []

    def measure(subject, slices, steps, seed, suggestions):
        asked.append((seed, tuple(slices)))
        free = [z for z in range(30) if z not in slices]
        scores = {"dice": 0.5 + len(slices) / 100 + seed / 1000, "hd95_mm": 2.0, "dice_unlabelled": 0.4, "cpu_s": 0.0}
        return {"slices": sorted(slices), **scores, "ranking": free[:suggestions]}

    monkeypatch.setattr(annotate, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["vqseg", "benchmark", "annotate"])
    return asked


def test_strategies_begin_alike_and_go_their_ways(files, tmp_path, parse, capsys, counted):
    args = parse(annotate, *files, "--slices", "7", "--seeds", "0,1", "--output", tmp_path / "out")
    assert annotate.run(args) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    by = {(row["strategy"], row["seed"], row["k"]): row["slices"] for row in rows}
    assert len(rows) == len(by) == 2 * (1 + 3 * 2)
    start = by["start", 0, 3]
    assert start == by["start", 1, 3]
    assert by["ranking", 0, 5] == sorted([*start, 0, 1])
    assert by["ranking", 0, 7] == sorted([*start, 0, 1, 2, 3])
    assert set(start) < set(by["random", 0, 5]) < set(by["random", 0, 7])
    assert by["random", 0, 5] != by["random", 1, 5]
    assert by["even", 0, 7] == by["even", 1, 7]
    assert not set(by["even", 0, 7]) >= set(by["even", 0, 5])
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| 3 | 2 | 0.530 ± 0.001 / 2.0 ± 0.0 | 0.530 ± 0.001" in table
    assert "`vqseg benchmark annotate`" in table


def test_nothing_is_measured_twice(files, tmp_path, parse, capsys, counted):
    output = tmp_path / "out"
    args = parse(annotate, *files, "--slices", "7", "--seeds", "0", "--time-limit", "-1", "--output", output)
    assert annotate.run(args) == 75
    assert counted == []
    args = parse(annotate, *files, "--slices", "7", "--seeds", "0", "--strategies", "ranking", "--output", output)
    assert annotate.run(args) == 0
    with (output / "rows.jsonl").open("a") as file:
        file.write('{"volume": "cut o')
    args = parse(annotate, *files, "--slices", "7", "--seeds", "0", "--output", output)
    assert annotate.run(args) == 0
    assert len(counted) == len(set(counted)) == 7


def test_the_first_slices_may_lie_inside_the_extent(files, tmp_path, parse, capsys, counted):
    shared = [*files, "--slices", "5", "--seeds", "0", "--output", tmp_path / "out"]
    assert annotate.run(parse(annotate, *shared, "--strategies", "random")) == 0
    assert annotate.run(parse(annotate, *shared, "--strategies", "random", "--inset", "0.25")) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    outer, inner = (row["slices"] for row in rows if row["strategy"] == "start")
    quarter = round((outer[-1] - outer[0]) / 4)
    assert inner == [outer[0] + quarter, outer[1], outer[-1] - quarter]
    assert "| 0.0 | 3 |" in capsys.readouterr().out


def test_what_cannot_be_simulated_is_refused(files, tmp_path, parse):
    with pytest.raises(ConfigError, match="Unknown strategy magic"):
        annotate.run(parse(annotate, *files, "--strategies", "magic", "--output", tmp_path))
    with pytest.raises(ConfigError, match="--start"):
        annotate.run(parse(annotate, *files, "--start", "9", "--slices", "5", "--output", tmp_path))
    with pytest.raises(ConfigError, match="--inset"):
        annotate.run(parse(annotate, *files, "--inset", "0.5", "--output", tmp_path))
