"""``vqseg info``: what an image, a project or a checkpoint holds."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np

from vqseg.cli.console import Console, table
from vqseg.cli.parser import add_output_flags, series
from vqseg.config import known_settings
from vqseg.errors import CheckpointError, ProjectError, VQSegError

__all__ = ["add_arguments", "run"]

MOST_NUMBERS = 16
"""Of longer lists, such as a table of grey values, only the ends are shown; --json has them all."""

EPILOG = """\
examples:
  vqseg info ct.nii.gz            shape, spacing, orientation, and which axis --slices counts along
  vqseg info dicom_folder         its series, by number; --series 2 tells about one
  vqseg info PROJECT              classes, cases and runs
  vqseg info --settings           every setting that --set takes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("path", metavar="PATH", nargs="?", help="image, DICOM folder, project, run or checkpoint")
    parser.add_argument("--settings", action="store_true", help="list all settings")
    parser.add_argument("--series", type=series, metavar="UID", help="series of a folder with several: UID or number")
    parser.add_argument("--axis", type=int, choices=(0, 1, 2), help="slice axis to assume")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> None:
    """Print what is known about PATH."""
    from vqseg.project import Project, Run

    console = Console(args)
    if args.settings:
        _settings(console)
    elif not args.path:
        raise VQSegError("nothing to look at; give a PATH, or --settings")
    elif Project.is_project(args.path):
        _project(console, Project.open(args.path))
    elif (Path(args.path) / "run.json").is_file():
        _checkpoint(console, Run(args.path).require_checkpoint())
    elif (Path(args.path) / "checkpoint.json").is_file():
        _checkpoint(console, Path(args.path))
    else:
        _image(console, args.path, args.series, args.axis)


def _checkpoint(console: Console, folder: Path) -> None:
    described = folder / "checkpoint.json"
    try:
        description = dict(json.loads(described.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise CheckpointError(f"{described} is damaged; choose another checkpoint, or train again") from None
    _show(console, {"checkpoint": folder, **description})


def _show(console: Console, fields: dict[str, Any]) -> None:
    rows = [[name.replace("_", " "), line] for name, value in fields.items() for line in _lines(value)]
    width = max(len(row[0]) for row in rows)
    names = [row[0] if number == 0 or rows[number - 1][0] != row[0] else "" for number, row in enumerate(rows)]
    console.result("\n".join(f"{name.ljust(width)}  {row[1]}" for name, row in zip(names, rows, strict=True)), **fields)


def _lines(value: Any) -> list[str]:
    """A value as people read it: groups and sentences each on a line, `name value` within a group."""
    if isinstance(value, dict):
        if any(isinstance(item, dict) for item in value.values()):
            return [f"{name}: {', '.join(_lines(item))}" for name, item in value.items()]
        return [", ".join(f"{name} {' '.join(_lines(item))}" for name, item in value.items())]
    if value == []:
        return ["none"]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if isinstance(value, list) and len(value) > MOST_NUMBERS:
        numbers = np.array(value, dtype=float)
        return [f"{numbers.size} numbers from {numbers.min():g} to {numbers.max():g}"]
    return [f"{value:.6g}" if isinstance(value, float) else str(value)]


def _image(console: Console, path: str, chosen: str | int | None, axis: int | None) -> None:
    import vqseg.io as io

    if Path(path).is_dir() and chosen is None:
        listed = io.list_series(path)
        if len(listed) > 1:
            rows = [[str(number), item.description, item.modality, str(item.n_slices), item.uid]
                    for number, item in enumerate(listed, start=1)]  # fmt: skip
            found = [dataclasses.asdict(item) for item in listed]
            console.result(table(["number", "description", "modality", "slices", "series"], rows), series=found)
            return
    volume = io.read_volume(path, series=chosen, axis=axis)
    _show(console, {
        "image": path,
        "modality": volume.modality or "not told",
        "shape": list(volume.stored.shape),
        "spacing_mm": [round(float(size), 4) for size in (volume.stored.affine[:3, :3] ** 2).sum(axis=0) ** 0.5],
        "orientation": volume.stored.orientation,
        "slice_axis": volume.stored.slice_axis,
        "slices": volume.shape[0],
        "slice_0_is": "at the head" if volume.to_stored_index(0) else "at the feet",
        "warnings": list(volume.warnings),
    })  # fmt: skip


def _project(console: Console, project: Any) -> None:
    from vqseg.tasks import task_of

    cases, problems = [], project.problems
    for case in project.cases:
        task, states = task_of(case), Counter[str]()
        with contextlib.suppress(ProjectError):  # which is the task's problem
            states.update(str(state) for state in case.load_slice_states().values())
        if task.problem:
            problems.append(f"{case.id}: {task.problem}")
        cases.append({"case": case.id, "task": str(task.state), "shape": list(case.shape),
                      **{state: states[state] for state in ("complete", "scribbled", "draft")}})  # fmt: skip
    runs = [{"run": run.id, "state": "interrupted" if run.interrupted else str(run.state), "cases": run.case_ids}
            for run in project.runs]  # fmt: skip
    lines = [f"project  {project.name}", f"classes  {', '.join(f'{v} {n}' for v, n in project.class_names.items())}"]
    for rows in (cases, runs):
        if rows:
            lines += ["", table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])]
    lines += [f"warning: {problem}" for problem in problems]
    console.result("\n".join(lines), project=project.name, classes=project.class_names, cases=cases, runs=runs,
                   problems=problems)  # fmt: skip


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _settings(console: Console) -> None:
    rows, fields = [], {}
    for name, (field, kind) in known_settings().items():
        limits = field.metadata["limits"]
        bounds = f"{limits[0]:g}..{limits[1]:g}" if limits else kind.__name__
        choices = "|".join(get_args(kind) or field.metadata["joinable"]) or bounds
        unit = field.metadata["unit"]
        rows.append([name, str(field.default), f"{choices}{' ' * bool(unit)}{unit}", field.metadata["sentence"]])
        fields[name] = {"default": field.default, "choices": choices, "unit": unit, "help": field.metadata["sentence"]}
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + row[3:]) for row in rows]
    console.result("\n".join(lines), settings=fields)
