"""From a trained network to a labelled volume, and to one slice at once for the screen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vqseg.annotations import Annotations
from vqseg.checkpoint import read_checkpoint, read_description, restore_settings, restore_weights
from vqseg.config import Config
from vqseg.data.case import PreparedCase
from vqseg.data.framing import Framing
from vqseg.data.shape_prior import encode_shape, no_shape
from vqseg.device import choose_device, gains_from_bfloat16
from vqseg.errors import ConfigError
from vqseg.fusion import TRUSTED_FIT, fuse
from vqseg.methods import create_method
from vqseg.models.pausing import pausing
from vqseg.models.vqseg import Encoded, Output, VQSegNet
from vqseg.prediction import Prediction, SlicePreview
from vqseg.volume import Volume

if TYPE_CHECKING:
    from vqseg.models.unet import UNetOutput  # brings MONAI, which takes 1.5 s and serves the rivals alone

__all__ = ["Predictor", "classes_in"]

CHUNK = 4
"""Slices predicted at once."""


class Predictor:
    """Predicts with a network's weights as they are; a deep copy has its own weights and shares the volumes.

    Parameters
    ----------
    network : nn.Module
        ``network(images).logits``, or ``network(images, shapes).logits`` with `uses_shape`.
    config : Config
        The run's settings.
    framing : Framing
        Window and pixel size of the run.
    class_names : mapping of int to str
        Name of each class by its label value.
    uses_shape : bool
        Whether the network takes shape evidence.
    device : torch.device
        Where the network is.
    """

    def __init__(
        self,
        network: nn.Module,
        config: Config,
        framing: Framing,
        class_names: Mapping[int, str],
        *,
        uses_shape: bool,
        device: torch.device,
    ) -> None:
        self.network, self.config, self.framing = network, config, framing
        self.class_names = dict(class_names)
        self.uses_shape, self.device = uses_shape, device
        self._bfloat16 = config.train.mixed_precision and gains_from_bfloat16(device)
        self._prepared: list[PreparedCase] = []

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Predictor:
        """The predictor in a checkpoint folder.

        Raises
        ------
        CheckpointError
            If the folder is not a whole checkpoint.
        DeviceError
            If the device is not there.
        """
        description, tensors = read_checkpoint(Path(path))
        config, framing, class_names = restore_settings(description)
        method = create_method(config.train.method, config, framing.channels, len(class_names) + 1, pretrained=False)
        weights = {name: value for name, value in tensors["model"].items() if not name.startswith("adapter.")}
        restore_weights(method, weights)
        where = choose_device(device)
        network = method.network_for_prediction.to(device=where, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(network.eval(), config, framing, class_names, uses_shape=method.uses_shape, device=where)

    def __deepcopy__(self, memo: dict[int, Any]) -> Predictor:
        twin = copy.copy(self)
        twin.network = copy.deepcopy(self.network, memo).eval()
        twin._prepared = list(self._prepared)
        return twin

    @property
    def n_classes(self) -> int:
        """Number of classes K, background excluded."""
        return len(self.class_names)

    @property
    def values(self) -> list[int]:
        """Label value of each class 1..K."""
        return sorted(self.class_names)

    @property
    def untaught(self) -> list[int]:
        """Label values of the classes that the network has not learned, so that geometry alone speaks for them."""
        if not (isinstance(self.network, VQSegNet) and self.config.predict.fuse_geometry):
            return []
        fits = zip(self.values, self.network.class_fit[1:].tolist(), strict=True)
        return [value for value, fit in fits if fit < TRUSTED_FIT[0]]

    @property
    def has_codebook(self) -> bool:
        """Whether the network quantizes, so that there are codes to look at and to perturb."""
        return isinstance(self.network, VQSegNet)

    @property
    def codebook_network(self) -> VQSegNet:
        """The network, if it has a codebook; in evaluation mode.

        Raises
        ------
        ConfigError
            If the method has none.
        """
        if not isinstance(self.network, VQSegNet):
            raise ConfigError(f"The method {self.config.train.method!r} has no codebook; train with vq-seg to see one.")
        return self.network.eval()

    def prepare(self, volume: Volume, annotations: Annotations | None = None) -> PreparedCase:
        """The volume in the network's frame; kept, so that a second call costs nothing."""
        for case in self._prepared:
            if case.volume is volume:
                if annotations is None or annotations is case.annotations:
                    return case
                return case.with_annotations(annotations)
        case = PreparedCase(volume, annotations, self.framing, self.values)
        self.adopt(case)
        return case

    def adopt(self, case: PreparedCase) -> None:
        """Use a case that is prepared already."""
        self._prepared = [*self._prepared[-3:], case]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16)

    def _images(self, case: PreparedCase, slices: list[int]) -> Tensor:
        images = case.input(slices).to(self.device)
        return images.contiguous(memory_format=torch.channels_last)

    def _shapes(self, case: PreparedCase, slices: list[int]) -> Tensor:
        """Shape evidence (B, K + 1, h, w) of some slices; a labelled slice is left out of its own."""
        shape = case.shape
        if shape is None:
            return no_shape(len(slices), self.n_classes + 1, case.size).to(self.device)
        evidence = [shape.at(z, leave_out=z) for z in slices]
        maps = torch.stack([item.distance_maps for item in evidence])
        return encode_shape(maps, torch.tensor([item.distance_mm for item in evidence])).to(self.device)

    def _with_geometry(self, case: PreparedCase, z: int, logits: Tensor) -> Tensor:
        """Log-probabilities (K + 1, h, w) of a slice, geometry weighed in where there is any."""
        shape = case.shape  # the training may put another in its place meanwhile
        if shape is None or not self.config.predict.fuse_geometry:
            return logits.log_softmax(0)
        class_fit = self.network.class_fit if isinstance(self.network, VQSegNet) else None
        return fuse(logits, shape, shape.at(z, leave_out=z), class_fit)

    @torch.inference_mode()
    def _output(self, case: PreparedCase, slices: list[int]) -> Output | UNetOutput:
        """What the network says about some slices; its ``logits`` are (B, K + 1, h, w)."""
        self.network.eval()
        images = self._images(case, slices)
        extra = (self._shapes(case, slices),) if self.uses_shape else ()
        with self._autocast():
            output: Output | UNetOutput = self.network(images, *extra)
        return output

    @torch.inference_mode()
    def preview(self, volume: Volume, z: int, *, epsilon: float = 0.0, draws: int = 1, seed: int = 0) -> SlicePreview:
        """Predict one slice, as the network sees it, labelled or not.

        Parameters
        ----------
        volume : Volume
            The image.
        z : int
            Slice index.
        epsilon : float
            Perturbation intensity in [0, 1]; above 0 the codes are perturbed in every draw.
        draws : int
            Number of draws behind the perturbation.
        seed : int
            Seed of the draws.
        """
        case = self.prepare(volume)
        output = self._output(case, [z])
        fused = self._with_geometry(case, z, _planes(output.logits)[0]).cpu()
        confidence, labels = case.to_volume(fused).softmax(0).max(0)
        preview = SlicePreview.background(volume.shape[1:])
        y0, y1, x0, x1 = case.box
        preview.labels[y0:y1, x0:x1] = self._as_values(labels)
        preview.confidence[y0:y1, x0:x1] = confidence.numpy()
        if epsilon > 0 and isinstance(output, Output):
            draws_logits = self._perturbed_logits(case, output.encoded, epsilon, draws, seed)
            preview.stability[y0:y1, x0:x1] = _agreement(case, draws_logits).numpy()
        return preview

    def _perturbed_logits(self, case: PreparedCase, encoded: Encoded, epsilon: float, draws: int, seed: int) -> Tensor:
        """(draws, K + 1, h, w) logits of an encoded slice alone, each behind its own perturbation of the codes.

        The shape evidence is withheld: it would hold every draw in place and hide where the image says little.
        """
        generator = torch.Generator().manual_seed(seed)
        shapes = no_shape(1, self.n_classes + 1, case.size).to(self.device) if self.uses_shape else None
        with self._autocast():
            logits = self.codebook_network.perturb_draws(encoded, shapes, epsilon, draws, generator)
        return _planes(logits).cpu()

    @torch.inference_mode()
    def codes(self, volume: Volume, slices: list[int]) -> npt.NDArray[np.int64]:
        """Code indices (B, h, w) of some slices.

        Raises
        ------
        ConfigError
            If the method has no codebook.
        """
        network = self.codebook_network
        with self._autocast():
            indices = network.encode(self._images(self.prepare(volume), slices)).indices
        return indices.cpu().numpy()

    def predict(
        self,
        volume: Volume,
        annotations: Annotations | None = None,
        *,
        keep_probabilities: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> Prediction:
        """Predict a volume: :meth:`predict_slices`, then :meth:`tidy`.

        Parameters
        ----------
        volume : Volume
            The image.
        annotations : Annotations, optional
            What is labelled on it: complete slices come back unchanged, painted voxels of scribbled ones too.
        keep_probabilities : bool
            Return the class probabilities as well, 2 (K + 1) bytes a voxel.
        on_progress : callable, optional
            Told the share that is done, in [0, 1].
        """
        prediction = self.predict_slices(
            volume, annotations, keep_probabilities=keep_probabilities, on_progress=on_progress
        )
        self.tidy(prediction, volume, annotations)
        return prediction

    def predict_slices(
        self,
        volume: Volume,
        annotations: Annotations | None = None,
        *,
        nearest_to: int = 0,
        keep_probabilities: bool = False,
        on_progress: Callable[[float], None] | None = None,
        on_slices: Callable[[list[int], npt.NDArray[np.uint8]], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
        pause: Callable[[], None] | None = None,
    ) -> Prediction:
        """What the network says about every slice, one by one.

        Parameters
        ----------
        volume : Volume
            The image.
        annotations : Annotations, optional
            What is labelled on it; it tells the shapes.
        nearest_to : int
            The slice that is predicted first; the others follow by their distance from it.
        keep_probabilities : bool
            Return the class probabilities as well, 2 (K + 1) bytes a voxel.
        on_progress : callable, optional
            Told the share that is done, in [0, 1].
        on_slices : callable, optional
            Told each chunk of slices, and their labels (n, y, x).
        should_stop : callable, optional
            Asked between chunks of slices; where it says so, the rest stays background.
        turn : callable
            Makes the context that each chunk of slices is predicted in.
        pause : callable, optional
            Called in the midst of each chunk of slices, again and again.
        """
        case = self.prepare(volume, annotations)
        depth = volume.shape[0]
        result = Prediction.background(volume.shape, self.n_classes, keep_probabilities=keep_probabilities)
        order = sorted(range(depth), key=lambda z: abs(z - nearest_to))
        for start in range(0, depth, CHUNK):
            if should_stop is not None and should_stop():
                break
            with turn():
                slices = order[start : start + CHUNK]
                with pausing(self.network, None if self.config.train.compile else pause):
                    output = self._output(case, slices)
                for z, logits in zip(slices, _planes(output.logits), strict=True):
                    self._fill(result, case, z, logits)
                    if pause is not None:
                        pause()
            if on_slices is not None:
                on_slices(slices, result.labels[slices])
            if on_progress is not None:
                on_progress((start + len(slices)) / depth)
        return result

    def tidy(self, prediction: Prediction, volume: Volume, annotations: Annotations | None) -> None:
        """Bring a volume's prediction into accord with what is labelled on it; changes it, needs no network."""
        if annotations is not None:
            prediction.tidy(
                annotations, self.values, volume.spacing_mm, keep_connected=self.config.predict.keep_connected
            )

    def _as_values(self, classes: Tensor) -> npt.NDArray[np.uint8]:
        """Classes 0..K -> label values."""
        return np.array([0, *self.values], np.uint8)[classes.numpy()]

    @torch.inference_mode()
    def _fill(self, result: Prediction, case: PreparedCase, z: int, logits: Tensor) -> None:
        """Put one slice's logits (K + 1, h, w) into the result."""
        y0, y1, x0, x1 = case.box
        log_odds = case.to_volume(self._with_geometry(case, z, logits).cpu())
        highest, labels = log_odds.max(0)
        probabilities = log_odds.softmax(0)
        # Entropy from log p = l - log(sum(exp(l))), which needs no logarithm of every probability.
        entropy = highest - probabilities.amax(0).log() - (probabilities * log_odds).sum(0)
        result.labels[z, y0:y1, x0:x1] = self._as_values(labels)
        result.uncertainty[z, y0:y1, x0:x1] = (entropy / np.log(self.n_classes + 1)).clamp(0, 1).half().numpy()
        if result.probabilities is not None:
            result.probabilities[:, z, y0:y1, x0:x1] = probabilities.numpy()


def classes_in(path: Path) -> dict[int, str]:
    """Name of each class 1..K of the network in a checkpoint folder, by its value in the label file it learned from.

    The weights are not read.

    Raises
    ------
    CheckpointError
        If the folder is not a whole checkpoint.
    """
    description = read_description(path)
    names = restore_settings(description)[2]
    return dict(zip(description.get("label_values", sorted(names)), names.values(), strict=True))


def _planes(logits: Tensor) -> Tensor:
    """Logits as float32, one class after the other in memory: what follows goes class by class."""
    return logits.to(torch.float32, memory_format=torch.contiguous_format)


def _agreement(case: PreparedCase, draws: Tensor) -> Tensor:
    """Share of the draws (D, K + 1, h, w) that agree with their commonest label, on the volume's voxels."""
    labels = torch.stack([case.to_volume(logits).max(0).indices.byte() for logits in draws])  # (D, y, x)
    same = torch.stack([(labels == one).sum(0, dtype=torch.int16) for one in labels])  # how many agree with each
    return same.amax(0) / len(labels)
