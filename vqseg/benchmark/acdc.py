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

from vqseg.benchmark.cohort import Cohort, CohortCase, Protocol
from vqseg.benchmark.cohort_command import add_cohort_arguments, add_methods_argument, run_cohort
from vqseg.benchmark.variants import split_list
from vqseg.errors import VolumeError

__all__ = ["PROTOCOL", "add_arguments", "load_cohort", "run"]

PROTOCOL = Protocol(
    name="ACDC",
    class_names=("right ventricle", "myocardium", "left ventricle"),
    full_iterations=30_000,
    distance_unit="voxels",
    published_dice={
        ("supervised", "3"): ".415 a", ("supervised", "7"): ".625 a, .794 b",
        ("ua-mt", "3"): ".610 a, .460 b", ("ua-mt", "7"): ".815 a, .817 b",
        ("unimatch", "3"): ".889 a, .844 c", ("unimatch", "7"): ".899 a, .881 c",
        ("bcp", "3"): ".876 b", ("bcp", "7"): ".888 b",
        ("vq-seg", "3"): ".892 d", ("vq-seg", "7"): ".904 d",
    },
    sources=(
        "Published Dice: a, UniMatch's release (github.com/LiheYoung/UniMatch, more-scenarios/medical), its best "
        "iteration on the 30 patients that it is scored on, and what it quotes; b, as releases that compare on the 20 "
        "test patients quote it (github.com/yyliu01/TraCoCo, github.com/AiEson/CrossMatch, "
        "github.com/ThanhPhongSPK/Medical_Seg_Semi); c, scored again on the 20 test patients by "
        "github.com/AiEson/CrossMatch; d, VQ-Seg's release (github.com/script-Yang/VQ-Seg), pretrained DINOv2-S "
        "encoder, no image branch, 20 test patients.\n\n"
    ),
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
    return [line.strip().removesuffix(".npz") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


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
    add_methods_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Make the table."""
    return run_cohort(
        args, PROTOCOL, lambda labelled: load_cohort(args.data, labelled, args.evaluate_on),
        {"": {method: method for method in split_list(args.methods)}},
    )  # fmt: skip
