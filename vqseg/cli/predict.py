"""``vqseg predict``: segment images with a trained checkpoint."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from vqseg.cli.cleaning import Wish, add_clean_up_flags, rules_for, wishes_from
from vqseg.cli.cohort import add_cluster_flags, check_cluster, cluster_of
from vqseg.cli.console import Console, listed, table
from vqseg.cli.outputs import add_overwrite_flag, check_outputs, make_folders
from vqseg.cli.parser import add_output_flags, series
from vqseg.cohort import Image, images_in, write_table
from vqseg.config import DeviceName
from vqseg.errors import VQSegError

if TYPE_CHECKING:
    from vqseg.predict import Predictor

__all__ = ["add_arguments", "checkpoint_in", "predict_image", "run"]

EPILOG = """\
MODEL is the folder that `vqseg segment --checkpoint` wrote, a run of a project, or a project (its newest run).
The network has learned from a few slices of one image or project; judge what it finds elsewhere with your own eyes.

Several images, a folder of images or a list of them (a .csv file with a column `image`, and `name`, `series`, `axis`
where needed) are predicted in processes of their own into the folder --output, with a table of volumes beside them
(results.csv, results.json). An image that fails does not stop the others.

examples:
  vqseg predict model another_ct.nii.gz --output whole.nii.gz
  vqseg predict PROJECT dicom_folder --output whole.nii.gz --uncertainty where_to_look.nii.gz
  vqseg predict model another_ct.nii.gz --output whole.nii.gz --keep-largest 1 --fill-holes all --min-volume tumour=0.5
  vqseg predict model folder_of_cts --output masks --workers 4
  vqseg predict model cohort.csv --output masks --scheduler tls://cluster:8786 \\
      --tls-ca ca.pem --tls-cert me.pem --tls-key me.key
"""
NIFTI = (".nii", ".nii.gz")
TABLES = ("results.csv", "results.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="checkpoint, run or project folder")
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="NIfTI, NRRD or MetaImage file, a folder "
                        "of DICOM files, a folder of such images, or a list of them (.csv)")  # fmt: skip
    parser.add_argument("--output", required=True, type=Path, metavar="PRED", help="segmentation to write (.nii.gz), "
                        "or the folder for several")  # fmt: skip
    parser.add_argument("--probabilities", type=Path, metavar="PATH", help="class probabilities to write, likewise")
    parser.add_argument("--uncertainty", type=Path, metavar="PATH", help="voxel uncertainty to write, likewise")
    parser.add_argument("--series", type=series, metavar="UID", help="series of a folder with several: UID or number")
    parser.add_argument("--axis", type=int, choices=(0, 1, 2), help="IMAGE's slice axis (default: the most axial one)")
    parser.add_argument(
        "--device", choices=get_args(DeviceName), default="auto", help="where to compute (default: auto)"
    )
    add_overwrite_flag(parser)
    add_clean_up_flags(parser)
    add_cluster_flags(parser)
    add_output_flags(parser)


def checkpoint_in(path: str) -> Path:
    """The checkpoint folder in a checkpoint, run or project folder.

    Raises
    ------
    ProjectError
        If a project or run has no checkpoint yet, or a folder is none of these.
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
    folder = Path(path)
    if not (folder / "checkpoint.json").is_file() and not folder.with_name(f".{folder.name}.previous").is_dir():
        raise ProjectError(
            f"{path} holds no trained network; give the folder that was --checkpoint, a run or a project"
        )
    return folder


@dataclass(frozen=True)
class Job:
    """An image to predict, and the files to write."""

    checkpoint: Path
    image: Image
    output: Path
    probabilities: Path | None
    uncertainty: Path | None
    device: str
    wishes: tuple[Wish, ...] = ()


@dataclass(frozen=True)
class Predicted:
    """What a job wrote."""

    written: list[Path]
    names: dict[int, str]
    volumes_ml: dict[int, float]
    warnings: tuple[str, ...]
    seconds: float

    @property
    def missing(self) -> list[str]:
        """The classes of which nothing was found."""
        return [name for value, name in self.names.items() if not self.volumes_ml[value]]


def predict_image(job: Job, on_progress: Callable[[float], None] | None = None) -> Predicted:
    """Read an image, predict it, write what is asked for."""
    import vqseg.io as io
    from vqseg.cli.labels import write_prediction
    from vqseg.components import clean_up
    from vqseg.predict import classes_in

    started = time.monotonic()
    image = job.image
    volume = io.read_volume(image.path, series=series(image.series) if image.series else None, axis=image.axis).load()
    predictor = copy.copy(_predictor(job.checkpoint, job.device, _written_ns(job.checkpoint)))
    classes = classes_in(job.checkpoint)
    values, names = list(classes), {value: name for value, name in classes.items() if name}  # old ones are nameless
    rules = rules_for(job.wishes, names)
    prediction = predictor.predict(volume, keep_probabilities=job.probabilities is not None, on_progress=on_progress)
    own = dict(zip(predictor.values, values, strict=True))
    cleaned = clean_up(prediction.labels, {k: rules[value] for k, value in own.items() if value in rules},
                       volume.voxel_ml)  # fmt: skip
    value_of = np.zeros(max(own) + 1, np.int64)
    value_of[list(own)] = values
    labels = value_of[cleaned]
    make_folders((job.output, job.probabilities, job.uncertainty))
    written = write_prediction(prediction, labels, volume, names, job.output, job.probabilities, job.uncertainty)
    volumes_ml = {value: int((labels == value).sum()) * volume.voxel_ml for value in names}
    return Predicted(written, names, volumes_ml, tuple(volume.warnings), time.monotonic() - started)


