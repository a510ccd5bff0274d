"""How fast the window is: opening, scrolling, the event loop while the engine trains, overlays, previews.

Starts ``python -m napari_vqseg.benchmark`` in a process of its own, on this display or on a virtual one, where Qt draws
with the processor. Needs napari and a Qt backend.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqseg.benchmark.report import markdown_table, provenance, provenance_line, write_json
from vqseg.display import on_a_display
from vqseg.errors import DeviceError, EngineError

__all__ = ["add_arguments", "measure_window", "run"]

QT_BACKENDS = ("PyQt6", "PyQt5", "PySide6")


def measure_window(volumes: Sequence[Path], shape: Sequence[int], budget_s: float) -> list[dict[str, Any]]:
    """Measure the real window.

    Parameters
    ----------
    volumes : sequence of Path
        Volumes whose opening is timed beside the made one's.
    shape : sequence of int
        (z, y, x) of the volume that is made.
    budget_s : float
        Seconds of training.

    Returns
    -------
    list of dict
        "what", "value", "unit" and "goal" of each figure.

    Raises
    ------
    DeviceError
        Without Qt or a display.
    EngineError
        If the window fails.
    """
    if not any(importlib.util.find_spec(name) for name in QT_BACKENDS):
        raise DeviceError("No Qt is installed here, so there is no window to measure; install napari-vqseg[all].")
    with tempfile.TemporaryDirectory(prefix="vqseg-benchmark-") as folder:
        path = Path(folder) / "figures.json"
        options = ["--shape", *map(str, shape), "--budget", str(budget_s), "--json", str(path)]
        command = [sys.executable, "-m", "napari_vqseg.benchmark", *map(str, volumes), *options]
        done = subprocess.run(on_a_display(command), check=False, stdout=subprocess.DEVNULL)
        if done.returncode or not path.is_file():
            raise EngineError(f"The window ended with exit code {done.returncode}; what it said stands above.")
        figures: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vqseg benchmark window``."""
    parser.add_argument("volumes", type=Path, nargs="*", metavar="VOLUME", help="volumes whose opening is timed too")
    parser.add_argument("--shape", type=int, nargs=3, default=(600, 512, 512), metavar=("Z", "Y", "X"),
                        help="voxels of the volume that is made (default 600 512 512)")  # fmt: skip
    parser.add_argument("--budget", type=float, default=40.0, metavar="S", help="seconds of training (default 40)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    figures = measure_window([path.absolute() for path in args.volumes], args.shape, args.budget)
    source = provenance()
    print(f"{provenance_line(source)} · {_surroundings()}\n\n{_table(figures)}", end="")  # noqa: T201
    if args.output:
        write_json(args.output, {**source, "figures": figures})
    return 0


def _surroundings() -> str:
    display = "this display" if os.environ.get("DISPLAY") or sys.platform != "linux" else "a virtual display"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.environ.get('QT_API', 'the default Qt')} on {display}{load}"


def _table(figures: Sequence[dict[str, Any]]) -> str:
    rows = [[item["what"], f"{item['value']:.3g} {item['unit']}", item["goal"]] for item in figures]
    return markdown_table(("measured", "found", "goal"), rows)
