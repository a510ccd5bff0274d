"""The few-slices rows in markdown: a section a volume, a column a budget."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vqseg.benchmark.report import markdown_table, mean_and_spread, provenance_line

__all__ = ["table"]

Row = Mapping[str, Any]
NO_BUDGET = 0.0
BUDGET_IS = {"wall": "wall time", "cpu": "CPU time per thread (other work shared the machine)"}
LEGEND = (
    "Each cell: Dice / HD95 [mm] over the slices that are not labelled, means over the classes ± standard deviation "
    "over the seeds; bold: the best Dice at that budget; (n): number of seeds, where others have more; †n: classes, "
    "all seeds together, that only one of prediction and reference has there (Dice 0, left out of HD95).\n\n"
)


def table(rows: Sequence[Row]) -> str:
    """A section for each volume and each way of counting the budget, methods in the order they were measured."""
    parts: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        parts.setdefault((row["volume"], row["classes"], row["clock"]), []).append(row)
    sections = "".join(_section(*key, part) for key, part in parts.items())
    sources = {provenance_line(row["provenance"]): None for row in rows}
    return f"## Few slices, one volume\n\n{sections}{LEGEND}" + "".join(f"- {source}\n" for source in sources)


def _section(volume: str, classes: str, clock: str, rows: Sequence[Row]) -> str:
    cells: dict[tuple[int, str, float], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["k"], _name(row), row["budget_s"]), []).append(row)
    budgets = sorted({budget for *_, budget in cells if budget != NO_BUDGET}) or [NO_BUDGET]
    n_seeds = max(map(len, cells.values()))
    lines = []
    for k in sorted({row["k"] for row in rows}):
        names = dict.fromkeys(name for other, name, _ in cells if other == k)
        found = {
            (name, budget): cells.get((k, name, budget)) or cells.get((k, name, NO_BUDGET), [])
            for name in names for budget in budgets
        }  # fmt: skip
        best = {budget: max(_dice(found[name, budget]) for name in names) for budget in budgets}
        lines += [
            [k, f"`{name}`", *(_cell(found[name, budget], best[budget], n_seeds) for budget in budgets)]
            for name in names
        ]
    header = ["k", "method", *(f"{budget:g} s" if budget else "no training" for budget in budgets)]
    labels = "" if classes == "all" else f", classes {classes}"
    return f"### {volume}{labels}\n\nBudget: {BUDGET_IS[clock]}.\n\n{markdown_table(header, lines)}\n"


def _name(row: Row) -> str:
    return f"{row['method']}, warm-up {row['warmup_s']:g} s" if row["warmup_s"] else row["method"]


def _dice(rows: Sequence[Row]) -> float:
    return statistics.mean(row["dice"] for row in rows) if rows else -1.0


def _cell(rows: Sequence[Row], best: float, n_seeds: int) -> str:
    if not rows:
        return "–"
    dice = mean_and_spread(row["dice"] for row in rows)
    dice = f"**{dice}**" if _dice(rows) == best else dice
    undefined = sum(row["undefined"] for row in rows)
    seeds = f" ({len(rows)})" if len(rows) < n_seeds and rows[0]["budget_s"] != NO_BUDGET else ""
    return (
        f"{dice} / {mean_and_spread((row['hd95_mm'] for row in rows), 1)}{f' †{undefined}' if undefined else ''}{seeds}"
    )
