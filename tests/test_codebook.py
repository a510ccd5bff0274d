"""Reports on the codebook."""

import numpy as np
import pytest
import torch

from vqseg.annotations import Annotations
from vqseg.codebook import codebook_report, substitutes, usage_report
from vqseg.config import ModelConfig, preset
from vqseg.data import TrainingCase
from vqseg.errors import ConfigError
from vqseg.models.vqseg import VQSegNet
from vqseg.predict import Predictor
from vqseg.train import Trainer
from vqseg.volume import StoredLayout, Volume


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


def test_likely_substitutes_are_sorted() -> None:
    torch.manual_seed(0)
    network = VQSegNet(ModelConfig(encoder="conv", codebook_size=32, code_dim=4), 1, 3).eval()
    likely = substitutes(network, 3, 0.7, top=5)
    assert len(likely.codes) == 5
    assert (np.diff(likely.probabilities) <= 0).all()
    assert substitutes(network, 3, 0.2).codes[0] == 3


@pytest.fixture
def volume() -> Volume:
    array = np.random.default_rng(0).normal(size=(5, 40, 64)).astype(np.float32)
    return Volume(array, StoredLayout((64, 40, 5), np.diag([-1.0, -1.0, 2.0, 1.0])))


def trained(volume: Volume, method: str) -> Predictor:
    labels = np.zeros(volume.shape, np.uint8)
    labels[:, 10:20, 10:30] = 1
    config = preset("fast", method=method, codebook_size=32, size=64, time_budget_s=0.0, iterations=1)
    trainer = Trainer(config, [TrainingCase(volume, Annotations.from_slices(labels, [1, 3]))], {1: "box"})
    trainer.step()
    return trainer.predictor()


def test_report_counts_the_codes_of_every_slice(volume: Volume) -> None:
    predictor = trained(volume, "vq-seg")
    report = codebook_report(predictor, volume)
    assert report.codebook_size == 32
    assert report.usage.sum() == predictor.codes(volume, list(range(5))).size


def test_methods_without_a_codebook_say_so(volume: Volume) -> None:
    with pytest.raises(ConfigError, match="no codebook"):
        codebook_report(trained(volume, "supervised"), volume)
