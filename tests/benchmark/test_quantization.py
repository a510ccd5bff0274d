"""The speed table of search and QPM, tiny."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from vqseg.benchmark import quantization


def test_the_rivals_draw_from_the_same_distribution() -> None:
    codebook = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    indices = torch.full((20_000,), 2)
    shares = [
        torch.bincount(way(indices, codebook, 0.6, torch.Generator().manual_seed(1)), minlength=6) / 20_000
        for way in (quantization.substitute, quantization.loop_over_codes, quantization.whole_matrix)
    ]
    torch.testing.assert_close(shares[0], shares[1], atol=0.02, rtol=0)
    torch.testing.assert_close(shares[0], shares[2], atol=0.02, rtol=0)


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    quantization.add_arguments(parser)
    file = tmp_path / "rows.json"
    options = ["--codebook-size", "64", "--code-dims", "4", "8", "--tokens", "32", "--output", str(file)]
    assert quantization.run(parser.parse_args(options)) == 0
    text = capsys.readouterr().out
    assert text.count("| ours |") == 4
    assert text.count("| loop |") == 2
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 10
    assert all(row["wall_s"] >= 0 for row in rows)
