"""What the verbs may replace: their own results as they wrote them, nothing else unless they are told to."""

import json

import nibabel
import numpy as np
import pytest

from vqseg.cli import main
from vqseg.cli.outputs import check_outputs
from vqseg.errors import VQSegError
from vqseg.io import read_volume, write_labels, write_map
from vqseg.io.nifti import is_as_written

REFUSED = "is there already, and not as vqseg wrote it; choose another output, or say --overwrite"


@pytest.fixture(params=[".nii.gz", ".nii"])
def written(request, tmp_path):
    """A CT and a mask of ours on its voxels."""
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.arange(8 * 7 * 5, dtype=">i2").reshape(8, 7, 5), affine), tmp_path / "ct.nii")
    volume = read_volume(tmp_path / "ct.nii").load()
    mask = tmp_path / f"mask{request.param}"
    write_labels(mask, volume.array > 100, volume, {1: "ball"})
    return mask


def replaced(*paths, **options):
    told = []
    check_outputs(paths, say=told.append, **options)
    return told


def change(path, voxel=None):
    """Save it anew with a library, which keeps our description in the header; with another voxel if one is given."""
    image = nibabel.load(path)
    array = np.array(image.dataobj)
    if voxel is not None:
        array[voxel] = 1 - array[voxel]
    nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), path)


def test_an_earlier_result_is_replaced_and_told(written):
    assert replaced(written) == [f"To be replaced: {written}"]
    change(written)
    assert is_as_written(written), "saved anew it still holds what we wrote"


def test_maps_are_results_too(written, tmp_path):
    volume = read_volume(tmp_path / "ct.nii").load()
    write_map(tmp_path / "doubt.nii.gz", np.random.default_rng(0).random((2, *volume.shape)), volume)
    assert replaced(tmp_path / "doubt.nii.gz")


def test_what_was_drawn_on_a_result_stays(written):
    change(written, voxel=(1, 2, 3))
    with pytest.raises(VQSegError, match="not as vqseg wrote it"):
        replaced(written)
    assert replaced(written, overwrite=True) == [f"To be replaced: {written}"]


def test_an_export_stays(written):
    written.with_name("mask.provenance.json").write_text("{}")
    with pytest.raises(VQSegError, match="not as vqseg wrote it"):
        replaced(written)


def test_other_files_stay_and_empty_ones_need_not(written, tmp_path):
    with pytest.raises(VQSegError, match="not as vqseg wrote it"):
        replaced(tmp_path / "ct.nii")
    for name, content in (("a.nii.gz", b"no image"), ("a.nii", written.read_bytes()[:-9]), ("a.csv", b"x,y\n1,2\n"),
                          ("a.json", b"{}"), ("b.json", b"[]")):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VQSegError, match="not as vqseg wrote it"):
            replaced(tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        assert replaced(tmp_path / name)


@pytest.mark.parametrize("arguments", [
    ["segment", "{ct}", "{mask}", "--slices", "2", "--output", "{mine}"],
    ["segment", "{ct}", "{mask}", "--slices", "2", "--output", "{new}", "--uncertainty", "{mine}"],
    ["predict", "model", "{ct}", "--output", "{mine}"],
    ["evaluate", "{mask}", "{mask}", "--output", "{table}"],
    ["demo", "--output", "{folder}", "--no-window"],
])  # fmt: skip
def test_every_verb_asks_for_the_flag(written, tmp_path, arguments, capsys):
    files = {"ct": tmp_path / "ct.nii", "mask": written, "new": tmp_path / "new.nii", "mine": tmp_path / "mine.nii.gz",
             "table": tmp_path / "mine.csv", "folder": tmp_path / "mine"}  # fmt: skip
    files["folder"].mkdir()
    mine = (files["mine"], files["table"], files["folder"] / "labels.nii.gz")
    for path in mine:
        path.write_text("mine")
    assert main([argument.format(**files) for argument in arguments]) == 2
    errors = capsys.readouterr().err
    assert REFUSED in errors
    assert errors.count("\n") == 1
    assert {path.read_text() for path in mine} == {"mine"}


@pytest.mark.parametrize("name", ["scores.csv", "scores.json"])
def test_a_table_of_scores_is_made_anew(written, name, capsys):
    table = written.with_name(name)
    evaluate = ["evaluate", str(written), str(written), "--output", str(table)]
    assert main(evaluate) == main(evaluate) == 0
    assert capsys.readouterr().err == f"To be replaced: {table}\n"
    table.write_text(json.dumps([{"my": "notes"}]))
    assert main(evaluate) == 2
    assert main([*evaluate, "--overwrite"]) == 0
    assert "ball" in table.read_text()
