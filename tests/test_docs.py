"""The docs speak of what is there: settings, keys, buttons, commands, files."""

import ast
import re
import runpy
import shlex

import pytest

from vqseg.cli import VERBS, main

PAGES = ["README.md", "SECURITY.md", "docs/*.md", "docs/guide/*.md"]
QUESTIONS_OF_OTHERS = 29


@pytest.fixture(scope="module")
def pages(repository):
    return {path: path.read_text(encoding="utf-8") for pattern in PAGES for path in sorted(repository.glob(pattern))}


def test_settings_in_the_docs_are_those_of_the_config(repository):
    table = runpy.run_path(str(repository / "scripts" / "settings_table.py"))["table"]()
    text = (repository / "docs" / "data-format.md").read_text(encoding="utf-8")
    assert table in text, "run scripts/settings_table.py and put its table into docs/data-format.md"


def test_keys_in_the_docs_are_those_of_the_window(repository):
    table = runpy.run_path(str(repository / "scripts" / "keys_table.py"))["table"]()
    text = (repository / "docs" / "guide" / "keys.md").read_text(encoding="utf-8")
    assert table in text, "run scripts/keys_table.py and put its table into docs/guide/keys.md"


def test_what_is_bold_in_the_guide_is_on_the_screen(repository, pages):
    window = repository / "napari_vqseg"
    sources = [*(window / "panels").glob("*.py"), window / "widget.py", window / "napari.yaml"]
    screen = "\n".join(path.read_text(encoding="utf-8") for path in sources).casefold()
    for path, text in pages.items():
        if path.parent.name == "guide" or path.name == "tutorial.md":
            for words in re.findall(r"\*\*([^*]+)\*\*", text):
                if words[0].isupper() and len(words) > 1 and len(words.split()) < 6:
                    assert words.rstrip(".").casefold() in screen, f"{path.name} speaks of {words!r}"


def test_commands_in_the_docs_are_taken(pages, capsys):
    helps = {}
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        helps[verb] = capsys.readouterr().out
    commands = [
        (path.name, line.strip())
        for path, text in pages.items()
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if " vqseg " in f" {line} " and not line.startswith(("#", "pip"))
    ]
    assert len(commands) > 8
    for page, command in commands:
        words = shlex.split(command, comments=True)
        verb, *rest = words[words.index("vqseg") + 1 :]
        assert verb in VERBS, f"{page}: {command}"
        if verb != "benchmark":  # its tables have options of their own, see tests/benchmark
            for flag in (word for word in rest if word.startswith("--")):
                assert flag in helps[verb], f"{page}: {command}"


def test_links_and_pictures_lead_somewhere(pages):
    for path, text in pages.items():
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
        for target, place in re.findall(r"\]\((?!https?:)([^)#\s]+)#([^)\s]+)\)", text):
            headings = re.findall(r"^#+ (.+)$", (path.parent / target).read_text(encoding="utf-8"), re.MULTILINE)
            assert place in {heading.lower().replace(" ", "-") for heading in headings}, f"{path.name}: #{place}"


def test_every_complaint_has_its_answer(repository):
    text = (repository / "docs" / "faq.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\*\*.+\*\* \(\S+#\d+", text, re.MULTILINE)) == QUESTIONS_OF_OTHERS


def names_in(source):
    """Functions, classes, their methods (as Class.method) and constants of a module."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {ast.unparse(target) for target in targets}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{item.name}" for item in ast.walk(node) if isinstance(item, ast.FunctionDef)}
    return found


def test_every_equation_is_where_the_docs_say(repository):
    text = (repository / "docs" / "method.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 12
    for row in rows:
        places = re.findall(r"`(vqseg/\S+\.py): ([^`]+)`", row)
        assert places, f"no place in {row}"
        for path, names in places:
            missing = set(names.split(", ")) - names_in((repository / path).read_text(encoding="utf-8"))
            assert not missing, f"{path} has no {', '.join(missing)}"


def test_every_file_that_the_method_names_is_there(repository):
    text = (repository / "docs" / "method.md").read_text(encoding="utf-8")
    for path in re.findall(r"`(vqseg/[\w/]+\.py)", text):
        assert (repository / path).is_file(), path
