import argparse
import json

from vqseg.benchmark import speed


def options(file, *words):
    parser = argparse.ArgumentParser()
    speed.add_arguments(parser)
    return parser.parse_args(["--output", str(file), "--device", "cpu", "--steps", "1", *words])


def test_rows_are_kept_and_only_what_is_missing_is_measured(tmp_path, monkeypatch, capsys):
    small = {"size": 64, "patch": 32, "codebook_size": 64}
    items = [
        speed.Measurement("train", "a", small, shape=(8, 32, 32), n_classes=1, n_labelled=3),
        speed.Measurement("train", "b, plain", small, shape=(8, 32, 32), n_classes=1, n_labelled=3, plain=True),
        speed.Measurement("predict", "c", small, shape=(8, 32, 32), n_classes=1, n_labelled=3),
    ]
    monkeypatch.setattr(speed, "plan", lambda volume: items)
    file = tmp_path / "speed.jsonl"
    assert speed.run(options(file, "--only", "a")) == 0
    first = file.read_text().splitlines()
    assert len(first) == 2  # "a" is in "plain", too
    file.write_text(first[0] + "\n")
    assert speed.run(options(file)) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert file.read_text().startswith(first[0])
    assert [row["what"] for row in rows] == ["a", "b, plain", "c"]
    assert all(row["wall_s"] > 0 and row["cpu_s"] > 0 and row["device"] == "cpu" for row in rows)
    assert rows[0]["slices"] == 4 + 4 / 2
    assert capsys.readouterr().out.count("| train | a |") == 2


def test_the_plan_covers_presets_and_growth():
    names = [item.what for item in speed.plan((300, 512, 512))]
    assert {"preset fast", "preset paper", "K = 65536", "10 classes", "512 x 512 x 300"} <= set(names)
    assert len(set(names)) == len(names)
