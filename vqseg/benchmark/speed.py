"""Speed and memory: training per preset, prediction of a volume, and how both grow with K, classes, slices and volume.

Networks have random weights, images are noise with boxes: neither changes how long a step takes. Each measurement is
written down as soon as it is made, and the same command goes on with the next one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqseg.annotations import Annotations
from vqseg.benchmark.quantization import peak_mb, synchronise
from vqseg.benchmark.report import markdown_table, provenance, provenance_line, read_lines
from vqseg.config import preset
from vqseg.data import TrainingCase
from vqseg.errors import ConfigError
from vqseg.train import Trainer
from vqseg.volume import StoredLayout, Volume

__all__ = ["Measurement", "add_arguments", "measure", "plan", "run"]

SPACING_MM = (3.0, 0.8, 0.8)
QUICK, FULL = (64, 256, 256), (300, 512, 512)


@dataclass(frozen=True)
class Measurement:
    """Something to measure.

    Parameters
    ----------
    task : {"train", "predict"}
        A training step, or the prediction of a whole volume.
    what : str
        Name of the row.
    settings : dict
        Changes to the preset.
    preset : str
        Settings to start from.
    shape : tuple of int
        (z, y, x) voxels of the volume.
    n_classes, n_labelled : int
        Classes, and labelled slices.
    plain : bool
        The loop without what makes it quick on a GPU: float32, data on the CPU, channels first.
    """

    task: str
    what: str
    settings: dict[str, Any] = field(default_factory=dict)
    preset: str = "fast"
    shape: tuple[int, int, int] = QUICK
    n_classes: int = 3
    n_labelled: int = 5
    plain: bool = False


def plan(volume: tuple[int, int, int]) -> list[Measurement]:
    """The rows of the table; `volume` is the shape of the volume to predict."""
    prior = {"prior": "none"}  # its features are computed once and kept
    return [
        Measurement("train", "preset fast"),
        Measurement("train", "preset balanced", preset="balanced"),
        Measurement("train", "preset paper", prior, "paper"),
        Measurement("train", "preset paper, plain float32 loop", prior, "paper", plain=True),
        Measurement("train", "preset paper, compiled", {**prior, "compile": True}, "paper"),
        *(Measurement("train", f"K = {size}", {"codebook_size": size}) for size in (1024, 16384, 65536)),
        *(Measurement("train", f"{count} classes", n_classes=count) for count in (1, 10)),
        *(Measurement("train", f"{count} labelled slices", n_labelled=count) for count in (3, 30)),
        *(Measurement("predict", f"{depth} slices of 256 x 256", shape=(depth, 256, 256)) for depth in (16, 64)),
        Measurement("predict", " x ".join(map(str, reversed(volume))), shape=volume),
    ]


def _case(shape: tuple[int, int, int], n_classes: int, n_labelled: int) -> TrainingCase:
    array = np.random.default_rng(0).integers(-100, 200, shape, dtype=np.int16)
    labels = np.zeros(shape, np.uint8)
    side = shape[2] // (n_classes + 1)
    for value in range(1, n_classes + 1):
        start = round((value - 0.75) * shape[2] / n_classes)
        labels[:, shape[1] // 4 : 3 * shape[1] // 4, start : start + side // 2] = value
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    slices = np.linspace(0, shape[0] - 1, n_labelled).round().astype(int).tolist()
    return TrainingCase(Volume(array, StoredLayout(shape[::-1], affine)), Annotations.from_slices(labels, slices))


def measure(item: Measurement, device: str, steps: int) -> dict[str, Any]:
    """Wall and processor seconds and peak memory of one measurement, as a row of the table.

    Parameters
    ----------
    item : Measurement
        What to measure.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    steps : int
        Training steps to average over, after two to warm up.
    """
    case = _case(item.shape, item.n_classes, item.n_labelled)
    settings = {**item.settings, "time_budget_s": 0.0, "iterations": 1_000_000, "device": device}
    if item.plain:
        settings["mixed_precision"] = False
    names = {value: str(value) for value in range(1, item.n_classes + 1)}
    trainer = Trainer(preset(item.preset, **settings), [case], names, _pretrained=False)
    if item.plain:
        trainer.cases[0].to(torch.device("cpu"))
        trainer.method.to(memory_format=torch.contiguous_format)
    where = trainer.device.type
    data = trainer.config.data
    row = {**asdict(item), "device": where, "threads": torch.get_num_threads()}
    if item.task == "predict":
        predictor = trainer.predictor()
        times = _timed(lambda: predictor.predict(case.volume, case.annotations), where, 1)
        return row | times | {"slices": item.shape[0]}
    method: Any = trainer.method
    if hasattr(method, "overlap"):  # unlabelled slices take part from the start
        method.overlap.fill_(1e6)
        method.student.class_fit.fill_(1)
    for _ in range(2):
        trainer.step()
    images = data.batch_x + data.batch_u / trainer.method.unlabelled_every
    return row | _timed(trainer.step, where, steps) | {"slices": images}


def _timed(call: Callable[[], object], device: str, repeats: int) -> dict[str, float]:
    """Mean seconds of a call, and the memory that it needs on top."""
    times: list[float] = []

    def all_of_them() -> None:
        synchronise(device)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            call()
        synchronise(device)
        times.extend([(time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats])

    peak = peak_mb(all_of_them, device)
    return {"wall_s": times[0], "cpu_s": times[1], "peak_mb": peak}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    return markdown_table(
        ["task", "what", "device", "slices/s", "wall s", "cpu s", "peak MB"],
        [
            [row["task"], row["what"], row["device"], f"{row['slices'] / row['wall_s']:.1f}", f"{row['wall_s']:.3f}",
             f"{row['cpu_s']:.3f}", f"{row['peak_mb']:.0f}"]
            for row in rows
        ],
    )  # fmt: skip


def _unfinished(items: Sequence[Measurement], done: Sequence[dict[str, Any]]) -> Iterator[Measurement]:
    known = {(row["task"], row["what"]) for row in done}
    return (item for item in items if (item.task, item.what) not in known)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vqseg benchmark speed``."""
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON lines, one a measurement; the "
                        "same command goes on where it stopped")  # fmt: skip
    parser.add_argument("--volume", type=int, nargs=3, default=FULL, metavar=("Z", "Y", "X"), help="volume to predict "
                        "(300 512 512)")  # fmt: skip
    parser.add_argument("--only", metavar="WORD", default="", help="rows that hold this word, as in --only preset")
    parser.add_argument("--steps", type=int, default=10, help="training steps of a measurement, even (10)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def run(args: argparse.Namespace) -> int:
    """Measure what is missing and print the table."""
    if args.steps < 1:
        raise ConfigError(f"--steps is {args.steps}; it must be 1 or more.")
    items = [item for item in plan(tuple(args.volume)) if args.only in item.what]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for item in _unfinished(items, read_lines(args.output)):
        row = measure(item, args.device, args.steps)
        with args.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    print(f"{provenance_line(provenance())}\n\n{_table(read_lines(args.output))}", end="")  # noqa: T201
    return 0
