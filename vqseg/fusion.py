"""What two witnesses say together: the network, from the image's appearance, and the shape between labelled slices.

Their log-odds are added, geometry's with the doubt that befits its distance from the labelled slices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqseg.data.shape_prior import ShapeEvidence, ShapePrior

__all__ = ["TRUSTED_FIT", "fuse"]

TRUSTED_FIT = (0.5, 0.9)
"""Dice on the labelled patches at which the network's word on a class begins to count, and counts in full."""


def fuse(logits: Tensor, shape: ShapePrior, evidence: ShapeEvidence, class_fit: Tensor | None = None) -> Tensor:
    """Log-probabilities of the classes from both witnesses.

    A class that the network has not learned yet, not even on the labelled patches, is left to geometry: that says
    whether a voxel belongs to the class, and the network what else it may be. So the class's edge lies where
    interpolation puts it. Between the two, how well a class is fitted weighs its odds with either witness.

    Parameters
    ----------
    logits : Tensor
        (K + 1, h, w) the network's word on a slice, background first.
    shape : ShapePrior
        The labelled slices' shapes.
    evidence : ShapeEvidence
        Those interpolated at the slice, from ``shape``.
    class_fit : Tensor, optional
        (K + 1,) Dice of each class on the labelled patches, in [0, 1]; without it the network is trusted.

    Returns
    -------
    Tensor
        (K + 1, h, w).
    """
    log_odds = shape.log_odds(evidence).to(logits)
    background = torch.zeros_like(log_odds[:1])
    both = (logits + torch.cat([background, shape.discount(log_odds, evidence.distance_mm)])).log_softmax(0)
    trust = torch.ones(len(logits)) if class_fit is None else _trust(class_fit)
    if bool((trust == 1).all()):
        return both
    trusted, mistrusted = trust[:, None, None].to(logits).log(), (1 - trust[1:, None, None].to(logits)).log()
    untaught = torch.cat([background, log_odds + mistrusted]).softmax(0)
    taught = (both + trusted).softmax(0)
    return (untaught[:1] * taught + torch.cat([background, untaught[1:]])).clamp(min=1e-8).log()


def _trust(class_fit: Tensor) -> Tensor:
    """(K + 1,) weight of the network's word on each class, in [0, 1]: rises over the fit's range; 1 for background."""
    low, high = TRUSTED_FIT
    trust = ((class_fit.float() - low) / (high - low)).clamp(0, 1)
    trust[0] = 1
    return trust
