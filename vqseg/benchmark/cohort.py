"""Training on many patients, few of them labelled: the protocol that the papers' tables share.

2D slices resized to one square size; a batch is half labelled, half unlabelled slices; random quarter turns, flips
and rotations up to 20 degrees; whole volumes are predicted slice by slice, resized back and scored as volumes. The
network after the last iteration is scored, not the best on validation data. Rivals train by SGD (0.01, momentum 0.9,
weight decay 1e-4), VQ-Seg by AdamW, all with a learning rate that falls as (1 - t)^0.9.

Runs are cut into slices of time: what is unfinished when the limit comes is saved, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqseg.benchmark.report import markdown_table, mean_and_spread, provenance, provenance_line, write_json, write_text
from vqseg.benchmark.variants import parse_variant, split_list
from vqseg.config import Config, preset
from vqseg.data.augment import Warp, change_intensity
from vqseg.data.batch import Batch
from vqseg.device import choose_device, gains_from_bfloat16
from vqseg.errors import ConfigError
from vqseg.io.atomic import atomic_path
from vqseg.methods import METHODS, create_method
from vqseg.metrics import evaluate, summarise

__all__ = [
    "UNFINISHED",
    "Cohort",
    "CohortCase",
    "CohortRun",
    "Protocol",
    "add_cohort_arguments",
    "predict",
    "run_cohort",
]

UNFINISHED = 75
"""Exit code when the time limit came first; the same command goes on."""
FULLY_SUPERVISED = "fully-supervised"
SAVE_EVERY_S = 300.0
SCORES = ("dice", "jaccard", "hd95_mm", "asd_mm")

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CohortCase:
    """One volume of a cohort.

    Parameters
    ----------
    name, patient : str
        Name of the volume, and of the patient that several volumes may share.
    image : ndarray
        (z, y, x) float32 in [0, 1].
    label : ndarray
        (z, y, x) uint8, classes 0..K.
    spacing_mm : tuple of float
        Spacing along (z, y, x); 1 where it is unknown, so that distances are in voxels.
    """

    name: str
    patient: str
    image: npt.NDArray[np.float32]
    label: Labels
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Cohort:
    """Who is labelled, who is not, and who is scored; no patient is in two of them."""

    labelled: list[CohortCase]
    unlabelled: list[CohortCase]
    evaluation: list[CohortCase]


@dataclass(frozen=True)
class Protocol:
    """What a table's module says about its data.

    Parameters
    ----------
    name : str
        Title of the table.
    class_names : tuple of str
        Classes 1..K.
    full_iterations : int
        Length of the papers' runs; shorter ones are labelled as shortened.
    distance_unit : str
        Unit of HD95 and ASD.
    published_dice : dict
        Published Dice by (method, labelled), to stand beside the measured one.
    """

    name: str
    class_names: tuple[str, ...]
    full_iterations: int
    distance_unit: str
    published_dice: dict[tuple[str, str], float]


# ---------------------------------------------------------------- training


class _Slices:
    """Every slice of some cases at one size, on the device: images (N, 1, s, s), labels (N, 1, s, s)."""

    def __init__(self, cases: Sequence[CohortCase], size: int, device: torch.device) -> None:
        images, labels = [], []
        for case in cases:
            images.append(_resize(torch.from_numpy(case.image).unsqueeze(1), size))
            label = torch.from_numpy(case.label).unsqueeze(1).float()
            labels.append(F.interpolate(label, (size, size), mode="nearest-exact"))
        self.images = torch.cat(images).to(device)
        self.labels = torch.cat(labels).to(device)


def _resize(image: Tensor, size: int) -> Tensor:
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False, antialias=True)


def _random_turns(n: int, size: int, generator: torch.Generator) -> Warp:
    """Half of the slices: quarter turns and a flip; a quarter: up to 20 degrees; a quarter: as they are."""
    draw = torch.rand(4, n, generator=generator)
    turned, tilted = draw[0] < 0.5, (draw[0] >= 0.5) & (draw[0] < 0.75)
    angle = torch.where(turned, torch.floor(draw[1] * 4) * (math.pi / 2), 0.0)
    angle = torch.where(tilted, (draw[2] - 0.5) * math.radians(40), angle).view(-1, 1, 1)
    mirrored = torch.where(turned & (draw[3] < 0.5), -1.0, 1.0).view(-1, 1, 1)
    centre = (size - 1) / 2
    rows = (torch.arange(size, dtype=torch.float32) - centre).view(1, -1, 1)
    columns = (torch.arange(size, dtype=torch.float32) - centre).view(1, 1, -1) * mirrored
    cos, sin = torch.cos(angle), torch.sin(angle)
    return Warp(cos * rows - sin * columns + centre + 0.5, sin * rows + cos * columns + centre + 0.5)


class CohortRun:
    """One method trained with one seed; stops and goes on exactly.

    Parameters
    ----------
    variant : str
        Method and settings, as in :func:`vqseg.benchmark.variants.parse_variant`.
    cohort : Cohort
        The patients.
    n_classes : int
        Classes, background included.
    seed, iterations, batch, size : int
        Seed, steps, labelled slices per batch (as many unlabelled), side of the slices.
    device : torch.device
        Where to train.
    """

    def __init__(
        self, variant: str, cohort: Cohort, n_classes: int, *, seed: int, iterations: int, batch: int, size: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        name, settings = parse_variant(variant)
        self.config = _config(name, settings, seed=seed, iterations=iterations, batch=batch, size=size)
        self.iterations, self.batch_size, self.size, self.device = iterations, batch, size, device
        torch.manual_seed(seed)
        self.method = create_method(name, self.config, 1, n_classes).to(device)
        self.generator = torch.Generator().manual_seed(seed)
        weights = [parameter for parameter in self.method.parameters() if parameter.requires_grad]
        self.optimizer: torch.optim.Optimizer
        if name == "vq-seg":
            train = self.config.train
            self.optimizer = torch.optim.AdamW(weights, lr=train.learning_rate, weight_decay=train.weight_decay)
        else:
            self.optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=1e-4)
        self.base_rate = self.optimizer.param_groups[0]["lr"]
        self.labelled = _Slices(cohort.labelled, size, device)
        self.unlabelled = _Slices(cohort.unlabelled, size, device) if cohort.unlabelled else None
        self.step_index, self.seconds = 0, 0.0

    @property
    def finished(self) -> bool:
        """Whether all iterations are done."""
        return self.step_index >= self.iterations

    def step(self) -> dict[str, float]:
        """One batch; the losses."""
        start = time.monotonic()
        progress = self.step_index / self.iterations
        self.method.train()
        if self.method.teacher is not None:
            self.method.teacher.eval()
        bfloat16 = self.config.train.mixed_precision and gains_from_bfloat16(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            losses = self.method.losses(self._batch(), self.step_index, progress)
        self.optimizer.param_groups[0]["lr"] = self.base_rate * (1 - progress) ** 0.9
        self.optimizer.zero_grad()
        losses["total"].backward()
        self.optimizer.step()
        self.method.update_teacher(self.step_index)
        self.step_index += 1
        self.seconds += time.monotonic() - start
        return {name: value.item() for name, value in losses.items()}

    def _batch(self) -> Batch:
        image_x, label_x = self._draw(self.labelled)
        if self.unlabelled is None:
            return Batch(image_x, label_x)
        image_u, _ = self._draw(self.unlabelled)
        strong = [change_intensity(image_u, self.generator, strength=2.0) for _ in range(2)]
        return Batch(image_x, label_x, image_u, *strong)

    def _draw(self, slices: _Slices) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(slices.images), (self.batch_size,), generator=self.generator).to(self.device)
        warp = _random_turns(self.batch_size, self.size, self.generator)
        warp = Warp(warp.rows.to(self.device), warp.columns.to(self.device))
        label = warp.sample(slices.labels[chosen], nearest=True).squeeze(1).long()
        return warp.sample(slices.images[chosen]), label

    def save(self, path: Path) -> None:
        """Everything that the next step depends on."""
        state = {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step_index,
            "seconds": self.seconds,
            "generators": [self.generator.get_state(), self.method.generator.get_state(), torch.get_rng_state()],
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on from :meth:`save`."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step_index, self.seconds = state["step"], state["seconds"]
        self.generator.set_state(state["generators"][0])
        self.method.generator.set_state(state["generators"][1])
        torch.set_rng_state(state["generators"][2])
        if state["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)


def _config(name: str, settings: dict[str, Any], *, seed: int, iterations: int, batch: int, size: int) -> Config:
    """The paper's settings, but from scratch and without a prior unless the variant asks for them."""
    scratch: dict[str, Any] = {"encoder": "conv", "prior": "none", "code_dim": 64, "learning_rate": 1e-3}
    given: dict[str, Any] = {
        "method": name, "seed": seed, "iterations": iterations, "batch_x": batch, "batch_u": batch, "size": size,
        "neighbours": 0, "segmentation": "ce+dice",
    }  # fmt: skip
    return preset("paper", **{**scratch, **given, **settings})


