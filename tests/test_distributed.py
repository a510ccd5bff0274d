"""Two CPU processes train as one would on the joint batch."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from safetensors.numpy import load_file

from vqseg.annotations import Annotations
from vqseg.checkpoint import read_checkpoint
from vqseg.cli import main
from vqseg.config import preset
from vqseg.errors import ConfigError, DeviceError
from vqseg.io import read_volume
from vqseg.memory import smaller
from vqseg.project import Project, RunState
from vqseg.runner import train_run
from vqseg.team import check_devices, lead

TWO_RANKS = Path(__file__).parent / "two_ranks.py"
SHORT_OF_MEMORY = Path(__file__).parent / "short_of_memory.py"
QUICK = {
    "device": "cpu",
    "size": 64,
    "codebook_size": 64,
    "time_budget_s": 0,
    "iterations": 3,
    "mixed_precision": False,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["method=vq-seg"],
        ["method=vq-seg", "encoder=efficientnet-lite0", "perturbation=dropout", "segmentation=ce"],
    ],
    ids=" ".join,
)
def test_two_processes_get_the_weights_of_one_on_the_joint_batch(tmp_path, settings):
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    environment["PYTHONPATH"] = str(TWO_RANKS.parent.parent)
    ranks = [
        subprocess.Popen(
            [sys.executable, str(TWO_RANKS), str(rank), str(tmp_path / "meeting"), *settings],
            stderr=subprocess.PIPE, env=environment,
        )
        for rank in range(2)
    ]  # fmt: skip
    messages = [rank.communicate(timeout=250)[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(messages)


@pytest.fixture
def project(tmp_path):
    z, y, x = np.indices((8, 40, 40))
    ball = ((z - 4) * 3) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 10**2
    array = (ball * 200 + np.random.default_rng(0).normal(0, 10, ball.shape)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.0, -1, 3, 1])), tmp_path / "ball.nii")
    project = Project.create(tmp_path / "project", "Ball", ["ball"])
    case = project.add_case(read_volume(tmp_path / "ball.nii"))
    case.save_annotations(Annotations.from_slices(ball.astype(np.uint8), [2, 4, 6]))
    return project


def train(project, capsys, *options):
    settings = [f"--set={name}={value}" for name, value in QUICK.items() if name not in ("device", "time_budget_s")]
    code = main(["train", str(project.path), "--json", "--device", "cpu", "--time-budget", "0", *settings, *options])
    output, errors = capsys.readouterr()
    return code, [json.loads(line) for line in output.splitlines()], errors


@pytest.mark.slow
def test_the_command_trains_on_several_devices_and_ends_cleanly(project, capsys):
    weights = []
    for devices in ("1", "2"):
        code, lines, errors = train(project, capsys, "--devices", devices)
        assert code == 0, errors
        assert lines[-1]["steps"] == 3
        run = project.run(lines[-1]["run"])
        assert run.prediction_path(run.case_ids[0]).is_file()
        weights.append(load_file(run.checkpoint_path / "model.safetensors"))
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, rtol=1e-3, atol=2e-4, err_msg=name)


@pytest.mark.slow
def test_a_follower_that_fails_ends_the_run_with_a_sentence(project, capfd):
    run = project.new_run(preset("fast", **QUICK), [project.cases[0].id])
    (project.cases[0].path / "case.json").unlink()
    with pytest.raises(DeviceError, match="One of the devices failed"), lead(run, 2):
        pass
    assert "device 1" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("short", ["leader", "follower"])
def test_where_the_memory_of_one_is_full_all_go_on_with_less(project, monkeypatch, short):
    if short == "leader":
        monkeypatch.setattr("vqseg.train.Trainer", runpy.run_path(str(SHORT_OF_MEMORY))["ShortOfMemory"])
    else:
        monkeypatch.setattr("vqseg.team.FOLLOWER", (sys.executable, str(SHORT_OF_MEMORY)))
        monkeypatch.setenv("PYTHONPATH", str(TWO_RANKS.parent.parent))
    run = project.new_run(preset("fast", **QUICK), [project.cases[0].id])
    notices = []
    assert train_run(run, devices=2, on_notice=notices.append) is RunState.FINISHED
    assert notices == ["The memory is full: training goes on with batches of 2 + 2 slices at 64 pixels."]
    assert run.info["step"] == QUICK["iterations"]
    assert read_checkpoint(run.checkpoint_path)[0]["config"]["data"]["batch_x"] == 2


def test_a_follower_that_the_system_killed_is_a_sentence(project, monkeypatch):
    monkeypatch.setattr("vqseg.team.FOLLOWER", (sys.executable, "-c", "print('ready', flush=True); input()"))
    monkeypatch.setattr("vqseg.team._join", lambda *_: None)
    run = project.new_run(preset("fast", **QUICK), [project.cases[0].id])
    sentence = "was killed, as happens when the memory is full; choose a smaller batch_x"
    with pytest.raises(DeviceError, match=sentence), lead(run, 2) as team:  # noqa: PT012
        team._followers[0].kill()
        raise RuntimeError("Connection closed by peer")


def test_batches_become_smaller_by_whole_shares(project):
    config = preset("fast", **QUICK, batch_x=6, batch_u=0)
    sizes = []
    while (config := smaller(config, 3)) is not None:
        sizes.append((config.data.batch_x, config.data.batch_u))
    assert sizes == [(3, 0)]
    config = preset("fast", **QUICK, batch_x=4, batch_u=8)
    assert [(c.data.batch_x, c.data.batch_u) for c in (smaller(config, 2), smaller(config))] == [(2, 4), (2, 4)]


def test_devices_that_are_not_there_and_batches_that_do_not_split_are_refused(project, capsys):
    code, _, errors = train(project, capsys, "--devices", "1000")
    assert code == 2
    assert "1000 devices were asked for, but there are" in errors
    assert not project.runs, "no run may be left behind"
    config = preset("fast", **QUICK)
    with pytest.raises(DeviceError, match="choose --devices 1 or more"):
        check_devices(config, 0)
    with pytest.raises(ConfigError, match="batch_u is 5, which 2 devices cannot share evenly"):
        check_devices(config.replace(batch_u=5), 2)
