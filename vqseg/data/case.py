"""A volume as the network sees it: cropped to where the labels are, windowed, at one pixel size."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from vqseg.annotations import PAINTED_BACKGROUND, Annotations
from vqseg.config import DataConfig
from vqseg.data.shape_prior import ShapePrior
from vqseg.errors import AnnotationError
from vqseg.losses import IGNORE_LABEL
from vqseg.volume import Volume, Window

__all__ = ["Framing", "PreparedCase", "TrainingCase", "frame_cases", "region_of_interest"]

Box = tuple[int, int, int, int]
"""Rows and columns of a crop: y0, y1, x0, x1."""

MARGIN_SHARE = 0.35
MARGIN_MM = 25.0
SMALLEST_FRAME = 32
"""Side in pixels: at reduction 16 no map is one pixel wide, of which torch's bfloat16 convolutions on AMX make NaN."""
FAINTEST = 0.002
"""Contrast, as a share of the window, below which a slice shows nothing."""


@dataclass
class TrainingCase:
    """A volume and what is labelled on it."""

    volume: Volume
    annotations: Annotations


@dataclass(frozen=True)
class Framing:
    """What training and prediction must do alike.

    Parameters
    ----------
    window : Window
        HU that become [0, 1].
    pixel_mm : float
        Pixel size the network works at, mm.
    """

    window: Window
    pixel_mm: float


def _painted(annotations: Annotations, z: int) -> npt.NDArray[np.bool_]:
    labels = annotations.labels[z]
    return (labels > 0) & (labels < PAINTED_BACKGROUND)


