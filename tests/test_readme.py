"""The README's examples run, on a smaller phantom and for a second or two."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vqseg.cli import main

SMALLER = {
    "demo": ["--size", "58", "64", "64", "--time-budget", "2", "--no-window", "--quiet"],
    "segment": ["--time-budget", "2", "--set", "size=64", "--set", "encoder=conv", "--quiet"],
}


def blocks(repository: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (repository / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_the_examples_run_one_after_the_other(repository, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks(repository, "sh") for line in block.splitlines() if line.startswith("vqseg ")]
    assert [shlex.split(command)[1] for command in commands] == ["demo", "segment", "evaluate", "info"]
    for command in commands:
        words = shlex.split(command)[1:]
        assert main([*words, *SMALLER.get(words[0], [])]) == 0, f"{command}\n{capsys.readouterr().err}"
    assert Path("whole.nii.gz").is_file()

    [example] = blocks(repository, "python")
    Path("whole.nii.gz").unlink()
    budget = "time_budget_s=60"
    assert budget in example
    exec(compile(example.replace(budget, "time_budget_s=2, size=64, encoder='conv'"), "README.md", "exec"), {})
    assert Path("whole.nii.gz").is_file()
    assert "Dice" in capsys.readouterr().out


def test_the_two_commands_are_the_makefiles(repository):
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    commands = [line.split("#")[0].strip() for line in blocks(repository, "sh")[0].splitlines()]
    assert commands == ["make run", "make test"]
    for command in commands:
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)
    assert "make test" in (repository / ".ci" / "run").read_text(encoding="utf-8")


def test_links_lead_somewhere(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (repository / target).exists(), target


def test_what_it_is_not(repository):
    assert "not a medical device" in (repository / "README.md").read_text(encoding="utf-8")