@torch.inference_mode()
def predict(network: nn.Module, case: CohortCase, size: int, device: torch.device, batch: int = 24) -> Labels:
    """The volume's labels (z, y, x) uint8, predicted at the network's size and brought back to the volume's."""
    network.eval()
    labels = []
    for part in torch.from_numpy(case.image).unsqueeze(1).split(batch):
        logits = network(_resize(part, size).to(device)).logits.float()
        logits = F.interpolate(logits, case.image.shape[1:], mode="bilinear", align_corners=False)
        labels.append(logits.max(1).indices.byte().cpu())
    return torch.cat(labels).numpy()


def _score(cases: Sequence[CohortCase], predict_case: Callable[[CohortCase], Labels], n_classes: int) -> dict[str, Any]:
    """Mean over volumes and classes, over volumes for each class, and how often a score was undefined."""
    classes = range(1, n_classes)
    scores = {case.name: evaluate(predict_case(case), case.label, case.spacing_mm, classes) for case in cases}
    everything = summarise([score for volume in scores.values() for score in volume.values()])
    per_class = {value: summarise([volume[value] for volume in scores.values()]).mean for value in classes}
    return {
        "n_volumes": len(cases),
        **asdict(everything.mean),
        "undefined": everything.undefined,
        "per_class": {str(value): asdict(mean) for value, mean in per_class.items()},
    }


