"""The ``vqseg`` command: one module a verb, and what they share.

Results go to stdout, progress and errors to stderr. With ``--json`` stdout is JSON lines. The exit code is 0 only when
everything asked for is on disk, 2 after an error (one line on stderr), 130 after Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import vqseg
from vqseg.cli.parser import Parser
from vqseg.errors import VQSegError
from vqseg.memory import is_of_device, is_out_of_memory

__all__ = ["VERBS", "main"]

VERBS: dict[str, str] = {
    "segment": "label a few slices, get the volume: train on one image and predict it, in one call",
    "demo": "the whole loop on a synthetic chest CT, unattended",
    "train": "train a project folder, as the window does",
    "predict": "segment more images with a network that is trained already",
    "suggest": "which slices of a case to label next, and why",
    "evaluate": "compare a segmentation with a reference: Dice, Jaccard, HD95, ASD",
    "export": "write a project's labels as image files",
    "info": "what an image, a project or a checkpoint holds",
    "benchmark": "the tables of docs/benchmarks.md",
}

_EPILOG = """\
examples:
  vqseg demo --output demo                            see the whole loop, nothing needed
  vqseg segment ct.nii.gz labels.nii.gz --slices 20,40,60 --output whole.nii.gz
  vqseg evaluate whole.nii.gz reference.nii.gz
  vqseg VERB --help                                   every option of a verb, with examples

For research use only: not a medical device.
"""


def _parser(verb: str | None) -> Parser:
    """The command's parser; only the arguments of `verb` are built, so that one verb does not pay for the others."""
    parser = Parser(prog="vqseg", description="Segment volumes from a few labelled slices.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"vqseg {vqseg.__version__}")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for name, sentence in VERBS.items():
        subparser = verbs.add_parser(name, help=sentence, description=f"{sentence[0].upper()}{sentence[1:]}.")
        if name == verb:
            module = import_module(f"vqseg.cli.{name}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def _sentence(error: Exception) -> str:
    """One line that tells a person what went wrong."""
    text = " ".join(str(error).split())
    if isinstance(error, VQSegError):
        return text
    if is_out_of_memory(error):
        elsewhere = "choose --device cpu, " if is_of_device(error) else ""
        return f"out of memory; {elsewhere}train with a smaller --set size=... or batch_u=..., or free some"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {text[:300]} (set VQSEG_TRACEBACK=1 to see where, and please report it)"


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C: half-written files are removed and what was learnt is kept.

    Clusters send it when a job's time is up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _open_missing_streams() -> None:
    """Open what a parent closed, as services and cron jobs do, lest a file of ours takes the place of the terminal."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process if left out.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    _open_missing_streams()
    show_traceback = bool(os.environ.get("VQSEG_TRACEBACK"))
    verb = next((word for word in argv if not word.startswith("-")), None)
    try:
        with warnings.catch_warnings(), _sigterm_as_ctrl_c():
            if not show_traceback:
                warnings.simplefilter("ignore")
                logging.disable(logging.WARNING)
            args, unknown = _parser(verb).parse_known_args(argv)
            if unknown:  # by argparse's own wording the help of `vqseg` would be named, which knows no option
                Parser(prog=f"vqseg {verb}").error(f"unrecognized arguments: {' '.join(unknown)}")
            code: int | None = args.run(args)
            sys.stdout.flush()
    except SystemExit as stop:  # argparse: --help, --version, wrong arguments
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("vqseg: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`vqseg info x | head`); keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if show_traceback:
            traceback.print_exc()
        print(f"vqseg: error: {_sentence(error)}", file=sys.stderr)  # noqa: T201
        return 2
    finally:
        logging.disable(logging.NOTSET)
    return code or 0
