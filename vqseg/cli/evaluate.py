"""``vqseg evaluate``: scores of segmentations against references."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqseg.cli.cohort import add_cluster_flags, cluster_of
from vqseg.cli.console import Console, listed, table
from vqseg.cli.outputs import add_overwrite_flag, check_outputs, table_path
from vqseg.cli.parser import add_output_flags, parse_slices
from vqseg.cohort import Pair, is_manifest, pairs_in, write_table
from vqseg.errors import VQSegError
from vqseg.metrics import ClassScores, evaluate, summarise

__all__ = ["add_arguments", "evaluate_pair", "run"]

EPILOG = """\
Dice and Jaccard are overlaps from 0 to 1; HD95 is the 95th percentile of the surface distances of both directions,
ASD the mean distance from PRED's surface to REF's, both in mm. A class that is in only one of the two has no surface
distance (nan) and Dice 0; one that is in neither is left out. Means are over what is defined, of all classes and images
alike, and the last line counts what is not.

Two folders are compared file by file, by name; a list (.csv) has the columns `prediction` and `reference`, and `name`,
`exclude_slices`, `axis` where needed. --output keeps every score. A pair that fails does not stop the others.

examples:
  vqseg evaluate whole.nii.gz reference.nii.gz
  vqseg evaluate whole.nii.gz reference.nii.gz --exclude-slices 20,40,60     without the slices labelled by hand
  vqseg evaluate whole.nii.gz reference.nii.gz --json
  vqseg evaluate masks references --output scores.csv
  vqseg evaluate pairs.csv --output scores.json
