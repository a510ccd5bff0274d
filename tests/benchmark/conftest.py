import argparse

import numpy as np
import pytest


@pytest.fixture
def parse():
    """Arguments of a benchmark module, from a list of strings."""

    def parse(module, *options):
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        return parser.parse_args([str(option) for option in options])

    return parse


@pytest.fixture
def acdc_folder(tmp_path):
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
