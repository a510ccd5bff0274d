"""One training run on disk: its settings, its log, its checkpoint and what it predicted.

A run folder appears whole. While an engine trains it, the engine holds the folder's lock; a run whose state says
that it is under way but whose lock is free was interrupted, and can be resumed.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from vqseg.config import Config
from vqseg.errors import DamagedRecordError, ProjectError
from vqseg.io.atomic import atomic_path, sweep
from vqseg.lock import FolderLock
from vqseg.records import checked_id, new_folder, now, read_record, write_record

__all__ = ["Run", "RunState", "sweep_runs"]

SCHEMA = 1
LOCK = "engine.lock"
ENGINE_GONE_S = 60.0
"""An engine whose window is gone has left, and has written what it had to, after so long."""
PACKAGES = ("napari-vqseg", "torch", "timm", "monai", "numpy", "scipy")


class RunState(StrEnum):
    """Where a run stands."""

    NEW = "new"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of what the results depend on, without importing any of it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def git_hash() -> str:
    """Commit of the source tree that runs, "" for an installed package."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        result = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()


class Run:
    """A run folder of a project.

    Parameters
    ----------
    path : str or path-like
        The run's folder, PROJECT/runs/<id>.

    Raises
    ------
    ProjectError
        If it is none, or lacks a file.
    ConfigError
        If its settings cannot be used.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info: dict[str, Any] = read_record(self.path / "run.json", "run", SCHEMA, ("case_ids", "state"))
        if self.info["state"] not in list(RunState):
            raise DamagedRecordError("run.json is damaged; restore it from a backup of the project folder.")
        self.config = _read_config(self.config_path)
        self._lock = FolderLock(self.path / LOCK)

    @classmethod
    def create(cls, path: Path, config: Config, case_ids: Sequence[str]) -> Run:
        """Make the folder of a new run, whole."""
        with new_folder(path) as folder:
            with atomic_path(folder / "config.json") as file:
                file.write_text(config.to_json(), encoding="utf-8")
            (folder / "predictions").mkdir()
            write_record(folder / "run.json", "run", SCHEMA, {
                "case_ids": [checked_id(case_id, "case") for case_id in case_ids],
                "state": RunState.NEW.value,
                "seed": config.train.seed,
                "created": now(),
                "started": None,
                "ended": None,
                "git": git_hash(),
                "versions": versions(),
            })  # fmt: skip
        return cls(path)

    @property
    def id(self) -> str:
        """The run's name in the project."""
        return self.path.name

    @property
    def project_path(self) -> Path:
        """Folder of the project that the run belongs to."""
        return self.path.parent.parent

    @property
    def case_ids(self) -> list[str]:
        """Cases that the run learns from."""
        return list(self.info["case_ids"])

    @property
    def config_path(self) -> Path:
        """The run's settings."""
        return self.path / "config.json"

    @property
    def log_path(self) -> Path:
        """What the engine and its libraries said while they trained."""
        return self.path / "train.log"

    @property
    def metrics_path(self) -> Path:
        """One JSON line a report."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        """Folder of the newest checkpoint; there is one once `has_checkpoint`."""
        return self.path / "checkpoint"

    @property
    def has_checkpoint(self) -> bool:
        """Whether a checkpoint has been written; one that was being replaced when the machine stopped counts."""
        previous = self.checkpoint_path.with_name(f".{self.checkpoint_path.name}.previous")
        return any(path.is_dir() and any(path.iterdir()) for path in (self.checkpoint_path, previous))

    def prediction_path(self, case_id: str) -> Path:
        """Predicted labels of a case: .npy, uint8 (z, y, x)."""
        return self.path / "predictions" / checked_id(case_id, "case") / "labels.npy"

    def uncertainty_path(self, case_id: str) -> Path:
        """Uncertainty of a case's prediction: .npy, float16 (z, y, x)."""
        return self.prediction_path(case_id).with_name("uncertainty.npy")

    def confidence_path(self, case_id: str) -> Path:
        """Mean confidence of each slice of a case's prediction: .npy, float32 (z,), NaN without a structure."""
        return self.prediction_path(case_id).with_name("confidence.npy")

    def rests_on_path(self, case_id: str) -> Path:
        """Labelled slices of a case that its prediction rests on: .npy, int64."""
        return self.prediction_path(case_id).with_name("rests_on.npy")

    def quality_path(self, case_id: str) -> Path:
        """Scores of the prediction on slices of a case that were drawn after the run had ended."""
        return self.prediction_path(case_id).with_name("quality.json")

    def rests_on(self, case_id: str) -> frozenset[int]:
        """Slices of a case whose labels shaped its prediction, by training or by standing in it as they are."""
        path = self.rests_on_path(case_id)
        stood = np.load(path, allow_pickle=False).tolist() if path.exists() else []
        return frozenset(self.learnt(case_id).union(stood))

    def learnt(self, case_id: str) -> set[int]:
        """Slices of a case whose labels the run has learnt from at any time."""
        return {int(z) for z in self.info.get("learnt", {}).get(case_id, [])}

    def note_learnt(self, case_id: str, slices: Iterable[int]) -> None:
        """Remember that the run learns from these slices of a case from now on."""
        known = self.learnt(case_id)
        if not known.issuperset(slices):
            learnt = {**self.info.get("learnt", {}), case_id: sorted(known.union(map(int, slices)))}
            self.info["learnt"] = learnt
            write_record(self.path / "run.json", "run", SCHEMA, self.info)

    # ------------------------------------------------------------------------------------------------ state

    @property
    def state(self) -> RunState:
        """State on disk when the run was opened or last changed here."""
        return RunState(self.info["state"])

    @property
    def is_live(self) -> bool:
        """Whether an engine holds the run now."""
        return self._lock.taken

    @property
    def interrupted(self) -> bool:
        """Whether the run was under way when its engine went: it can be resumed from its checkpoint."""
        return self.state in (RunState.RUNNING, RunState.PAUSED) and not self.is_live

    def claim(self) -> None:
        """Take the run for this process; the claim ends with the process.

        Raises
        ------
        ProjectError
            If another engine trains it.
        """
        self._lock.acquire(f"The run {self.id}")

    def release(self) -> None:
        """End the claim."""
        self._lock.release()

    def set_state(self, state: RunState, **values: Any) -> None:
        """Record a new state, with the time where it starts or ends the run."""
        self.info.update(values, state=RunState(state).value)
        if state == RunState.RUNNING and not self.info.get("started"):
            self.info["started"] = now()
        if state in (RunState.FINISHED, RunState.STOPPED, RunState.FAILED):
            self.info["ended"] = now()
        write_record(self.path / "run.json", "run", SCHEMA, self.info)

    # ---------------------------------------------------------------------------------------------- metrics

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Add a line to the metrics, behind one cut short by a crash too; numbers that are not finite become null."""
        line = json.dumps(_finite(values), allow_nan=False).encode() + b"\n"
        with self.metrics_path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The metrics so far; a line cut short by a crash is left out."""
        if not self.metrics_path.exists():
            return []
        rows = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def require_checkpoint(self) -> Path:
        """The checkpoint's folder.

        Raises
        ------
        ProjectError
            If the run has none yet.
        """
        if not self.has_checkpoint:
            raise ProjectError(f"The run {self.id} has no checkpoint yet; train it first.")
        return self.checkpoint_path


def _read_config(path: Path) -> Config:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ProjectError(
            f"The run's {path.name} is missing or cannot be read; restore it from a backup of the project folder."
        ) from None
    return Config.from_json(text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sweep_runs(folder: Path) -> None:
    """Remove what engines that were killed have left half written in the runs of a project.

    A run that is being trained is left alone, and so is what changed a moment ago: an engine whose window was killed
    writes its checkpoint before it leaves.
    """
    sweep(folder, ENGINE_GONE_S)
    for path in folder.glob("[!.]*/"):
        if not FolderLock(path / LOCK).taken:
            for place in (path, *path.glob("predictions/*/")):
                sweep(place, ENGINE_GONE_S)
