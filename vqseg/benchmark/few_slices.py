"""Few slices, minutes, one volume: every method on the same labelled slices, for the same seconds.

k slices are labelled, evenly spaced over the structures' extent: ``linspace`` from the first to the last slice that
holds a structure, both included, rounded. Dice and HD95 are means over the classes, over all slices that are not
labelled (also those beyond the extent). The budget is wall time of training; on a machine that other work shares,
``--clock cpu`` counts the CPU time per thread instead (with OMP_NUM_THREADS=1 that of the process). ``cpu_s`` beside
``wall_s`` in ``rows.jsonl`` tells how busy the machine was. Rows that are already there are not measured again: short
budgets and first seeds come first, so that a table that is not complete yet is worth reading.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vqseg.annotations import Annotations
from vqseg.benchmark.baselines import BASELINES
from vqseg.benchmark.few_slices_table import table
from vqseg.benchmark.report import provenance, read_lines, write_text
from vqseg.benchmark.time_limit import add_time_limit, unfinished
from vqseg.benchmark.variants import parse_variant, split_list, split_numbers
from vqseg.config import Config, preset
from vqseg.errors import ConfigError, VolumeError, VQSegError
from vqseg.io import read_labels, read_volume
from vqseg.methods import METHODS
from vqseg.metrics import evaluate, summarise
from vqseg.volume import Volume

__all__ = ["Subject", "add_arguments", "evenly_spaced", "measure", "run"]

DEFAULT_VOLUMES = "lung1_nsclc,abdomen_3mm,lidc_voi/LIDC-IDRI-0702_R_5,lidc_voi/LIDC-IDRI-0066_R_2"
BUDGETS = "30,60,180,600"
SHORTEST_BUDGET_S = 0.1
NEEDS_NO_TIME = NEEDS_NO_SEED = ("interpolation", "registration")
PLAIN: dict[str, Any] = {"fuse_geometry": False, "keep_connected": False, "register_slices": False}
"""Rivals predict as their papers do; ``supervised:fuse_geometry=true:keep_connected=true`` gives them VQ-Seg's help."""
IMAGE_NAMES = ("image.nii.gz", "image.nii", "image.nrrd")


@dataclass(frozen=True, eq=False)
class Subject:
    """A volume with the labels of all its slices."""

    name: str
    volume: Volume
    labels: npt.NDArray[np.uint8]
    class_names: dict[int, str]


def evenly_spaced(labels: npt.NDArray[np.uint8], k: int) -> list[int]:
    """The k slices from the first to the last that holds a structure, both included; fewer where there are no more.

    Raises
    ------
    VolumeError
        If nothing is labelled.
    """
    holding = np.flatnonzero((labels > 0).any(axis=(1, 2)))
    if len(holding) == 0:
        raise VolumeError("The reference has no labelled voxel; choose a volume with a mask.")
    return sorted({int(z) for z in np.round(np.linspace(holding[0], holding[-1], k))})


def load_subject(text: str, classes: Sequence[int] = ()) -> Subject:
    """A volume of the test data by its name, or any other.

    Parameters
    ----------
    text : str
        A folder with ``image`` and ``mask`` files; ``FOLDER/NAME`` for ``FOLDER/image/NAME.nii.gz`` and its mask; or
        a pair ``IMAGE=MASK``. Paths that do not exist are looked for in the test data.
    classes : sequence of int
        Label values to keep, all by default.
    """
    name, image, mask = _files(text)
    volume = read_volume(image).load()
    labels = read_labels(mask, volume)
    array = labels.array if not classes else np.where(np.isin(labels.array, list(classes)), labels.array, 0)
    values = sorted(set(np.unique(array).tolist()) - {0})
    # Methods number their classes 1..K without gaps.
    lookup = np.zeros(256, dtype=np.uint8)
    lookup[values] = np.arange(1, len(values) + 1)
    names = {index: labels.names.get(value, f"class {value}") for index, value in enumerate(values, start=1)}
    return Subject(name, volume, lookup[array], names)


