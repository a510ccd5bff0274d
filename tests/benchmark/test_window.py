"""The window's benchmark: refused where there is no Qt, measured in the real window otherwise."""

import argparse
import importlib.util
import json
import sys

import pytest

from vqseg.benchmark import window
from vqseg.display import on_a_display
from vqseg.errors import DeviceError


def run(*options: str) -> int:
    parser = argparse.ArgumentParser()
    window.add_arguments(parser)
    return window.run(parser.parse_args(list(options)))


def test_without_qt_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="No Qt is installed"):
        run()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="displays of other systems are always there")
def test_without_a_display_a_virtual_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    assert on_a_display(["program"]) == ["program"]
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert on_a_display(["program"])[0] == "/usr/bin/xvfb-run"
    assert on_a_display(["program"])[-1] == "program"
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DeviceError, match="xvfb"):
        on_a_display(["program"])


@pytest.mark.slow
@pytest.mark.window
def test_a_small_table(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert run("--shape", "24", "96", "96", "--budget", "6", "--output", str(file)) == 0
    text = capsys.readouterr().out
    figures = {item["what"]: item for item in json.loads(file.read_text())["figures"]}
    assert all(what in text for what in figures)
    assert all(item["value"] > 0 for item in figures.values())
    assert figures["scrolling through it"]["unit"] == "slices/s"
    assert "96 x 96 x 24 .nii.gz opens" in figures
