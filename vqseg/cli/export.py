"""``vqseg export``: a project's segmentations as files for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqseg.cli.cleaning import Wish, add_clean_up_flags, rules_for, wishes_from
from vqseg.cli.console import Console
from vqseg.cli.outputs import require_writable
from vqseg.cli.parser import add_output_flags

if TYPE_CHECKING:
    from vqseg.case import Case
    from vqseg.export import Content, Segmentation
    from vqseg.project import Project
    from vqseg.run import Run

__all__ = ["add_arguments", "run"]

EPILOG = """\
What is exported (--what):
  segmentation   the prediction, cleaned up by the window's rules and the flags below on top of them, with the labelled
                 slices as a person left them (the default where there is a prediction)
  labels         the labelled slices only (the default where nothing is predicted yet)
  prediction     the prediction as the network made it

and as what (--format):
  nifti            CASE_WHAT.nii.gz, one value a class, in the image's own geometry; names in a JSON file beside it
  nifti-per-class  CASE_WHAT_CLASS.nii.gz, one file a class
  dicom-seg        CASE_WHAT.dcm, a DICOM segmentation that refers to the DICOM series the case was opened from
  csv              CASE_WHAT.csv: volume, HU, surface, slices of each class, and who made its voxels

Beside each lies its provenance (CASE_WHAT.provenance.json, CASE_WHAT.per-class.provenance.json,
CASE_WHAT.dcm.provenance.json, CASE_WHAT.csv.provenance.json): versions, settings, seed, digests, which slices were
drawn. A DICOM segmentation carries the patient's name and id as its series does, since the standard files it with the
study; the other formats carry nothing of the patient.

examples:
  vqseg export PROJECT --output masks
  vqseg export PROJECT --format dicom-seg --case case-001 --output masks
  vqseg export PROJECT --format csv --output tables --overwrite
  vqseg export PROJECT --output masks --keep-largest tumour=1 --min-volume 0.2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("project", metavar="PROJECT", help="project folder")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--format", choices=("nifti", "nifti-per-class", "dicom-seg", "csv"), default="nifti", help="default: nifti"
    )
    parser.add_argument("--what", choices=("segmentation", "labels", "prediction"), help="see below")
    parser.add_argument("--case", action="append", metavar="ID", help="case to export (default: all)")
    parser.add_argument(
        "--run",
        dest="trained",
        metavar="RUN",
        help="run whose prediction (default: the one chosen in the window, else the newest)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_clean_up_flags(parser)
    add_output_flags(parser)


def run(args: argparse.Namespace) -> None:
    """Write each case's files; nothing is written where one exists already and --overwrite is not given."""
    from vqseg.errors import ConfigError, ProjectError, VQSegError
    from vqseg.export import SUFFIXES, Format, files_of, write
    from vqseg.project import Project

    console, wishes = Console(args), wishes_from(args)
    if wishes and args.what in ("labels", "prediction"):
        raise ConfigError(f"clean-up does not go with --what {args.what}; choose --what segmentation")
    project = Project.open(args.project)
    for problem in project.problems:
        console.say(f"warning: {problem}")
    cases = [project.case(case_id) for case_id in args.case] if args.case else project.cases
    if not cases:
        raise ProjectError("the project has no case yet; there is nothing to export")
    wanted, folder = Format(args.format), Path(args.output)
    wished = project.run(args.trained) if args.trained else None
    found = [_predicted(project, case, wished, args.what) for case in cases]
    targets = [folder / f"{case.id}_{what}{SUFFIXES[wanted]}" for case, (what, _) in zip(cases, found, strict=True)]
    there = [file for path in targets for file in files_of(path, wanted, project.class_names) if file.exists()]
    if there and not args.overwrite:
        raise VQSegError(f"{there[0]} exists already; choose another folder, or say --overwrite")
    require_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for number, (case, (what, trained), path) in enumerate(zip(cases, found, targets, strict=True), start=1):
        done = write(_segmentation(project, case, what, trained, wishes), path, wanted)
        for warning in (*case.warnings, *done.warnings):
            console.say(f"warning: {case.id}: {warning}")
        written += done.paths
        console.progress("exporting", number / len(cases))
    console.result("\n".join(map(str, written)), written=written)


def _predicted(project: Project, case: Case, wished: Run | None, what: str | None) -> tuple[Content, Run | None]:
    """What to export of a case, and the run whose prediction that is: the wished, the chosen or the newest one."""
    from vqseg.errors import ProjectError
    from vqseg.export import Content

    runs = [wished] if wished else [*project.runs, project.chosen_run(case.id)]
    trained = next((run for run in reversed(runs) if run and run.prediction_path(case.id).exists()), None)
    if what is None:
        return (Content.LABELS if trained is None else Content.SEGMENTATION), trained
    if Content(what) is Content.PREDICTION and trained is None:
        raise ProjectError(f"{case.id} has no prediction yet; train it first with `vqseg train`")
    return Content(what), None if Content(what) is Content.LABELS else trained


def _load(trained: Run, case_id: str) -> npt.NDArray[np.uint8]:
    from vqseg.errors import ProjectError

    try:
        labels: npt.NDArray[np.uint8] = np.load(trained.prediction_path(case_id), allow_pickle=False)
    except (OSError, ValueError):
        raise ProjectError(f"The prediction of {case_id} by {trained.id} is damaged; train again.") from None
    return labels


def _segmentation(
    project: Project, case: Case, what: Content, trained: Run | None, wishes: tuple[Wish, ...]
) -> Segmentation:
    """A case's labels and prediction, cleaned up by the project's rules, as the window shows it, and by the flags."""
    from vqseg.colours import class_colours
    from vqseg.components import CLEAN_UP, clean_up, rules_from
    from vqseg.export import Content, Segmentation

    volume, prediction = case.load_volume(), None if trained is None else _load(trained, case.id)
    rules = {}
    if what is Content.SEGMENTATION:
        rules = rules_for(wishes, project.class_names, rules_from(project.info.get(CLEAN_UP)))
    if prediction is not None and rules:
        prediction = clean_up(prediction, rules, volume.voxel_ml)
    return Segmentation(
        case, volume, case.load_annotations(), project.class_names, prediction, trained, what, rules,
        class_colours(project.info.get("colours"), project.class_names),
    )  # fmt: skip
