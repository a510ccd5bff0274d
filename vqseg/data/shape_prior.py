"""What geometry alone says about a slice: the labelled slices' shapes, interpolated, and how far to trust them.

Between two labelled slices a class's signed distance maps are blended; beyond the outermost ones the shape shrinks by
a millimetre a millimetre. The maps are carried along with the anatomy (:mod:`vqseg.data.motion`), as far as that
predicts the labelled slices better than maps that stand still. How wrong the outcome is grows with the distance from
the labelled slices. Both are measured by leaving each inner labelled slice out in turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vqseg.annotations import signed_distance
from vqseg.data.motion import SliceMotion

__all__ = ["ShapeEvidence", "ShapePrior", "encode_shape", "no_shape"]

CAP_MM = 40.0
"""Distances are not followed further than this."""
ENCODED_MM = 10.0
"""Scale of the tanh that brings distances into the network's range."""
DISTANCE_SCALE_MM = 30.0
"""Scale of the distance channel."""
DOUBT_PER_MM = 0.2
"""Chance that interpolation says nothing about a place, per mm by which its edge is expected to err."""
MOST_DOUBT = 0.95
DEFAULT_ERROR_RATE = 0.5
"""Error of the interpolated edge, mm per mm from the nearest labelled slice, where it cannot be measured."""
CARRIED_ERROR_RATE = 0.3
"""The same of maps that are carried along."""
CARRYING_COST = 0.05
"""Added to the error of carried maps, mm per mm: at half the gap, as in prediction, it is less than halved."""
FOLLOWED_RATIO = (0.75, 0.95)
"""Error standing still over error carried along: below, a class's shape stands still; above, it is carried along."""
MOST_LEFT_OUT = 16
"""Labelled slices that are left out in turn, evenly chosen where there are more."""
REMEMBERED_BYTES = 2**28
"""Memory for the shapes interpolated last."""


@dataclass(frozen=True)
class ShapeEvidence:
    """The interpolated shapes of one slice.

    Parameters
    ----------
    distance_maps : Tensor
        (K, h, w) float32, signed distance of each class, mm, negative inside.
    distance_mm : float
        Distance of the slice from the nearest labelled slice used, mm.
    """

    distance_maps: Tensor
    distance_mm: float


def encode_shape(distance_maps: Tensor, distance_mm: Tensor) -> Tensor:
    """Shape evidence as input channels of the network.

    Parameters
    ----------
    distance_maps : Tensor
        (B, K, h, w) signed distances, mm.
    distance_mm : Tensor
        (B,) distance from the nearest labelled slice, mm.

    Returns
    -------
    Tensor
        (B, K + 1, h, w): tanh of the depth of each class, and the distance.
    """
    depth = torch.tanh(-distance_maps / ENCODED_MM)
    far = (distance_mm / DISTANCE_SCALE_MM).view(-1, 1, 1, 1).expand(-1, 1, *depth.shape[-2:])
    return torch.cat([depth, far.to(depth)], 1)


def no_shape(batch: int, n_classes: int, size: Sequence[int]) -> Tensor:
    """The channels of :func:`encode_shape` for slices about whose shape nothing is known: (batch, n_classes, h, w)."""
    channels = torch.zeros(batch, n_classes, *size)
    channels[:, -1] = -1.0
    return channels


