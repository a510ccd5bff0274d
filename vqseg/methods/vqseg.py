"""VQ-Seg: perturb the codes of the unlabelled slices, not their activations (https://arxiv.org/abs/2601.10124)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vqseg.config import Config
from vqseg.data.batch import Batch
from vqseg.data.shape_prior import no_shape
from vqseg.distributed import summed, uniform
from vqseg.losses import IGNORE_LABEL, reconstruction_loss, segmentation_loss
from vqseg.methods.base import Method
from vqseg.models.adapter import FeatureAdapter
from vqseg.models.ema import make_teacher
from vqseg.models.vqseg import Encoded, VQSegNet

__all__ = ["VQSegMethod"]

FIT_MEMORY = 0.97
"""How slowly the running overlap of the classes forgets, per step."""
FIT_STRIDE = 4
"""The running overlap looks at every so many rows and columns."""
SHAPE_CONFLICT = 0.5
"""Depth (in the shape channels' units) inside an interpolated structure where "background" is not believed."""


class VQSegMethod(Method):
    """Labelled: L_rec + L_seg. Unlabelled: L_rec + L_seg(pseudo, plain) + L_seg(pseudo, behind QPM).

    Where this differs from the paper: quantization is brought in over ``quantization_ramp`` of the training; the
    teacher and the segmentation decoder also see the shape interpolated between labelled slices; pseudo-labels start
    when the labelled slices are learned, need confidence and must not contradict that shape; the student's unlabelled
    view is a strong one, without the shape.

    Parameters
    ----------
    config, in_channels, n_classes
        As in :class:`Method`.

    """

    name = "vq-seg"
    uses_shape = True
    takes_prior = True
    unlabelled_every = 2  # such a step costs about two labelled ones; measured: no loss in Dice
    student: VQSegNet
    teacher: VQSegNet
    overlap: Tensor

    def __init__(self, config: Config, in_channels: int, n_classes: int, *, pretrained: bool = True) -> None:
        super().__init__(config, in_channels, n_classes)
        self.student = VQSegNet(config.model, in_channels, n_classes, pretrained=pretrained)
        self.teacher = make_teacher(self.student)
        self.adapter: FeatureAdapter | None = None
        self.register_buffer("overlap", torch.zeros(2, n_classes))
        self._revivable: Encoded | None = None
        self._revived = 0

    @property
    def pretrained_parameters(self) -> list[nn.Parameter]:
        """Those of the encoder, unless it learns from scratch."""
        return [] if self.config.model.encoder == "conv" else list(self.student.encoder.parameters())

    @property
    def can_warm_up(self) -> bool:
        """With an image decoder."""
        return self.student.image_decoder is not None

    @property
    def codebook_state(self) -> dict[str, Any]:
        """Utilisation and perplexity of the student's codebook, and the dead codewords put to use by the last step."""
        quantizer = self.student.quantizer
        return {
            "utilisation": quantizer.utilisation, "perplexity": quantizer.perplexity, "revived": self._revived,
        }  # fmt: skip

    def align_to(self, prior_dims: Sequence[int]) -> None:
        """Add the adapter (PFA) to priors with so many channels each; the loop then fills ``batch.prior_x``."""
        self.adapter = FeatureAdapter(self.student.encoder.channels[self.student.depth - 1], prior_dims)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """L = L_l + lambda_u L_u + lambda_a L_align + commitment (method, "Loss & Training")."""
        self.student.set_blend(self._blend(progress))
        weights = self.config.loss
        uses_unlabelled = batch.image_u_w is not None

        images = batch.image_x
        if uses_unlabelled:
            assert batch.image_u_s1 is not None
            images = torch.cat([images, batch.image_u_s1])
        encoded = self.student.encode(images)
        self._revivable = encoded
        shapes = self._shapes(batch, len(images))
        logits = self.student.decode(encoded, shape=shapes)

        n = len(batch.image_x)
        self._follow_fit(logits[:n], batch.label_x)
        terms = {
            "segmentation": segmentation_loss(logits[:n], batch.label_x, weights.segmentation),
            "commitment": encoded.commitment_loss,
        }
        if self.student.image_decoder is not None:
            centre = images[:, self.in_channels // 2, None]
            terms["reconstruction"] = reconstruction_loss(self.student.reconstruct(encoded), centre)
        if self.adapter is not None and batch.prior_x is not None:
            terms["alignment"] = self.adapter.loss(encoded.quantized[:n], batch.prior_x)
        if uses_unlabelled:
            terms |= self._unlabelled(batch, encoded, logits, shapes)
        total = (
            terms["segmentation"]
            + weights.commitment * terms["commitment"]
            + weights.reconstruction * terms.get("reconstruction", 0.0)
            + weights.alignment * terms.get("alignment", 0.0)
            + weights.unlabelled * terms.get("unlabelled", 0.0)
        )
        return terms | {"total": total}

    def warmup_losses(self, images: Tensor) -> dict[str, Tensor]:
        """Learning without labels: the image from its codes, patches of it hidden.

        Parameters
        ----------
        images : Tensor
            (B, C, H, W) slices, labelled or not.
        """
        height, width = images.shape[-2:]
        coarse = uniform((len(images), 1, -(-height // 16), -(-width // 16)), self.generator) > 0.3
        seen = torch.nn.functional.interpolate(coarse.float(), size=(height, width)).to(images)
        self.student.set_blend(0.0)
        encoded = self.student.encode(images * seen)
        centre = images[:, self.in_channels // 2, None]
        reconstruction = reconstruction_loss(self.student.reconstruct(encoded), centre)
        return {"reconstruction": reconstruction, "total": reconstruction + 0.1 * encoded.commitment_loss}

    def update_teacher(self, step: int) -> None:
        """EMA of the student, with its share of quantization; dead codewords are put to use.

        A codeword that moves is another one from then on: the teacher takes it over at once, since the mean of its
        places lies where no token is.
        """
        encoded, self._revivable = self._revivable, None
        moved = None if encoded is None else self.student.revive(encoded, self.generator)
        super().update_teacher(step)
        self._revived = 0 if moved is None else len(moved)
        if moved is not None:
            self.teacher.quantizer.base[moved] = self.student.quantizer.base[moved]
        self.teacher.blend.copy_(self.student.blend)
        self.teacher.class_fit.copy_(self.student.class_fit)

    @torch.no_grad()
    def _follow_fit(self, logits: Tensor, labels: Tensor) -> None:
        """Update the running Dice of each class on the labelled patches, from every fourth row and column."""
        logits, labels = logits[..., ::FIT_STRIDE, ::FIT_STRIDE], labels[..., ::FIT_STRIDE, ::FIT_STRIDE]
        known = labels != IGNORE_LABEL
        found, truth = logits.max(1).indices[known], labels[known]
        both = torch.bincount(truth[found == truth], minlength=self.n_classes)
        sizes = torch.bincount(found, minlength=self.n_classes) + torch.bincount(truth, minlength=self.n_classes)
        self.overlap.mul_(FIT_MEMORY).add_(summed(torch.stack([2 * both, sizes])))
        self.student.class_fit.copy_(self.overlap[0] / self.overlap[1].clamp(min=1))

    @property
    def ready_for_unlabelled(self) -> bool:
        """Whether the classes are learned well enough on the labelled patches (``unlabelled_from``).

        A teacher that has not seen a small class yet calls it background with confidence, and the student would forget
        it.
        """
        seen = self.overlap[1, 1:] > 0
        learned = float(self.student.class_fit[1:][seen].mean()) if bool(seen.any()) else 0.0
        return learned >= self.config.train.unlabelled_from

    def _blend(self, progress: float) -> float:
        ramp = self.config.model.quantization_ramp
        return 1.0 if ramp == 0 else min(1.0, progress / ramp)

    def _shapes(self, batch: Batch, count: int) -> Tensor:
        """Shape evidence (count, K + 1, H, W): the labelled slices' own, none for the student's unlabelled view."""
        size = batch.image_x.shape[-2:]
        labelled = batch.shape_x
        if labelled is None:
            return no_shape(count, self.n_classes, size).to(batch.image_x)
        rest = no_shape(count - len(labelled), self.n_classes, size).to(labelled)
        return torch.cat([labelled, rest])

    def _unlabelled(self, batch: Batch, encoded: Encoded, logits: Tensor, shapes: Tensor) -> dict[str, Tensor]:
        """Consistency with the teacher, plain and behind the perturbation (L_u)."""
        n = len(batch.image_x)
        pseudo_label, confident_share = self._pseudo_labels(batch)
        perturbed = self.student.perturb(encoded, self.config.model.epsilon, self.generator)
        logits_a = self.student.decode(encoded, perturbed, shapes)[n:]
        kind = self.config.loss.segmentation
        plain = segmentation_loss(logits[n:], pseudo_label, kind)
        behind = segmentation_loss(logits_a, pseudo_label, kind)
        return {"unlabelled": plain + behind, "confident_share": confident_share}

    @torch.no_grad()
    def _pseudo_labels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The teacher's classes (B', H, W), ``IGNORE_LABEL`` where it is unsure or geometry speaks against it."""
        assert batch.image_u_w is not None
        logits = self.teacher(batch.image_u_w, self._teacher_shapes(batch)).logits
        confidence, pseudo_label = logits.float().softmax(1).max(1)
        trusted = confidence >= self.config.train.confidence
        if self.config.model.shape_evidence and batch.shape_u is not None:
            inside = (batch.shape_u[:, :-1] > SHAPE_CONFLICT).any(1)
            trusted &= ~(inside & (pseudo_label == 0))
        if batch.valid_u is not None:
            trusted &= batch.valid_u
        return pseudo_label.masked_fill(~trusted, IGNORE_LABEL), trusted.float().mean()

    def _teacher_shapes(self, batch: Batch) -> Tensor:
        assert batch.image_u_w is not None
        if batch.shape_u is not None:
            return batch.shape_u
        return no_shape(len(batch.image_u_w), self.n_classes, batch.image_u_w.shape[-2:]).to(batch.image_u_w)