def region_of_interest(annotations: Annotations, spacing_mm: Sequence[float]) -> Box:
    """Rows and columns that hold every labelled structure with room to move; the whole slice without labels.

    The margin is the largest of 25 mm, a third of the structures' extent, and how far the structures' outline
    moves between neighbouring labelled slices.
    """
    boxes = []
    for z in annotations.used:
        painted = _painted(annotations, z)
        if painted.any():
            rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
            boxes.append((rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    height, width = annotations.labels.shape[1:]
    if not boxes:
        return 0, height, 0, width
    outline = np.array(boxes)
    moves = np.abs(np.diff(outline, axis=0)).max(initial=0)
    y0, x0 = outline[:, (0, 2)].min(0)
    y1, x1 = outline[:, (1, 3)].max(0)
    margin_y = int(max(MARGIN_SHARE * (y1 - y0), MARGIN_MM / spacing_mm[1], moves))
    margin_x = int(max(MARGIN_SHARE * (x1 - x0), MARGIN_MM / spacing_mm[2], moves))
    return (
        max(0, int(y0) - margin_y), min(height, int(y1) + margin_y),
        max(0, int(x0) - margin_x), min(width, int(x1) + margin_x),
    )  # fmt: skip


def choose_window(cases: Sequence[TrainingCase]) -> Window:
    """The window that shows the labelled structures and what lies around them: 0.5 % to 99.5 % of their values."""
    samples = []
    for case in cases:
        for z in case.annotations.used:
            near = ndimage.binary_dilation(_painted(case.annotations, z), iterations=8)
            samples.append(case.volume.slice(z)[near].astype(np.float32))
    values = np.concatenate(samples) if samples else np.zeros(0, np.float32)
    if values.size == 0:
        values = np.concatenate([case.volume.slice(case.volume.shape[0] // 2).ravel() for case in cases])
    low, high = np.percentile(values, (0.5, 99.5))
    return Window(float(low + high) / 2, float(high - low or 1.0) * 1.1)


def frame_cases(cases: Sequence[TrainingCase], config: DataConfig) -> Framing:
    """The window and pixel size for a set of cases.

    The pixel size lets the largest region of interest fit the config's size, and is no coarser than needed.
    """
    if config.window_width_hu > 0:
        window = Window(config.window_level_hu, config.window_width_hu)
    else:
        window = choose_window(cases)
    coarsest, finest = 0.0, np.inf
    for case in cases:
        spacing = case.volume.spacing_mm
        y0, y1, x0, x1 = region_of_interest(case.annotations, spacing)
        longest_mm = max((y1 - y0) * spacing[1], (x1 - x0) * spacing[2])
        coarsest = max(coarsest, longest_mm / config.size)
        finest = min(finest, spacing[1], spacing[2])
    # Small frames are enlarged up to fourfold, so that thin structures survive the network's reductions.
    return Framing(window, float(max(coarsest, finest / 4)))


class PreparedCase:
    """One case in the network's frame.

    Parameters
    ----------
    volume : Volume
        The image.
    annotations : Annotations or None
        What is labelled, if anything.
    framing : Framing
        Window and pixel size of the run.
    values : sequence of int
        Label value of each class 1..K; others are background. So gaps between the values cost nothing.

    Attributes
    ----------
    images : Tensor
        (Z, h, w) float32 in [0, 1].
    labels : dict of int to Tensor
        (h, w) int64 target of each used slice, 255 where unknown.
    shape : ShapePrior or None
        Geometry's evidence, None without complete slices.
    box : tuple of int
        y0, y1, x0, x1 of the region of interest in the volume's slices.
    """

    def __init__(
        self, volume: Volume, annotations: Annotations | None, framing: Framing, values: Sequence[int]
    ) -> None:
        self.volume, self.framing, self.n_classes = volume, framing, len(values)
        self._classes = np.zeros(256, np.uint8)
        self._classes[list(values)] = np.arange(1, len(values) + 1)
        self._classes[IGNORE_LABEL] = IGNORE_LABEL
        annotations = Annotations.empty(volume.shape) if annotations is None else annotations
        if annotations.labels.shape != volume.shape:
            raise AnnotationError(
                f"The labels have shape {annotations.labels.shape} (z, y, x), the volume {volume.shape}; "
                "use the labels that were drawn on this volume."
            )
        self.box = region_of_interest(annotations, volume.spacing_mm)
        y0, y1, x0, x1 = self.box
        _, dy, dx = volume.spacing_mm
        self.size = (
            max(SMALLEST_FRAME, round((y1 - y0) * dy / framing.pixel_mm)),
            max(SMALLEST_FRAME, round((x1 - x0) * dx / framing.pixel_mm)),
        )
        self.images = torch.cat([
            self._resize(framing.window.apply(np.asarray(volume.array[z : z + 16, y0:y1, x0:x1])))
            for z in range(0, volume.shape[0], 16)
        ])  # fmt: skip
        self.shape: ShapePrior | None = None
        self.update_annotations(annotations)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    @property
    def bytes(self) -> int:
        """Memory of the images."""
        return self.images.numel() * self.images.element_size()

    @property
    def is_flat(self) -> bool:
        """Whether no labelled slice shows anything in the window."""
        return all(float(self.images[z].amax() - self.images[z].amin()) < FAINTEST for z in self.labels)

    def to(self, device: torch.device) -> None:
        """Move images, labels and shapes, so that batches are drawn there."""
        self.images = self.images.to(device)
        self.update_annotations(self.annotations)

    def _resize(self, slices: npt.NDArray[np.float32]) -> Tensor:
        stack = torch.from_numpy(np.ascontiguousarray(slices))[:, None]
        shrinks = any(size < given for size, given in zip(self.size, stack.shape[-2:], strict=True))
        resized = F.interpolate(stack, size=self.size, mode="bilinear", antialias=shrinks, align_corners=False)
        return resized[:, 0]

    def update_annotations(self, annotations: Annotations) -> None:
        """Take over changed labels; the frame stays."""
        y0, y1, x0, x1 = self.box
        targets = {z: self._classes[annotations.target(z)[y0:y1, x0:x1]] for z in annotations.used}
        complete = {z: targets[z] for z in annotations.complete}
        shape: ShapePrior | None = None
        if complete:
            shape = ShapePrior(complete, self.n_classes, self.volume.spacing_mm, self.size, self.shape)
            shape.to(self.device)
        self.annotations, self.shape = annotations, shape
        self.labels = {z: self._resize_labels(target).to(self.device) for z, target in targets.items()}

    def with_annotations(self, annotations: Annotations) -> PreparedCase:
        """A twin with other labels on the same images."""
        twin = copy.copy(self)
        twin.update_annotations(annotations)
        return twin

    def _resize_labels(self, target: npt.NDArray[np.uint8]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(target))[None, None].float()
        return F.interpolate(tensor, size=self.size, mode="nearest-exact")[0, 0].long()

    def input(self, slices: Sequence[int], neighbours: int) -> Tensor:
        """Input of the network for some slices: (B, 2 * neighbours + 1, h, w); the ends are repeated."""
        offsets = torch.arange(-neighbours, neighbours + 1)
        index = torch.as_tensor(list(slices))[:, None] + offsets
        return self.images[index.clamp(0, len(self.images) - 1)]

    def to_volume(self, maps: Tensor) -> Tensor:
        """Maps (C, h, w) in the network's frame -> (C, y1 - y0, x1 - x0) on the volume's voxels."""
        y0, y1, x0, x1 = self.box
        return F.interpolate(maps[None].float(), size=(y1 - y0, x1 - x0), mode="bilinear", align_corners=False)[0]