def _written_ns(checkpoint: Path) -> int:
    """When the checkpoint that lies there was written: a cluster's workers outlive the trainings they predict with."""
    description = checkpoint / "checkpoint.json"
    return description.stat().st_mtime_ns if description.exists() else 0


@functools.lru_cache(maxsize=1)
def _predictor(checkpoint: Path, device: str, written_ns: int) -> Predictor:
    """The network, loaded once a process; each process started for a cohort takes the next GPU."""
    import torch

    from vqseg.cluster import worker_index
    from vqseg.device import choose_device
    from vqseg.predict import Predictor

    if choose_device(device).type == "cuda":
        torch.cuda.set_device(worker_index() % torch.cuda.device_count())
    return Predictor.load(checkpoint, device=device)


def run(args: argparse.Namespace) -> None:
    """Predict images that need not have been trained on."""
    images = [
        dataclasses.replace(image, series=image.series or ("" if args.series is None else str(args.series)),
                            axis=args.axis if image.axis is None else image.axis)
        for image in images_in(args.images)
    ]  # fmt: skip
    if args.output.name.lower().endswith(NIFTI):
        _predict_one(args, images)
    else:
        _predict_all(args, images)


def _predict_one(args: argparse.Namespace, images: list[Image]) -> None:
    if len(images) > 1:
        raise VQSegError(f"{len(images)} images cannot share the output {args.output}; give a folder")
    outputs = (args.output, args.probabilities, args.uncertainty)
    for path in filter(None, outputs):
        if not path.name.lower().endswith(NIFTI):
            raise VQSegError(f"{path} must end in .nii.gz or .nii")
    console, [image] = Console(args), images
    check_outputs(outputs, [image.path], masks=[args.output], overwrite=args.overwrite, say=console.say)
    checkpoint = checkpoint_in(args.model)
    job = Job(checkpoint, image, *outputs, args.device, _wishes(args, checkpoint))
    done = predict_image(job, lambda share: console.progress("predicting", share))
    for warning in done.warnings:
        console.say(f"warning: {warning}")
    if done.missing:
        console.say(f"Not found: {listed(done.missing)}")
    console.result(
        f"Wrote {', '.join(map(str, done.written))}.",
        output=args.output, written=done.written, classes=done.names, volumes_ml=done.volumes_ml,
    )  # fmt: skip


def _predict_all(args: argparse.Namespace, images: list[Image]) -> None:
    console = Console(args)
    check_cluster(args)
    checkpoint = checkpoint_in(args.model)
    wishes = _wishes(args, checkpoint)
    jobs = [_job(args, checkpoint.resolve(), image, wishes) for image in images]
    tables = [args.output / name for name in TABLES]
    outputs = [*tables, *(path for job in jobs for path in (job.output, job.probabilities, job.uncertainty))]
    check_outputs(outputs, [image.path for image in images], masks=[job.output for job in jobs],
                  overwrite=args.overwrite, say=console.say)  # fmt: skip
    position = {job.image.name: number for number, job in enumerate(jobs)}
    rows: list[dict[str, Any]] = []
    with cluster_of(args, len(jobs), args.device) as each:
        for job, answer in each(predict_image, jobs):
            rows.append(_row(job, answer))
            rows.sort(key=lambda row: position[row["name"]])  # the fastest comes first otherwise
            for path in tables:
                write_table(path, rows)
            if isinstance(answer, str):
                console.say(f"{job.image.name} failed: {answer}")
            else:
                for warning in answer.warnings:
                    console.say(f"{job.image.name}: warning: {warning}")
                if answer.missing:
                    console.say(f"{job.image.name}: not found: {listed(answer.missing)}")
            console.progress("predicting", len(rows) / len(jobs), f"{len(rows)} of {len(jobs)} images")
    failed = [row for row in rows if row["status"] == "failed"]
    cells = [[row["name"], row["status"], "" if row in failed else f"{row['seconds']:.0f}"] for row in rows]
    console.result(
        table(["image", "status", "s"], cells) + f"\n\nSegmentations and results.csv in {args.output}",
        output=args.output, results=rows,
    )  # fmt: skip
    if failed:
        raise VQSegError(f"{len(failed)} of {len(rows)} images failed; {args.output / 'results.csv'} says why")


def _wishes(args: argparse.Namespace, checkpoint: Path) -> tuple[Wish, ...]:
    """What the clean-up flags ask for; the network knows the classes they name."""
    wishes = wishes_from(args)
    if wishes:
        from vqseg.predict import classes_in

        rules_for(wishes, {value: name for value, name in classes_in(checkpoint).items() if name})
    return wishes


def _job(args: argparse.Namespace, checkpoint: Path, image: Image, wishes: tuple[Wish, ...]) -> Job:
    """A job that means the same in another process."""
    output, probabilities, uncertainty = (
        None if folder is None else folder.resolve() / f"{image.name}.nii.gz"
        for folder in (args.output, args.probabilities, args.uncertainty)
    )
    assert output is not None
    image = dataclasses.replace(image, path=image.path.resolve())
    return Job(checkpoint, image, output, probabilities, uncertainty, args.device, wishes)


def _row(job: Job, answer: Predicted | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"name": job.image.name, "status": "failed", "error": answer}
    volumes = {f"{name} [mL]": answer.volumes_ml[value] for value, name in answer.names.items()}
    done = {"name": job.image.name, "status": "done", "error": "", "seconds": answer.seconds, "output": job.output}
    return done | volumes
