"""Which files make a cohort, and the table of what became of them."""

import csv
import json
from pathlib import Path

import pytest

from vqseg.cohort import images_in, pairs_in, write_table
from vqseg.errors import VQSegError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names_and_paths(folder, *paths):
    return {image.name: str(image.path.relative_to(folder)) for image in images_in([folder / path for path in paths])}


def test_files_folders_and_series_are_told_apart(tmp_path):
    touch(tmp_path, "one.nii.gz", "many/a.nii.gz", "many/b.NRRD", "many/a.json", "many/.hidden.nii", "many/notes/x")
    touch(tmp_path, "patients/p1/0001.dcm", "patients/p1/0002.dcm", "patients/p2/ct.nii", "series/IM1")
    assert names_and_paths(tmp_path, "one.nii.gz", "many") == {
        "one": "one.nii.gz", "a": "many/a.nii.gz", "b": "many/b.NRRD",
    }  # fmt: skip
    assert names_and_paths(tmp_path, "patients") == {"p1": "patients/p1", "ct": "patients/p2/ct.nii"}
    assert names_and_paths(tmp_path, "series") == {"series": "series"}
    with pytest.raises(VQSegError, match="several files are called a;"):
        images_in([tmp_path / "many", tmp_path / "many" / "a.nii.gz"])


def test_manifests(tmp_path):
    list_ = tmp_path / "list.csv"
    list_.write_text("\ufeffimage,name,axis\nsub/ct.nii.gz,first,2\n/abs/ct.nii.gz,,\n", encoding="utf-8")
    first, second = images_in([list_])
    assert (first.name, first.path, first.axis) == ("first", tmp_path / "sub/ct.nii.gz", 2)
    assert (second.name, second.path, second.axis) == ("ct", Path("/abs/ct.nii.gz"), None)
    for text, words in (
        ("file\nx.nii\n", "has no column image"),
        ("image,nmae\nx.nii,y\n", "mean nothing here: nmae"),
        ("image,axis\nx.nii,z\n", "axis 'z'"),
        ("image\n", "there are no images"),
    ):
        list_.write_text(text)
        with pytest.raises(VQSegError, match=words):
            images_in([list_])
    list_.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VQSegError, match="is no table; save it"):
        images_in([list_])


def test_pairs_by_name_and_from_a_manifest(tmp_path):
    touch(tmp_path, "masks/a.nii.gz", "masks/b.nii.gz", "truth/a.nii", "truth/c.nrrd")
    pairs = {pair.name: (pair.prediction, pair.reference) for pair in pairs_in(tmp_path / "masks", tmp_path / "truth")}
    assert pairs == {
        "a": (tmp_path / "masks/a.nii.gz", tmp_path / "truth/a.nii"),
        "b": (tmp_path / "masks/b.nii.gz", None),
        "c": (None, tmp_path / "truth/c.nrrd"),
    }
    (tmp_path / "pairs.csv").write_text("prediction,reference,exclude_slices\nmasks/a.nii.gz,truth/a.nii,3 9\n")
    [pair] = pairs_in(tmp_path / "pairs.csv", None)
    assert (pair.name, pair.exclude_slices, pair.reference) == ("a", "3 9", tmp_path / "truth/a.nii")


def test_tables_have_the_columns_of_all_rows(tmp_path):
    rows = [{"name": "a", "error": "bad"}, {"name": "b", "dice": float("nan"), "path": Path("x")}]
    for name in ("table.csv", "table.json"):
        write_table(tmp_path / name, rows)
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"name": "a", "error": "bad", "dice": "", "path": ""}, {"name": "b", "error": "", "dice": "", "path": "x"},
        ]  # fmt: skip
    assert json.loads((tmp_path / "table.json").read_text())[1] == {"name": "b", "dice": None, "path": "x"}


def test_a_table_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(VQSegError, match=r"scores\.csv could not be written"):
        write_table(tmp_path / "file" / "scores.csv", [{"name": "a"}])
    write_table(tmp_path / "new" / "scores.csv", [{"name": "a"}])
    assert (tmp_path / "new" / "scores.csv").read_text() == "name\na\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_list_from_any_spreadsheet_is_read(tmp_path, delimiter):
    touch(tmp_path, "a.nii.gz")
    (tmp_path / "list.csv").write_text(delimiter.join(("image", "name")) + "\n" + delimiter.join(("a.nii.gz", "first")))
    assert names_and_paths(tmp_path, "list.csv") == {"first": "a.nii.gz"}


@pytest.mark.parametrize("name", ["../outside", "a/b", "a\\b"])
def test_a_name_never_leads_out_of_the_output_folder(tmp_path, name):
    (tmp_path / "list.csv").write_text(f"image,name\na.nii.gz,{name}\n")
    with pytest.raises(VQSegError, match="would lie in another folder"):
        images_in([tmp_path / "list.csv"])
