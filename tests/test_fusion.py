"""The network and the interpolated shape, weighed against each other."""

import numpy as np
import pytest
import torch

from vqseg.data.shape_prior import ShapePrior
from vqseg.fusion import fuse


@pytest.fixture
def shape():
    labels = np.zeros((32, 32), np.uint8)
    labels[8:24, 8:24] = 1
    labels[2:6, 2:6] = 2
    return ShapePrior({0: labels, 20: labels}, n_classes=2, spacing_mm=(5.0, 1.0, 1.0), size=(32, 32))


def logits_for(value):
    logits = torch.zeros(3, 32, 32)
    logits[value] = 8.0
    return logits


def test_probabilities_sum_to_one_with_and_without_trust(shape):
    for fit in (None, torch.tensor([1.0, 0.7, 0.2])):
        total = fuse(torch.randn(3, 32, 32), shape, shape.at(3), fit).exp().sum(0)
        torch.testing.assert_close(total, torch.ones_like(total))


def test_near_the_labels_geometry_outvotes_a_hesitant_network_and_far_from_them_it_does_not(shape):
    logits = logits_for(0) / 10
    near, far = (fuse(logits, shape, shape.at(z)).argmax(0) for z in (1, 10))
    assert near[16, 16] == 1
    assert far[16, 16] == 0


def test_a_class_that_is_not_learned_is_left_to_geometry_and_the_others_are_not(shape):
    found = fuse(logits_for(1), shape, shape.at(10), torch.tensor([0.0, 1.0, 0.0])).argmax(0)
    assert found[4, 4] == 2
    assert found[30, 30] == 1


def test_the_edge_of_a_class_that_is_not_learned_lies_where_interpolation_puts_it(shape):
    evidence = shape.at(10)
    found = fuse(logits_for(0), shape, evidence, torch.tensor([1.0, 0.0, 1.0])).exp()
    torch.testing.assert_close(found[1], shape.log_odds(evidence)[0].sigmoid(), atol=2e-3, rtol=0)


def test_what_is_claimed_for_a_class_that_is_not_learned_is_not_believed_far_from_its_shape(shape):
    found = fuse(logits_for(2), shape, shape.at(1), torch.tensor([1.0, 1.0, 0.0])).argmax(0)
    assert found[30, 30] == 0
