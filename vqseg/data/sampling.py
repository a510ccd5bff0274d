"""Draws training batches: labelled patches balanced over the classes, and unlabelled ones beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vqseg.config import DataConfig
from vqseg.data.augment import Warp, change_intensity, displace, random_warp, smooth_field, warp_features
from vqseg.data.batch import Batch
from vqseg.data.case import PreparedCase
from vqseg.data.shape_prior import CAP_MM, encode_shape, no_shape
from vqseg.errors import AnnotationError
from vqseg.losses import IGNORE_LABEL

__all__ = ["BatchSampler"]

BALANCED_SHARE = 0.75
"""Share of the patches that are centred on a class drawn evenly; the others lie anywhere."""
SHAPE_SHARE = 0.7
"""Share of the labelled patches that come with shape evidence; the others teach the network to do without."""
LEAVE_OUT_SHARE = 0.5
"""Of those, the share whose evidence is the interpolation of the other slices; the rest is the own shape, distorted."""
FORGOTTEN_CLASS_SHARE = 0.08
"""Chance that the evidence for a class is missing altogether."""


class BatchSampler:
    """Batches of patches from prepared cases.

    Parameters
    ----------
    cases : sequence of PreparedCase
        At least one with a used slice.
    config : DataConfig
        Batch and patch sizes.
    generator : torch.Generator
        Source of every draw, on the CPU.
    prior_features : callable, optional
        Features (D, h', w') of a frozen foundation model for (case index, slice), to be sampled like the images.

    Raises
    ------
    AnnotationError
        If no slice is labelled.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        config: DataConfig,
        generator: torch.Generator,
        prior_features: Callable[[int, int], Tensor] | None = None,
    ) -> None:
        self.cases, self.config, self.generator = list(cases), config, generator
        self.prior_features = prior_features
        longest = [max(sides) for sides in zip(*(case.size for case in self.cases), strict=True)]
        self.patch = (min(config.patch, longest[0]), min(config.patch, longest[1]))
        self.refresh()

    @property
    def device(self) -> torch.device:
        """Where the cases are, and where batches are drawn."""
        return self.cases[0].device

    def refresh(self) -> None:
        """Take over the cases' labels as they are now."""
        self.labelled = [(i, z) for i, case in enumerate(self.cases) for z in sorted(case.labels)]
        self.unlabelled = [
            (i, z)
            for i, case in enumerate(self.cases)
            for z in range(len(case.images))
            if z not in case.labels
        ]  # fmt: skip
        if not self.labelled:
            raise AnnotationError("No slice is labelled yet; paint one and mark it complete before training.")
        self.places: dict[int, list[tuple[int, int, Tensor]]] = {}
        for i, z in self.labelled:
            target = self.cases[i].labels[z]
            for value in target.unique().tolist():
                if 0 < value < IGNORE_LABEL:
                    self.places.setdefault(value, []).append((i, z, torch.nonzero(target == value).cpu()))

    def _integer(self, high: int) -> int:
        return int(torch.randint(high, (), generator=self.generator))

    def _uniform(self, shape: tuple[int, ...] = ()) -> Tensor:
        return torch.rand(shape, generator=self.generator)

    def _centre(self, case: PreparedCase, wanted: Tensor | None) -> Tensor:
        """Centre of a patch: near a wanted pixel (2,) or anywhere; the patch stays inside the slice."""
        size = torch.tensor(case.size, dtype=torch.float32)
        patch = torch.tensor(self.patch, dtype=torch.float32)
        if wanted is None:
            centre = self._uniform((2,)) * size
        else:
            centre = wanted + (self._uniform((2,)) - 0.5) * 0.6 * patch
        inside = torch.maximum(torch.minimum(centre, size - patch / 2), patch / 2)
        return torch.where(size > patch, inside, size / 2) - 0.5

    def _choose_labelled(self) -> tuple[int, int, Tensor]:
        """Case, slice and centre of a labelled patch."""
        if self.places and float(self._uniform()) < BALANCED_SHARE:
            value = sorted(self.places)[self._integer(len(self.places))]
            i, z, pixels = self.places[value][self._integer(len(self.places[value]))]
            return i, z, self._centre(self.cases[i], pixels[self._integer(len(pixels))].float())
        i, z = self.labelled[self._integer(len(self.labelled))]
        return i, z, self._centre(self.cases[i], None)

    def _choose_unlabelled(self) -> tuple[int, int, Tensor]:
        i, z = self.unlabelled[self._integer(len(self.unlabelled))]
        return i, z, self._centre(self.cases[i], None)

    def draw(self, *, strong_views: int = 0) -> Batch:
        """The next batch, where the cases are, with 1 or 2 strong views of unlabelled slices; at 0 without those."""
        places = [self._choose_labelled() for _ in range(self.config.batch_x)]
        warp = self._warp(places)
        images = self._sample_images(places, warp)
        labels = _each(warp, [self.cases[i].labels[z][None].float() for i, z, _ in places], nearest=True)
        batch = Batch(
            image_x=change_intensity(images, self.generator),
            label_x=labels[:, 0].long(),
            shape_x=self._training_shapes(places, warp),
            prior_x=self._sample_prior(places, warp),
        )
        if strong_views and self.unlabelled and self.config.batch_u:
            self._add_unlabelled(batch, strong_views)
        return batch

    def draw_unlabelled(self, count: int) -> Tensor:
        """Patches (count, C, h, w) of any slice, labelled or not, without their labels."""
        everywhere = self.unlabelled + self.labelled
        places = []
        for _ in range(count):
            i, z = everywhere[self._integer(len(everywhere))]
            places.append((i, z, self._centre(self.cases[i], None)))
        warp = self._warp(places)
        return change_intensity(self._sample_images(places, warp), self.generator)

    def _add_unlabelled(self, batch: Batch, strong_views: int) -> None:
        places = [self._choose_unlabelled() for _ in range(self.config.batch_u)]
        warp = self._warp(places)
        images = self._sample_images(places, warp)
        batch.image_u_w = images
        batch.image_u_s1 = change_intensity(images, self.generator, strength=2.0)
        if strong_views > 1:
            batch.image_u_s2 = change_intensity(images, self.generator, strength=2.0)
        sizes = torch.tensor([self.cases[i].size for i, *_ in places]).view(-1, 2, 1, 1).to(self.device)
        inside = (warp.rows >= 0) & (warp.rows < sizes[:, 0]) & (warp.columns >= 0) & (warp.columns < sizes[:, 1])
        batch.valid_u = inside
        batch.shape_u = self._interpolated_shapes(places, warp)

    def _warp(self, places: Sequence[tuple[int, int, Tensor]]) -> Warp:
        centres = torch.stack([centre for *_, centre in places])
        return random_warp(centres, self.patch, self.generator, device=self.device)

    def _sample_images(self, places: Sequence[tuple[int, int, Tensor]], warp: Warp) -> Tensor:
        return _each(warp, [self.cases[i].input([z])[0] for i, z, _ in places])

    def _sample_prior(self, places: Sequence[tuple[int, int, Tensor]], warp: Warp) -> Tensor | None:
        """The prior's features (B, D, h', w') where the warp has moved them, one for 16 x 16 pixels."""
        if self.prior_features is None:
            return None
        return torch.cat([
            warp_features(_one(warp, b), self.prior_features(i, z)[None], self.cases[i].size)
            for b, (i, z, _) in enumerate(places)
        ])  # fmt: skip

    def _interpolated_shapes(self, places: Sequence[tuple[int, int, Tensor]], warp: Warp) -> Tensor:
        """Evidence (B, K + 1, h, w) as prediction will see it."""
        n_classes = self.cases[0].n_classes
        shapes = no_shape(len(places), n_classes + 1, self.patch).to(self.device)
        for b, (i, z, _) in enumerate(places):
            prior = self.cases[i].shape
            if prior is not None:
                evidence = prior.at(z)
                maps = _one(warp, b).sample(evidence.distance_maps[None])
                shapes[b : b + 1] = encode_shape(maps, torch.tensor([evidence.distance_mm]))
        return shapes

    def _training_shapes(self, places: Sequence[tuple[int, int, Tensor]], warp: Warp) -> Tensor:
        """Evidence (B, K + 1, h, w) for labelled slices, as wrong as it will be on unlabelled ones.

        Either the slice is left out of the interpolation, or its own shape is displaced, grown, shrunk and
        now and then forgotten, as much as the interpolation errs at a random distance.
        """
        n_classes = self.cases[0].n_classes
        shapes = no_shape(len(places), n_classes + 1, self.patch).to(self.device)
        for b, (i, z, _) in enumerate(places):
            prior = self.cases[i].shape
            if prior is None or z not in prior.maps or float(self._uniform()) >= SHAPE_SHARE:
                continue
            here = _one(warp, b)
            if len(prior.slices) > 1 and float(self._uniform()) < LEAVE_OUT_SHARE:
                evidence = prior.at(z, leave_out=z)
                maps, distance = here.sample(evidence.distance_maps[None]), evidence.distance_mm
            else:
                distance = 1.2 * prior.farthest_mm * float(self._uniform())
                spread = prior.error_rate * distance  # (K,) mm
                moved = displace(here, spread.mean()[None] / prior.pixel_mm, self.generator)
                maps = moved.sample(prior.maps[z][None]) + self._growth(spread)
                forgotten = self._uniform((1, n_classes, 1, 1)) < FORGOTTEN_CLASS_SHARE
                maps = maps.masked_fill(forgotten.to(self.device), CAP_MM)
            shapes[b : b + 1] = encode_shape(maps, torch.tensor([distance]))
        return shapes

    def _growth(self, spread_mm: Tensor) -> Tensor:
        """Random growth (1, K, h, w) of shapes, mm: as a whole and place by place."""
        n_classes = len(spread_mm)
        whole = torch.randn((1, n_classes, 1, 1), generator=self.generator)
        local = smooth_field(1, n_classes, self.patch, (4, 4), self.generator, self.device)
        return (0.7 * spread_mm.view(1, -1, 1, 1)).to(self.device) * (whole.to(self.device) + local)


def _one(warp: Warp, b: int) -> Warp:
    return Warp(warp.rows[b : b + 1], warp.columns[b : b + 1])


def _each(warp: Warp, sources: Sequence[Tensor], *, nearest: bool = False) -> Tensor:
    """Sample each source (C, H, W), of whatever size, with its own part of the warp."""
    if len({source.shape for source in sources}) == 1:
        return warp.sample(torch.stack(list(sources)), nearest=nearest)
    return torch.cat([_one(warp, b).sample(source[None], nearest=nearest) for b, source in enumerate(sources)])
