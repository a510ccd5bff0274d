"""``vqseg export``: a project's labels as image files."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vqseg.cli.console import Console
from vqseg.cli.parser import add_output_flags, check_outputs

__all__ = ["add_arguments", "run"]

EPILOG = """\
Each case becomes CASE_labels.nii.gz (what a person labelled) or CASE_prediction.nii.gz, in its image's own geometry.

examples:
  vqseg export PROJECT --output masks
  vqseg export PROJECT --what prediction --case case-001 --output masks
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("project", metavar="PROJECT", help="project folder")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--what", choices=("labels", "prediction"), default="labels", help="default: labels")
    parser.add_argument("--case", action="append", metavar="ID", help="case to export (default: all)")
    parser.add_argument("--run", dest="trained", metavar="RUN", help="run whose prediction (default: the newest)")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> None:
    """Write one label image a case."""
    from vqseg.annotations import PAINTED_BACKGROUND
    from vqseg.errors import ProjectError
    from vqseg.io import write_labels
    from vqseg.project import Project

    console = Console(args)
    project = Project.open(args.project)
    cases = [project.case(case_id) for case_id in args.case] if args.case else project.cases
    runs = [project.run(args.trained)] if args.trained else project.runs
    folder = Path(args.output)
    check_outputs([folder], folders=True)
    written: list[Path] = []
    for case in cases:
        if args.what == "prediction":
            found = [run.prediction_path(case.id) for run in runs if run.prediction_path(case.id).exists()]
            if not found:
                raise ProjectError(f"{case.id} has no prediction yet; train it first with `vqseg train`")
            labels = np.load(found[-1], allow_pickle=False)
        else:
            labels = case.load_annotations().labels
            labels = np.where(labels == PAINTED_BACKGROUND, 0, labels)
        path = folder / f"{case.id}_{args.what}.nii.gz"
        written += write_labels(path, labels, case.load_volume(), project.class_names)
        console.progress("exporting", len(written) / 2 / len(cases))
    if not written:
        raise ProjectError("the project has no case yet; there is nothing to export")
    console.result("\n".join(map(str, written)), written=written)
