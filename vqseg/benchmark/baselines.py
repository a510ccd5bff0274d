"""What a clinician could use instead, for the same labelled slices and the same seconds.

Each baseline is a function of (volume, annotations, class values, budget in seconds, seed, clock) that returns labels.
They are meant to be strong in their own way, so that beating them says something.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from scipy import ndimage
from torch import Tensor

from vqseg.annotations import Annotations
from vqseg.data import TrainingCase
from vqseg.data.between import fill_along
from vqseg.errors import VQSegError
from vqseg.interpolation import interpolate_labels
from vqseg.losses import segmentation_loss
from vqseg.volume import Volume

__all__ = ["BASELINES", "Baseline", "interpolation", "random_forest", "registration", "unet"]

Labels = npt.NDArray[np.uint8]
Clock = Callable[[], float]
Baseline = Callable[[Volume, Annotations, Sequence[int], float, int, Clock], Labels]

FOREST_SCALES_PX = (1.0, 2.0, 4.0, 8.0)
FOREST_VOXELS = 60_000
FOREST_TREES = 200

UNET_SIZE = 192
UNET_BATCH = 4
UNET_FEATURES = (16, 32, 64, 128, 256, 16)


def interpolation(
    volume: Volume,
    annotations: Annotations,
    classes: Sequence[int],
    budget_s: float,
    seed: int,
    clock: Clock = time.monotonic,
) -> Labels:
    """Linear interpolation of signed distances between the labelled slices; takes no training."""
    return interpolate_labels(annotations, classes, volume.spacing_mm)


def registration(
    volume: Volume,
    annotations: Annotations,
    classes: Sequence[int],
    budget_s: float,
    seed: int,
    clock: Clock = time.monotonic,
) -> Labels:
    """The labelled shapes carried along with the anatomy: what VQ-Seg starts from; takes no training."""
    unlabelled = sorted(set(range(volume.shape[0])) - set(annotations.complete))
    labels = annotations.labels.copy()
    labels[unlabelled] = fill_along(TrainingCase(volume, annotations), unlabelled)
    return labels


# ---------------------------------------------------------------- random forest


def _features(slice_yx: npt.NDArray[np.float32], position: float) -> npt.NDArray[np.float32]:
    """(y * x, features): intensity, blurred intensity, edges and blobs at four scales, and where the voxel is."""
    maps = [slice_yx]
    for scale in FOREST_SCALES_PX:
        maps.append(ndimage.gaussian_filter(slice_yx, scale))
        maps.append(ndimage.gaussian_gradient_magnitude(slice_yx, scale))
        maps.append(ndimage.gaussian_laplace(slice_yx, scale))
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in slice_yx.shape), indexing="ij")
    maps += [rows, columns, np.full_like(slice_yx, position)]
    return np.stack(maps, axis=-1).reshape(-1, len(maps)).astype(np.float32)


def random_forest(
    volume: Volume,
    annotations: Annotations,
    classes: Sequence[int],
    budget_s: float,
    seed: int,
    clock: Clock = time.monotonic,
) -> Labels:
    """A random forest on multi-scale features of single voxels, grown while the time left allows the prediction."""
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        raise VQSegError("The random forest needs scikit-learn; install napari-vqseg[benchmark].") from None
    start = clock()
    array = _windowed(volume, annotations)
    depth = max(1, len(array) - 1)
    slices = annotations.used
    targets = np.concatenate([annotations.target(z).ravel() for z in slices])
    features = np.concatenate([_features(array[z], z / depth) for z in slices])

    chosen = _balanced_sample(targets, FOREST_VOXELS, np.random.default_rng(seed))
    forest = RandomForestClassifier(
        n_estimators=0, warm_start=True, min_samples_leaf=3, n_jobs=torch.get_num_threads(), random_state=seed
    )
    labels = np.zeros(array.shape, dtype=np.uint8)
    prediction_s = 0.0  # of one slice, which takes longer with every tree
    while forest.n_estimators == 0 or (
        clock() - start + 2 * prediction_s * len(array) < budget_s and forest.n_estimators < FOREST_TREES
    ):
        forest.n_estimators += 5
        forest.fit(features[chosen], targets[chosen])
        before = clock()
        forest.predict(_features(array[0], 0.0))
        prediction_s = clock() - before
    for z, slice_yx in enumerate(array):
        labels[z] = forest.predict(_features(slice_yx, z / depth)).reshape(slice_yx.shape)
    return labels


def _balanced_sample(targets: npt.NDArray[np.uint8], n_voxels: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Indices of known voxels: half of them background, the other half shared by the classes."""
    values = [value for value in np.unique(targets) if value != 255]
    chosen = []
    for value in values:
        share = n_voxels // 2 if value == 0 else n_voxels // (2 * max(1, len(values) - 1))
        voxels = np.flatnonzero(targets == value)
        chosen.append(voxels if len(voxels) <= share else rng.choice(voxels, share, replace=False))
    return np.concatenate(chosen)


