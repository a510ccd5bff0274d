"""ACDC, cardiac MR: the table of the semi-supervised field at 3 and 7 labelled patients.

The folder holds one ``.npz`` a volume (``image`` uint8 and ``label`` uint8, (z, y, x)), ``train.list``, ``val.list``
and ``labelled_N_patients.txt``. All slices of the labelled patients are labelled, all others of ``train.list``
unlabelled; the volumes of ``val.list`` are scored, or those of ``--evaluate-on`` (a list of names in the same folder,
or another folder). The files carry no spacing: distances are in voxels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vqseg.benchmark.cohort import Cohort, CohortCase, Protocol, add_cohort_arguments, run_cohort
from vqseg.errors import VolumeError

__all__ = ["PROTOCOL", "add_arguments", "load_cohort", "run"]

PROTOCOL = Protocol(
    name="ACDC",
    class_names=("right ventricle", "myocardium", "left ventricle"),
    full_iterations=30_000,
    distance_unit="voxels",
    published_dice={
        # 20 test patients. U-Net, UA-MT, BCP: BCP's paper (CVPR 2023); UniMatch: its release; VQ-Seg: its release with
        # a pretrained DINOv2-S encoder.
        ("supervised", "3"): 0.478, ("supervised", "7"): 0.794, ("fully-supervised", "all"): 0.914,
        ("ua-mt", "3"): 0.460, ("ua-mt", "7"): 0.817, ("unimatch", "3"): 0.889, ("unimatch", "7"): 0.899,
        ("bcp", "3"): 0.876, ("bcp", "7"): 0.888, ("vq-seg", "3"): 0.892, ("vq-seg", "7"): 0.904,
    },
)  # fmt: skip


def load_cohort(data: Path, labelled: str, evaluate_on: Path | None = None) -> Cohort:
    """The patients in their parts.

    Parameters
    ----------
    data : Path
        The folder.
    labelled : str
        N of ``labelled_N_patients.txt``, or "all".
    evaluate_on : Path, optional
        A list of volumes in `data`, or another folder of volumes.

    Raises
    ------
    VolumeError
        If a list or a volume is missing.
    """
    training = _names(data / "train.list")
    patients = {_patient(name) for name in training}
    if labelled != "all":
        chosen = set(_names(data / f"labelled_{labelled}_patients.txt"))
        if missing := chosen - patients:
            raise VolumeError(f"{', '.join(sorted(missing))} are labelled but not in train.list; check the two lists.")
        patients = chosen
    if evaluate_on is not None and evaluate_on.is_dir():
        evaluation = [_load(path) for path in sorted(evaluate_on.glob("*.npz"))]
    else:
        evaluation = [_load(data / f"{name}.npz") for name in _names(evaluate_on or data / "val.list")]
    if not evaluation:
        raise VolumeError(f"{evaluate_on} holds no .npz volumes; give a folder like --data.")
    cases = [_load(data / f"{name}.npz") for name in training]
    return Cohort(
        [case for case in cases if case.patient in patients],
        [case for case in cases if case.patient not in patients],
        evaluation,
    )


def _names(path: Path) -> list[str]:
    if not path.exists():
        raise VolumeError(f"{path} does not exist; the folder must be laid out as `vqseg benchmark acdc --help` says.")
    return [line.strip().removesuffix(".npz") for line in path.read_text().splitlines() if line.strip()]


def _patient(name: str) -> str:
    return name.split("_")[0]


def _load(path: Path) -> CohortCase:
    if not path.exists():
        raise VolumeError(f"{path} is listed but does not exist; copy it there or correct the list.")
    with np.load(path) as arrays:
        image, label = arrays["image"], arrays["label"]
    return CohortCase(path.stem, _patient(path.stem), image.astype(np.float32) / 255, label.astype(np.uint8))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The table's arguments."""
    add_cohort_arguments(parser, labelled="3,7", iterations=PROTOCOL.full_iterations, size=256)


def run(args: argparse.Namespace) -> int:
    """Make the table."""
    return run_cohort(args, PROTOCOL, lambda labelled: load_cohort(args.data, labelled, args.evaluate_on))
