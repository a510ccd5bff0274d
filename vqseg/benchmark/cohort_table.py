"""The rows of a cohort's table: on disk after each of them, and in markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from vqseg.benchmark.cohort import Protocol
from vqseg.benchmark.report import markdown_table, mean_and_spread, provenance, provenance_line, write_json, write_text

__all__ = ["CohortTable", "Key"]

Key = dict[str, Any]
SCORES = ("dice", "jaccard", "hd95_mm", "asd_mm")
GROUPED_BY = ("iterations", "batch", "size", "evaluated_on")
LEGEND = (
    "Means over volumes and classes ± standard deviation over seeds; undefined: scores of a class that only one of "
    "prediction and reference has (not in the distances' means); codes used: share of the codewords that the training "
    "slices use.\n\n"
)


class CohortTable:
    """The rows measured so far.

    Parameters
    ----------
    path : Path
        results.json; the table lies beside it as table.md.
    protocol : Protocol
        Title, classes, units and published values.
    sections : mapping of str to mapping of str to str
        What the rows under each heading are called, and the method behind each; a single heading may be empty.
    """

    def __init__(self, path: Path, protocol: Protocol, sections: Mapping[str, Mapping[str, str]]) -> None:
        self.path, self.protocol, self.sections = path, protocol, sections
        self.rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []

    def has(self, key: Key) -> bool:
        """Whether the row of `key` is there."""
        return any(all(row[name] == value for name, value in key.items()) for row in self.rows)

    def add(self, key: Key, scores: Mapping[str, Any]) -> None:
        """Take a row over and write the table."""
        self.rows.append({**key, **scores, "provenance": provenance()})
        write_json(self.path, {"table": self.protocol.name, "rows": self.rows})
        write_text(self.path.with_name("table.md"), self.markdown())

    def markdown(self) -> str:
        """Every section that has rows, the seeds of a row joined."""
        full = self.protocol.full_iterations
        shortened = any(0 < row["iterations"] < full for row in self.rows)
        note = (
            f"**Shortened**: the papers train {full} iterations; these figures say nothing about the published ones."
            "\n\n" if shortened else ""
        )  # fmt: skip
        sections = [self._section(title, names) for title, names in self.sections.items()]
        sources = {provenance_line(row["provenance"]): None for row in self.rows}
        return (
            f"## {self.protocol.name}\n\n{note}{''.join(sections)}{LEGEND}{self.protocol.sources}"
            + "".join(f"- {source}\n" for source in sources)
        )  # fmt: skip

    def _section(self, title: str, names: Mapping[str, str]) -> str:
        sizes = dict.fromkeys(row["labelled"] for row in self.rows)
        lines = []
        for labelled, (name, method) in product(sizes, names.items()):
            groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
            for row in self.rows:
                if (row["labelled"], row["method"]) == (labelled, method):
                    groups.setdefault(tuple(row[item] for item in GROUPED_BY), []).append(row)
            lines += [self._line(name, rows) for rows in groups.values()]
        heading = f"### {title}\n\n" if title else ""
        return f"{heading}{markdown_table(self._header(), lines)}\n" if lines else ""

    def _header(self) -> list[str]:
        unit = self.protocol.distance_unit
        header = ["labelled", "method", "iterations", "batch", "size", "seeds", "Dice", "Jaccard", f"HD95 [{unit}]",
                  f"ASD [{unit}]", "undefined", "codes used"]  # fmt: skip
        return [*header, "published Dice"] if self.protocol.published_dice else header

    def _line(self, name: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        row = rows[0]
        method = f"`{row['method']}`" if name == row["method"] else f"{name} (`{row['method']}`)"
        line = [
            row["labelled"], method, row["iterations"] or "–", row["batch"], row["size"],
            ",".join(str(row["seed"]) for row in rows),
            *(mean_and_spread((row[score] for row in rows), 3 if score in SCORES[:2] else 2) for score in SCORES),
            sum(row["undefined"]["hd95_mm"] for row in rows),
            mean_and_spread(row.get("utilisation") for row in rows),
        ]  # fmt: skip
        published = self.protocol.published_dice
        return [*line, published.get((row["method"], row["labelled"]), "–")] if published else line
