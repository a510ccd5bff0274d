"""A voxel grid on which a phantom is painted: shapes as signed distances, partial volume at their edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["FAR", "Canvas", "Field", "Point"]

Field = npt.NDArray[np.float32]
Point = tuple[float, float, float]
"""(x, y, z) in mm: to the left and back from the middle, to the head from the lowest slice."""

FAR = 1e3
"""Distance, mm, where it does not matter how far."""


class Canvas:
    """HU being painted, and the coordinates of its voxels: x to the left, y to the back, z to the head, mm."""

    def __init__(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
        self.spacing_mm = spacing_mm
        axes = [(np.arange(size) + 0.5) * step for size, step in zip(shape, spacing_mm, strict=True)]
        self.z, self.y, self.x = np.meshgrid(
            axes[0],
            axes[1] - shape[1] * spacing_mm[1] / 2,
            axes[2] - shape[2] * spacing_mm[2] / 2,
            indexing="ij",
            sparse=True,
        )
        self.z, self.y, self.x = (axis.astype(np.float32) for axis in (self.z, self.y, self.x))
        self.hu: Field = np.full(shape, -1000, np.float32)
        self.edge_mm = 0.5 * (spacing_mm[1] + spacing_mm[2])

    def share(self, field_mm: Field) -> Field:
        """How much of each voxel lies inside, from the distance to the edge: partial volume."""
        share: Field = np.clip(0.5 - field_mm / self.edge_mm, 0, 1)
        return share

    def paint(self, field_mm: Field, hu: float | Field) -> None:
        """Fill the inside of a field with `hu`."""
        share = self.share(field_mm)
        self.hu += share * (hu - self.hu)

    def along(self, heights: list[float], values: list[float]) -> Field:
        """A quantity that varies smoothly with z, (z, 1, 1), from its values at some heights (mm)."""
        curve: Field = np.asarray(np.interp(self.z, heights, values), dtype=np.float32)
        return curve

    def texture(self, rng: np.random.Generator, size_mm: float) -> Field:
        """Smooth noise of mean 0 and deviation 1 with grains of about `size_mm`."""
        sigma = [size_mm / step for step in self.spacing_mm]
        noise = ndimage.gaussian_filter(rng.standard_normal(self.hu.shape, dtype=np.float32), sigma, mode="wrap")
        grains: Field = noise / noise.std()
        return grains

    def ellipse(
        self, cx: float | Field, cy: float | Field, rx: float | Field, ry: float | Field, power: float = 2
    ) -> Field:
        """Distance to a column with a superellipse as cross-section; centre and radii may vary with z."""
        u, v = np.abs((self.x - cx) / rx), np.abs((self.y - cy) / ry)
        norm = (u**power + v**power) ** (1 / power)
        distance: Field = ((norm - 1) * np.minimum(rx, ry)).astype(np.float32)
        return distance

    def ellipsoid(
        self, centre: tuple[float, float, float], radii: tuple[float, float, float], turn: float = 0
    ) -> Field:
        """Distance to an ellipsoid (x, y, z), turned by `turn` degrees about z."""
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        dx, dy, dz = self.x - centre[0], self.y - centre[1], self.z - centre[2]
        u, v = (dx * cos + dy * sin) / radii[0], (dy * cos - dx * sin) / radii[1]
        norm = np.sqrt(u**2 + v**2 + (dz / radii[2]) ** 2)
        distance: Field = ((norm - 1) * min(radii)).astype(np.float32)
        return distance

    def box(self, start: Point, end: Point, margin_mm: float) -> tuple[slice, slice, slice]:
        """The voxels within a margin of a line."""
        slices = []
        for axis, at in ((self.z, 2), (self.y, 1), (self.x, 0)):
            low, high = sorted((start[at], end[at]))
            values = axis.ravel()
            slices.append(slice(*np.searchsorted(values, [low - margin_mm, high + margin_mm])))
        return slices[0], slices[1], slices[2]

    def tube(self, start: Point, end: Point, radii: tuple[float, float], box: tuple[slice, slice, slice]) -> Field:
        """Distance, within `box`, to a tube from one point (x, y, z) to another whose radius tapers."""
        x, y, z = self.x[:, :, box[2]], self.y[:, box[1], :], self.z[box[0]]
        step = np.subtract(end, start).astype(np.float32)
        dx, dy, dz = x - start[0], y - start[1], z - start[2]
        share = np.clip((dx * step[0] + dy * step[1] + dz * step[2]) / float(step @ step), 0, 1)
        length = np.sqrt((dx - share * step[0]) ** 2 + (dy - share * step[1]) ** 2 + (dz - share * step[2]) ** 2)
        distance: Field = length - (radii[0] + share * (radii[1] - radii[0]))
        return distance

    def path(self, points: list[Point], radii: list[float]) -> Field:
        """Distance to a tube along several points; far away from it only that it is outside."""
        field = np.full(self.hu.shape, FAR, np.float32)
        for start, end, *ends in zip(points, points[1:], radii, radii[1:], strict=False):
            box = self.box(start, end, max(radii) + 12)
            field[box] = np.minimum(field[box], self.tube(start, end, (ends[0], ends[1]), box))
        return field

    def paint_tube(self, start: Point, end: Point, radii: tuple[float, float], hu: float) -> None:
        """Fill a short tube, touching only the voxels round it."""
        box = self.box(start, end, max(radii) + self.edge_mm)
        share = self.share(self.tube(start, end, radii, box))
        self.hu[box] += share * (hu - self.hu[box])
