import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from vqseg.benchmark import acdc
from vqseg.benchmark.cohort_training import CohortRun
from vqseg.errors import PriorError
from vqseg.models import priors


def make(folder, variant, iterations=3):
    cohort = acdc.load_cohort(folder, "1")
    return CohortRun(
        variant, cohort, 4, seed=0, iterations=iterations, batch=2, size=32, device=torch.device("cpu")
    )  # fmt: skip


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A file of random weights for a prior of one block."""
    spec = priors.PRIORS["dinov2"]
    shallow = dataclasses.replace(spec, options={**spec.options, "depth": 1})
    monkeypatch.setitem(priors.PRIORS, "dinov2", shallow)
    torch.manual_seed(0)
    save_file(shallow.build().state_dict(), tmp_path / "dinov2.safetensors")
    return tmp_path / "dinov2.safetensors"


def test_the_adapter_learns_from_the_prior(acdc_folder, weights):
    run = make(acdc_folder, f"vq-seg:codebook_size=64:code_dim=8:prior=dinov2:prior_path={weights}")
    before = run.method.adapter.project.weight.detach().clone()
    assert run.step()["alignment"] > 0
    assert not torch.equal(run.method.adapter.project.weight, before)
    assert not any(parameter.requires_grad for parameter in run.priors.parameters())
    prior_x = run._batch().prior_x
    assert prior_x.shape == (2, sum(run.priors.dims), 2, 2)


def test_the_adapters_row_goes_on_exactly(acdc_folder, weights, tmp_path):
    variant = f"vq-seg:codebook_size=64:code_dim=8:prior=dinov2:prior_path={weights}"
    whole, first, second = (make(acdc_folder, variant) for _ in range(3))
    losses = [whole.step() for _ in range(3)]
    assert first.step() == losses[0]
    first.save(tmp_path / "state.pt")
    second.load(tmp_path / "state.pt")
    assert [second.step(), second.step()] == losses[1:]


def test_a_prior_that_is_asked_for_is_required(acdc_folder, tmp_path):
    with pytest.raises(PriorError, match="no weights file"):
        make(acdc_folder, f"vq-seg:prior=dinov2:prior_path={tmp_path / 'absent.pth'}")


def test_all_slices_count_for_the_codebooks_use(acdc_folder):
    run = make(acdc_folder, "vq-seg:codebook_size=64:code_dim=8")
    run.step()
    report = run.codebook_report()
    assert report.usage.sum() == 4 * 2 * 2 * 2  # patients, slices, tokens
    assert make(acdc_folder, "supervised").codebook_report() is None


def test_bcp_keeps_its_learning_rate(acdc_folder):
    rates = {}
    for name in ("bcp", "unimatch"):
        run = make(acdc_folder, name)
        run.step()
        run.step()
        rates[name] = run.optimizer.param_groups[0]["lr"]
    assert rates["bcp"] == 0.01
    assert rates["unimatch"] == pytest.approx(0.01 * (2 / 3) ** 0.9)


def test_a_row_can_do_without_the_unlabelled_slices(acdc_folder):
    settings = "codebook_size=64:code_dim=8:unlabelled_from=0"
    with_them, without = (
        make(acdc_folder, f"vq-seg:{settings}:use_unlabelled={use}") for use in ("true", "false")
    )  # fmt: skip
    assert "unlabelled" in with_them.step() and "unlabelled" not in without.step()