"""
HEADER = ["class", "Dice", "Jaccard", "HD95 mm", "ASD mm"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("prediction", metavar="PRED", type=Path, help="segmentation to judge, a folder of them, or a "
                        "list (.csv)")  # fmt: skip
    parser.add_argument("reference", metavar="REF", type=Path, nargs="?", help="label image, DICOM segmentation or "
                        "RT structure set taken as the truth, on the same voxels; or a folder of them")  # fmt: skip
    parser.add_argument("--exclude-slices", metavar="LIST", default="", help="slices of REF as stored to leave out")
    parser.add_argument("--axis", type=int, choices=(0, 1, 2), help="REF's axis that --exclude-slices count along "
                        "(default: the most axial one)")  # fmt: skip
    parser.add_argument("--output", type=table_path, metavar="TABLE", help="file for all scores (.csv or .json)")
    add_overwrite_flag(parser)
    add_cluster_flags(parser)
    add_output_flags(parser)


@dataclass(frozen=True)
class Evaluated:
    """Scores of a pair by label value."""

    names: dict[int, str]
    scores: dict[int, ClassScores]
    warnings: tuple[str, ...]


def evaluate_pair(pair: Pair) -> Evaluated:
    """Score every class that either image holds.

    Raises
    ------
    VQSegError
        If one is missing or cannot be read, or they cannot be compared.
    """
    excluded = parse_slices(pair.exclude_slices) if pair.exclude_slices else []

    import vqseg.io as io
    from vqseg.cli.labels import LabelValues, canonical_slices, mask_as_one, read_values

    if pair.prediction is None or pair.reference is None:
        missing = "segmentation" if pair.prediction is None else "reference"
        raise VQSegError(f"there is no {missing} called {pair.name}; name both alike, or list the pairs in a .csv file")
    grid = pair.prediction if io.is_label_object(pair.reference) else pair.reference
    volume = io.read_volume(grid, axis=pair.axis)
    reference, names, warnings = read_values(str(pair.reference), volume, "reference")
    prediction, own_names, own_warnings = read_values(str(pair.prediction), volume, "prediction")
    reference, more = mask_as_one(reference, prediction, "reference")
    prediction, own_more = mask_as_one(prediction, reference, "prediction")
    true, own = (set(LabelValues.of(labels).values.tolist()) for labels in (reference, prediction))
    classes = sorted(true | own)
    warnings = (*volume.warnings, *warnings, *more, *own_warnings, *own_more)
    warnings = (*warnings, *_differences(true, own, names, own_names))
    names = {value: names.get(value) or own_names.get(value) or str(value) for value in classes}
    skip = canonical_slices(excluded, volume)
    scores = evaluate(prediction, reference, volume.spacing_mm, classes, exclude_slices=skip)
    return Evaluated(names, scores, warnings)


def _differences(
    true: Collection[int], own: Collection[int], true_names: Mapping[int, str], own_names: Mapping[int, str]
) -> Iterator[str]:
    """What the label values of the reference and of the prediction do not share, in sentences."""
    for what, values in (("reference", true), ("prediction", own)):
        if not values:
            yield f"the {what} holds no label"
    if true and own and not set(true) & set(own):
        yield (
            f"the two have no label value in common (prediction: {listed(own)}; reference: {listed(true)}), so that "
            "every score is the worst; renumber one of them if they mean the same"
        )
    for value in sorted(set(true) & set(own)):
        name, own_name = true_names.get(value, ""), own_names.get(value, "")
        if name and own_name and name.casefold() != own_name.casefold():
            yield f"label {value} is {name} in the reference and {own_name} in the prediction; they are compared"


def run(args: argparse.Namespace) -> None:
    """Print the scores of a pair, or of all pairs of two folders or a list."""
    console = Console(args)
    if args.output is not None:
        inputs = [path for path in (args.prediction, args.reference) if path is not None]
        check_outputs([args.output], inputs, overwrite=args.overwrite, say=console.say)
    if args.reference is None and not is_manifest(args.prediction):
        raise VQSegError("the reference is missing; give PRED and REF, or a .csv file with the columns "
                         "prediction and reference")  # fmt: skip
    # A folder may be an RT structure set's; two of them are cohorts.
    if args.reference is None or (args.prediction.is_dir() and args.reference.is_dir()):
        _evaluate_all(args, console, pairs_in(args.prediction, args.reference))
    else:
        pair = Pair(args.prediction.name, args.prediction, args.reference, args.exclude_slices, args.axis)
        _evaluate_one(args, console, pair)


def _evaluate_one(args: argparse.Namespace, console: Console, pair: Pair) -> None:
    found = evaluate_pair(pair)
    for warning in found.warnings:
        console.say(f"warning: {warning}")
    if args.output is not None:
        write_table(args.output, _rows(pair, found))
    summary = summarise(found.scores)
    rows = [_cells(found.names[value], score) for value, score in found.scores.items()]
    rows += [_cells("mean", summary.mean), ["undefined", *map(str, summary.undefined.values())]]
    per_class = {value: {"name": found.names[value], **dataclasses.asdict(score)}
                 for value, score in found.scores.items()}  # fmt: skip
    console.result(
        table(HEADER, rows),
        classes=per_class, mean=dataclasses.asdict(summary.mean), nan=summary.undefined,
        excluded_slices=parse_slices(pair.exclude_slices) if pair.exclude_slices else [],
    )  # fmt: skip


def _evaluate_all(args: argparse.Namespace, console: Console, pairs: list[Pair]) -> None:
    if args.exclude_slices or args.axis is not None:
        raise VQSegError("--exclude-slices and --axis are for one pair; give them in a .csv file, each pair its own")
    resolved = [
        dataclasses.replace(pair, prediction=pair.prediction and pair.prediction.resolve(),
                            reference=pair.reference and pair.reference.resolve())
        for pair in pairs
    ]  # fmt: skip
    position = {pair.name: number for number, pair in enumerate(pairs)}
    rows: list[dict[str, Any]] = []
    found: dict[str, Evaluated] = {}
    with cluster_of(args, len(pairs)) as each:
        for number, (pair, answer) in enumerate(each(evaluate_pair, resolved), start=1):
            if isinstance(answer, str):
                rows.append({"name": pair.name, "status": "failed", "error": answer})
                console.say(f"{pair.name} failed: {answer}")
            else:
                rows += _rows(pair, answer)
                for warning in answer.warnings:
                    console.say(f"{pair.name}: warning: {warning}")
                found[pair.name] = answer
            rows.sort(key=lambda row: position[row["name"]])  # the fastest comes first otherwise
            if args.output is not None:
                write_table(args.output, rows)
            console.progress("evaluating", number / len(pairs), f"{number} of {len(pairs)} pairs")
    scores: dict[str, list[ClassScores]] = {}
    for name in sorted(found, key=position.__getitem__):
        for value, score in found[name].scores.items():
            scores.setdefault(found[name].names[value], []).append(score)
    means = {name: summarise(values) for name, values in scores.items()}
    everything = summarise([score for values in scores.values() for score in values])
    cells = [[*_cells(name, summary.mean), str(len(scores[name]))] for name, summary in means.items()]
    cells += [[*_cells("mean", everything.mean), ""], ["undefined", *map(str, everything.undefined.values()), ""]]
    console.result(
        table([*HEADER, "images"], cells),
        classes={name: dataclasses.asdict(summary.mean) for name, summary in means.items()},
        mean=dataclasses.asdict(everything.mean), nan=everything.undefined, results=rows,
    )  # fmt: skip
    if failed := len(pairs) - len(found):
        raise VQSegError(f"{failed} of {len(pairs)} pairs could not be compared; the lines above say why")


def _rows(pair: Pair, found: Evaluated) -> list[dict[str, Any]]:
    """The pair in the table of all scores, a row a class; one without any where there is no label at all."""
    return [
        {"name": pair.name, "status": "done", "error": "", "label": value, "class": found.names[value],
         **dataclasses.asdict(score)}
        for value, score in found.scores.items()
    ] or [{"name": pair.name, "status": "done", "error": ""}]  # fmt: skip


def _cells(name: str, scores: ClassScores) -> list[str]:
    values = dataclasses.astuple(scores)
    digits = (3, 3, 2, 2)
    return [name, *("nan" if math.isnan(value) else f"{value:.{n}f}" for value, n in zip(values, digits, strict=True))]
