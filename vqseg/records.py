"""Small JSON files with a kind and a schema version, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vqseg.errors import DamagedRecordError, ProjectError
from vqseg.io.atomic import atomic_path, beside, flush

__all__ = ["checked_id", "new_folder", "now", "read_record", "write_record"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def now() -> str:
    """The time as ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def checked_id(name: str, what: str) -> str:
    """`name`, if it is safe as a folder's name.

    Raises
    ------
    ProjectError
        If it is not.
    """
    if not _ID.fullmatch(name):
        raise ProjectError(f"{name!r} is no {what}; use letters, digits, dots, dashes and underscores.")
    return name


def read_record(path: Path, kind: str, schema: int, entries: Collection[str] = ()) -> dict[str, Any]:
    """The record in a file that :func:`write_record` wrote, with at least these entries.

    Raises
    ------
    ProjectError
        If the file is missing, damaged, of another kind, or newer than this program.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = (values["kind"], int(values["schema"]))
        if found == (kind, schema) and not values.keys() >= set(entries):
            raise KeyError
    except OSError:
        raise ProjectError(f"{path.name} is missing or cannot be read; choose a folder that holds it.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedRecordError(f"{path.name} is damaged; restore it from a backup of the project folder.") from None
    if found[0] != kind:
        raise ProjectError(f"{path.name} describes a {found[0]!r}; expected a {kind!r}.")
    if found[1] > schema:
        raise ProjectError(
            f"{path.name} has schema {found[1]}, this program knows up to {schema}; update napari-vqseg to open it."
        )
    return dict(values)


def write_record(path: Path, kind: str, schema: int, values: dict[str, Any]) -> None:
    """Write `values` as indented JSON, atomically."""
    text = json.dumps({**values, "kind": kind, "schema": schema}, indent=2, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends without an error.

    Raises
    ------
    ProjectError
        If `path` exists already.
    """
    if path.exists():
        raise ProjectError(f"{path.name} exists already; choose another name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path, "new")
    temporary.mkdir()
    try:
        yield temporary
        flush(temporary)
        os.rename(temporary, path)
        flush(path.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and path.exists():  # another process was quicker
            raise ProjectError(f"{path.name} exists already; choose another name.") from None
        raise
