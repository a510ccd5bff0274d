"""Which slices to label next: a simulated annotator follows the ranking, even spacing or chance; Dice against slices.

All begin with the same slices, evenly spaced over the structures' extent, ends included, or over its inner part: a
person does not know the ends beforehand. The annotator then labels some more slices a round, exactly as the reference
has them, and the network is trained anew. *ranking* takes what ``suggest`` says after each training; *even* places all
its slices anew, evenly spaced over the extent, as if it and their number had been known from the start; *random* draws
from the extent. With ``--steps 0`` nothing is trained: the shape between the labelled slices is interpolated, which
shows in seconds what the ranking is worth by its geometry alone. Dice and HD95 count the whole volume as a person would
export it, labelled slices as drawn: leaving them out would reward labelling what is hard. Rows that are already in
``rows.jsonl`` are not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations
from vqseg.benchmark.few_slices import Subject, evenly_spaced, load_subject
from vqseg.benchmark.report import (
    markdown_table,
    mean_and_spread,
    provenance,
    provenance_line,
    read_lines,
    write_text,
)
from vqseg.benchmark.time_limit import add_time_limit, unfinished
from vqseg.benchmark.variants import split_list, split_numbers
from vqseg.config import Config, preset
from vqseg.errors import ConfigError
from vqseg.evidence import EvidenceSurvey
from vqseg.interpolation import interpolate_labels
from vqseg.metrics import evaluate, summarise
from vqseg.segment import segment
from vqseg.suggest import suggest_slices, uncertainty_profile

__all__ = ["STRATEGIES", "Campaign", "add_arguments", "measure", "run", "table"]

STRATEGIES = ("ranking", "even", "random")
START = "start"
"""Rows that all strategies begin with."""


@dataclass(frozen=True)
class Campaign:
    """What is simulated.

    Parameters
    ----------
    start : int
        Slices that are labelled before anything is suggested.
    batch : int
        Slices labelled in a round.
    end : int
        Slices labelled in all.
    steps : int
        Training steps of every network.
    inset : float
        How far inside the extent the first slices lie at either end, as a share of it.
    """

    start: int
    batch: int
    end: int
    steps: int
    inset: float = 0.0

    @property
    def rounds(self) -> list[int]:
        """Numbers of labelled slices after the start."""
        return list(range(self.start + self.batch, self.end + 1, self.batch))


def measure(subject: Subject, slices: Sequence[int], steps: int, seed: int, suggestions: int) -> dict[str, Any]:
    """Train on some slices, score the whole volume and ask what to label next.

    Parameters
    ----------
    subject : Subject
        The volume and its reference.
    slices : sequence of int
        The labelled slices.
    steps : int
        Training steps; 0 to interpolate instead.
    seed : int
        Seed of the training.
    suggestions : int
        How many slices to ask for.
    """
    start = time.process_time()
    annotations = Annotations.from_slices(subject.labels, slices)
    if steps:
        config = preset("fast", time_budget_s=0.0, iterations=steps, seed=seed)
        labels, following = _train(subject, annotations, config, suggestions)
    else:
        labels, following = _interpolate(subject, annotations, suggestions)
    spacing_mm, classes = subject.volume.spacing_mm, sorted(subject.class_names)
    whole = summarise(evaluate(labels, subject.labels, spacing_mm, classes)).mean
    rest = summarise(evaluate(labels, subject.labels, spacing_mm, classes, exclude_slices=slices)).mean
    return {
        "slices": sorted(slices), "dice": whole.dice, "hd95_mm": whole.hd95_mm, "dice_unlabelled": rest.dice,
        "ranking": following, "cpu_s": round(time.process_time() - start, 1),
    }  # fmt: skip


def _train(
    subject: Subject, annotations: Annotations, config: Config, count: int
) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """A network's labels, and what the engine would suggest."""
    prediction, trainer = segment(subject.volume, annotations, subject.class_names, config)
    profile = uncertainty_profile(prediction.uncertainty)
    survey = EvidenceSurvey(trainer.predictor(), subject.volume, annotations.used, prediction.labels, profile)
    while not survey.finished:
        survey.advance()
    found = suggest_slices(
        annotations, subject.volume.spacing_mm, count=count, evidence=survey.evidence, predicted=prediction.labels
    )
    return prediction.labels, [item.z for item in found]


def _interpolate(subject: Subject, annotations: Annotations, count: int) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """The labels between the slices, and what is suggested before any network is trained."""
    spacing_mm = subject.volume.spacing_mm
    found = suggest_slices(annotations, spacing_mm, count=count)
    return interpolate_labels(annotations, sorted(subject.class_names), spacing_mm), [item.z for item in found]


