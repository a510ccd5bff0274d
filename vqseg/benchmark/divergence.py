"""How far a perturbation carries a trained network's output away as it grows: dropout against QPM.

VQ-Seg, section "Background & Motivation", https://arxiv.org/abs/2601.10124: dropout's divergence is unbounded, QPM's
stays on the codebook. Here both are measured on one trained network, beside what theory says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vqseg.errors import VQSegError
from vqseg.io.atomic import atomic_path
from vqseg.models.perturbation import dropout_divergence, qpm_divergence
from vqseg.models.vqseg import VQSegNet

__all__ = [
    "STRENGTHS", "Divergence", "divergence_figure", "draw_divergence", "measure_divergence", "require_matplotlib",
]  # fmt: skip

STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SLICES_AT_ONCE = 12
COLOURS = {"dropout": "#d55e00", "qpm": "#0072b2"}  # Okabe and Ito: told apart by everybody
MARKERS = {"dropout": "s", "qpm": "o"}
NAMES = {"dropout": "dropout", "qpm": "QPM"}


@dataclass(frozen=True)
class Divergence:
    """Curves over the strength of the perturbation (dropout rate p or QPM's epsilon).

    Parameters
    ----------
    strengths : list of float
        In [0, 1).
    output : dict of str to list of float
        By kind ("dropout", "qpm"): mean over all pixels of KL(plain output || perturbed output), nats.
    dice : dict of str to list of float
        By kind: Dice of the perturbed output, mean over the classes.
    theory : dict of str to list of float
        By kind: dropout's formula, and KL of the codes before and after QPM, nats.
    bound : float or None
        What QPM's divergence of the codes never exceeds, nats; None where a code stands alone, so that there is none.
    """

    strengths: list[float]
    output: dict[str, list[float]]
    dice: dict[str, list[float]]
    theory: dict[str, list[float]]
    bound: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON."""
        return asdict(self)


@torch.no_grad()
def measure_divergence(
    network: VQSegNet, images: Tensor, labels: Tensor, seed: int = 0, strengths: Sequence[float] = STRENGTHS
) -> Divergence:
    """The curves of one network.

    Parameters
    ----------
    network : VQSegNet
        Trained.
    images : Tensor
        (N, 1, H, W) in [0, 1], on the network's device.
    labels : Tensor
        (N, H, W) int64 classes.
    seed : int
        Seed of the perturbations.
    strengths : sequence of float
        Dropout rates, and epsilons, in [0, 1).
    """
    network.eval()
    usage = torch.zeros(network.quantizer.codebook_size)
    for part in images.split(SLICES_AT_ONCE):
        indices = network.encode(part).indices.flatten()
        usage += torch.bincount(indices, minlength=len(usage)).cpu()
    output: dict[str, list[float]] = {kind: [] for kind in NAMES}
    dice: dict[str, list[float]] = {kind: [] for kind in NAMES}
    for kind in ("dropout", "qpm"):
        for strength in strengths:
            generator = torch.Generator().manual_seed(seed)
            divergence, score = _perturbed(network, images, labels, kind, strength, generator)
            output[kind].append(divergence)
            dice[kind].append(score)
    codes, bound = qpm_divergence(network.quantizer.codebook, list(strengths), usage)
    theory = {"dropout": [dropout_divergence(p) for p in strengths], "qpm": codes}
    return Divergence(list(strengths), output, dice, theory, bound if math.isfinite(bound) else None)


def _perturbed(
    network: VQSegNet, images: Tensor, labels: Tensor, kind: Literal["dropout", "qpm"], strength: float,
    generator: torch.Generator,
) -> tuple[float, float]:  # fmt: skip
    """Mean KL of the output to the plain one, and mean Dice of the classes."""
    n_classes = len(network.class_fit)
    divergence, overlap, sizes = 0.0, torch.zeros(n_classes), torch.zeros(n_classes)
    for image, label in zip(images.split(SLICES_AT_ONCE), labels.split(SLICES_AT_ONCE), strict=True):
        encoded = network.encode(image)
        plain = network.decode(encoded).float().log_softmax(1)
        logits = network.decode(encoded, network.perturb(encoded, strength, generator, kind))
        perturbed = logits.float().log_softmax(1)
        divergence += float((plain.exp() * (plain - perturbed)).sum(1).mean(dim=(1, 2)).sum())
        found = logits.max(1).indices
        overlap += 2 * torch.bincount(label[found == label], minlength=n_classes).cpu()
        sizes += torch.bincount(found.flatten(), minlength=n_classes).cpu()
        sizes += torch.bincount(label.flatten(), minlength=n_classes).cpu()
    return divergence / len(images), float((overlap / sizes.clamp(min=1))[1:].mean())


def require_matplotlib() -> Any:
    """The class of matplotlib's figures.

    Raises
    ------
    VQSegError
        Where it is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise VQSegError("The figure needs matplotlib; install napari-vqseg[benchmark].") from None
    return Figure


def draw_divergence(curves: Divergence, path: Path) -> None:
    """Save the curves as a picture, three panels wide.

    Raises
    ------
    VQSegError
        Where matplotlib is not installed.
    """
    figure = divergence_figure(curves)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix.removeprefix("."))


def divergence_figure(curves: Divergence) -> Any:
    """The curves as matplotlib's figure.

    Raises
    ------
    VQSegError
        Where matplotlib is not installed.
    """
    figure = require_matplotlib()(figsize=(11, 3.4), layout="constrained")
    theory, output, dice = figure.subplots(1, 3)
    for kind, name in NAMES.items():
        style = {"color": COLOURS[kind], "marker": MARKERS[kind], "label": name, "markersize": 4}
        theory.plot(curves.strengths, curves.theory[kind], **style)
        output.plot(curves.strengths, curves.output[kind], **style)
        dice.plot(curves.strengths, curves.dice[kind], **style)
    if curves.bound is not None:
        theory.axhline(curves.bound, color=COLOURS["qpm"], linestyle=":", label="QPM's bound")
    theory.set(title="Theory: divergence of features", ylabel="KL [nats]")
    output.set(title="Measured: divergence of output", ylabel="KL [nats per pixel]")
    dice.set(title="Measured: Dice of output", ylabel="Dice", ylim=(0, 1))
    for axes in (theory, output, dice):
        axes.set_xlabel("dropout rate p, or epsilon")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure
