"""Reports on the codebook."""

import numpy as np
import pytest
import torch

from vqseg.codebook import codebook_report, substitutes, token_map, usage_report
from vqseg.config import ModelConfig
from vqseg.models.vqseg import VQSegNet


def test_usage_counts_every_token() -> None:
    report = usage_report([np.array([[0, 1], [1, 5]]), np.array([1])], 8)
    assert report.usage.tolist() == [1, 3, 0, 0, 0, 1, 0, 0]
    assert report.usage.dtype == np.int64
    assert report.dead == 5
    assert report.utilisation == pytest.approx(3 / 8)
    assert report.sorted_usage.tolist() == [3, 1, 1, 0, 0, 0, 0, 0]
    assert report.perplexity == pytest.approx(np.exp(-(0.6 * np.log(0.6) + 0.4 * np.log(0.2))))


def test_perplexity_is_k_where_usage_is_even_and_undefined_without_tokens() -> None:
    assert usage_report([np.arange(16)], 16).perplexity == pytest.approx(16)
    empty = usage_report([], 16)
    assert np.isnan(empty.perplexity)
    assert empty.utilisation == 0


def test_reports_of_a_network() -> None:
    torch.manual_seed(0)
    network = VQSegNet(ModelConfig(encoder="conv", codebook_size=32, code_dim=4), 1, 3).eval()
    x = torch.rand(2, 1, 40, 64)
    tokens = token_map(network, x)
    assert tokens.shape == (2, 3, 4)
    report = codebook_report(network, [x, x])
    assert report.usage.sum() == 48
    assert report.codebook_size == 32
    likely = substitutes(network, 3, 0.7, top=5)
    assert len(likely.codes) == 5
    assert (np.diff(likely.probabilities) <= 0).all()
    assert substitutes(network, 3, 0.2).codes[0] == 3
