"""How much of the codebook a data set uses: utilisation and perplexity over all its slices, for several sizes K.

A VQ-Seg network (convolutional encoder, from scratch) is trained for some steps on all slices of an ACDC-like folder,
with their labels: segmentation, reconstruction and commitment. Then every slice is encoded and the codes are counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vqseg.benchmark.acdc import load_cohort
from vqseg.benchmark.report import markdown_table, provenance, provenance_line, write_json
from vqseg.codebook import usage_report
from vqseg.config import ModelConfig
from vqseg.device import choose_device, gains_from_bfloat16
from vqseg.losses import reconstruction_loss, segmentation_loss
from vqseg.models.vqseg import VQSegNet
from vqseg.tokens import CodebookReport

__all__ = ["UsageRow", "add_arguments", "measure_usage", "run"]

BATCH = 8


@dataclass(frozen=True)
class UsageRow:
    """Use of one codebook over a data set."""

    codebook_size: int
    steps: int
    tokens: int
    utilisation: float
    perplexity: float
    seconds: float


def measure_usage(
    images: Tensor, labels: Tensor, codebook_size: int, steps: int, *, seed: int = 0, device: str = "cpu"
) -> UsageRow:
    """Train on slices and count the codes of all of them.

    Parameters
    ----------
    images : Tensor
        (N, 1, H, W) in [0, 1].
    labels : Tensor
        (N, H, W) int64 classes.
    codebook_size : int
        Number of codewords K.
    steps : int
        Training steps of 8 slices each.
    seed : int
        Seed of weights and batches.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    """
    start, where = time.monotonic(), choose_device(device)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = VQSegNet(ModelConfig(encoder="conv", codebook_size=codebook_size), 1, int(labels.max()) + 1)
    network.to(device=where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    autocast = torch.autocast(where.type, torch.bfloat16, enabled=gains_from_bfloat16(where))
    for step in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        x, y = images[chosen].to(where), labels[chosen].to(where)
        network.set_blend(min(1.0, 2 * step / steps))
        with autocast:
            output = network(x)
            loss = segmentation_loss(output.logits, y) + 0.25 * output.commitment_loss
            loss = loss + 0.5 * reconstruction_loss(network.reconstruct(output.encoded), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        network.revive(output.encoded, generator)
    report = _usage(network.eval(), images, where, autocast)
    return UsageRow(
        codebook_size, steps, int(report.usage.sum()), report.utilisation, report.perplexity, time.monotonic() - start
    )


@torch.no_grad()
def _usage(network: VQSegNet, images: Tensor, device: torch.device, autocast: torch.autocast) -> CodebookReport:
    with autocast:
        codes = [network.encode(part.to(device)).indices.cpu().numpy() for part in images.split(2 * BATCH)]
    return usage_report(codes, network.quantizer.codebook_size)


def _slices(data: Path, size: int) -> tuple[Tensor, Tensor]:
    """All slices of the training patients, (N, 1, size, size) and (N, size, size)."""
    cohort = load_cohort(data, "all")
    images, labels = [], []
    for case in cohort.labelled:
        image = torch.from_numpy(np.ascontiguousarray(case.image))[:, None]
        label = torch.from_numpy(np.ascontiguousarray(case.label))[:, None].float()
        images.append(F.interpolate(image, size=(size, size), mode="bilinear", antialias=True))
        labels.append(F.interpolate(label, size=(size, size), mode="nearest-exact")[:, 0].long())
    return torch.cat(images), torch.cat(labels)


def _table(rows: Sequence[UsageRow]) -> str:
    return markdown_table(
        ["K", "steps", "tokens", "utilisation", "perplexity", "s"],
        [
            [row.codebook_size, row.steps, row.tokens, f"{row.utilisation:.3f}", f"{row.perplexity:.0f}",
             f"{row.seconds:.0f}"] for row in rows
        ],
    )  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vqseg benchmark codebook``."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder laid out like ACDC's")
    parser.add_argument("--codebook-sizes", type=int, nargs="+", default=[1024, 16384], metavar="K")
    parser.add_argument("--steps", type=int, default=600, help="training steps of 8 slices (600)")
    parser.add_argument("--size", type=int, default=192, help="side of a slice in pixels (192)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the rows as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    images, labels = _slices(args.data, args.size)
    rows = [
        measure_usage(images, labels, size, args.steps, seed=args.seed, device=args.device)
        for size in args.codebook_sizes
    ]
    source = provenance()
    print(f"{provenance_line(source)}\n\n{_table(rows)}", end="")  # noqa: T201
    if args.output:
        write_json(args.output, {**source, "rows": [asdict(row) for row in rows]})
    return 0
