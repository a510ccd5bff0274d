import runpy


def test_settings_in_the_docs_are_those_of_the_config(repository):
    table = runpy.run_path(str(repository / "scripts" / "settings_table.py"))["table"]()
    text = (repository / "docs" / "data-format.md").read_text(encoding="utf-8")
    assert table in text, "run scripts/settings_table.py and put its table into docs/data-format.md"
