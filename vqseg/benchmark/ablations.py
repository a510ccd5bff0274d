"""What each part of VQ-Seg is worth: parts, strength of the perturbation, size of the codebook; dropout against QPM.

On a folder laid out like ACDC's (`vqseg benchmark acdc --help`), by the protocol of that table. Rows that two sweeps
share are trained once. The network that was trained without any perturbation is also shown to dropout and QPM of
growing strength: divergence.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch

from vqseg.benchmark.acdc import PROTOCOL, load_cohort
from vqseg.benchmark.cohort import Cohort
from vqseg.benchmark.cohort_command import add_cohort_arguments, run_cohort
from vqseg.benchmark.cohort_training import CohortRun, stack_slices
from vqseg.benchmark.divergence import Divergence, draw_divergence, measure_divergence, require_matplotlib
from vqseg.benchmark.variants import split_list
from vqseg.errors import ConfigError
from vqseg.models.vqseg import VQSegNet

__all__ = ["add_arguments", "run", "sections"]

BASE = "vq-seg:perturbation=none:image_branch=false"
FULL = "vq-seg"
LABELLED_ONLY = "vq-seg:use_unlabelled=false"
STRENGTHS = "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9"
CODEBOOK_SIZES = "1024,4096,16384,65536"
DEFAULTS = {"epsilon=0.7", "codebook_size=16384"}
SWEEPS = ("parts", "strength", "codebook")
SHOWN_SLICES = 48
"""Slices that the divergence is measured on."""


def _variant(*settings: str) -> str:
    return ":".join([FULL, *(setting for setting in settings if setting not in DEFAULTS)])


def sections(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    """The rows of each sweep: what they are called, and the variant behind them.

    Raises
    ------
    ConfigError
        For an unknown sweep.
    """
    wanted = split_list(args.sweeps)
    if unknown := set(wanted) - set(SWEEPS):
        raise ConfigError(f"Unknown sweep {', '.join(sorted(unknown))}; choose of {', '.join(SWEEPS)}.")
    strengths, sizes = split_list(args.strengths), split_list(args.codebook_sizes)
    parts = {"labelled only": LABELLED_ONLY, "base": BASE, "+ QPM": "vq-seg:image_branch=false", "+ dual branch": FULL}
    if args.prior != "none":
        path = [f"prior_path={args.prior_path}"] if args.prior_path else []
        parts["+ adapter"] = _variant(f"prior={args.prior}", *path)
    every = {
        "parts": ("Parts", parts),
        "strength": ("Strength of the perturbation", {
            **{f"QPM, epsilon {e}": _variant(f"epsilon={e}") for e in strengths},
            **{f"dropout, p {p}": f"vq-seg:perturbation=dropout:epsilon={p}" for p in strengths},
        }),
        "codebook": ("Size of the codebook", {f"K = {k}": _variant(f"codebook_size={k}") for k in sizes}),
    }  # fmt: skip
    return dict(every[sweep] for sweep in wanted)


def _divergence(run: CohortRun, cohort: Cohort) -> dict[str, Any]:
    """The base row's curves on some slices of the scored patients."""
    if run.variant != BASE:
        return {}
    images, labels = stack_slices(cohort.evaluation, run.size)
    shown = torch.linspace(0, len(images) - 1, min(SHOWN_SLICES, len(images))).round().long()
    network = cast(VQSegNet, run.method.network_for_prediction)
    chosen = images[shown].to(run.device), labels[shown].squeeze(1).long().to(run.device)
    return {"divergence": measure_divergence(network, *chosen, seed=run.config.train.seed).to_dict()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The table's arguments."""
    add_cohort_arguments(parser, labelled="7", iterations=PROTOCOL.full_iterations, size=256)
    add = parser.add_argument
    add("--sweeps", default=",".join(SWEEPS), metavar="LIST", help=f"of {', '.join(SWEEPS)} (all)")
    add("--strengths", default=STRENGTHS, metavar="LIST", help=f"epsilons and dropout rates ({STRENGTHS})")
    add("--codebook-sizes", default=CODEBOOK_SIZES, metavar="LIST", help=f"numbers of codewords ({CODEBOOK_SIZES})")
    add("--prior", default="dinov2", metavar="NAME", help="prior of the row with the adapter; none leaves it out")
    add("--prior-path", default="", metavar="FILE", help="local weights of the prior (timm's cache or hub)")


def run(args: argparse.Namespace) -> int:
    """Make the tables and the figure."""
    require_matplotlib()
    protocol = replace(PROTOCOL, name="Ablations, ACDC", published_dice={}, sources="")
    code = run_cohort(
        args, protocol, lambda labelled: load_cohort(args.data, labelled, args.evaluate_on), sections(args),
        also=_divergence,
    )  # fmt: skip
    rows: list[Mapping[str, Any]] = json.loads((args.output / "results.json").read_text(encoding="utf-8"))["rows"]
    measured = [row["divergence"] for row in rows if "divergence" in row]
    if measured:
        draw_divergence(Divergence(**measured[0]), args.output / "divergence.png")
    return code
