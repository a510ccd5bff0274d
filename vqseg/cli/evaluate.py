"""``vqseg evaluate``: scores of a segmentation against a reference."""

from __future__ import annotations

import argparse
import dataclasses
import math

from vqseg.cli.console import Console, table
from vqseg.cli.parser import add_output_flags, parse_slices

__all__ = ["add_arguments", "run"]

EPILOG = """\
Dice and Jaccard are overlaps from 0 to 1; HD95 is the 95th percentile of the surface distances, ASD their mean,
both in mm of the reference. A class that is in only one of the two has no surface distance (nan); means are over
what is defined, and the last line counts what is not.

examples:
  vqseg evaluate whole.nii.gz reference.nii.gz
  vqseg evaluate whole.nii.gz reference.nii.gz --exclude-slices 20,40,60     without the slices labelled by hand
  vqseg evaluate whole.nii.gz reference.nii.gz --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("prediction", metavar="PRED", help="segmentation to judge")
    parser.add_argument("reference", metavar="REF", help="label image, DICOM segmentation or "
                        "RT structure set taken as the truth, on the same voxels")  # fmt: skip
    parser.add_argument("--exclude-slices", metavar="LIST", default="", help="slices of REF as stored to leave out")
    parser.add_argument("--axis", type=int, choices=(0, 1, 2), help="REF's axis that --exclude-slices count along "
                        "(default: the most axial one)")  # fmt: skip
    add_output_flags(parser)


def run(args: argparse.Namespace) -> None:
    """Print the scores of every class that either image holds."""
    excluded = parse_slices(args.exclude_slices) if args.exclude_slices else []

    import vqseg.io as io
    from vqseg.cli.labels import LabelValues, canonical_slices, read_values
    from vqseg.errors import AnnotationError
    from vqseg.metrics import evaluate, summarise

    grid = args.prediction if io.is_label_object(args.reference) else args.reference
    volume = io.read_volume(grid, axis=args.axis)
    console = Console(args)
    reference, names, warnings = read_values(args.reference, volume, "reference")
    prediction, own_names, own_warnings = read_values(args.prediction, volume, "prediction")
    for warning in (*warnings, *own_warnings):
        console.say(f"warning: {warning}")
    classes = sorted({*LabelValues.of(reference).values.tolist(), *LabelValues.of(prediction).values.tolist()})
    if not classes:
        raise AnnotationError("neither image holds any label; there is nothing to compare")
    names = {value: names.get(value) or own_names.get(value) or str(value) for value in classes}
    skip = canonical_slices(excluded, volume)
    scores = evaluate(prediction, reference, volume.spacing_mm, classes, exclude_slices=skip)
    summary = summarise(scores)

    header = ["class", "Dice", "Jaccard", "HD95 mm", "ASD mm"]
    rows = [_row(names[value], scores[value]) for value in classes]
    rows += [_row("mean", summary.mean), ["nan", *map(str, summary.undefined.values())]]
    per_class = {value: {"name": names[value], **dataclasses.asdict(scores[value])} for value in classes}
    console.result(
        table(header, rows),
        classes=per_class, mean=dataclasses.asdict(summary.mean), nan=summary.undefined,
        excluded_slices=excluded,
    )  # fmt: skip


def _row(name: str, scores: object) -> list[str]:
    values = dataclasses.astuple(scores)  # type: ignore[call-overload]
    digits = (3, 3, 2, 2)
    return [name, *("nan" if math.isnan(value) else f"{value:.{n}f}" for value, n in zip(values, digits, strict=True))]
