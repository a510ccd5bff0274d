"""What the codebook of a network holds."""

import copy

import numpy as np
import pytest
import torch

from vqseg.annotations import Annotations
from vqseg.codebook import CodeDrift, codeword, decode_codes, substitutes, survey_codebook, usage_report
from vqseg.config import preset
from vqseg.data import TrainingCase
from vqseg.errors import ConfigError
from vqseg.predict import Predictor
from vqseg.train import Trainer
from vqseg.volume import StoredLayout, Volume

SIZE = 32


def test_usage_counts_every_token() -> None:
    report = usage_report([np.array([[0, 1], [1, 5]]), np.array([1])], 8)
    assert report.usage.tolist() == [1, 3, 0, 0, 0, 1, 0, 0]
    assert report.usage.dtype == np.int64


@pytest.fixture(scope="module")
def volume() -> Volume:
    array = np.random.default_rng(0).normal(size=(5, 41, 64)).astype(np.float32)
    array[:, 10:20, 10:30] += 200
    return Volume(array, StoredLayout((64, 41, 5), np.diag([-1.0, -1.0, 2.0, 1.0])))


def labels_of(volume: Volume) -> np.ndarray:
    labels = np.zeros(volume.shape, np.uint8)
    labels[:, 10:20, 10:30] = 1
    return labels


def trained(volume: Volume, **settings: object) -> Predictor:
    config = preset("fast", codebook_size=SIZE, size=64, time_budget_s=0.0, iterations=1, **settings)
    trainer = Trainer(config, [TrainingCase(volume, Annotations.from_slices(labels_of(volume), [1, 3]))], {1: "box"})
    trainer.step()
    return trainer.predictor()


@pytest.fixture(scope="module")
def predictor(volume: Volume) -> Predictor:
    """A network hardly trained, its codewords put where this volume's tokens are."""
    predictor = trained(volume)
    images = predictor.prepare(volume).input(range(5))
    with torch.no_grad():
        tokens = predictor.codebook_network.encode(images).projected
        predictor.codebook_network.quantizer.initialise(tokens.permute(0, 2, 3, 1).flatten(0, 2))
    return predictor


def test_drift_is_the_share_of_tokens_whose_code_has_changed(predictor: Predictor, volume: Volume) -> None:
    network = copy.deepcopy(predictor.codebook_network)
    drift = CodeDrift(predictor.prepare(volume))
    drift.look(network)
    assert drift.share is None
    drift.look(network)
    assert drift.share == 0
    network.quantizer.base.copy_(network.quantizer.base.flip(0))
    drift.look(network)
    assert drift.share == 1  # there is an even number of codewords


def test_a_survey_holds_every_token_and_every_voxel_under_it(predictor: Predictor, volume: Volume) -> None:
    told: list[float] = []
    labels = labels_of(volume)
    found = survey_codebook(predictor, volume, labels, history=[(1, 0.5, 3.0, 2, None)], on_progress=told.append)
    np.testing.assert_array_equal(found.codes, predictor.codes(volume, list(range(5))))
    assert found.codes.shape[1:] == found.grid.shape_yx
    assert found.report.codebook_size == SIZE
    y0, y1, x0, x1 = found.grid.box
    assert found.class_voxels.sum() == 5 * (y1 - y0) * (x1 - x0)
    assert found.class_voxels[:, 1].sum() == labels[:, y0:y1, x0:x1].sum()
    assert told[-1] == 1
    np.testing.assert_array_equal(found.history, [[1, 0.5, 3, 2, np.nan]])

    code = int(found.codes[2, 0, 0])
    under = np.stack([found.grid.on_voxels(found.codes[z]) == code for z in range(5)])
    values = np.asarray(volume.array)[:, y0:y1, x0:x1][under]
    assert found.hu_mean[code] == pytest.approx(values.mean(), rel=1e-3)
    assert found.hu_sd[code] == pytest.approx(values.std(), rel=1e-3)


def test_the_map_shows_the_principal_plane_of_the_used_codewords(predictor: Predictor, volume: Volume) -> None:
    found = survey_codebook(predictor, volume, labels_of(volume))
    used = found.report.usage > 0
    assert used.sum() > 3
    assert np.isnan(found.places[~used]).all()
    codewords = predictor.codebook_network.quantizer.codebook.detach().double()[torch.as_tensor(used)]
    centred = codewords - codewords.mean(0)
    variances = torch.linalg.svdvals(centred).square()
    np.testing.assert_allclose((found.places[used] ** 2).sum(0), variances[:2].numpy(), rtol=1e-4)
    assert found.explained == pytest.approx(float(variances[:2].sum() / variances.sum()))


def test_a_codeword_shows_itself_and_its_likely_substitutes(predictor: Predictor) -> None:
    found = codeword(predictor, 3, top=5)
    assert found.code == 3
    assert 3 not in found.substitutes.codes
    assert (np.diff(found.substitutes.shares) <= 0).all()
    assert found.decoded_hu.shape == (6, 16, 16)
    quantizer = predictor.codebook_network.quantizer
    nearest = (quantizer.codebook - quantizer.codebook[3]).norm(dim=1)
    assert found.substitutes.codes[0] == int(nearest.argsort()[1])
    alone = decode_codes(predictor, [int(found.substitutes.codes[0])])[0]
    np.testing.assert_allclose(found.decoded_hu[1], alone, atol=1e-3)
    everything = substitutes(quantizer, 3, SIZE)
    assert len(everything.codes) == SIZE - 1
    assert everything.shares.sum() == pytest.approx(1)


def test_without_an_image_decoder_there_is_nothing_to_look_at(volume: Volume) -> None:
    assert codeword(trained(volume, image_branch=False), 0).decoded_hu.shape == (8, 0, 0)


def test_methods_without_a_codebook_say_so(volume: Volume) -> None:
    with pytest.raises(ConfigError, match="no codebook"):
        survey_codebook(trained(volume, method="supervised"), volume, labels_of(volume))
