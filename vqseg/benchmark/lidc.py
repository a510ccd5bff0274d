"""LIDC-IDRI nodule crops, CT: 5 % and 10 % of the patients labelled, beside a blob in the centre.

The folder holds ``image/*.nii.gz`` and ``mask/*.nii.gz`` of equal names (``LIDC-IDRI-PPPP_...``). Patients are shuffled
once (seed 0): the first fifth is scored, the labelled share is taken from the front of the rest. Crops are centred on
their nodule, so the baseline "centre-blob" (an ellipsoid of one size relative to the crop, fitted on the labelled
patients) says what the crop alone gives away.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqseg.benchmark.cohort import Cohort, CohortCase, Labels, Protocol
from vqseg.benchmark.cohort_command import add_cohort_arguments, add_methods_argument, run_cohort
from vqseg.benchmark.variants import split_list
from vqseg.config import WINDOWS
from vqseg.errors import ConfigError, VolumeError
from vqseg.io import read_labels, read_volume

__all__ = ["PROTOCOL", "add_arguments", "centre_blob", "load_cohort", "run"]

PROTOCOL = Protocol(name="LIDC nodule crops", class_names=("nodule",), full_iterations=30_000, distance_unit="mm")
SCORED_SHARE = 0.2


def load_cohort(data: Path, labelled: str, evaluate_on: Path | None = None) -> Cohort:
    """The patients in their parts.

    Parameters
    ----------
    data : Path
        The folder.
    labelled : str
        Share of the training patients that are labelled, in percent, or "all".
    evaluate_on : Path, optional
        Another folder of that layout whose patients are scored instead; then all patients of `data` train.

    Raises
    ------
    VolumeError
        If the folder holds no crops.
    ConfigError
        If `labelled` is not a percentage.
    """
    cases = _load_folder(data)
    patients = np.array(sorted({case.patient for case in cases}))
    np.random.default_rng(0).shuffle(patients)
    n_scored = 0 if evaluate_on is not None else round(SCORED_SHARE * len(patients))
    scored, training = set(patients[:n_scored]), list(patients[n_scored:])
    chosen = set(training[: _count(labelled, len(training))])
    return Cohort(
        [case for case in cases if case.patient in chosen],
        [case for case in cases if case.patient not in chosen | scored],
        [case for case in cases if case.patient in scored] if evaluate_on is None else _load_folder(evaluate_on),
    )


def _count(labelled: str, n_patients: int) -> int:
    if labelled == "all":
        return n_patients
    try:
        share = float(labelled) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"--labelled {labelled!r} is not a percentage of patients; give for example 5,10.")
    return max(1, round(share * n_patients))


def _load_folder(folder: Path) -> list[CohortCase]:
    paths = sorted((folder / "image").glob("*.nii.gz"))
    if not paths:
        raise VolumeError(f"{folder} holds no image/*.nii.gz; give the folder above image and mask.")
    return [_load(path, folder / "mask" / path.name) for path in paths]


def _load(image: Path, mask: Path) -> CohortCase:
    volume = read_volume(image).load()
    labels = read_labels(mask, volume).array
    name = image.name.removesuffix(".nii.gz")
    windowed = WINDOWS["lung"].apply(volume.array)
    return CohortCase(name, name.split("_")[0], windowed, (labels > 0).astype(np.uint8), volume.spacing_mm)


def _blob(shape: tuple[int, ...], radius: float) -> Labels:
    """An ellipsoid in the centre; `radius` relative to half the crop."""
    axes = np.meshgrid(*((2 * np.arange(n) + 1) / n - 1 for n in shape), indexing="ij")
    squared: npt.NDArray[np.float64] = np.square(axes).sum(axis=0)
    return (squared <= radius**2).astype(np.uint8)


def centre_blob(cohort: Cohort) -> Callable[[CohortCase], Labels]:
    """The blob whose size has the best mean Dice on the labelled cases."""

    def mean_dice(radius: float) -> float:
        scores = []
        for case in cohort.labelled:
            blob = _blob(case.label.shape, radius)
            scores.append(2 * int((blob & case.label).sum()) / max(1, int(blob.sum()) + int(case.label.sum())))
        return float(np.mean(scores))

    best = max(np.arange(0.1, 1.21, 0.05), key=mean_dice)
    return lambda case: _blob(case.label.shape, best)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The table's arguments."""
    add_cohort_arguments(parser, labelled="5,10", iterations=PROTOCOL.full_iterations, size=64)
    add_methods_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Make the table."""
    return run_cohort(
        args,
        PROTOCOL,
        lambda labelled: load_cohort(args.data, labelled, args.evaluate_on),
        {"": {method: method for method in split_list(args.methods)}},
        {"centre-blob": centre_blob},
    )
