"""``vqseg segment``: label a few slices, get the volume."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqseg.cli.cleaning import add_clean_up_flags, rules_for, wishes_from
from vqseg.cli.console import Console, listed
from vqseg.cli.outputs import add_overwrite_flag, check_checkpoint, check_outputs, make_folders, nifti_path
from vqseg.cli.parser import add_output_flags, add_settings, config_from, given_settings, series, slices_from
from vqseg.errors import AnnotationError, ConfigError

if TYPE_CHECKING:
    from vqseg.cli.labels import LabelValues
    from vqseg.components import CleanUp
    from vqseg.config import Config
    from vqseg.prediction import Prediction
    from vqseg.train import Trainer
    from vqseg.volume import Volume

__all__ = ["add_arguments", "run"]

EPILOG = """\
The listed slices are taken as complete: what is unlabelled there is background. All other slices count as
unlabelled, whatever LABELS holds there. Labels drawn in sagittal or coronal slices need their --axis. The listed
slices come back unchanged. Label values may have gaps and any size; a class must be in at least one listed slice to
be found elsewhere.

The time budget is seconds of training; reading, --warmup and the prediction come on top. Ctrl-C ends it without PRED;
--checkpoint then keeps what was learnt so far, as it does every half minute, so that a kill loses no more than that.
The same line with --resume, and without settings, goes on.
Probabilities are written as (i, j, k, 1 + classes): background first, then the classes by rising label value.
Where they are largest need not be what PRED says: see --set keep_connected and the clean-up, which are PRED's alone.

examples:
  vqseg segment ct.nii.gz labels.nii.gz --slices 20,40,60 --output whole.nii.gz
  vqseg segment dicom_folder structures.dcm --slices all --output whole.nii.gz
  vqseg segment dicom_folder labels.nii.gz --slices 3-7,40 --time-budget 300 --output whole.nii.gz
  vqseg segment ct.nii.gz labels.nii.gz --slices-file slices.txt --preset balanced --seed 1 \\
      --output whole.nii.gz --uncertainty where_to_look.nii.gz --checkpoint model
  vqseg segment ct.nii.gz labels.nii.gz --slices 20,40 --keep-largest liver=1 --min-volume 0.1 --fill-holes all \\
      --output whole.nii.gz
  vqseg segment ct.nii.gz labels.nii.gz --slices-file slices.txt --checkpoint model --resume --output whole.nii.gz
  vqseg segment ct.nii.gz labels.nii.gz --slices 20,40 --set codebook_size=4096 --set size=384 --output whole.nii.gz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("image", metavar="IMAGE", help="NIfTI, NRRD or MetaImage file, or a folder of DICOM files")
    parser.add_argument("labels", metavar="LABELS", help="label image on the voxels of IMAGE, or a DICOM segmentation "
                        "or RT structure set of it")  # fmt: skip
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--slices", metavar="LIST", help="labelled slices of IMAGE as stored, from 0: 3,9,15 or 3-7; "
                       "or `all`, every slice with a label")  # fmt: skip
    which.add_argument("--slices-file", metavar="FILE", help="a text file with the labelled slices")
    parser.add_argument("--axis", type=int, choices=(0, 1, 2), help="IMAGE's axis that slices count along "
                        "(default: the most axial one)")  # fmt: skip
    parser.add_argument("--series", type=series, metavar="UID", help="series of a folder with several: UID or number")
    parser.add_argument("--output", required=True, type=nifti_path, metavar="PRED", help="segmentation to write")
    parser.add_argument("--probabilities", type=nifti_path, metavar="FILE", help="class probabilities to write")
    parser.add_argument("--uncertainty", type=nifti_path, metavar="FILE", help="voxel uncertainty to write")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="folder to keep the network in, also while it "
                        "trains")  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with the training in --checkpoint, with its own "
                        "settings")  # fmt: skip
    add_overwrite_flag(parser)
    add_settings(parser)
    add_clean_up_flags(parser)
    add_output_flags(parser)


