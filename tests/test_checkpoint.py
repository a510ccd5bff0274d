import errno
import json
import os
import pickle
import resource
from pathlib import Path

import pytest
import torch

from vqseg.checkpoint import read_checkpoint, restore_settings, write_checkpoint
from vqseg.config import preset
from vqseg.data.framing import Framing
from vqseg.errors import CheckpointError
from vqseg.volume import Window


def test_round_trip_replaces_the_previous_whole(tmp_path):
    path = tmp_path / "checkpoint"
    for value in (1.0, 2.0):
        write_checkpoint(path, {"step": value}, {"model": {"w": torch.full((2, 3), value).t()}})
    description, tensors = read_checkpoint(path)
    assert description["step"] == 2.0
    assert torch.equal(tensors["model"]["w"], torch.full((3, 2), 2.0))
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_on_a_full_disk_the_previous_one_stays(tmp_path):
    path = tmp_path / "checkpoint"
    write_checkpoint(path, {"step": 1}, {"model": {"w": torch.ones(1)}})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written to .*/checkpoint \(File too large.*make room"):
            write_checkpoint(path, {"step": 2}, {"model": {"w": torch.ones(5000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_checkpoint(path)[0]["step"] == 1
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_whoever_may_read_the_folder_may_read_its_files(tmp_path):
    write_checkpoint(tmp_path / "checkpoint", {}, {"model": {"w": torch.ones(1)}})
    assert len({file.stat().st_mode for file in (tmp_path / "checkpoint").iterdir()}) == 1


def test_a_crash_between_the_renames_leaves_the_previous_one(tmp_path):
    path = tmp_path / "checkpoint"
    write_checkpoint(path, {"step": 1}, {"model": {"w": torch.ones(1)}})
    path.rename(tmp_path / ".checkpoint.previous")
    assert read_checkpoint(path)[0]["step"] == 1


def test_after_such_a_crash_the_previous_one_stays_until_the_next_is_in_place(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    write_checkpoint(path, {"step": 1}, {"model": {"w": torch.ones(1)}})
    path.rename(tmp_path / ".checkpoint.previous")

    def refuse(self, target):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        with pytest.raises(CheckpointError):
            write_checkpoint(path, {"step": 2}, {"model": {"w": torch.ones(1)}})
    assert read_checkpoint(path)[0]["step"] == 1
    write_checkpoint(path, {"step": 3}, {"model": {"w": torch.ones(1)}})
    assert read_checkpoint(path)[0]["step"] == 3
    assert os.listdir(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize("damage", ["missing", "no model", "truncated", "json", "list", "version", "pickle"])
def test_damaged_checkpoints_are_refused_in_one_sentence(tmp_path, damage):
    path = tmp_path / "checkpoint"
    write_checkpoint(path, {"step": 1}, {"model": {"w": torch.ones(64)}})
    model, text = path / "model.safetensors", path / "checkpoint.json"
    if damage == "missing":
        text.unlink()
    elif damage == "no model":
        model.unlink()
    elif damage == "truncated":
        model.write_bytes(model.read_bytes()[:100])
    elif damage in ("json", "list"):
        text.write_text({"json": "{", "list": "[1]"}[damage])
    elif damage == "version":
        text.write_text(json.dumps({"format_version": 99}))
    else:
        model.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_hostile_pickles_are_never_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    path = tmp_path / "checkpoint"
    write_checkpoint(path, {}, {"model": {"w": torch.ones(1)}})
    (path / "model.safetensors").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not (tmp_path / "owned").exists()


def test_framing_comes_back_exactly_and_older_checkpoints_have_no_equalised_slice():
    config = preset("fast", neighbours=1)
    table = (0.0, 1 / 3, 1.0)
    description = json.loads(json.dumps({
        "config": config.to_dict(), "classes": {"1": "lung"}, "window": {"level_hu": 40.0, "width_hu": 400.0},
        "pixel_mm": 0.7, "equalisation": table,
    }))  # fmt: skip
    assert restore_settings(description) == (config, Framing(Window(40.0, 400.0), 0.7, 1, table), {1: "lung"})
    del description["equalisation"], description["config"]["data"]["equalise"]
    assert restore_settings(description)[1].channels == 3
