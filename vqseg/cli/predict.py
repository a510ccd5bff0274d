"""``vqseg predict``: segment an image with a trained checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import get_args

import numpy as np

from vqseg.cli.console import Console
from vqseg.cli.parser import add_output_flags, check_outputs, nifti_path, series
from vqseg.config import DeviceName

__all__ = ["add_arguments", "checkpoint_in", "run"]

EPILOG = """\
MODEL is the folder that `vqseg segment --checkpoint` wrote, a run of a project, or a project (its newest run).
The network has learned from a few slices of one image or project; judge what it finds elsewhere with your own eyes.

examples:
  vqseg predict model another_ct.nii.gz --output whole.nii.gz
  vqseg predict PROJECT dicom_folder --output whole.nii.gz --uncertainty where_to_look.nii.gz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="checkpoint, run or project folder")
    parser.add_argument("image", metavar="IMAGE", help="NIfTI or NRRD file, or a folder of DICOM files")
    parser.add_argument("--output", required=True, type=nifti_path, metavar="PRED", help="segmentation to write")
    parser.add_argument("--probabilities", type=nifti_path, metavar="FILE", help="class probabilities to write")
    parser.add_argument("--uncertainty", type=nifti_path, metavar="FILE", help="voxel uncertainty to write")
    parser.add_argument("--series", type=series, metavar="UID", help="series of a folder with several: UID or number")
    parser.add_argument("--axis", type=int, choices=(0, 1, 2), help="IMAGE's slice axis (default: the most axial one)")
    parser.add_argument("--device", choices=get_args(DeviceName), default="auto", help="where to compute")
    add_output_flags(parser)


def checkpoint_in(path: str) -> Path:
    """The checkpoint folder in a checkpoint, run or project folder.

    Raises
    ------
    ProjectError
        If a project or run has no checkpoint yet.
    """
    from vqseg.errors import ProjectError
    from vqseg.project import Project, Run

    if Project.is_project(path):
        trained = [run for run in Project.open(path).runs if run.has_checkpoint]
        if not trained:
            raise ProjectError("the project has no trained run yet; train it first with `vqseg train`")
        return trained[-1].checkpoint_path
    if (Path(path) / "run.json").is_file():
        return Run(path).require_checkpoint()
    return Path(path)


def run(args: argparse.Namespace) -> None:
    """Predict an image that need not have been trained on."""
    console = Console(args)
    check_outputs([args.output, args.probabilities, args.uncertainty], inputs=[args.image])
    checkpoint = checkpoint_in(args.model)

    import vqseg.io as io
    from vqseg.cli.labels import LabelValues

    volume = io.read_volume(args.image, series=args.series, axis=args.axis).load()
    for warning in volume.warnings:
        console.say(f"warning: {warning}")

    from vqseg.predict import Predictor

    predictor = Predictor.load(checkpoint, device=args.device)
    prediction = predictor.predict(
        volume, keep_probabilities=args.probabilities is not None,
        on_progress=lambda share: console.progress("predicting", share),
    )  # fmt: skip
    names = {int(value): name for value, name in predictor.class_names.items()}
    values = LabelValues(np.array(sorted(names)))
    sidecar = checkpoint / "label_values.json"
    if sidecar.is_file():
        # Written by `vqseg segment`: the label values that the classes 1..K had in its LABELS.
        values = LabelValues(np.array(json.loads(sidecar.read_text(encoding="utf-8"))))
        names = dict(zip(values.values.tolist(), names.values(), strict=True))
    written = list(io.write_labels(args.output, values.to_labels(prediction.labels), volume, names))
    if prediction.probabilities is not None:
        written += io.write_map(args.probabilities, prediction.probabilities, volume)
    if args.uncertainty:
        written += io.write_map(args.uncertainty, prediction.uncertainty, volume)
    console.result(f"Wrote {', '.join(map(str, written))}.", output=args.output, written=written, classes=names)
