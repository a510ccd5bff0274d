"""``python -m napari_vqseg [PATH]``: napari with the plugin docked, and a volume, a project or the sample CT open."""

from __future__ import annotations

import argparse

import napari

from napari_vqseg.commands import open_window

__all__ = ["main"]


def main() -> None:
    """Open the window and stay until it is closed."""
    parser = argparse.ArgumentParser(prog="python -m napari_vqseg", description=__doc__)
    parser.add_argument("path", metavar="PATH", nargs="?", help="volume or project to open (default: the sample CT)")
    path = parser.parse_args().path
    viewer = napari.Viewer()
    session = open_window(viewer).session
    if path:
        session.open_volume(path)
    else:
        session.open_sample()
    napari.run()


if __name__ == "__main__":
    main()