def _files(text: str) -> tuple[str, Path, Path]:
    """Name, image and mask of a volume; the files need not exist."""
    image_text, separator, mask_text = text.partition("=")
    if separator:
        image = Path(image_text)
        name = image.absolute().parent.name if image.name in IMAGE_NAMES else image.name.partition(".")[0]
        return name, image, Path(mask_text)
    root = Path(os.environ.get("VQSEG_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    for folder in (Path(text), root / text):
        for file in IMAGE_NAMES:
            if (folder / file).exists():
                return folder.name, folder / file, folder / file.replace("image", "mask")
        crop = folder.parent / "image" / f"{folder.name}.nii.gz"
        if crop.exists():
            return folder.name, crop, folder.parent / "mask" / crop.name
    return Path(text).name, root / text / IMAGE_NAMES[0], root / text / IMAGE_NAMES[0].replace("image", "mask")


def _cpu_seconds() -> float:
    """What the process would have taken alone on the machine: its CPU time shared by torch's threads."""
    return time.process_time() / torch.get_num_threads()


CLOCKS = {"wall": time.monotonic, "cpu": _cpu_seconds}


def measure(
    subject: Subject, method: str, k: int, budget_s: float, seed: int, warmup_s: float = 0.0, clock: str = "wall"
) -> dict[str, Any]:
    """One row: what a method makes of k slices of a volume in a budget.

    Returns
    -------
    dict
        Scores, per class too, and the seconds that it really took.
    """
    slices = evenly_spaced(subject.labels, k)
    annotations = Annotations.from_slices(subject.labels, slices)
    start, start_cpu = time.monotonic(), time.process_time()
    n_steps = None
    if method in BASELINES:
        labels = BASELINES[method](
            subject.volume, annotations, sorted(subject.class_names), budget_s, seed, CLOCKS[clock]
        )
    else:
        name, settings = parse_variant(method)
        given = {"method": name, "time_budget_s": budget_s, "seed": seed, "warmup_s": warmup_s}
        config = preset("fast", **{**given, **({} if name == "vq-seg" else PLAIN), **settings})
        labels, n_steps = _train_and_predict(subject, annotations, config, clock)
    wall_s, cpu_s = time.monotonic() - start, time.process_time() - start_cpu
    scores = evaluate(
        labels, subject.labels, subject.volume.spacing_mm, sorted(subject.class_names), exclude_slices=slices
    )
    summary = summarise(scores)
    return {
        "slices": slices, "dice": summary.mean.dice, "hd95_mm": summary.mean.hd95_mm,
        "undefined": summary.undefined["hd95_mm"],
        "per_class": {subject.class_names[value]: [score.dice, score.hd95_mm] for value, score in scores.items()},
        "wall_s": round(wall_s, 1), "cpu_s": round(cpu_s, 1), "steps": n_steps,
    }  # fmt: skip


def _train_and_predict(
    subject: Subject, annotations: Annotations, config: Config, clock: str
) -> tuple[npt.NDArray[np.uint8], int]:
    """Labels and steps taken, by the road that every face of the project takes."""
    if clock == "wall":
        from vqseg.segment import segment

        prediction, trainer = segment(subject.volume, annotations, subject.class_names, config)
    else:
        from vqseg.data import TrainingCase
        from vqseg.train import Trainer

        cases = [TrainingCase(subject.volume, annotations)]
        trainer = Trainer(config, cases, subject.class_names, clock=CLOCKS[clock])
        while not trainer.finished:
            trainer.step()
        prediction = trainer.predictor().predict(subject.volume, annotations)
    return prediction.labels, trainer.step_index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The table's arguments."""
    methods = ",".join([*BASELINES, *METHODS])
    parser.add_argument(
        "--volumes",
        default=DEFAULT_VOLUMES,
        metavar="LIST",
        help=f"folders with image and mask, or IMAGE=MASK ({DEFAULT_VOLUMES} of the test data)",
    )
    parser.add_argument("--classes", default="", metavar="LIST", help="label values to keep (all)")
    parser.add_argument("--budgets", default=BUDGETS, metavar="LIST", help=f"seconds of training ({BUDGETS})")
    parser.add_argument("--slices", default="3,5,10", metavar="LIST", help="numbers of labelled slices (3,5,10)")
    parser.add_argument("--methods", default=methods, metavar="LIST",
                        help=f"of {methods}; settings follow a colon, as in vq-seg:use_unlabelled=false")  # fmt: skip
    parser.add_argument("--seeds", default="0,1,2", metavar="LIST", help="seeds (0,1,2)")
    parser.add_argument(
        "--clock", default="wall", choices=list(CLOCKS),
        help="what budgets count: wall time, or CPU time per thread where the machine is shared with other work (wall)",
    )  # fmt: skip
    parser.add_argument(
        "--warmup", type=float, default=0.0, metavar="S", help="seconds of warm-up before the budget (0)"
    )
    add_time_limit(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for rows.jsonl and table.md")


def run(args: argparse.Namespace) -> int:
    """Measure the rows that are missing and write the table."""
    deadline = time.monotonic() + args.time_limit
    methods = split_list(args.methods)
    for method in methods:
        if method not in BASELINES and parse_variant(method)[0] not in METHODS:
            raise ConfigError(f"Unknown method {method!r}; choose of {', '.join([*BASELINES, *METHODS])}.")
    classes = split_numbers("--classes", args.classes, int, 1)
    plan = list(_jobs(args, [load_subject(text, classes) for text in split_list(args.volumes)], methods))
    path = args.output / "rows.jsonl"
    rows = read_lines(path)
    done, failed = {_key(row) for row in rows}, 0
    for subject, job in plan:
        if _key(job) in done:
            continue
        if time.monotonic() >= deadline:
            print(table(rows))  # noqa: T201
            return unfinished()
        done.add(_key(job))
        try:
            result = measure(
                subject, job["method"], job["k"], job["budget_s"], job["seed"], job["warmup_s"], job["clock"]
            )
        except VQSegError as error:
            failed += 1
            print(f"{job['method']}: {error}", file=sys.stderr)  # noqa: T201
            continue
        row = {**job, **result, "provenance": provenance()}
        rows.append(row)
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        write_text(args.output / "table.md", table(rows))
        print(_in_words(row), file=sys.stderr, flush=True)  # noqa: T201
    print(table(rows))  # noqa: T201
    if failed:
        raise VQSegError(f"{failed} row{'s' * (failed != 1)} could not be measured; the lines above say why")
    return 0


def _in_words(row: dict[str, Any]) -> str:
    return (
        f"{row['volume']}  k={row['k']}  {row['budget_s']:g} s  {row['method']}: "
        f"Dice {row['dice']:.3f}  HD95 {row['hd95_mm']:.1f} mm  ({row['wall_s']:.0f} s)"
    )


def _jobs(
    args: argparse.Namespace, subjects: Sequence[Subject], methods: Sequence[str]
) -> Iterator[tuple[Subject, dict[str, Any]]]:
    """Every row, short budgets and first seeds first; methods that need no seed or no time have one."""
    budgets = split_numbers("--budgets", args.budgets, float, SHORTEST_BUDGET_S)
    seeds, counts = split_numbers("--seeds", args.seeds, int, 0), split_numbers("--slices", args.slices, int, 1)
    for budget_s, seed, subject, k in product(budgets, seeds, subjects, counts):
        for method in methods:
            yield subject, {
                "volume": subject.name, "classes": args.classes or "all", "k": k,
                "budget_s": 0.0 if method in NEEDS_NO_TIME else budget_s, "method": method,
                "seed": 0 if method in NEEDS_NO_SEED else seed,
                "warmup_s": args.warmup if parse_variant(method)[0] == "vq-seg" else 0.0, "clock": args.clock,
            }  # fmt: skip


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("volume", "classes", "k", "budget_s", "method", "seed", "warmup_s", "clock")
    return tuple(row[name] for name in names)