# ---------------------------------------------------------------- U-Net


def unet(
    volume: Volume,
    annotations: Annotations,
    classes: Sequence[int],
    budget_s: float,
    seed: int,
    clock: Clock = time.monotonic,
) -> Labels:
    """MONAI's 2D U-Net on the labelled slices: cross-entropy and Dice, AdamW, the usual augmentations."""
    start = clock()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        array = torch.from_numpy(_windowed(volume, annotations)).unsqueeze(1)  # (z, 1, y, x)
        lookup = torch.full((256,), 255, dtype=torch.int64)
        lookup[0] = 0
        lookup[torch.tensor(list(classes))] = torch.arange(1, len(classes) + 1)
        known = np.stack([annotations.target(z) for z in annotations.used])
        size = _network_size(array.shape[-2:])
        images = F.interpolate(array[annotations.used], size, mode="bilinear", antialias=True).to(device)
        targets = F.interpolate(
            lookup[torch.from_numpy(known).long()].unsqueeze(1).float(), size, mode="nearest-exact"
        ).to(device)  # fmt: skip

        network = BasicUNet(2, 1, len(classes) + 1, features=UNET_FEATURES).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        while (progress := (clock() - start) / budget_s) < 1:
            optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, 1.05 - progress)
            chosen = torch.randint(len(images), (UNET_BATCH,))
            image, target = _augment(images[chosen], targets[chosen])
            loss = segmentation_loss(network(image), target, "ce+dice")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        network.eval()
        values = np.array([0, *classes], dtype=np.uint8)
        labels = []
        with torch.inference_mode():
            for part in array.split(8):
                logits = network(F.interpolate(part, size, mode="bilinear", antialias=True).to(device))
                logits = F.interpolate(logits, array.shape[-2:], mode="bilinear")
                labels.append(values[logits.max(1).indices.cpu().numpy()])
    return np.concatenate(labels)


def _network_size(shape_yx: Sequence[int]) -> tuple[int, int]:
    """Slices no longer than ``UNET_SIZE``, each side a multiple of 16 for the four halvings."""
    scale = min(1.0, UNET_SIZE / max(shape_yx))
    return tuple(max(32, 16 * round(side * scale / 16)) for side in shape_yx)  # type: ignore[return-value]


def _augment(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Small rotations, scalings, shifts and changes of brightness; no flips, left stays left."""
    n = len(image)
    angle, scale = (torch.rand(n) - 0.5) * 0.5, 1 + (torch.rand(n) - 0.5) * 0.3
    shift = (torch.rand(n, 2) - 0.5) * 0.2
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    affine = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(affine.to(image.device), list(image.shape), align_corners=False)
    image = F.grid_sample(image, grid, align_corners=False, padding_mode="border")
    target = F.grid_sample(target, grid, mode="nearest", align_corners=False, padding_mode="border")
    gain, offset = 1 + (torch.rand(2, n, 1, 1, 1) - 0.5) * 0.2
    return image * gain.to(image.device) + (offset - 1).to(image.device), target.squeeze(1).long()


# ---------------------------------------------------------------- shared


def _windowed(volume: Volume, annotations: Annotations) -> npt.NDArray[np.float32]:
    """The volume in [0, 1], from the 1st to the 99th percentile of the structures and what surrounds them."""
    array = np.asarray(volume.array, dtype=np.float32)
    slices = annotations.used
    if not slices:
        raise VQSegError("No slice is labelled; a baseline needs at least one.")
    labelled = (annotations.labels[slices] > 0).any(0)
    near = ndimage.binary_dilation(labelled, iterations=max(array.shape[1:]) // 16)
    values = array[slices][:, near] if near.any() else array[slices]
    low, high = np.percentile(values, [1, 99])
    return np.clip((array - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)


BASELINES: dict[str, Baseline] = {
    "interpolation": interpolation, "registration": registration, "random-forest": random_forest, "unet": unet,
}  # fmt: skip
