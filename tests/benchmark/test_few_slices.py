import json
import sys

import nibabel as nib
import numpy as np
import pytest

from vqseg.benchmark import few_slices
from vqseg.errors import ConfigError, VolumeError, VQSegError


@pytest.fixture
def folder(tmp_path):
    """A bright cone and a dark rod, values 2 and 7, slices 2..13 of 16."""
    z, y, x = np.meshgrid(np.arange(16), np.arange(40), np.arange(48), indexing="ij")
    within = (z >= 2) & (z <= 13)
    labels = np.zeros(z.shape, np.uint8)
    labels[within & (np.hypot(y - 20, x - 16) < 5 + z / 3)] = 2
    labels[within & (np.hypot(y - 20, x - 38) < 4)] = 7
    noise = np.random.default_rng(0).normal(0, 10, z.shape)
    image = (np.select([labels == 2, labels == 7], [200, -200], 0) + noise).astype(np.int16)
    path = tmp_path / "cone"
    path.mkdir()
    for name, array in (("image", image), ("mask", labels)):
        stored = array.transpose(2, 1, 0)[::-1, ::-1]
        nib.save(nib.Nifti1Image(stored, np.diag([1.0, 1.0, 2.0, 1.0])), path / f"{name}.nii.gz")
    return path


def test_slices_span_the_extent_with_both_ends():
    labels = np.zeros((20, 2, 2), np.uint8)
    labels[4:15, 0, 0] = 1
    assert few_slices.evenly_spaced(labels, 3) == [4, 9, 14]
    assert few_slices.evenly_spaced(labels, 2) == [4, 14]
    assert few_slices.evenly_spaced(labels, 50) == list(range(4, 15))
    with pytest.raises(VolumeError):
        few_slices.evenly_spaced(labels * 0, 3)


def test_a_crop_in_a_folder_of_crops_has_a_name(folder, tmp_path, monkeypatch):
    for kind in ("image", "mask"):
        (tmp_path / "crops" / kind).mkdir(parents=True)
        (folder / f"{kind}.nii.gz").rename(tmp_path / "crops" / kind / "nodule.nii.gz")
    assert few_slices.load_subject(str(tmp_path / "crops" / "nodule")).labels.shape == (16, 40, 48)
    monkeypatch.setenv("VQSEG_TEST_DATA", str(tmp_path))
    assert few_slices.load_subject("crops/nodule").name == "nodule"
    with pytest.raises(VolumeError):
        few_slices.load_subject("crops/absent")


def test_classes_are_numbered_without_gaps(folder):
    subject = few_slices.load_subject(str(folder))
    assert set(np.unique(subject.labels)) == {0, 1, 2}
    assert list(subject.class_names) == [1, 2]
    assert set(np.unique(few_slices.load_subject(str(folder), [7]).labels)) == {0, 1}


@pytest.mark.parametrize("method", ["interpolation", "registration", "random-forest", "unet"])
def test_baselines_label_the_whole_volume(folder, method):
    if method == "random-forest":
        pytest.importorskip("sklearn")
    row = few_slices.measure(few_slices.load_subject(str(folder)), method, k=4, budget_s=1.0, seed=0)
    assert row["slices"] == [2, 6, 9, 13]
    assert 0 <= row["dice"] <= 1
    assert row["dice"] > {"interpolation": 0.9, "registration": 0.9, "random-forest": 0.8, "unet": -1}[method]
    assert len(row["per_class"]) == 2


def test_rows_are_measured_once_and_listed(folder, tmp_path, parse, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vqseg", "benchmark", "few-slices"])
    args = parse(
        few_slices, "--volumes", folder, "--slices", "3,4", "--methods", "interpolation", "--budgets", "1,2",
        "--seeds", "0,1", "--output", tmp_path / "out",
    )  # fmt: skip
    assert few_slices.run(args) == 0
    lines = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["k"] for line in lines] == [3, 4]  # neither seed nor budget matter here
    with (tmp_path / "out" / "rows.jsonl").open("a") as file:
        file.write('{"volume": "cut o')
    assert few_slices.run(args) == 0
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 3
    table = (tmp_path / "out" / "table.md").read_text()
    assert "`vqseg benchmark few-slices`" in table
    assert table.count("`interpolation`") == 2


def test_short_budgets_and_first_seeds_come_first(folder, tmp_path, parse):
    args = parse(
        few_slices, "--volumes", folder, "--slices", "3,5", "--methods", "interpolation,unet,vq-seg",
        "--budgets", "30,60", "--seeds", "0,1", "--output", tmp_path,
    )  # fmt: skip
    subject = few_slices.load_subject(str(folder))
    jobs = [job for _, job in few_slices._jobs(args, [subject], ["interpolation", "unet", "vq-seg"])]
    assert [(job["budget_s"], job["seed"]) for job in jobs if job["method"] == "unet" and job["k"] == 3] == [
        (30, 0), (30, 1), (60, 0), (60, 1),
    ]  # fmt: skip


def test_the_cpu_clock_counts_what_the_process_computes(folder):
    row = few_slices.measure(few_slices.load_subject(str(folder)), "unet", 4, 1.0, 0, clock="cpu")
    assert row["cpu_s"] >= 1.0


def test_time_limit_leaves_rows_for_the_next_call(folder, tmp_path, parse, capsys):
    args = parse(
        few_slices, "--volumes", folder, "--slices", "3", "--methods", "interpolation", "--time-limit", "-1",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert few_slices.run(args) == 75
    args.time_limit = 100
    assert few_slices.run(args) == 0


@pytest.mark.parametrize(
    "wrong", [("--seeds", "one"), ("--budgets", "0"), ("--slices", "3.5"), ("--classes", "liver"), ("--budgets", "nan")]
)
def test_lists_of_numbers_hold_numbers(folder, tmp_path, parse, wrong):
    with pytest.raises(ConfigError, match=f"{wrong[0]} is '{wrong[1]}'; give"):
        few_slices.run(parse(few_slices, "--volumes", folder, *wrong, "--output", tmp_path))


def test_a_row_that_cannot_be_measured_is_no_success(folder, tmp_path, parse, capsys, monkeypatch):
    def absent(*_):
        raise VQSegError("The random forest needs scikit-learn; install napari-vqseg[benchmark].")

    monkeypatch.setitem(few_slices.BASELINES, "random-forest", absent)
    args = parse(few_slices, "--volumes", folder, "--slices", "3", "--budgets", "1", "--seeds", "0",
                 "--methods", "random-forest,interpolation", "--output", tmp_path)  # fmt: skip
    with pytest.raises(VQSegError, match="1 row could not be measured"):
        few_slices.run(args)
    said = capsys.readouterr()
    assert "needs scikit-learn" in said.err
    assert "`interpolation`" in said.out


def test_unknown_methods_are_refused(folder, tmp_path, parse):
    with pytest.raises(ConfigError, match="Unknown method 'magic'"):
        few_slices.run(parse(few_slices, "--volumes", folder, "--methods", "magic", "--output", tmp_path))
