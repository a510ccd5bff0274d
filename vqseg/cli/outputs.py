"""Where the verbs write: paths that are checked before any work, and files that may be replaced."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vqseg.cli.console import listed
from vqseg.cohort import is_own_table
from vqseg.errors import VQSegError

__all__ = [
    "add_overwrite_flag",
    "check_checkpoint",
    "check_outputs",
    "make_folders",
    "nifti_path",
    "require_writable",
    "table_path",
]


def nifti_path(text: str) -> Path:
    """An output path that ends in .nii or .nii.gz (argparse type)."""
    if not text.lower().endswith((".nii", ".nii.gz")):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .nii.gz or .nii")
    return Path(text)


def table_path(text: str) -> Path:
    """An output path that ends in .csv or .json (argparse type)."""
    if not text.lower().endswith((".csv", ".json")):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .csv or .json")
    return Path(text)


def add_overwrite_flag(parser: argparse.ArgumentParser) -> None:
    """``--overwrite``, for verbs that replace their own results without it."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist, whoever made them; without "
                        "it only what vqseg wrote and nobody has changed since")  # fmt: skip


def check_outputs(
    outputs: Iterable[Path | None],
    inputs: Sequence[str | Path] = (),
    masks: Iterable[Path] = (),
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Raise before any work unless each file can be written and none of them is another, an input, or a person's.

    Nothing is made yet, see :func:`make_folders`. What is there already may be replaced if it is empty or a result of
    ours as we wrote it, see :func:`_is_ours`; `say` is told.

    Parameters
    ----------
    outputs : iterable of Path or None
        Files to write; None is passed over.
    inputs : sequence of str or Path
        Files that are read.
    masks : iterable of Path
        The outputs that get a file of names beside them.
    overwrite : bool
        Whether files that are not ours may be replaced, too.
    say : callable
        Told in a sentence which files will be replaced.

    Raises
    ------
    VQSegError
        For the first output that cannot be.
    """
    taken = {Path(path).resolve(): "is also an input" for path in inputs}
    replaced = []
    for output in filter(None, outputs):
        if problem := taken.get(output.resolve()):
            raise VQSegError(f"{output} {problem}; choose another output")
        taken[output.resolve()] = "is given for two outputs"
        if output.is_dir():
            raise VQSegError(f"{output} is a folder; give the name of a file")
        if output.exists():
            _require_replaceable(output, overwrite)
            replaced.append(output)
        require_writable(output.parent)
    for mask in masks:
        from vqseg.io.labels import require_sidecar

        require_sidecar(mask)
    if replaced:
        say(f"To be replaced: {listed(replaced)}")


def _require_replaceable(path: Path, overwrite: bool) -> None:
    if not os.access(path, os.W_OK):
        raise VQSegError(f"{path} is write-protected; choose another output")
    if not overwrite and path.stat().st_size and not _is_ours(path):
        raise VQSegError(
            f"{path} is there already, and not as vqseg wrote it; choose another output, or say --overwrite"
        )


def _is_ours(path: Path) -> bool:
    """Whether a file is a result of ours that nobody has changed; an export may hold what a person drew."""
    from vqseg.io.nifti import is_as_written
    from vqseg.provenance import provenance_path

    if path.suffix.lower() in (".csv", ".json"):
        return is_own_table(path)
    return is_as_written(path) and not provenance_path(path).exists()


def require_writable(folder: Path) -> None:
    """Raise unless files can be made in a folder, or in the first of its parents that exists."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise VQSegError(f"cannot write to {there} ({error.strerror}); choose another output") from None


def make_folders(outputs: Iterable[Path | None]) -> None:
    """Make the folders of outputs that are about to be written."""
    for output in filter(None, outputs):
        output.parent.mkdir(parents=True, exist_ok=True)


def check_checkpoint(folder: Path, outputs: Iterable[Path | None] = ()) -> None:
    """Raise before any work unless a checkpoint can be kept in `folder`, which it replaces with all that lies there.

    The folder may be new, empty, or hold an older checkpoint and nothing else; and no output may be written into it.
    """
    there = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    own = [path for path in there if path.name == "checkpoint.json" or path.suffix == ".safetensors"]
    if len(own) < len(there) or (own and folder / "checkpoint.json" not in own):
        raise VQSegError(f"{folder} holds other files, which a checkpoint would replace; choose a new folder")
    for output in filter(None, outputs):
        if folder.resolve() in output.resolve().parents:
            raise VQSegError(f"{output} would lie in the checkpoint's folder, which is replaced; choose another output")
    require_writable(folder)