# ---------------------------------------------------------------- the table


def add_cohort_arguments(parser: argparse.ArgumentParser, *, labelled: str, iterations: int, size: int) -> None:
    """The arguments that cohorts share."""
    methods = ",".join([*METHODS, FULLY_SUPERVISED])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data set's folder")
    parser.add_argument("--labelled", default=labelled, metavar="LIST", help=f"sizes of the labelled part ({labelled})")
    parser.add_argument("--methods", default=methods, metavar="LIST",
                        help=f"of {methods}; settings follow a colon, as in vq-seg:epsilon=0.5")  # fmt: skip
    parser.add_argument("--seeds", default="0,1,2", metavar="LIST", help="seeds (0,1,2)")
    parser.add_argument("--iterations", type=int, default=iterations, metavar="N", help=f"steps a run ({iterations})")
    parser.add_argument(
        "--batch", type=int, default=12, metavar="N", help="labelled slices a batch, and unlabelled (12)"
    )
    parser.add_argument("--size", type=int, default=size, metavar="PX", help=f"side of the slices ({size})")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    parser.add_argument(
        "--evaluate-on", type=Path, metavar="PATH", help="other patients to score: a folder like --data"
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=math.inf,
        metavar="S",
        help="stop after this many seconds and save; the same command goes on (exit code 75)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for results.json and table.md")


def run_cohort(
    args: argparse.Namespace,
    protocol: Protocol,
    load: Callable[[str], Cohort],
    baselines: dict[str, Callable[[Cohort], Callable[[CohortCase], Labels]]] | None = None,
) -> int:
    """Train and score what the table still lacks.

    Parameters
    ----------
    args : Namespace
        From :func:`add_cohort_arguments`.
    protocol : Protocol
        The table.
    load : callable
        Size of the labelled part ("all" for everyone) to cohort.
    baselines : dict, optional
        Ways to label a volume that need no training, fitted on the labelled cases.

    Returns
    -------
    int
        0 when the table is complete, ``UNFINISHED`` otherwise.
    """
    deadline = time.monotonic() + args.time_limit
    device = choose_device(args.device)
    results = args.output / "results.json"
    table = _Table(results, protocol, args)
    n_classes = 1 + len(protocol.class_names)
    worked = False  # every call takes a step, however short the limit
    for labelled, cohort in _cohorts(args, load):
        for name, fit in (baselines or {}).items():
            key = table.key(name, labelled, seed=0, iterations=0)
            if not table.has(key):
                table.add(key, _score(cohort.evaluation, fit(cohort), n_classes))
        for seed in map(int, split_list(args.seeds)):
            for variant in split_list(args.methods):
                if (variant == FULLY_SUPERVISED) != (labelled == "all"):
                    continue
                key = table.key(variant, labelled, seed=seed, iterations=args.iterations)
                if table.has(key):
                    continue
                if worked and time.monotonic() >= deadline:
                    return _unfinished(table)
                worked = True
                run = CohortRun(
                    "supervised" if variant == FULLY_SUPERVISED else variant, cohort, n_classes, seed=seed,
                    iterations=args.iterations, batch=args.batch, size=args.size, device=device,
                )  # fmt: skip
                state = args.output / "unfinished" / f"{'_'.join(map(str, key.values()))}.pt".replace("/", "_")
                if not _train(run, state, deadline, f"{variant}, {labelled} labelled, seed {seed}"):
                    return _unfinished(table)
                network = run.method.network_for_prediction
                scores = _score(cohort.evaluation, lambda case: predict(network, case, args.size, device), n_classes)  # noqa: B023
                table.add(key, {**scores, "train_s": run.seconds})
                state.unlink(missing_ok=True)
    print(table.markdown())  # noqa: T201
    return 0


