"""``vqseg demo``: the whole loop on a synthetic chest CT."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from vqseg.cli.console import Console, table
from vqseg.cli.outputs import add_overwrite_flag, check_outputs, require_writable
from vqseg.cli.parser import add_output_flags

__all__ = ["add_arguments", "run"]

EPILOG = """\
Labels a few slices of a synthetic CT from its reference, trains in the engine process, predicts, exports NIfTI,
takes a screenshot of the window (under a virtual display where there is none) and prints the Dice. The folder can
then be opened in the window, and its files used to try the other verbs.

examples:
  vqseg demo
  vqseg demo --output somewhere --time-budget 20 --no-window
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("--output", default="demo", metavar="DIR", help="folder to make (default: demo)")
    parser.add_argument("--time-budget", type=float, default=45.0, metavar="S", help="training time (default: 45)")
    parser.add_argument("--slices", type=int, default=3, metavar="N", help="number of labelled slices (default: 3)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the CT and the training (default: 0)")
    parser.add_argument(
        "--size", type=int, nargs=3, metavar=("Z", "Y", "X"), help="voxels of the CT (default: 58 192 192)"
    )
    parser.add_argument("--no-window", action="store_true", help="do not open the window for a screenshot")
    add_overwrite_flag(parser)
    add_output_flags(parser)


def run(args: argparse.Namespace) -> None:
    """Run the loop and print what it found."""
    console = Console(args)
    started = time.monotonic()
    folder = Path(args.output)

    from vqseg.demo import IMAGES, demo_config, run_demo
    from vqseg.metrics import summarise
    from vqseg.phantom import require_size

    demo_config(args.time_budget, args.slices, args.seed)
    if args.size:
        require_size(tuple(args.size))
    require_writable(folder)
    check_outputs([folder / name for name in IMAGES], overwrite=args.overwrite)
    demo = run_demo(
        folder, time_budget_s=args.time_budget, n_slices=args.slices, seed=args.seed, window=not args.no_window,
        shape=tuple(args.size) if args.size else None, on_progress=console.training, say=console.say,
    )  # fmt: skip
    seconds = time.monotonic() - started
    summary = summarise(demo.scores)
    scored = [(demo.class_names[value], score) for value, score in demo.scores.items()] + [("mean", summary.mean)]
    rows = [[name, f"{score.dice:.3f}", f"{score.hd95_mm:.1f}"] for name, score in scored]
    listed = ",".join(map(str, demo.slices))
    text = "\n".join([
        "On the slices that were not labelled:",
        table(["structure", "Dice", "HD95 mm"], rows),
        "",
        f"Segmentation  {demo.prediction_path}",
        f"Project       {demo.project_path}",
        f"Screenshot    {demo.screenshot_path or 'none'}",
        f"Took          {seconds:.0f} s, {demo.steps} training steps",
        "",
        "The same from the command line:",
        f"  vqseg segment {demo.image_path} {demo.labels_path} --slices {listed} --output again.nii.gz",
    ])  # fmt: skip
    console.result(
        text, dice=summary.mean.dice, seconds=seconds, steps=demo.steps, labelled_slices=demo.slices,
        prediction=demo.prediction_path, project=demo.project_path, screenshot=demo.screenshot_path,
        classes={value: {"name": demo.class_names[value], **dataclasses.asdict(score)}
                 for value, score in demo.scores.items()},
    )  # fmt: skip
