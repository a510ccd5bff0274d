"""``vqseg train``: train a project folder, as the window does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqseg.cli.console import Console
from vqseg.cli.parser import add_output_flags, add_settings, config_from, given_settings
from vqseg.errors import ConfigError

if TYPE_CHECKING:
    from vqseg.project import Project

__all__ = ["add_arguments", "run"]

EPILOG = """\
A project is the folder that the window works in. Its annotated cases are trained together in a new run; the run's
folder gets the settings, the metrics, the checkpoint and a prediction of every case. Ctrl-C stops early and
keeps the checkpoint.

examples:
  vqseg train PROJECT --time-budget 300
  vqseg train PROJECT --case case-001 --case case-002 --preset balanced
  vqseg train PROJECT --preset paper --devices 4         each batch shared by four GPUs
  vqseg train PROJECT --image case-001=/data/ct.nii.gz  its image lies elsewhere on this machine
  vqseg train PROJECT --resume 20260101-120000-01      go on where an interrupted run stopped
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("project", metavar="PROJECT", help="project folder")
    parser.add_argument("--case", action="append", metavar="ID", help="case to learn from (default: all annotated)")
    parser.add_argument("--image", action="append", default=[], metavar="[ID=]PATH",
                        help="where the image of a case is now; the places where it was are remembered")  # fmt: skip
    parser.add_argument("--resume", metavar="RUN", help="go on with this interrupted run, with its own settings")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="share each batch among N GPUs, or CPU "
                        "processes (default: 1)")  # fmt: skip
    add_settings(parser)
    add_output_flags(parser)


def run(args: argparse.Namespace) -> None:
    """Train a new or an interrupted run."""
    config = config_from(args)
    if args.resume and (given := [*given_settings(args), *["--case"] * bool(args.case)]):
        raise ConfigError(f"--resume goes on with the run's own cases and settings; leave out {', '.join(given)}")

    from vqseg.errors import AnnotationError
    from vqseg.project import Project

    console = Console(args)
    project = Project.open(args.project)
    for problem in project.problems:
        console.say(f"warning: {problem}")
    _relocate(project, args.image)
    training = project.run(args.resume) if args.resume else None
    if training is None and (left := project.interrupted_runs):
        console.say(f"Run {left[-1].id} was interrupted; this is a new one, --resume {left[-1].id} would go on with it")
    elif training is not None and not training.has_checkpoint:
        console.say(f"Run {training.id} was interrupted before its first checkpoint; it starts anew")
    from vqseg.team import check_devices

    check_devices(config if training is None else training.config, args.devices)
    if training is None:
        chosen = args.case or [case.id for case in project.cases]
        annotated = [case_id for case_id in chosen if project.case(case_id).load_annotations().used]
        if not annotated:
            raise AnnotationError("no case has a complete or scribbled slice; label some slices in the window first")
        training = project.new_run(config, annotated)

    from vqseg.runner import train_run

    try:
        state = train_run(
            training, console.training, resume=bool(args.resume), on_notice=console.say,
            on_progress=lambda share: console.progress("predicting", share), devices=args.devices,
        )  # fmt: skip
    except KeyboardInterrupt:
        console.say(f"Stopped; go on with: vqseg train {args.project} --resume {training.id}")
        raise
    steps = int(training.info.get("step", 0))
    console.result(
        f"Run {training.id}: {state} after {steps} steps; checkpoint and predictions in {training.path}",
        run=training.id, path=training.path, steps=steps, state=str(state), cases=training.case_ids,
    )  # fmt: skip


def _relocate(project: Project, images: Sequence[str]) -> None:
    """Note where images are now; without an id the project has one case."""
    from vqseg.errors import ProjectError

    for text in images:
        case_id, _, path = text.rpartition("=")
        if not case_id and len(project.cases) != 1:
            ids = ", ".join(case.id for case in project.cases)
            raise ProjectError(f"--image {text} does not say whose image that is; write ID=PATH, ID one of {ids}")
        project.lock()
        try:
            (project.case(case_id) if case_id else project.cases[0]).relocate(path)
        finally:
            project.unlock()
