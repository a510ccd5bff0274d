"""The command behind a cohort's table: train and score what it still lacks, in slices of time.

What is unfinished when the limit comes is saved, and the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from vqseg.benchmark.cohort import Cohort, CohortCase, Labels, Protocol
from vqseg.benchmark.cohort_table import CohortTable, Key
from vqseg.benchmark.cohort_training import CohortRun, predict
from vqseg.benchmark.time_limit import add_time_limit, unfinished
from vqseg.benchmark.variants import parse_variant, split_list, split_numbers
from vqseg.device import choose_device
from vqseg.errors import ConfigError
from vqseg.methods import METHODS
from vqseg.metrics import evaluate, summarise

__all__ = ["FULLY_SUPERVISED", "add_cohort_arguments", "add_methods_argument", "run_cohort"]

FULLY_SUPERVISED = "fully-supervised"
SAVE_EVERY_S = 300.0
SAY_EVERY_S = 30.0

Baselines = Mapping[str, Callable[[Cohort], Callable[[CohortCase], Labels]]]


def add_cohort_arguments(parser: argparse.ArgumentParser, *, labelled: str, iterations: int, size: int) -> None:
    """The arguments that cohorts share."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="the data set's folder")
    add("--labelled", default=labelled, metavar="LIST", help=f"sizes of the labelled part ({labelled})")
    add("--seeds", default="0,1,2", metavar="LIST", help="seeds (0,1,2)")
    add("--iterations", type=int, default=iterations, metavar="N", help=f"steps a run ({iterations})")
    add("--batch", type=int, default=12, metavar="N", help="labelled slices a batch, and unlabelled (12)")
    add("--size", type=int, default=size, metavar="PX", help=f"side of the slices ({size})")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    add("--evaluate-on", type=Path, metavar="PATH", help="other patients to score: a folder like --data")
    add_time_limit(parser)
    add("--output", type=Path, required=True, metavar="DIR", help="for results.json and table.md")


def add_methods_argument(parser: argparse.ArgumentParser) -> None:
    """The list of methods, for tables that do not have their own."""
    methods = ",".join([*METHODS, FULLY_SUPERVISED])
    parser.add_argument("--methods", default=methods, metavar="LIST",
                        help=f"of {methods}; settings follow a colon, as in vq-seg:epsilon=0.5")  # fmt: skip


def run_cohort(
    args: argparse.Namespace,
    protocol: Protocol,
    load: Callable[[str], Cohort],
    sections: Mapping[str, Mapping[str, str]],
    baselines: Baselines | None = None,
    also: Callable[[CohortRun, Cohort], Mapping[str, Any]] | None = None,
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
    sections : mapping of str to mapping of str to str
        What the rows under each heading are called, and the method behind each; one in two of them is trained once.
    baselines : mapping, optional
        Ways to label a volume that need no training, fitted on the labelled cases.
    also : callable, optional
        What else to measure of a trained run; becomes part of its row.

    Returns
    -------
    int
        0 when the table is complete, :data:`vqseg.benchmark.time_limit.UNFINISHED` otherwise.
    """
    deadline = time.monotonic() + args.time_limit
    baselines, n_classes = baselines or {}, protocol.n_classes
    variants = list(dict.fromkeys(variant for rows in sections.values() for variant in rows.values()))
    _check(variants)
    shown = {title: {**{name: name for name in baselines}, **rows} for title, rows in sections.items()}
    table = CohortTable(args.output / "results.json", protocol, shown)
    seeds = split_numbers("--seeds", args.seeds, int, 0)
    worked = False  # every call takes a step, however short the limit
    for labelled, wanted in _plan(args, variants):
        cohort = load(labelled)
        for name, fit in baselines.items():
            key = _key(args, name, labelled, seed=0, iterations=0)
            if not table.has(key):
                table.add(key, _score(cohort.evaluation, fit(cohort), n_classes))
        for seed, variant in product(seeds, wanted):
            key = _key(args, variant, labelled, seed=seed, iterations=args.iterations)
            if table.has(key):
                continue
            if worked and time.monotonic() >= deadline:
                return _unfinished(table)
            worked = True
            run = CohortRun(
                "supervised" if variant == FULLY_SUPERVISED else variant, cohort, n_classes, seed=seed,
                iterations=args.iterations, batch=args.batch, size=args.size, device=choose_device(args.device),
            )  # fmt: skip
            state = args.output / "unfinished" / f"{'_'.join(map(str, key.values())).replace('/', '_')}.pt"
            if not _train(run, state, deadline, f"{variant}, {labelled} labelled, seed {seed}"):
                return _unfinished(table)
            table.add(key, {**_measure(run, cohort, n_classes), **(also(run, cohort) if also else {})})
            state.unlink(missing_ok=True)
    print(table.markdown())  # noqa: T201
    return 0


def _check(variants: Sequence[str]) -> None:
    for variant in variants:
        if variant != FULLY_SUPERVISED and parse_variant(variant)[0] not in METHODS:
            raise ConfigError(f"Unknown method {variant!r}; choose of {', '.join([*METHODS, FULLY_SUPERVISED])}.")


def _plan(args: argparse.Namespace, variants: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Sizes of the labelled part, and what is trained on each; full supervision is for everyone labelled."""
    partly = [variant for variant in variants if variant != FULLY_SUPERVISED]
    sizes = dict.fromkeys(split_list(args.labelled), partly)
    if FULLY_SUPERVISED in variants:
        sizes["all"] = [FULLY_SUPERVISED, *sizes.get("all", [])]
    return list(sizes.items())


def _key(args: argparse.Namespace, method: str, labelled: str, *, seed: int, iterations: int) -> Key:
    """What makes a run this run and no other."""
    return {
        "method": method, "labelled": labelled, "seed": seed, "iterations": iterations, "batch": args.batch,
        "size": args.size, "evaluated_on": "" if args.evaluate_on is None else args.evaluate_on.name,
    }  # fmt: skip


def _train(run: CohortRun, state: Path, deadline: float, title: str) -> bool:
    """Train until the run or the time is over; whether the run is."""
    if state.exists():
        run.load(state)
    last_saved = last_said = time.monotonic()
    while not run.finished:
        losses = run.step()
        now = time.monotonic()
        if now - last_said > SAY_EVERY_S:
            print(f"{title}: {run.step_index}/{run.iterations}, loss {losses['total']:.3f}", file=sys.stderr)  # noqa: T201
            last_said = now
        if now >= deadline or now - last_saved > SAVE_EVERY_S:
            run.save(state)
            last_saved = now
            if now >= deadline and not run.finished:
                return False
    return True


def _measure(run: CohortRun, cohort: Cohort, n_classes: int) -> dict[str, Any]:
    """Scores of a trained run, what its codebook is used for, and how long it took."""
    network = run.method.network_for_prediction
    scores = _score(cohort.evaluation, lambda case: predict(network, case, run.size, run.device), n_classes)
    report = run.codebook_report()
    codebook = {} if report is None else {"utilisation": report.utilisation, "perplexity": report.perplexity}
    return {**scores, **codebook, "train_s": run.seconds}


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


def _unfinished(table: CohortTable) -> int:
    print(table.markdown())  # noqa: T201
    return unfinished()
