"""What a network says about a spread of slices."""

from types import SimpleNamespace

import numpy as np

from vqseg.evidence import MEASURED, EvidenceSurvey

SHAPE = (100, 8, 8)
UNCERTAINTY = np.ones(100, np.float32)


class Network:
    """Sees code z // 10 everywhere in slice z; a quarter of its draws disagree in one voxel."""

    has_codebook = True
    config = SimpleNamespace(model=SimpleNamespace(codebook_size=16))

    def __init__(self):
        self.shaken = []

    def codes(self, volume, slices):
        return np.full((1, 2, 2), slices[0] // 10)

    def preview(self, volume, z, *, epsilon, draws, seed):
        self.shaken.append(z)
        stability = np.ones(SHAPE[1:])
        stability[0, 0] = 0.75
        return SimpleNamespace(stability=stability)


def gather(predictor, used, predicted):
    volume = SimpleNamespace(shape=SHAPE, spacing_mm=(3.0, 2.0, 0.5))
    survey = EvidenceSurvey(predictor, volume, used, predicted, UNCERTAINTY)
    while not survey.finished:
        survey.advance()
    return survey.evidence


def test_predicted_slices_are_measured_and_labelled_ones_encoded():
    predicted = np.zeros(SHAPE, np.uint8)
    predicted[20:90, 2, 2] = 1
    network = Network()
    found = gather(network, [30, 60], predicted)
    assert len(found.flips_mm2) == MEASURED
    assert {min(found.flips_mm2), max(found.flips_mm2)} == {20, 89}
    assert set(found.flips_mm2.values()) == {0.25}  # a quarter of a voxel of 1 mm^2
    assert set(found.codes) == {*found.flips_mm2, 30, 60}
    assert found.codes[30].tolist() == [0, 0, 0, 4] + 12 * [0]
    gaps = np.diff(sorted(network.shaken[:6]))
    assert gaps.max() < 40, "the whole range is seen early"


def test_where_nothing_is_predicted_all_slices_may_be_measured():
    found = gather(Network(), [50], np.zeros(SHAPE, np.uint8))
    assert {min(found.flips_mm2), max(found.flips_mm2)} == {0, 99}


def test_without_a_codebook_the_uncertainty_is_all_there_is():
    network = Network()
    network.has_codebook = False
    found = gather(network, [50], np.zeros(SHAPE, np.uint8))
    assert (found.flips_mm2, found.codes) == ({}, {})
    assert found.uncertainty is UNCERTAINTY
