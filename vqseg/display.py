"""A display for programs that draw a window, where there is none: a virtual one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from vqseg.errors import DeviceError

__all__ = ["on_a_display"]


def on_a_display(command: Sequence[str]) -> list[str]:
    """The command, on a virtual display where there is no real one.

    Raises
    ------
    DeviceError
        Without a display and without xvfb-run.
    """
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return list(command)
    virtual_display = shutil.which("xvfb-run")
    if virtual_display is None:
        raise DeviceError("There is no display here, and no virtual one: install xvfb, or run this at a screen.")
    return [virtual_display, "-a", "-s", "-screen 0 1600x1000x24", *command]