@dataclass(frozen=True, eq=False)
class Labelled:
    """What was read.

    Parameters
    ----------
    volume : Volume
        The image, in memory.
    labels : ndarray of int
        (z, y, x) label values on its voxels, listed or not.
    label_names : dict of int to str
        Names of the label values that the file names.
    slices : list of int
        The listed slices, canonical.
    """

    volume: Volume
    labels: npt.NDArray[Any]
    label_names: dict[int, str]
    slices: list[int]

    @cached_property
    def known(self) -> LabelValues:
        """The label values in the listed slices."""
        from vqseg.cli.labels import LabelValues

        return LabelValues.of(self.labels[self.slices])

    @property
    def names(self) -> dict[int, str]:
        """Name of each class 1..K."""
        return self.known.names(self.label_names)

    @property
    def classes(self) -> dict[int, str]:
        """Name of each class by its label value."""
        return dict(zip(self.known.values.tolist(), self.names.values(), strict=True))

    @property
    def stored_slices(self) -> list[int]:
        """The listed slices as they are stored."""
        return sorted(self.volume.to_stored_index(z) for z in self.slices)

    @property
    def notes(self) -> dict[str, Any]:
        """What a checkpoint's description says of them."""
        return {
            "label_values": self.known.values.tolist(), "labelled_slices": self.stored_slices,
            "image_shape": list(self.volume.shape),
        }  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Train on the listed slices, predict, write."""
    console, started = Console(args), time.monotonic()
    config, wishes = config_from(args), wishes_from(args)
    stored = [] if args.slices == "all" else slices_from(args)
    outputs = [args.output, args.probabilities, args.uncertainty]
    check_outputs(outputs, inputs=[args.image, args.labels], masks=[args.output], overwrite=args.overwrite,
                  say=console.say)  # fmt: skip
    _check_checkpoint(args)

    from vqseg.components import rules_record

    given = _read(args, stored, console)
    rules = rules_for(wishes, given.classes)
    prediction, trainer = _segment(args, given, config, console)
    with ExitStack() as in_any_case:  # a disk too full for the masks does not take the training along
        if args.checkpoint:
            in_any_case.callback(trainer.save, args.checkpoint, **given.notes)
        written = _write(args, given, prediction, rules)
    if args.checkpoint:
        written.append(args.checkpoint)
    seconds = time.monotonic() - started
    console.result(
        f"Wrote {', '.join(map(str, written))} after {trainer.step_index} steps on {trainer.device}, {seconds:.0f} s.",
        output=args.output, written=written, steps=trainer.step_index, device=str(trainer.device), seconds=seconds,
        classes=given.classes, clean_up=rules_record(rules), labelled_slices=given.stored_slices,
    )  # fmt: skip


def _check_checkpoint(args: argparse.Namespace) -> None:
    """Raise before any work unless the network can be kept, and found where it is to go on."""
    if args.checkpoint:
        check_checkpoint(args.checkpoint, (args.output, args.probabilities, args.uncertainty))
    if args.resume and not args.checkpoint:
        raise ConfigError("--resume goes on with the training in --checkpoint; give that folder, too")
    if args.resume and (given := given_settings(args)):
        raise ConfigError(f"--resume goes on with the training's own settings; leave out {', '.join(given)}")


def _read(args: argparse.Namespace, stored: list[int], console: Console) -> Labelled:
    """The image and its labels; what is unusual about them is said."""
    import vqseg.io as io
    from vqseg.cli.labels import LabelValues, canonical_slices, drawn_across, read_values

    volume = io.read_volume(args.image, series=args.series, axis=args.axis).load()
    labels, label_names, warnings = read_values(args.labels, volume)
    for warning in (*volume.warnings, *warnings):
        console.say(f"warning: {warning}")
    if args.axis is None and (across := drawn_across(labels, volume)):
        if not stored:
            raise AnnotationError(f"{across}; choose the axis with --axis")
        console.say(f"warning: {across}; --axis chooses another")
    labelled = np.flatnonzero(labels.any(axis=(1, 2))).tolist()
    if not labelled:
        raise AnnotationError(f"{args.labels} holds no label at all; choose the file with the labelled slices")
    slices = canonical_slices(stored, volume) if stored else labelled
    if not set(slices) & set(labelled):
        first, last = sorted(volume.to_stored_index(z) for z in (labelled[0], labelled[-1]))
        raise AnnotationError(
            f"no listed slice holds any label; along axis {volume.stored.slice_axis} there are labels in slices "
            f"{first} to {last}, counted from 0"
        )
    given = Labelled(volume, labels, label_names, slices)
    console.say(f"Labelled slices: {len(slices)} of {volume.shape[0]}, classes: {', '.join(given.names.values())}")
    if unseen := LabelValues(np.setdiff1d(LabelValues.of(labels).values, given.known.values)):
        console.say(f"Not looked for, being in no listed slice: {listed(unseen.names(label_names).values())}")
    return given


def _segment(args: argparse.Namespace, given: Labelled, config: Config, console: Console) -> tuple[Prediction, Trainer]:
    """Train and predict; Ctrl-C says where that is kept."""
    from vqseg.annotations import Annotations
    from vqseg.segment import Autosave, segment  # torch loads here, once the input is known to be good

    annotations = Annotations.from_slices(given.known.to_classes(given.labels), given.slices)
    autosave = Autosave(args.checkpoint, given.notes) if args.checkpoint else None
    try:
        return segment(
            given.volume, annotations, given.names, config, on_report=console.training,
            keep_probabilities=args.probabilities is not None,
            on_progress=lambda share: console.progress("predicting", share), on_notice=console.say,
            autosave=autosave, resume=args.resume,
        )  # fmt: skip
    except KeyboardInterrupt:
        if args.checkpoint and (args.checkpoint / "checkpoint.json").is_file():
            console.say(f"Stopped; what was learnt so far is in {args.checkpoint}, which vqseg predict takes, and from "
                        "which --resume goes on")  # fmt: skip
        raise


def _write(
    args: argparse.Namespace, given: Labelled, prediction: Prediction, rules: Mapping[int, CleanUp]
) -> list[Path]:
    """Clean the prediction up and write it; the listed slices are as they were."""
    from vqseg.cli.labels import write_prediction
    from vqseg.components import clean_up

    volume, slices = given.volume, given.slices
    by_class = {k: rules[value] for k, value in enumerate(given.classes, start=1) if value in rules}
    cleaned = clean_up(prediction.labels, by_class, volume.voxel_ml)
    cleaned[slices] = prediction.labels[slices]
    result = given.known.to_labels(cleaned)
    if not np.array_equal(result[slices], given.labels[slices]):
        raise AssertionError("the labelled slices did not come back unchanged")
    make_folders((args.output, args.probabilities, args.uncertainty))
    return write_prediction(
        prediction, result, volume, given.label_names | given.classes, args.output, args.probabilities,
        args.uncertainty,
    )  # fmt: skip
