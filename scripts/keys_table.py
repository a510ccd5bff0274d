"""Print the table of docs/guide/keys.md, from the window's own card."""

from __future__ import annotations

from napari_vqseg.panels.card import KEYS


def table() -> str:
    """One row a key."""
    rows = [f"| {key.replace('|', chr(92) + '|')} | {words} |" for key, words in KEYS.items()]
    return "\n".join(["| key | what it does |", "|---|---|", *rows])


if __name__ == "__main__":
    print(table())
