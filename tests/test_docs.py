"""The docs speak of what is there: settings, keys, buttons, commands, files."""

import ast
import re
import runpy
import shlex
from importlib import import_module

import pytest

from vqseg.cli import VERBS, _parser, main
from vqseg.cli.parser import Parser, config_from, parse_slices

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


def takes(command):
    """Whether the command line takes it: every flag, choice, type and setting; says why not on stderr."""
    words = shlex.split(command, comments=True)
    verb, *rest = words[words.index("vqseg") + 1 :]
    if "--help" in rest:
        return verb in {*VERBS, "VERB"}
    parser = _parser(verb)
    if verb == "benchmark":
        table, *rest = rest
        module = import_module(f"vqseg.benchmark.{table.replace('-', '_')}")
        parser = Parser(prog=f"vqseg benchmark {table}")
        module.add_arguments(parser)
        args = parser.parse_args(rest)
    else:
        args = parser.parse_args([verb, *rest])
    if hasattr(args, "preset") and hasattr(args, "settings"):
        config_from(args)
    if getattr(args, "slices", None) not in (None, "all", "LIST") and verb == "segment":
        parse_slices(args.slices)
    return True


def test_commands_in_the_docs_are_taken(pages):
    commands = [
        line.strip()
        for text in pages.values()
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if " vqseg " in f" {line} " and not line.startswith(("#", "pip"))
    ]
    assert len(commands) > 20
    for command in commands:
        assert takes(command), command


def test_flags_in_the_text_are_taken(pages, capsys):
    helps = {verb: main([verb, "--help"]) or capsys.readouterr().out for verb in VERBS}
    for path, text in pages.items():
        for verb, rest in re.findall(r"`vqseg ([a-z]+)([^`]*)`", text):
            assert verb in VERBS, f"{path.name}: vqseg {verb}"
            if verb != "benchmark":  # one of its tables has gone, which the text says
                assert set(re.findall(r"--[a-z-]+", rest)) <= {*re.findall(r"--[a-z-]+", helps[verb])}, path.name


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_examples_in_the_help_are_taken(verb):
    parser = _parser(verb)
    if verb is not None:
        [verbs] = (action for action in parser._actions if isinstance(action.choices, dict))
        parser = verbs.choices[verb]
    examples = parser.epilog.partition("examples:\n")[2]
    for line in re.sub(r"\\\n +", "", examples).splitlines():
        if "vqseg" in line:
            assert takes(re.split(r" {2,}", line.strip())[0]), line


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
