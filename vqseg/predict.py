"""From a trained network to a labelled volume, and to one slice at once for the screen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vqseg.annotations import Annotations
from vqseg.checkpoint import read_checkpoint, read_description, restore_settings, restore_weights
from vqseg.config import Config
from vqseg.data.case import Framing, PreparedCase
from vqseg.data.shape_prior import encode_shape, no_shape
from vqseg.device import choose_device, gains_from_bfloat16
from vqseg.errors import ConfigError
from vqseg.extent import keep_reachable
from vqseg.fusion import fuse
from vqseg.methods import create_method
from vqseg.models.quantizer import VectorQuantizer
from vqseg.tokens import TokenGrid
from vqseg.volume import Volume

__all__ = ["Prediction", "Predictor", "SlicePreview", "classes_in"]

CHUNK = 4
"""Slices predicted at once."""


@dataclass
class Prediction:
    """A labelled volume.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) uint8; labelled slices are as the person left them.
    uncertainty : ndarray
        (z, y, x) float16, entropy of the class probabilities over its largest value, in [0, 1]; 0 on complete slices.
    probabilities : ndarray or None
        (K + 1, z, y, x) float16, background first, where they were asked for.
    """

    labels: npt.NDArray[np.uint8]
    uncertainty: npt.NDArray[np.float16]
    probabilities: npt.NDArray[np.float16] | None = None


@dataclass
class SlicePreview:
    """What the network says about one slice.

    Parameters
    ----------
    labels : ndarray
        (y, x) uint8, the plain prediction, whatever the epsilon.
    confidence : ndarray
        (y, x) float32, probability of that label.
    stability : ndarray
        (y, x) float32, share of the draws behind the perturbation that agree, on the image alone; 1 at epsilon 0.
    """

    labels: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    stability: npt.NDArray[np.float32]


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
        Name of each class 1..K.
    uses_shape : bool
        Whether the network takes shape evidence.
    device : torch.device
        Where the network is.

    Attributes
    ----------
    label_values : list of int
        What each class 1..K was in the label file it was learned from; the class itself where nothing is told.
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
        self.label_values = sorted(self.class_names)
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
        channels = 2 * config.model.neighbours + 1
        method = create_method(config.train.method, config, channels, len(class_names) + 1, pretrained=False)
        weights = {name: value for name, value in tensors["model"].items() if not name.startswith("adapter.")}
        restore_weights(method, weights)
        where = choose_device(device)
        network = method.network_for_prediction.to(device=where, memory_format=torch.channels_last)  # type: ignore[call-overload]
        predictor = cls(network.eval(), config, framing, class_names, uses_shape=method.uses_shape, device=where)
        predictor.label_values = description.get("label_values", predictor.label_values)
        return predictor

    def __deepcopy__(self, memo: dict[int, Any]) -> Predictor:
        twin = copy.copy(self)
        twin.network = copy.deepcopy(self.network, memo).eval()
        twin._prepared = list(self._prepared)
        return twin

    @property
    def n_classes(self) -> int:
        """Number of classes K, background excluded."""
        return len(self.class_names)

    def prepare(self, volume: Volume, annotations: Annotations | None = None) -> PreparedCase:
        """The volume in the network's frame; kept, so that a second call costs nothing."""
        for case in self._prepared:
            if case.volume is volume:
                if annotations is None or annotations is case.annotations:
                    return case
                return case.with_annotations(annotations)
        case = PreparedCase(volume, annotations, self.framing, self.n_classes)
        self.adopt(case)
        return case

    def adopt(self, case: PreparedCase) -> None:
        """Use a case that is prepared already."""
        self._prepared = [*self._prepared[-3:], case]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16)

    def _images(self, case: PreparedCase, slices: list[int]) -> Tensor:
        images = case.input(slices, self.config.model.neighbours).to(self.device)
        return images.contiguous(memory_format=torch.channels_last)

    def _shapes(self, case: PreparedCase, slices: list[int]) -> Tensor:
        """Shape evidence (B, K + 1, h, w) of some slices; a labelled slice is left out of its own."""
        if case.shape is None:
            return no_shape(len(slices), self.n_classes + 1, case.size).to(self.device)
        evidence = [case.shape.at(z, leave_out=z) for z in slices]
        maps = torch.stack([item.distance_maps for item in evidence])
        return encode_shape(maps, torch.tensor([item.distance_mm for item in evidence])).to(self.device)

    def _with_geometry(self, case: PreparedCase, z: int, logits: Tensor) -> Tensor:
        """Log-probabilities (K + 1, h, w) of a slice, geometry weighed in where there is any."""
        if case.shape is None or not self.config.predict.fuse_geometry:
            return logits.log_softmax(0)
        return fuse(logits, case.shape, case.shape.at(z, leave_out=z), getattr(self.network, "class_fit", None))

    @torch.inference_mode()
    def _output(self, case: PreparedCase, slices: list[int]) -> Any:
        """What the network says about some slices; its ``logits`` are (B, K + 1, h, w)."""
        self.network.eval()
        images = self._images(case, slices)
        extra = (self._shapes(case, slices),) if self.uses_shape else ()
        with self._autocast():
            return self.network(images, *extra)

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
        agreement = torch.ones_like(confidence)
        if epsilon > 0 and hasattr(self.network, "perturb_draws"):
            agreement = _agreement(case, self._perturbed_logits(case, output.encoded, epsilon, draws, seed))
        y0, y1, x0, x1 = case.box
        shape = volume.shape[1:]
        preview = SlicePreview(np.zeros(shape, np.uint8), np.ones(shape, np.float32), np.ones(shape, np.float32))
        preview.labels[y0:y1, x0:x1] = labels.numpy()
        preview.confidence[y0:y1, x0:x1] = confidence.numpy()
        preview.stability[y0:y1, x0:x1] = agreement.numpy()
        return preview

    def _perturbed_logits(self, case: PreparedCase, encoded: Any, epsilon: float, draws: int, seed: int) -> Tensor:
        """(draws, K + 1, h, w) logits of an encoded slice alone, each behind its own perturbation of the codes.

        The shape evidence is withheld: it would hold every draw in place and hide where the image says little.
        """
        network: Any = self.network
        generator = torch.Generator().manual_seed(seed)
        shapes = no_shape(1, self.n_classes + 1, case.size).to(self.device) if self.uses_shape else None
        with self._autocast():
            return _planes(network.perturb_draws(encoded, shapes, epsilon, draws, generator)).cpu()

    @torch.inference_mode()
    def codes(self, volume: Volume, slices: list[int]) -> npt.NDArray[np.int64]:
        """Code indices (B, h, w) of some slices.

        Raises
        ------
        ConfigError
            If the method has no codebook.
        """
        network = self._with_codebook()
        with self._autocast():
            indices: Tensor = network.encode(self._images(self.prepare(volume), slices)).indices
        return indices.cpu().numpy()

    def token_grid(self, volume: Volume) -> TokenGrid:
        """Where the codes of :meth:`codes` lie on the volume's voxels.

        Raises
        ------
        ConfigError
            If the method has no codebook.
        """
        case, stride = self.prepare(volume), self._with_codebook().stride
        (height, width), (y0, y1, x0, x1) = case.size, case.box
        step = stride * (y1 - y0) / height, stride * (x1 - x0) / width
        return TokenGrid(case.box, step, (-(-height // stride), -(-width // stride)))

    @torch.inference_mode()
    def decode_codes(self, codes: Sequence[int]) -> npt.NDArray[np.float32]:
        """What codes look like, each by itself: (n, p, p) HU, the image decoder's view of a field of one codeword.

        p is 0 where the network was made without its image decoder.

        Raises
        ------
        ConfigError
            If the method has no codebook.
        """
        network = self._with_codebook()
        if network.image_decoder is None:
            return np.zeros((len(codes), 0, 0), np.float32)
        side = network.stride
        field = torch.as_tensor(codes, device=self.device)[:, None, None].expand(-1, 3, 3)  # neighbours of its kind
        image = network.image_decoder(network.quantizer.lookup(field), (3 * side, 3 * side))
        low, high = self.framing.window.limits_hu
        centre = image[:, 0, side : 2 * side, side : 2 * side].float().cpu().numpy()
        return np.asarray(low + centre * (high - low), np.float32)

    @property
    def quantizer(self) -> VectorQuantizer:
        """The network's quantizer.

        Raises
        ------
        ConfigError
            If the method has no codebook.
        """
        quantizer: VectorQuantizer = self._with_codebook().quantizer
        return quantizer

    def _with_codebook(self) -> Any:
        network: Any = self.network.eval()
        if not hasattr(network, "quantizer"):
            raise ConfigError(f"The method {self.config.train.method!r} has no codebook; train with vq-seg to see one.")
        return network

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
        self.tidy(prediction, annotations)
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
        """
        case = self.prepare(volume, annotations)
        depth = volume.shape[0]
        result = Prediction(np.zeros(volume.shape, np.uint8), np.zeros(volume.shape, np.float16))
        if keep_probabilities:
            result.probabilities = np.zeros((self.n_classes + 1, *volume.shape), np.float16)
            result.probabilities[0] = 1
        order = sorted(range(depth), key=lambda z: abs(z - nearest_to))
        for start in range(0, depth, CHUNK):
            if should_stop is not None and should_stop():
                break
            with turn():
                slices = order[start : start + CHUNK]
                for z, logits in zip(slices, _planes(self._output(case, slices).logits), strict=True):
                    self._fill(result, case, z, logits)
            if on_slices is not None:
                on_slices(slices, result.labels[slices])
            if on_progress is not None:
                on_progress((start + len(slices)) / depth)
        return result

    def tidy(self, prediction: Prediction, annotations: Annotations | None) -> None:
        """Bring a volume's prediction into accord with what is labelled on it; changes it, needs no network."""
        if annotations is not None:
            if self.config.predict.keep_connected:
                keep_reachable(prediction.labels, annotations, self.n_classes)
            _restore(prediction, annotations)

    @torch.inference_mode()
    def _fill(self, result: Prediction, case: PreparedCase, z: int, logits: Tensor) -> None:
        """Put one slice's logits (K + 1, h, w) into the result."""
        y0, y1, x0, x1 = case.box
        log_odds = case.to_volume(self._with_geometry(case, z, logits).cpu())
        highest, labels = log_odds.max(0)
        probabilities = log_odds.softmax(0)
        # Entropy from log p = l - log(sum(exp(l))), which needs no logarithm of every probability.
        entropy = highest - probabilities.amax(0).log() - (probabilities * log_odds).sum(0)
        result.labels[z, y0:y1, x0:x1] = labels.byte().numpy()
        result.uncertainty[z, y0:y1, x0:x1] = (entropy / np.log(self.n_classes + 1)).clamp(0, 1).half().numpy()
        if result.probabilities is not None:
            result.probabilities[:, z, y0:y1, x0:x1] = probabilities.numpy()


def classes_in(path: Path) -> dict[int, str]:
    """What the network in a checkpoint folder can name, by label value; its weights are not read.

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
    same = torch.stack([(labels == one).sum(0, dtype=torch.uint8) for one in labels])  # how many agree with each
    return same.amax(0) / len(labels)


def _restore(result: Prediction, annotations: Annotations) -> None:
    """What the person has drawn stands, in labels, uncertainty and probabilities."""
    for z in annotations.used:
        drawn = annotations.target(z)
        known = drawn != 255
        result.labels[z][known] = drawn[known]
        result.uncertainty[z][known] = 0
        if result.probabilities is not None:
            one_hot = np.arange(len(result.probabilities))[:, None] == drawn[known]
            result.probabilities[:, z][:, known] = one_hot
