"""Two CPU processes train as one would on the joint batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from safetensors.numpy import load_file

from vqseg.annotations import Annotations
from vqseg.cli import main
from vqseg.config import preset
from vqseg.errors import ConfigError, DeviceError
from vqseg.io import read_volume
from vqseg.project import Project
from vqseg.team import check_devices, lead

TWO_RANKS = Path(__file__).parent / "two_ranks.py"
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
