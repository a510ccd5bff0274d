"""A volume as the network sees it: cropped to where the labels are, windowed, at one pixel size."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vqseg.annotations import Annotations
from vqseg.data.framing import Framing, region_of_interest
from vqseg.data.motion import SliceMotion
from vqseg.data.shape_prior import ShapePrior
from vqseg.errors import AnnotationError
from vqseg.losses import IGNORE_LABEL
from vqseg.volume import Volume

__all__ = ["PreparedCase"]

SMALLEST_FRAME = 32
"""Side in pixels: at reduction 16 no map is one pixel wide, of which torch's bfloat16 convolutions on AMX make NaN."""
FAINTEST = 0.002
"""Contrast, as a share of the window, below which a slice shows nothing."""


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
    motion : SliceMotion or None
        How the anatomy moves from slice to slice, None where slices are not registered.
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
        self.motion = self._find_motion()
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
        self.motion = self._find_motion()
        self.update_annotations(self.annotations)

    def _find_motion(self) -> SliceMotion | None:
        """How the anatomy moves from slice to slice, in the contrast in which the structures show best."""
        if not self.framing.register_slices:
            return None
        contrast = self.framing.equalise if self.framing.equalisation else None
        return SliceMotion(self.images, self.volume.spacing_mm[0], contrast)

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
            shape = ShapePrior(
                complete, self.n_classes, self.volume.spacing_mm, self.size, self.shape, self.motion, self.device
            )
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

    def input(self, slices: Sequence[int]) -> Tensor:
        """Input of the network for some slices: (B, C, h, w), the slice itself at C // 2; the ends are repeated."""
        neighbours = self.framing.neighbours
        offsets = torch.arange(-neighbours, neighbours + 1)
        index = torch.as_tensor(list(slices))[:, None] + offsets
        images = self.images[index.clamp(0, len(self.images) - 1)]
        if not self.framing.equalisation:
            return images
        return torch.cat([self.framing.equalise(images[:, neighbours, None]), images], 1)

    def to_volume(self, maps: Tensor) -> Tensor:
        """Maps (C, h, w) in the network's frame -> (C, y1 - y0, x1 - x0) on the volume's voxels."""
        y0, y1, x0, x1 = self.box
        return F.interpolate(maps[None].float(), size=(y1 - y0, x1 - x0), mode="bilinear", align_corners=False)[0]
