"""QPM by its formula, and dropout, its rival."""

import math

import pytest
import torch
from torch import Tensor

from vqseg.models import perturbation
from vqseg.models.perturbation import (
    dropout,
    dropout_divergence,
    qpm_divergence,
    substitute,
    substitution_probabilities,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _codebook(size: int = 12, dim: int = 3) -> Tensor:
    return torch.randn(size, dim, generator=_generator(7))


def _formula(codebook: Tensor, epsilon: float) -> Tensor:
    """pi(j|i) as it stands in the paper, without any trick: (K, K)."""
    size = len(codebook)
    table = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size):
        similarity = [math.exp(-math.dist(codebook[i].tolist(), codebook[j].tolist())) for j in range(size)]
        total = sum(similarity) - similarity[i]
        for j in range(size):
            table[i, j] = 1 - epsilon if i == j else epsilon * similarity[j] / total
    return table


def test_the_worked_example_of_the_paper() -> None:
    """The nearest codeword holds 70 % of the mass: at eps = 0.7 it is picked with 0.49, and the code kept with 0.30."""
    near, far = -math.log(0.7), -math.log(0.3)
    codebook = torch.tensor([[0.0], [near], [-far]])
    codes, probabilities = substitution_probabilities(0, codebook, 0.7)
    assert codes.tolist() == [1, 0, 2]
    assert probabilities.tolist() == pytest.approx([0.49, 0.30, 0.21], abs=1e-6)
    drawn = substitute(torch.zeros(200_000, dtype=torch.int64), codebook, 0.7, _generator())
    shares = torch.bincount(drawn) / len(drawn)
    assert shares.tolist() == pytest.approx([0.30, 0.49, 0.21], abs=0.005)


@pytest.mark.parametrize("code", [0, 5, 11])
def test_probabilities_are_the_formula(code: int) -> None:
    codebook = _codebook()
    codes, probabilities = substitution_probabilities(code, codebook, 0.6)
    torch.testing.assert_close(probabilities, _formula(codebook, 0.6)[code, codes], rtol=1e-5, atol=0)
    assert probabilities.sum().item() == pytest.approx(1)
    assert len(substitution_probabilities(code, codebook, 0.6, top=4)[0]) == 4


@pytest.mark.parametrize("size", [12, 300])
def test_drawn_frequencies_pass_a_chi_square_test(size: int) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    codebook, epsilon, n = _codebook(size), 0.7, 100_000
    indices = torch.full((n,), 4)
    observed = torch.bincount(substitute(indices, codebook, epsilon, _generator(1)), minlength=size)
    expected = _formula(codebook, epsilon)[4] * n
    common = expected > 5
    pairs = [(observed[common], expected[common]), (observed[~common].sum()[None], expected[~common].sum()[None])]
    seen = torch.cat([a for a, b in pairs if b.sum() > 0]).numpy()
    due = torch.cat([b for _, b in pairs if b.sum() > 0]).numpy()
    assert scipy_stats.chisquare(seen, due).pvalue > 1e-3


def test_several_blocks_and_chunks_draw_from_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = _codebook(300)
    indices = torch.randint(300, (40, 50), generator=_generator(2))
    whole = substitute(indices, codebook, 0.8, _generator(3))
    monkeypatch.setattr(perturbation, "rows_at_once", lambda codebook: 7)
    assert torch.equal(substitute(indices, codebook, 0.8, _generator(3)), whole)


def test_epsilon_zero_changes_nothing_and_one_keeps_nothing() -> None:
    codebook = _codebook(300)
    indices = torch.randint(300, (2, 64, 64), generator=_generator())
    assert torch.equal(substitute(indices, codebook, 0.0, _generator()), indices)
    changed = substitute(indices, codebook, 1.0, _generator())
    assert (changed != indices).all()
    assert changed.shape == indices.shape
    assert changed.min() >= 0
    assert changed.max() < 300


def test_the_code_itself_is_never_drawn_even_where_it_has_a_twin() -> None:
    codebook = torch.zeros(4, 2)
    codebook[2:] = 50.0
    changed = substitute(torch.zeros(5000, dtype=torch.int64), codebook, 1.0, _generator())
    assert (changed == 1).all()


def test_far_codewords_do_not_underflow() -> None:
    codebook = torch.tensor([[0.0], [1000.0], [3000.0]])
    assert (substitute(torch.zeros(100, dtype=torch.int64), codebook, 1.0, _generator()) == 1).all()


def test_a_seed_gives_the_same_codes_again() -> None:
    codebook, indices = _codebook(), torch.arange(12).repeat(20)
    first, second, other = (substitute(indices, codebook, 0.7, _generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_dropout_keeps_the_mean() -> None:
    features = torch.ones(64, 128, 4, 4)
    dropped = dropout(features, 0.3, _generator())
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert dropout(features, 1.0, _generator()).sum() == 0
    assert torch.equal(dropout(features, 0.0, _generator()), features)


def test_dropout_diverges_and_qpm_is_bounded() -> None:
    assert dropout_divergence(0.0) == 0
    assert dropout_divergence(0.5) == pytest.approx(0.5 * (1 + math.log(0.5)))
    assert dropout_divergence(1.0) == math.inf
    codebook, epsilons = _codebook(), [0.0, 0.3, 0.7, 1.0]
    usage = torch.rand(12, generator=_generator())
    divergences, bound = qpm_divergence(codebook, epsilons, usage)
    before = (usage / usage.sum()).double()
    for epsilon, divergence in zip(epsilons, divergences, strict=True):
        after = before @ _formula(codebook, epsilon)
        assert divergence == pytest.approx((before * (before / after).log()).sum().item(), abs=1e-6)
        assert divergence <= epsilon * bound + 1e-9
    assert divergences[-1] == bound < math.inf