def _cohorts(args: argparse.Namespace, load: Callable[[str], Cohort]) -> Iterator[tuple[str, Cohort]]:
    sizes = split_list(args.labelled)
    methods = split_list(args.methods)
    for variant in methods:
        if variant != FULLY_SUPERVISED and parse_variant(variant)[0] not in METHODS:
            raise ConfigError(f"Unknown method {variant!r}; choose of {', '.join([*METHODS, FULLY_SUPERVISED])}.")
    if FULLY_SUPERVISED in methods and "all" not in sizes:
        sizes.append("all")
    for labelled in sizes:
        yield labelled, load(labelled)


def _train(run: CohortRun, state: Path, deadline: float, title: str) -> bool:
    """Train until the run or the time is over; whether the run is."""
    if state.exists():
        run.load(state)
    last_saved = last_said = time.monotonic()
    while not run.finished:
        losses = run.step()
        now = time.monotonic()
        if now - last_said > 30:
            print(f"{title}: {run.step_index}/{run.iterations}, loss {losses['total']:.3f}", file=sys.stderr)  # noqa: T201
            last_said = now
        if now >= deadline or now - last_saved > SAVE_EVERY_S:
            run.save(state)
            last_saved = now
            if now >= deadline and not run.finished:
                return False
    return True


def _unfinished(table: _Table) -> int:
    print(table.markdown())  # noqa: T201
    print("The time limit came first; run the same command again to go on.", file=sys.stderr)  # noqa: T201
    return UNFINISHED


class _Table:
    """The rows measured so far, on disk after each of them."""

    def __init__(self, path: Path, protocol: Protocol, args: argparse.Namespace) -> None:
        self.path, self.protocol, self.args = path, protocol, args
        self.rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []

    def key(self, method: str, labelled: str, *, seed: int, iterations: int) -> dict[str, Any]:
        """What makes a run this run and no other."""
        on = "" if self.args.evaluate_on is None else self.args.evaluate_on.name
        return {
            "method": method, "labelled": labelled, "seed": seed, "iterations": iterations, "batch": self.args.batch,
            "size": self.args.size, "evaluated_on": on,
        }  # fmt: skip

    def has(self, key: dict[str, Any]) -> bool:
        return any(all(row[name] == value for name, value in key.items()) for row in self.rows)

    def add(self, key: dict[str, Any], scores: dict[str, Any]) -> None:
        """Take a row over and write the table."""
        source = provenance()
        self.rows.append({**key, **scores, "provenance": source})
        write_json(self.path, {"table": self.protocol.name, "rows": self.rows})
        write_text(self.path.with_name("table.md"), self.markdown())

    def markdown(self) -> str:
        """The table over all rows of the same length and size, seeds joined."""
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in self.rows:
            names = ("labelled", "method", "iterations", "batch", "size", "evaluated_on")
            groups.setdefault(tuple(row[name] for name in names), []).append(row)
        unit = self.protocol.distance_unit
        header = ["labelled", "method", "iterations", "seeds", "Dice", "Jaccard", f"HD95 [{unit}]", f"ASD [{unit}]",
                  "undefined", "published Dice"]  # fmt: skip
        lines = []
        for (labelled, method, iterations, *_), rows in groups.items():
            published = self.protocol.published_dice.get((method, labelled))
            lines.append([
                labelled, method, iterations or "–", ",".join(str(row["seed"]) for row in rows),
                *(mean_and_spread((row[score] for row in rows), 3 if score in SCORES[:2] else 2) for score in SCORES),
                sum(row["undefined"]["hd95_mm"] for row in rows), "–" if published is None else f"{published:.3f}",
            ])  # fmt: skip
        shortened = any(0 < row["iterations"] < self.protocol.full_iterations for row in self.rows)
        note = (
            f"**Shortened**: the papers train {self.protocol.full_iterations} iterations; these figures say nothing "
            "about the published ones.\n\n" if shortened else ""
        )  # fmt: skip
        sources = {provenance_line(row["provenance"]): None for row in self.rows}
        legend = (
            "Means over volumes and classes ± standard deviation over seeds; undefined: scores of a class that only "
            "one of prediction and reference has (not in the distances' means).\n\n"
        )
        head = f"## {self.protocol.name}\n\n{note}{markdown_table(header, lines)}\n"
        return head + legend + "".join(f"- {source}\n" for source in sources)
