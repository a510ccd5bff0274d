"""A synthetic CT of the thorax with its reference labels, for the demo, the tests and the first minutes with the tool.

Organs are signed distance functions (mm, negative inside) on the voxel grid, painted in order with partial volume at
their edges, then blurred as by a scanner and given correlated noise. Seeded; nothing of it is a patient.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vqseg.canvas import FAR, Canvas, Field, Point
from vqseg.errors import VolumeError
from vqseg.io.labels import LabelMap
from vqseg.volume import StoredLayout, Volume

__all__ = ["CLASS_NAMES", "synthetic_thorax"]

CLASS_NAMES = {1: "tumour", 2: "left lung", 3: "right lung", 4: "heart", 5: "aorta", 6: "spine", 7: "liver"}

SMALLEST_SHAPE = (16, 32, 32)
"""Fewest voxels (z, y, x) that show every structure."""

LENGTH_MM = 290.0
"""From below the dome of the liver to the neck."""

WIDTH_MM = 380.0
"""Side of the square field of view."""


def require_size(shape: tuple[int, int, int]) -> None:
    """Raise :class:`VolumeError` for a (z, y, x) in which the structures cannot be told apart."""
    if any(size < least for size, least in zip(shape, SMALLEST_SHAPE, strict=True)):
        raise VolumeError(
            f"A thorax of {'x'.join(map(str, shape))} voxels shows nothing; "
            f"choose at least {'x'.join(map(str, SMALLEST_SHAPE))} (z, y, x)."
        )


def synthetic_thorax(seed: int = 0, shape: tuple[int, int, int] = (58, 192, 192)) -> tuple[Volume, LabelMap]:
    """A thorax with a spiculated tumour in the right upper lobe.

    Parameters
    ----------
    seed : int
        Seed of the vessels, the tumour's shape and the noise.
    shape : tuple of int
        (z, y, x) voxels; the body has the same size in mm whatever the shape.

    Returns
    -------
    volume : Volume
        int16 HU, stored as an ordinary NIfTI: (i, j, k) to the left, back and head.
    labels : LabelMap
        uint8 (z, y, x) with :data:`CLASS_NAMES`.

    Raises
    ------
    VolumeError
        For a shape in which the structures cannot be told apart.
    """
    require_size(shape)
    rng = np.random.default_rng(seed)
    spacing_mm = (LENGTH_MM / shape[0], WIDTH_MM / shape[1], WIDTH_MM / shape[2])
    canvas = Canvas(shape, spacing_mm)
    fields = _anatomy(canvas)
    fields["tumour"] = _tumour(canvas, rng)
    _paint_soft_tissue(canvas, fields, rng)
    _paint_lungs(canvas, fields, rng)
    _paint_bones(canvas, fields, rng)
    image = _scan(canvas, fields["body"], rng)
    labels = _labels(fields)
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    affine[:3, 3] = (WIDTH_MM / 2, WIDTH_MM / 2, -LENGTH_MM / 2)
    layout = StoredLayout((shape[2], shape[1], shape[0]), affine)
    return Volume(image, layout, modality="CT", source=""), LabelMap(labels, dict(CLASS_NAMES))


# -------------------------------------------------------------------------------------------------- shapes


def _anatomy(canvas: Canvas) -> dict[str, Field]:
    """Distance to each organ, mm, negative inside; organs give way to one another as they do in a body."""
    along = canvas.along
    fields: dict[str, Field] = {}
    fields["body"] = canvas.ellipse(0, 0, along([0, 120, 230, 290], [168, 172, 176, 160]),
                                    along([0, 120, 230, 290], [116, 116, 106, 88]), 2.4)  # fmt: skip
    heights = [0.0, 60, 120, 180, 215, 238, 254, 264, 290]
    fields["cavity"] = canvas.ellipse(
        0, along([0, 120, 250, 290], [0, 2, 20, 24]),
        along(heights, [134, 136, 130, 112, 90, 68, 46, 24, 12]),
        along(heights, [88, 89, 86, 75, 61, 46, 31, 17, 9]), 2.3,
    )  # fmt: skip
    inside = fields["cavity"] + 5
    spine_y = _spine_y(canvas)
    right_dome = canvas.ellipsoid((-62, 2, -8), (104, 98, 84))
    left_dome = canvas.ellipsoid((72, 10, -12), (84, 86, 66))
    abdomen = np.minimum(right_dome, left_dome)
    fields["diaphragm"] = np.maximum(abdomen - 3, inside)
    fields["liver"] = np.maximum(np.maximum(right_dome, inside + 3), canvas.x - 30 - 0.25 * canvas.y)
    fields["spleen"] = np.maximum(
        canvas.ellipsoid((92, 42, 6), (34, 30, 38), 30), np.maximum(left_dome, inside + 3) + 2
    )
    fields["stomach"] = np.maximum(canvas.ellipsoid((62, -22, 2), (40, 38, 36)), np.maximum(left_dome, inside + 3) + 4)
    heart = canvas.ellipsoid((24, -26, 92), (66, 47, 48), -32)
    fields["heart"] = np.maximum(np.maximum(heart, -abdomen + 4), inside + 4)
    fields["aorta"] = canvas.path(
        [(-3, -22, 124), (-11, -24, 142), (-8, -26, 168), (4, -19, 181), (17, -2, 186), (25, 20, 178), (26, 40, 158),
         (24, 42, 90), (16, 40, 0)],
        [14, 16, 15, 14.5, 13.5, 13, 12.5, 12, 11.5],
    )  # fmt: skip
    bodies = canvas.ellipse(0, spine_y, 17, 14, 2.4)
    canal = canvas.ellipse(0, spine_y + 21, 9, 8)
    arch = np.maximum(canvas.ellipse(0, spine_y + 22, 15, 13), -canal)
    level = np.abs((canvas.z - 9) % 27 - 13.5)
    spinous = np.maximum(canvas.ellipse(0, spine_y + 41, 3.5, 15), level - 9)
    transverse = np.maximum(canvas.ellipse(0, spine_y + 21, 34, 5, 3), level - 5.5)
    processes = np.maximum(np.minimum(spinous, transverse), -canal)
    fields["canal"] = canal
    behind = np.minimum(arch, processes)
    fields["spine"] = np.minimum(bodies, behind)
    fields["discs"] = np.maximum(bodies, _disc(canvas))
    fields["vertebrae"] = np.minimum(np.maximum(bodies, -_disc(canvas)), behind)
    fields["mediastinum"] = canvas.ellipse(
        2, along([0, 130, 250], [-14, -10, 5]), along([0, 90, 150, 200, 250], [30, 30, 36, 33, 26]),
        along([0, 130, 250], [80, 72, 44]), 2.2,
    )  # fmt: skip
    column = canvas.ellipse(0, spine_y + 14, 24, 34)
    for side, sign in (("left", 1), ("right", -1)):
        wall = np.maximum(inside, 4 - sign * canvas.x)
        for organ, gap in (("mediastinum", 0), ("heart", 4), ("aorta", 2)):
            wall = np.maximum(wall, gap - fields[organ])
        fields[f"{side} lung"] = np.maximum(np.maximum(wall, -column), 3 - abdomen)
    return fields


def _spine_y(canvas: Canvas) -> Field:
    """The bend of the thoracic spine, (z, 1, 1)."""
    return canvas.along([0, 70, 145, 220, 290], [48, 54, 57, 54, 46])


def _disc(canvas: Canvas) -> Field:
    """Distance to the discs between the vertebrae."""
    distance: Field = np.abs(canvas.z % 27 - 13.5) - 3
    return distance


def _tumour(canvas: Canvas, rng: np.random.Generator) -> Field:
    """A spiculated mass in the right upper lobe."""
    centre: Point = (-58, 4, 192)
    box = canvas.box(centre, centre, 45)
    bumps = canvas.texture(rng, 9)[box]
    field = np.full(canvas.hu.shape, FAR, np.float32)
    field[box] = canvas.ellipsoid(centre, (19, 16, 17), 25)[box] + 2.2 * bumps
    for _ in range(22):
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        tip = tuple(float(value) for value in np.add(centre, direction * rng.uniform(24, 34)))
        field[box] = np.minimum(field[box], canvas.tube(centre, (tip[0], tip[1], tip[2]), (8, 0.8), box))
    return field


def _labels(fields: dict[str, Field]) -> npt.NDArray[np.uint8]:
    """The reference: the voxels whose centre lies in an organ."""
    labels = np.zeros(fields["body"].shape, np.uint8)
    for value in (2, 3, 7, 4, 5, 6, 1):
        labels[fields[CLASS_NAMES[value]] < 0] = value
    return labels


# ------------------------------------------------------------------------------------------------ painting


def _paint_soft_tissue(canvas: Canvas, fields: dict[str, Field], rng: np.random.Generator) -> None:
    """Skin, fat, muscle, mediastinum, abdomen, heart and great vessels, on a couch."""
    couch = np.maximum(np.abs(canvas.y - 124 + 9 * (canvas.x / 140) ** 2) - 4, np.abs(canvas.x) - 150)
    canvas.paint(couch + 0 * canvas.z, -650)
    body, cavity = fields["body"], fields["cavity"]
    lumps = canvas.texture(rng, 11)
    canvas.paint(body, 20)
    canvas.paint(body + 2, -105 + 8 * lumps)
    shoulders = canvas.along([0, 190, 240, 290], [0, 0, 55, 95])
    canvas.paint(np.maximum(body + 13 + 2 * lumps, cavity - 26 - shoulders - 5 * lumps), 55)
    canvas.paint(np.maximum(np.abs(cavity - 11 - 2 * lumps) - 1.6, body + 14), -85)  # fat between the muscles
    for sign in (-1, 1):
        canvas.paint(canvas.ellipsoid((sign * 112, -4, 215), (22, 34, 50)) + 4 * lumps, -100)  # armpit
        canvas.paint(np.maximum(canvas.ellipse(sign * 30, _spine_y(canvas) + 36, 26, 15, 2.5), body + 8), 58)
    canvas.paint(cavity + 4, -80 + 10 * lumps)
    canvas.paint(fields["diaphragm"], 50)
    canvas.paint(fields["diaphragm"] + 6, -95)
    canvas.paint(fields["liver"], 108 + 4 * lumps)
    for start, end in (
        ((-20, 10, 20), (-95, -20, 48)),
        ((-30, 10, 10), (-100, 40, 30)),
        ((-25, 5, 25), (-60, -50, 35)),
    ):
        canvas.paint_tube(start, end, (6, 2), 165)
    canvas.paint(fields["spleen"], 122 + 3 * lumps)
    canvas.paint(fields["stomach"], 45)
    canvas.paint(np.maximum(fields["stomach"] + 4, canvas.y + 30), -980)
    canvas.paint(np.maximum(fields["stomach"] + 4, -30 - canvas.y), 12)
    _paint_heart(canvas, fields)
    _paint_great_vessels(canvas, fields)


def _paint_heart(canvas: Canvas, fields: dict[str, Field]) -> None:
    """Pericardial fat, muscle and the four chambers in contrast."""
    heart = fields["heart"]
    canvas.paint(heart - 3, -90)
    canvas.paint(heart, 92)
    chambers = (
        ((44, -30, 84), (32, 19, 27), -32, 182.0), ((2, -48, 88), (30, 20, 30), -20, 168.0),
        ((22, 4, 108), (28, 16, 20), 5, 185.0), ((-26, -20, 98), (18, 22, 28), 0, 160.0),
    )  # fmt: skip
    for centre, radii, turn, hu in chambers:
        canvas.paint(np.maximum(canvas.ellipsoid(centre, radii, turn), heart + 3), hu)
    canvas.paint(np.maximum(canvas.path([(60, -62, 110), (18, -62, 70)], [2, 2]), heart + 1), -70)


def _paint_great_vessels(canvas: Canvas, fields: dict[str, Field]) -> None:
    """Aorta and its branches, caval vein, pulmonary arteries, gullet, windpipe."""
    vessels: list[tuple[list[Point], list[float], float]] = [
        ([(-25, -20, 112), (-25, -22, 185), (-20, -24, 225), (-38, -30, 262)], [10, 9, 8, 6], 190),
        ([(-20, -24, 205), (30, -40, 225), (42, -26, 262)], [7, 6.5, 6], 170),
        ([(16, -40, 116), (20, -28, 142), (44, 0, 150), (60, 14, 146)], [14, 13, 10, 7], 160),
        ([(20, -26, 140), (-8, -4, 140), (-42, 4, 140)], [12, 11, 8], 160),
        ([(2, -4, 186), (-14, -10, 215), (-20, -4, 262)], [6.5, 6, 5], 190),
        ([(10, 8, 188), (16, 4, 225), (22, 0, 262)], [5, 4.5, 4.5], 190),
        ([(16, 22, 190), (28, 18, 225), (36, 8, 262)], [5.5, 5, 5], 190),
        ([(6, 30, 0), (4, 30, 140), (6, 24, 290)], [8, 7, 7], 42),
        ([(-30, 6, 0), (-28, 2, 78)], [12, 12], 130),
    ]
    for points, radii, hu in vessels:
        canvas.paint(canvas.path(points, radii), hu)
    canvas.paint(fields["aorta"], 195)
    airways: list[tuple[list[Point], list[float]]] = [
        ([(0, 6, 300), (0, 10, 230), (0, 14, 166)], [9.5, 9.5, 10]),
        ([(0, 14, 168), (-32, 16, 142)], [8.5, 7]), ([(0, 14, 168), (44, 20, 138)], [7.5, 6]),
    ]  # fmt: skip
    for points, radii in airways:
        canvas.paint(canvas.path(points, [radius + 1.5 for radius in radii]), 30)
    for points, radii in airways:
        canvas.paint(canvas.path(points, radii), -995)


def _paint_lungs(canvas: Canvas, fields: dict[str, Field], rng: np.random.Generator) -> None:
    """Parenchyma, denser towards the back, with fissures, vessels and the tumour."""
    parenchyma = -862 + 0.35 * canvas.y + 12 * canvas.texture(rng, 5)
    parenchyma += 55 * np.clip(1 - np.abs(canvas.z - 118 - 0.9 * canvas.y) / 1.6, 0, 1)
    for side, sign in (("left", 1), ("right", -1)):
        field = fields[f"{side} lung"]
        canvas.paint(field, parenchyma)
        hilum: Point = (sign * 44.0, 10.0, 140.0)
        for start, end, radii in _vessel_tree(canvas, field, hilum, rng):
            canvas.paint_tube(start, end, radii, 60)
    canvas.paint(np.maximum(fields["tumour"], fields["right lung"]), 48 + 10 * canvas.texture(rng, 4))


def _vessel_tree(
    canvas: Canvas, lung: Field, hilum: Point, rng: np.random.Generator, tips: int = 420
) -> list[tuple[Point, Point, tuple[float, float]]]:
    """Tubes from the hilum to random points of a lung; radii follow Murray's law (cube root of the tips fed)."""
    inside = np.argwhere(lung < -4)
    chosen = inside[rng.choice(len(inside), tips, replace=False)]
    axes = canvas.x.ravel(), canvas.y.ravel(), canvas.z.ravel()
    points = np.stack([axes[0][chosen[:, 2]], axes[1][chosen[:, 1]], axes[2][chosen[:, 0]]], axis=1)
    points = points + rng.uniform(-1, 1, points.shape) * 2
    nodes = np.concatenate([[hilum], points[np.argsort(np.linalg.norm(points - hilum, axis=1))]])
    parents = np.zeros(len(nodes), dtype=int)
    for index in range(1, len(nodes)):
        near = np.linalg.norm(nodes[:index] - nodes[index], axis=1)
        detour = np.linalg.norm(nodes[:index] - hilum, axis=1)
        parents[index] = int(np.argmin(near + 0.35 * detour))
    fed = np.ones(len(nodes))
    for index in range(len(nodes) - 1, 0, -1):
        fed[parents[index]] += fed[index]
    radii = 0.7 * np.cbrt(fed)
    corners = [(float(node[0]), float(node[1]), float(node[2])) for node in nodes]
    return [
        (corners[parents[index]], corners[index], (min(1.25 * radii[index], radii[parents[index]]), radii[index]))
        for index in range(1, len(nodes))
    ]


