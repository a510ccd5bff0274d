"""The whole loop, unattended: a synthetic chest CT, a few labelled slices, training in the engine, review figures.

Everything a person would do in the window happens here through the same project folder and the same engine process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqseg.annotations import Annotations
from vqseg.client import Engine
from vqseg.config import Config, preset
from vqseg.display import on_a_display
from vqseg.errors import AnnotationError, ConfigError, DeviceError, ProjectError
from vqseg.io import read_volume, write_labels, write_map
from vqseg.metrics import ClassScores, evaluate
from vqseg.phantom import synthetic_thorax
from vqseg.project import Project
from vqseg.protocol import Progress
from vqseg.volume import Volume

__all__ = ["IMAGES", "DemoResult", "demo_config", "run_demo", "sensible_slices"]

CASE = "thorax"
CANDIDATES = 28
IMAGES = ("thorax.nii.gz", "reference.nii.gz", "labels.nii.gz", "prediction.nii.gz")
"""What a demo leaves beside its project."""
MAX_SLICES = 6
"""All choices of so many candidates are compared; one more takes minutes."""
SCREENSHOT_WITHIN_S = 120.0


@dataclass(frozen=True)
class DemoResult:
    """What the demo made."""

    project_path: Path
    image_path: Path
    labels_path: Path
    reference_path: Path
    prediction_path: Path
    screenshot_path: Path | None
    slices: list[int]
    steps: int
    class_names: dict[int, str]
    scores: dict[int, ClassScores] = field(default_factory=dict)


def sensible_slices(labels: npt.NDArray[Any], count: int) -> list[int]:
    """The slices a person would label first: every structure is in one of them, and near one everywhere.

    Parameters
    ----------
    labels : ndarray of int
        (z, y, x) label values, 0 background.
    count : int
        Number of slices.

    Returns
    -------
    list of int
        Rising.
    """
    n_slices = labels.shape[0]
    values = np.unique(labels)
    sizes = np.stack([(labels == value).sum(axis=(1, 2)) for value in values[values != 0]]).astype(float)  # (K, z)
    shares = sizes / sizes.sum(axis=1, keepdims=True)
    occupied = np.flatnonzero(sizes.any(axis=0))
    candidates = np.unique(np.linspace(occupied[0], occupied[-1], CANDIDATES).round().astype(int))
    gaps = np.abs(np.arange(n_slices)[None] - candidates[:, None])  # (candidate, z)
    # Distance from each slice to a candidate that shows the class; the whole height where it does not.
    reach = np.where(sizes[:, candidates, None] > 0, gaps[None], n_slices)  # (K, candidate, z)
    best = min(
        combinations(range(len(candidates)), min(count, len(candidates))),
        key=lambda chosen: float((reach[:, list(chosen)].min(axis=1) * shares).sum()),
    )
    return sorted(int(candidates[index]) for index in best)


def take_screenshot(project_path: Path, path: Path) -> str | None:
    """Open the project in the real window, in a process of its own, and save what it shows.

    Returns
    -------
    str or None
        Why there is no screenshot, None if there is one.
    """
    command = [sys.executable, "-m", "napari_vqseg.screenshot", str(project_path), str(path)]
    try:
        done = subprocess.run(
            on_a_display(command), capture_output=True, text=True, timeout=SCREENSHOT_WITHIN_S, check=False
        )
    except DeviceError as error:
        return str(error)
    except subprocess.TimeoutExpired:
        return f"the window did not open within {SCREENSHOT_WITHIN_S:.0f} s"
    if done.returncode or not path.is_file():
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        return f"the window could not be drawn ({last})"
    return None


def demo_config(time_budget_s: float, n_slices: int, seed: int) -> Config:
    """The settings of a demo, once it is known that it can be; see :func:`run_demo`."""
    if not 1 <= n_slices <= MAX_SLICES:
        raise AnnotationError(
            f"The demo labels from 1 to {MAX_SLICES} slices, not {n_slices}; choose a number of these."
        )
    if time_budget_s == 0:
        raise ConfigError("The demo trains for 0 s, which teaches nothing; give it some seconds with --time-budget.")
    return preset("fast", time_budget_s=time_budget_s, seed=seed)


def run_demo(
    output: Path,
    *,
    time_budget_s: float = 45.0,
    n_slices: int = 3,
    seed: int = 0,
    shape: tuple[int, int, int] | None = None,
    window: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> DemoResult:
    """Make a project in `output` and take it through the loop.

    Parameters
    ----------
    output : Path
        Folder for the project and its files; an earlier demo there is replaced.
    time_budget_s : float
        Seconds of training.
    n_slices : int
        How many slices are labelled from the reference.
    seed : int
        Seed of the CT and of the training.
    shape : tuple of int, optional
        (z, y, x) of the CT; the phantom's own by default.
    window : bool
        Whether to open the window for a screenshot.
    on_progress : callable, optional
        Called while it trains.
    say : callable
        Told what happens, a sentence at a time.

    Raises
    ------
    ProjectError
        If `output` holds a project that is not a demo, or one that a window shows.
    VQSegError
        For a number of slices or a time budget out of range, or a CT too small to show its structures.
    """
    config = demo_config(time_budget_s, n_slices, seed)
    image_path, reference_path, labels_path, prediction_path = (output / name for name in IMAGES)
    _remove_earlier(output / "project")
    phantom, reference = synthetic_thorax(seed=seed) if shape is None else synthetic_thorax(seed=seed, shape=shape)
    output.mkdir(parents=True, exist_ok=True)
    write_map(image_path, phantom.array, phantom)
    volume = read_volume(image_path).load()
    say(f"Sample CT: {'x'.join(map(str, volume.shape))} voxels, structures: {', '.join(reference.names.values())}.")

    slices = sensible_slices(reference.array, n_slices)
    annotations = Annotations.from_slices(reference.array, slices)
    write_labels(reference_path, reference.array, volume, reference.names)
    write_labels(labels_path, annotations.labels, volume, reference.names)
    project = _make_project(output / "project", volume, annotations, reference.names)
    stored = sorted(volume.to_stored_index(z) for z in slices)
    say(f"Labelled slices: {', '.join(map(str, stored))} of {volume.shape[0]}.")

    say(f"Training for {time_budget_s:.0f} s in the engine process...")
    prediction, steps = _train(project, config, output / "engine.log", on_progress, say)
    write_labels(prediction_path, prediction, volume, reference.names)
    scores = evaluate(prediction, reference.array, volume.spacing_mm, list(reference.names), exclude_slices=slices)

    screenshot_path = output / "window.png" if window else None
    if screenshot_path is not None and (problem := take_screenshot(project.path, screenshot_path)) is not None:
        say(f"No screenshot: {problem}.")
        screenshot_path = None
    return DemoResult(
        project.path, image_path, labels_path, reference_path, prediction_path, screenshot_path,
        stored, steps, dict(reference.names), scores,
    )  # fmt: skip


def _make_project(path: Path, volume: Volume, annotations: Annotations, names: Mapping[int, str]) -> Project:
    """A project that may be replaced by the next demo, with one case."""
    project = Project.create(path, "Synthetic thorax", names)
    project.info["demo"] = True
    project.save()
    project.add_case(volume, CASE).save_annotations(annotations)
    return project


def _train(
    project: Project,
    config: Config,
    log: Path,
    on_progress: Callable[[Progress], None] | None,
    say: Callable[[str], None],
) -> tuple[npt.NDArray[np.uint8], int]:
    """The prediction (z, y, x) of a run that the engine trains, and the steps that it took."""
    run = project.new_run(config, [CASE])
    with Engine(log, on_progress, lambda notice: say(notice.text)) as engine:
        engine.open_case(project, CASE)
        ended = engine.train(run)
        if not run.prediction_path(CASE).exists():
            engine.predict(CASE)
    return np.load(run.prediction_path(CASE), allow_pickle=False), ended.step


def _remove_earlier(project_path: Path) -> None:
    """Remove an earlier demo's project, unless somebody works in it."""
    if not project_path.exists():
        return
    if not (Project.is_project(project_path) and Project.open(project_path).info.get("demo")):
        raise ProjectError(f"{project_path} is there already and is no demo; choose another folder with --output.")
    project = Project.open(project_path)
    project.lock()
    project.unlock()
    shutil.rmtree(project_path)
