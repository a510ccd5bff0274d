import json

import pytest

from vqseg.benchmark import ablations
from vqseg.errors import ConfigError

pytest.importorskip("matplotlib")


def options(data, output, **extra):
    given = {
        "data": data, "output": output, "labelled": 1, "seeds": 0, "iterations": 2, "batch": 2, "size": 32,
        "device": "cpu", "prior": "none", **extra,
    }  # fmt: skip
    return [item for name, value in given.items() for item in (f"--{name.replace('_', '-')}", value)]


def test_rows_that_sweeps_share_have_one_name(parse, tmp_path):
    args = parse(ablations, *options(tmp_path, tmp_path, prior="mae", prior_path="mae.pth"))
    rows = ablations.sections(args)
    assert list(rows) == ["Parts", "Strength of the perturbation", "Size of the codebook"]
    assert list(rows["Parts"]) == ["labelled only", "base", "+ QPM", "+ dual branch", "+ adapter"]
    assert rows["Parts"]["+ adapter"] == "vq-seg:prior=mae:prior_path=mae.pth"
    assert len(rows["Strength of the perturbation"]) == 18
    assert rows["Strength of the perturbation"]["dropout, p 0.9"] == "vq-seg:perturbation=dropout:epsilon=0.9"
    shared = {rows["Parts"]["+ dual branch"], rows["Strength of the perturbation"]["QPM, epsilon 0.7"],
              rows["Size of the codebook"]["K = 16384"]}  # fmt: skip
    assert shared == {"vq-seg"}
    with pytest.raises(ConfigError, match="Unknown sweep speed"):
        ablations.sections(parse(ablations, *options(tmp_path, tmp_path, sweeps="parts,speed")))


def test_one_command_makes_tables_and_figure(acdc_folder, tmp_path, parse, capsys):
    flags = options(acdc_folder, tmp_path / "out", strengths="0.3,0.7", codebook_sizes="64,16384")
    assert ablations.run(parse(ablations, *flags)) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert len(rows) == len({row["method"] for row in rows}) == 8  # 4 parts + 4 strengths + 2 sizes, two shared
    assert all(0 < row["utilisation"] <= 1 for row in rows)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.count("### ") == 3
    assert "| + QPM (`vq-seg:image_branch=false`) | 2 |" in table
    assert "published" not in table.split("Shortened")[1].split("\n", 1)[1]
    assert (tmp_path / "out" / "divergence.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_is_made_of_the_base_row(acdc_folder, tmp_path, parse, capsys):
    flags = options(acdc_folder, tmp_path / "out", sweeps="parts")
    assert ablations.run(parse(ablations, *flags)) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert ["divergence" in row for row in rows] == [False, True, False, False]
