import ast
import re
import runpy


def test_settings_in_the_docs_are_those_of_the_config(repository):
    table = runpy.run_path(str(repository / "scripts" / "settings_table.py"))["table"]()
    text = (repository / "docs" / "data-format.md").read_text(encoding="utf-8")
    assert table in text, "run scripts/settings_table.py and put its table into docs/data-format.md"


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