def _paint_bones(canvas: Canvas, fields: dict[str, Field], rng: np.random.Generator) -> None:
    """Spine, ribs with their cartilage, breastbone, shoulder blades and collarbones: cortex round marrow."""
    grains = canvas.texture(rng, 2.5)
    cavity, spine_y = fields["cavity"], _spine_y(canvas)
    canvas.paint(fields["discs"], 95)
    _paint_bone(canvas, fields["vertebrae"], 2.0, 210 + 35 * grains, 560)
    canvas.paint(fields["canal"], 5)
    canvas.paint(canvas.ellipse(0, spine_y + 21, 5, 4.5), 38)
    level = np.abs((canvas.z - 0.5 * canvas.y + 0.3 * np.abs(canvas.x) - 9) % 27 - 13.5)
    rib = np.sqrt(np.maximum((cavity - 1.5) / 1.0, -20) ** 2 + (level * 0.85) ** 2) - 5
    rib = np.maximum(np.maximum(rib, canvas.z - 262), 14 - np.abs(canvas.x))
    front = -62 + 0.2 * np.abs(canvas.x)
    canvas.paint(np.maximum(np.maximum(rib, canvas.y - front), 90 - canvas.z), 95)
    _paint_bone(canvas, np.maximum(rib, front - canvas.y), 2.0, 190 + 30 * grains, 720)
    sternum_y = canvas.along([0, 90, 180, 240, 290], [-94, -94, -84, -62, -55])
    sternum = canvas.ellipse(0, sternum_y, canvas.along([0, 200, 235], [15, 17, 26]), 6, 3)
    _paint_bone(canvas, np.maximum(sternum, np.maximum(72 - canvas.z, canvas.z - 236)), 1.6, 130 + 25 * grains, 420)
    for sign in (-1, 1):
        blade = canvas.ellipsoid((sign * 104, 68, 212), (42, 4.5, 58), -sign * 36)
        _paint_bone(canvas, np.maximum(blade, fields["body"] + 12), 2.0, 220, 560)
        collarbone = canvas.path([(sign * 22, -60, 244), (sign * 75, -52, 262), (sign * 130, -18, 276)], [8, 6, 7])
        _paint_bone(canvas, np.maximum(collarbone, fields["body"] + 6), 2.2, 230, 680)


def _paint_bone(canvas: Canvas, field: Field, cortex_mm: float, marrow: float | Field, cortex_hu: float) -> None:
    canvas.paint(field, cortex_hu)
    canvas.paint(field + cortex_mm, marrow)


def _scan(canvas: Canvas, body: Field, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """What a scanner makes of it: a point spread, and noise that grows with the tissue crossed."""
    image = ndimage.gaussian_filter(canvas.hu, (0.35, 0.55, 0.55))
    white = rng.standard_normal(image.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(white, (0.3, 0.6, 0.6)) - 0.8 * ndimage.gaussian_filter(white, (0.3, 1.6, 1.6))
    depth = np.clip(-body / 100, 0, 1)  # photons are fewest where the body is thickest
    image += noise / noise.std() * (7 + 8 * np.sqrt(depth))
    hu: npt.NDArray[np.int16] = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    return hu