class ShapePrior:
    """Signed distance maps of the complete slices, interpolated on demand.

    Parameters
    ----------
    labels : mapping of int to ndarray
        (y, x) uint8 labels of each complete slice z, cropped to the network's frame.
    n_classes : int
        Number of classes K, background excluded.
    spacing_mm : sequence of float
        Spacing along (z, y, x), mm.
    size : tuple of int
        (h, w) the network works at.
    earlier : ShapePrior, optional
        One in the same frame; slices whose labels are still the same keep its maps.
    motion : SliceMotion, optional
        How the anatomy moves from slice to slice; without it the shapes stand still.
    device : torch.device, optional
        Where the maps are kept, and the motion is; the CPU by default. What is known of the maps as a whole stays on
        the CPU, where decisions are made.

    Attributes
    ----------
    followed : Tensor
        (K,) share of each class's interpolated shape that is carried along with the anatomy, in [0, 1].
    error_rate : Tensor
        (K,) error of the interpolated edge, mm per mm from the nearest labelled slice.
    """

    def __init__(
        self,
        labels: Mapping[int, npt.NDArray[np.uint8]],
        n_classes: int,
        spacing_mm: Sequence[float],
        size: tuple[int, int],
        earlier: ShapePrior | None = None,
        motion: SliceMotion | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.n_classes = n_classes
        self.step_mm = float(spacing_mm[0])
        self.slices = sorted(labels)
        self._labels = dict(labels)
        self.maps: dict[int, Tensor] = {}
        for z in self.slices:
            if earlier is not None and z in earlier.maps and np.array_equal(earlier._labels[z], labels[z]):
                self.maps[z] = earlier.maps[z].to(device)
            else:
                self.maps[z] = self._measure(labels[z], spacing_mm, size).to(device)
        self.present = {z: (self.maps[z].amin((1, 2)) < 0).cpu() for z in self.slices}
        self.pixel_mm = float(spacing_mm[1]) * labels[self.slices[0]].shape[0] / size[0]
        self.motion = motion
        self.followed = torch.zeros(n_classes)
        if motion is not None:
            still = self._measure_error_rate(DEFAULT_ERROR_RATE, weight=0.5)
            self.followed = torch.ones(n_classes)
            carried = self._measure_error_rate(CARRIED_ERROR_RATE, weight=0.5)
            low, high = FOLLOWED_RATIO
            self.followed = ((still / (carried + CARRYING_COST) - low) / (high - low)).clamp(0, 1)
        self.error_rate = self._measure_error_rate(DEFAULT_ERROR_RATE)
        bytes_each = 4 * n_classes * size[0] * size[1]
        self._remembered = lru_cache(max(1, REMEMBERED_BYTES // bytes_each))(self._interpolate)

    def _measure(self, labels_yx: npt.NDArray[np.uint8], spacing_mm: Sequence[float], size: tuple[int, int]) -> Tensor:
        """(K, h, w) signed distance of each class of a slice, mm."""
        classes = range(1, self.n_classes + 1)
        maps = np.stack([signed_distance(labels_yx, value, spacing_mm[1:], CAP_MM) for value in classes])
        return F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)[0]

    @property
    def farthest_mm(self) -> float:
        """Largest distance of a slice between the outermost labelled slices from the nearest labelled one, mm."""
        gaps = np.diff(self.slices)
        return float(max(gaps.max(initial=2) // 2, 1)) * self.step_mm

    def at(self, z: int, leave_out: int | None = None) -> ShapeEvidence:
        """The shapes interpolated at slice z.

        Parameters
        ----------
        z : int
            Slice index.
        leave_out : int, optional
            A labelled slice to do without, so that its own shape can be predicted from the others.
        """
        return self._remembered(z, leave_out if leave_out in self.maps else None)

    @torch.inference_mode(False)
    def _interpolate(self, z: int, leave_out: int | None) -> ShapeEvidence:
        known = [other for other in self.slices if other != leave_out]
        below = max((other for other in known if other <= z), default=None)
        above = min((other for other in known if other >= z), default=None)
        if below is not None and above is not None:
            distance = min(z - below, above - z) * self.step_mm
            return ShapeEvidence(self._between(z, below, above), distance)
        nearest = above if below is None else below
        if nearest is None:
            return ShapeEvidence(torch.full_like(self.maps[self.slices[0]], CAP_MM), 10 * CAP_MM)
        distance = abs(z - nearest) * self.step_mm
        return ShapeEvidence((self._beyond(z, nearest) + distance).clamp(max=CAP_MM), distance)

    def _beyond(self, z: int, nearest: int) -> Tensor:
        """The outermost slice's maps, carried along as long as anything of its shapes is left."""
        maps = self.maps[nearest]
        if self.motion is None or float(maps.amin()) + abs(z - nearest) * self.step_mm > 0:
            return maps
        return self._follow(maps, self.motion.carry(maps, nearest, z))

    def _between(self, z: int, below: int, above: int) -> Tensor:
        if below == above:
            return self.maps[below]
        share = (z - below) / (above - below)
        still = self._blend(self.maps[below], self.maps[above], below, above, share)
        if self.motion is None or not self.followed.any():
            return still
        # Errors add up along the way, so the nearer slice knows better: weights by the inverse square of the distance.
        share = share**2 / (share**2 + (1 - share) ** 2)
        low, high = (self.motion.carry(self.maps[source], source, z) for source in (below, above))
        return self._follow(still, self._blend(low, high, below, above, share))

    def _follow(self, still: Tensor, carried: Tensor) -> Tensor:
        return torch.lerp(still, carried, self.followed[:, None, None].to(still.device))

    def _blend(self, low: Tensor, high: Tensor, below: int, above: int, share: float) -> Tensor:
        """The maps of two labelled slices, with a share of the upper one's."""
        facing_high, facing_low = self._facing(low, high, below, above), self._facing(high, low, above, below)
        return torch.lerp(facing_high, facing_low, share).clamp(max=CAP_MM)

    def _facing(self, maps: Tensor, there: Tensor, z: int, other: int) -> Tensor:
        """The maps of slice z; a class only `other` has, with its maps `there`, ends half-way between the two."""
        ends = (self.present[other] & ~self.present[z])[:, None, None]
        if not ends.any():
            return maps
        return torch.where(ends.to(maps.device), there.clamp(min=0) - there.amin((1, 2), keepdim=True), maps)

    def _measure_error_rate(self, default: float, weight: float = 1.0) -> Tensor:
        """(K,) error of the interpolated edge in mm per mm from the nearest slice, from left-out inner slices."""
        sums, counts = torch.zeros(self.n_classes), torch.zeros(self.n_classes)
        inner = self.slices[1:-1]
        for z in inner[:: math.ceil(len(inner) / MOST_LEFT_OUT) or 1]:
            evidence, truth = self._interpolate(z, z), self.maps[z]
            edge = truth.abs() < max(self.pixel_mm, 1.0)
            error = (evidence.distance_maps - truth).abs().clamp(max=CAP_MM / 2) / evidence.distance_mm
            sums += ((error * edge).sum((1, 2)) / edge.sum((1, 2)).clamp(min=1)).cpu()
            counts += edge.any(-1).any(-1).cpu()
        # Observations at the default keep a single lucky slice from being believed blindly.
        return ((sums + weight * default) / (counts + weight)).clamp(0.1, 1.5)

    def spread_mm(self, distance_mm: float) -> Tensor:
        """(K,) expected error of the interpolated edge at a distance from the nearest labelled slice, mm."""
        return self.error_rate * distance_mm + 0.5 * self.pixel_mm

    def log_odds(self, evidence: ShapeEvidence) -> Tensor:
        """Log-odds (K, h, w) that a voxel belongs to each class, from geometry alone.

        The edge's position is taken as normally distributed; 1.7 turns a normal into a logistic deviate.
        """
        spread = self.spread_mm(evidence.distance_mm)[:, None, None].to(evidence.distance_maps.device)
        return (-1.7 / spread) * evidence.distance_maps.clamp(-CAP_MM, CAP_MM)

    def discount(self, log_odds: Tensor, distance_mm: float) -> Tensor:
        """Log-odds of geometry to be added to those of a network that has seen the shape as well.

        Far from the labelled slices interpolation may be wrong altogether, and then both answers are alike: the
        farther, the less geometry says, however deep inside or far outside a place lies. Discounting as Shafer's
        (A Mathematical Theory of Evidence, 1976): a share of the belief becomes ignorance.

        Parameters
        ----------
        log_odds : Tensor
            (K, h, w), from :meth:`log_odds`.
        distance_mm : float
            Distance of their slice from the nearest labelled one, mm.

        Returns
        -------
        Tensor
            (K, h, w).
        """
        doubt = (DOUBT_PER_MM * self.error_rate * distance_mm).clamp(max=MOST_DOUBT)[:, None, None]
        probability = 0.5 + (1 - doubt.to(log_odds)) * (log_odds.sigmoid() - 0.5)
        return probability.logit(eps=1e-6)
