"""``vqseg benchmark``: one table a module of :mod:`vqseg.benchmark`."""

from __future__ import annotations

import argparse
import ast
import pkgutil
from importlib import import_module
from pathlib import Path

import vqseg.benchmark
from vqseg.cli.parser import Parser

__all__ = ["add_arguments", "run", "tables"]


def tables() -> dict[str, str]:
    """Name and first line of each benchmark: the modules with an ``add_arguments``. None of them is imported."""
    found = {}
    for folder in vqseg.benchmark.__path__:
        for module in pkgutil.iter_modules([folder]):
            path = Path(folder, f"{module.name}.py")
            tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
            if any(isinstance(node, ast.FunctionDef) and node.name == "add_arguments" for node in tree.body):
                found[module.name.replace("_", "-")] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the verb's arguments; those of a table are read once it is chosen, for its imports take their time."""
    known = tables()
    width = max(map(len, known), default=0)
    lines = "\n".join(f"  {name.ljust(width)}  {sentence}" for name, sentence in known.items())
    parser.epilog = f"tables:\n{lines}\n\n`vqseg benchmark TABLE --help` shows a table's options.\n"
    parser.add_argument("table", metavar="TABLE", choices=list(known), help="the table to make")
    parser.add_argument("options", metavar="...", nargs=argparse.REMAINDER, help="options of the table")


def run(args: argparse.Namespace) -> int | None:
    """Make the chosen table."""
    module = import_module(f"vqseg.benchmark.{args.table.replace('-', '_')}")
    parser = Parser(prog=f"vqseg benchmark {args.table}", description=module.__doc__)
    module.add_arguments(parser)
    code: int | None = module.run(parser.parse_args(args.options))
    return code
