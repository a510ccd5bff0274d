"""``vqseg suggest``: which slices to label next."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from vqseg.cli.console import Console, table
from vqseg.cli.parser import add_output_flags

__all__ = ["add_arguments", "run"]

EPILOG = """\
Slices are given as stored in the case's image, counted from 0.

examples:
  vqseg suggest PROJECT --count 3
  vqseg suggest PROJECT --case case-002 --run 20260101-120000-01
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("project", metavar="PROJECT", help="project folder")
    parser.add_argument("--case", metavar="ID", help="case to look at (default: the first)")
    parser.add_argument(
        "--run",
        dest="trained",
        metavar="RUN",
        help="run whose network looks (default: the one chosen in the window, else the newest)",
    )
    parser.add_argument("--count", type=int, default=5, metavar="N", help="how many slices (default: 5)")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> None:
    """Ask the engine for suggestions and print them, best first."""
    from vqseg.client import Engine
    from vqseg.errors import ConfigError, ProjectError
    from vqseg.project import Project
    from vqseg.protocol import LoadCheckpoint, RequestSuggestions, SuggestionsReady

    if args.count < 1:
        raise ConfigError(f"--count is {args.count}; it must be 1 or more")
    console = Console(args)
    project = Project.open(args.project)
    for problem in project.problems:
        console.say(f"warning: {problem}")
    if not project.cases:
        raise ProjectError("the project has no case yet; add a volume in the window first")
    case = project.case(args.case) if args.case else project.cases[0]
    trained = project.run(args.trained) if args.trained else project.chosen_run(case.id)
    trained = trained or next((run for run in reversed(project.runs) if run.has_checkpoint), None)
    if trained is None:
        raise ProjectError("the project has no trained run yet; train it first with `vqseg train`")
    trained.require_checkpoint()
    with (
        tempfile.TemporaryDirectory() as scratch,
        Engine(Path(scratch, "engine.log"), on_notice=lambda notice: console.say(notice.text)) as engine,
    ):
        engine.open_case(project, case.id)
        engine.send(LoadCheckpoint(str(trained.path)))
        engine.send(RequestSuggestions(request_id=0, case_id=case.id, count=args.count))
        answer = engine.wait_for(SuggestionsReady)
        while not answer.final:
            answer = engine.wait_for(SuggestionsReady)
    volume = case.load_volume()
    suggestions = [{**item, "slice": volume.to_stored_index(int(item["z"]))} for item in answer.suggestions]
    rows = [[str(item["slice"]), f"{item['score']:.3f}", str(item["reason"])] for item in suggestions]
    console.result(table(["slice", "score", "why"], rows), case=case.id, suggestions=suggestions)
