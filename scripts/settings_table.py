"""Print the table of settings in docs/data-format.md, from the config dataclasses."""

from __future__ import annotations

import dataclasses
from typing import get_args, get_type_hints

from vqseg.config import Config


def table() -> str:
    """One row a setting: name, default, range or choices, unit, sentence."""
    rows = ["| setting | default | range or choices | what it is |", "|---|---|---|---|"]
    config = Config()
    for group in dataclasses.fields(config):
        if group.name == "preset":
            continue
        values = getattr(config, group.name)
        hints = get_type_hints(type(values))
        for item in dataclasses.fields(values):
            choices = get_args(hints[item.name]) or item.metadata["joinable"]
            limits, unit = item.metadata["limits"], item.metadata["unit"]
            bounds = " ... ".join(f"{limit:g}" for limit in limits) if limits else ", ".join(choices)
            live = " Can change while training." if item.metadata["live"] else ""
            rows.append(
                f"| `{group.name}.{item.name}` | {getattr(values, item.name)}{' ' + unit if unit else ''} "
                f"| {bounds} | {item.metadata['sentence']}{live} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