def _jobs(
    subject: Subject, campaign: Campaign, strategies: Sequence[str], seed: int, rows: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, list[int]]]:
    """Strategy and slices of each row; a round of the ranking reads what the round before it suggested in `rows`."""
    holding = np.flatnonzero((subject.labels > 0).any(axis=(1, 2)))
    margin = round(campaign.inset * (holding[-1] - holding[0]))
    inner = np.linspace(holding[0] + margin, holding[-1] - margin, campaign.start)
    beginning = sorted({int(z) for z in inner.round()})
    yield START, beginning
    free = np.setdiff1d(np.arange(holding[0], holding[-1] + 1), beginning)
    drawn = np.random.default_rng(seed).permutation(free).tolist()
    for k in campaign.rounds:
        if "random" in strategies:
            yield "random", sorted([*beginning, *drawn[: k - campaign.start]])
        if "even" in strategies:
            yield "even", evenly_spaced(subject.labels, k)
    slices, before = beginning, START
    for _ in campaign.rounds if "ranking" in strategies else ():
        known = [row for row in rows if row["seed"] == seed and row["strategy"] == before]
        row = next(row for row in known if row["slices"] == slices)
        slices, before = sorted([*slices, *row["ranking"][: campaign.batch]]), "ranking"
        yield before, slices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The table's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="volume")
    parser.add_argument("labels", metavar="LABELS", help="its reference, every slice labelled")
    parser.add_argument("--classes", default="", metavar="LIST", help="label values to keep (all)")
    parser.add_argument("--start", type=int, default=3, metavar="K", help="slices labelled at the start (3)")
    parser.add_argument("--inset", type=float, default=0.0, metavar="SHARE",
                        help="how far inside the extent the first slices lie, at most 0.4 of it (0)")  # fmt: skip
    parser.add_argument("--batch", type=int, default=2, metavar="N", help="slices labelled in a round (2)")
    parser.add_argument("--slices", type=int, default=9, metavar="K", help="slices labelled in all (9)")
    parser.add_argument(
        "--steps", type=int, default=150, help="training steps of every network, 0 to interpolate (150)"
    )
    parser.add_argument("--seeds", default="0,1,2", metavar="LIST", help="seeds (0,1,2)")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), metavar="LIST",
                        help=f"of {','.join(STRATEGIES)} (all)")  # fmt: skip
    add_time_limit(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for rows.jsonl and table.md")


def run(args: argparse.Namespace) -> int:
    """Measure the rows that are missing and write the table."""
    deadline = time.monotonic() + args.time_limit
    strategies = split_list(args.strategies)
    if unknown := sorted(set(strategies) - set(STRATEGIES)):
        raise ConfigError(f"Unknown strategy {', '.join(unknown)}; choose of {', '.join(STRATEGIES)}.")
    if not 1 <= args.start <= args.slices or args.batch < 1:
        raise ConfigError("The start needs 1 to --slices slices, and a round at least one; change --start or --batch.")
    if not 0 <= args.inset <= 0.4:
        raise ConfigError(f"--inset is a share of the extent from 0 to 0.4; got {args.inset:g}.")
    seeds = split_numbers("--seeds", args.seeds, int, 0)
    campaign = Campaign(args.start, args.batch, args.slices, args.steps, args.inset)
    subject = load_subject(f"{args.image}={args.labels}", split_numbers("--classes", args.classes, int, 1))
    same = {"volume": subject.name, "classes": args.classes or "all", "steps": campaign.steps, "start": campaign.start,
            "inset": campaign.inset, "batch": campaign.batch}  # fmt: skip
    path = args.output / "rows.jsonl"
    rows = read_lines(path)
    known = [row for row in rows if same.items() <= row.items()]
    for seed in seeds:
        for strategy, slices in _jobs(subject, campaign, strategies, seed, known):
            if any((row["strategy"], row["seed"], row["slices"]) == (strategy, seed, slices) for row in known):
                continue
            if time.monotonic() >= deadline:
                return unfinished()
            result = measure(subject, slices, campaign.steps, seed, campaign.batch)
            row = {**same, "strategy": strategy, "seed": seed, "k": len(slices), **result, "provenance": provenance()}
            rows.append(row)
            known.append(row)
            write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
            write_text(args.output / "table.md", table(rows))
            print(  # noqa: T201
                f"{subject.name}  seed {seed}  {strategy}  k={len(slices)}: Dice {row['dice']:.3f}  {slices}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    print(table(rows))  # noqa: T201
    return 0


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Dice (and HD95) by number of labelled slices, one column a strategy, seeds joined."""
    campaigns: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        names = ("volume", "classes", "steps", "inset", "start", "batch")
        campaigns.setdefault(tuple(row[name] for name in names), []).append(row)
    lines = []
    for (volume, classes, steps, inset, _, _), group in campaigns.items():
        for k in sorted({row["k"] for row in group}):
            cells = []
            for strategy in STRATEGIES:
                found = [row for row in group if row["k"] == k and row["strategy"] in (strategy, START)]
                dice = mean_and_spread(row["dice"] for row in found)
                cells.append(f"{dice} / {mean_and_spread((row['hd95_mm'] for row in found), 1)}" if found else "–")
            seeds = len({row["seed"] for row in group if row["k"] == k})
            lines.append([volume, classes, steps, inset, k, seeds, *cells])
    sources = {provenance_line(row["provenance"]): None for row in rows}
    return (
        "## Which slices to label\n\n"
        + markdown_table(["volume", "classes", "steps", "inset", "labelled slices", "seeds", *STRATEGIES], lines)
        + "\nDice / HD95 [mm] of the whole volume, labelled slices as drawn; means over classes ± standard deviation "
        "over seeds (training, and which slices are drawn at random).\n\n"
        + "\n".join(f"- {source}" for source in sources) + "\n"
    )  # fmt: skip
