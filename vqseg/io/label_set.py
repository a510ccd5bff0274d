"""Label sets: values, names and colours of classes, from and to a file.

Written as JSON; read as JSON, as ITK-SNAP's label descriptions, and as 3D Slicer's colour tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from vqseg.errors import AnnotationError
from vqseg.io.atomic import atomic_path

__all__ = ["LabelClass", "read_label_set", "write_label_set"]

KIND, SCHEMA = "label-set", 1
_ITK_SNAP = re.compile(r'(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.]+\s+[01]\s+[01]\s+"(.*)"')
_SLICER = re.compile(r'(\d+)\s+("[^"]*"|\S+)\s+(\d+)\s+(\d+)\s+(\d+)\s+\d+')
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class LabelClass:
    """One class of a label set.

    Parameters
    ----------
    value : int
        Label value, 1 to 254.
    name : str
        Name of the class.
    colour : str
        "#RRGGBB", or "" for none.
    """

    value: int
    name: str
    colour: str = ""


def write_label_set(path: Path, classes: Iterable[LabelClass]) -> None:
    """Write classes as JSON, in their order."""
    record = {"kind": KIND, "schema": SCHEMA, "classes": [asdict(item) for item in classes]}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_label_set(path: Path) -> list[LabelClass]:
    """Read classes, in the file's order; background (0) is left out.

    Parameters
    ----------
    path : Path
        JSON as written by :func:`write_label_set`, or the lines of ITK-SNAP (``IDX R G B A VIS MSH "NAME"``) or of
        3D Slicer (``VALUE NAME R G B A``, underscores for spaces).

    Raises
    ------
    AnnotationError
        If the file is none of these, or a value is outside 1..254 or there twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise _unknown(path) from None
    found = _from_json(text, path) if text.lstrip().startswith("{") else list(_from_lines(text, path))
    classes = [item for item in found if item.value != 0]
    values = [item.value for item in classes]
    if not classes:
        raise _unknown(path)
    if not all(1 <= value <= 254 for value in values) or len(set(values)) < len(values):
        raise AnnotationError(f"{path.name} gives a class a value above 254, or two the same; renumber them in it.")
    if any(not item.name.strip() for item in classes):
        raise AnnotationError(f"{path.name} has a class without a name; name it in the file.")
    return classes


def _unknown(path: Path) -> AnnotationError:
    return AnnotationError(
        f"{path.name} is no label set; choose one saved here (.json), from ITK-SNAP (.txt) or 3D Slicer (.ctbl)."
    )


def _from_json(text: str, path: Path) -> list[LabelClass]:
    try:
        record = json.loads(text)
        if record["kind"] != KIND or int(record["schema"]) > SCHEMA:
            raise _unknown(path)
        return [
            LabelClass(int(item["value"]), str(item["name"]), _checked_colour(item.get("colour", "")))
            for item in record["classes"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unknown(path) from None


def _checked_colour(colour: object) -> str:
    return colour.upper() if isinstance(colour, str) and _COLOUR.fullmatch(colour) else ""


def _from_lines(text: str, path: Path) -> Iterator[LabelClass]:
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if match := _ITK_SNAP.fullmatch(line):
            value, red, green, blue, name = match.groups()
        elif match := _SLICER.fullmatch(line):
            value, name, red, green, blue = match.groups()
            name = name.strip('"').replace("_", " ")
        else:
            raise _unknown(path)
        yield LabelClass(int(value), name, "#" + "".join(f"{min(int(part), 255):02X}" for part in (red, green, blue)))
