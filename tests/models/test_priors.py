"""Priors, loaded from files made here: random weights under each publisher's key layout."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vqseg.config import ModelConfig
from vqseg.errors import ConfigError, PriorError
from vqseg.models import priors
from vqseg.models.priors import PRIORS, Prior, PriorWarning, load_prior, load_priors, load_weights


@pytest.fixture(autouse=True)
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block instead of twelve: the same keys, a twelfth of the time."""
    for name, spec in PRIORS.items():
        shallow = dataclasses.replace(spec, options={**spec.options, "depth": 1})
        monkeypatch.setitem(priors.PRIORS, name, shallow)


def _state(name: str, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {key: torch.randn_like(value) * 0.02 for key, value in PRIORS[name].build().state_dict().items()}


def _to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names to those of transformers' Dinov2Model, written independently of the code under test."""
    out = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": torch.zeros(1, 768),
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    for kind in ("weight", "bias"):
        query, key, value = state[f"blocks.0.attn.qkv.{kind}"].chunk(3)
        for name, part in (("query", query), ("key", key), ("value", value)):
            out[f"encoder.layer.0.attention.attention.{name}.{kind}"] = part.clone()
        out[f"encoder.layer.0.attention.output.dense.{kind}"] = state[f"blocks.0.attn.proj.{kind}"]
        for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
            out[f"encoder.layer.0.{name}.{kind}"] = state[f"blocks.0.{name}.{kind}"]
    out["encoder.layer.0.layer_scale1.lambda1"] = state["blocks.0.ls1.gamma"]
    out["encoder.layer.0.layer_scale2.lambda1"] = state["blocks.0.ls2.gamma"]
    return out


def _published(name: str, state: dict[str, Tensor]) -> dict[str, Any]:
    """The state as the model's publisher lays it out."""
    if name == "dinov2":
        return {**state, "mask_token": torch.zeros(1, 384)}
    if name == "biomedclip":
        trunk = {f"visual.trunk.{key}": value for key, value in state.items()}
        return {**trunk, "visual.head.proj.weight": torch.zeros(512, 768), "logit_scale": torch.zeros(())}
    if name == "mae":
        return {"model": state}
    if name == "rad-dino":
        return _to_transformers(state)
    return {**state, "head.weight": torch.zeros(512, 768), "head.bias": torch.zeros(512)}


@pytest.mark.parametrize("name", sorted(PRIORS))
def test_each_publishers_file_loads_and_gives_patch_features(name: str, tmp_path: Path) -> None:
    state = _state(name)
    file = tmp_path / "weights.pth"
    torch.save(_published(name, state), file)
    weights = load_weights(name, file)
    assert set(weights) == set(state)
    for key, value in weights.items():
        assert torch.equal(value, state[key])
    prior = load_prior(name, file)
    assert prior is not None
    features = prior.features(torch.rand(2, 1, 64, 50))
    assert features.shape == (2, prior.dim, *prior.grid((64, 50)))
    assert features.isfinite().all()
    assert prior.grid((64, 50)) == (round(64 / prior.patch), round(50 / prior.patch))


def test_safetensors_load_too(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(_to_transformers(_state("rad-dino")), file)
    assert load_prior("rad-dino", file) is not None


def test_a_prior_is_frozen_and_normalises_as_its_publisher_does() -> None:
    spec = PRIORS["dinov2"]
    prior = Prior(spec, spec.build())
    prior.train()
    assert not prior.training
    assert not any(p.requires_grad for p in prior.parameters())
    assert prior.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    seen: list[Tensor] = []
    prior.vit.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    prior.features(torch.ones(1, 1, 28, 28))
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx(
        [(1 - m) / s for m, s in zip(spec.mean, spec.std, strict=True)]
    )


def test_no_prior_is_none() -> None:
    assert load_priors(ModelConfig()) is None


def test_files_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    state = _state("dinov2")
    del state["norm.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(PriorError, match=r"norm\.weight"):
        load_prior("dinov2", tmp_path / "short.pth")
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    torch.save([1, 2], tmp_path / "list.pth")
    for file in ("broken.pth", "broken.safetensors", "list.pth", "absent.pth"):
        with pytest.raises(PriorError, match=file):
            load_prior("dinov2", tmp_path / file)
    with pytest.raises(PriorError, match="choose one of"):
        load_prior("resnet")


def test_a_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": print}, tmp_path / "evil.pth")
    with pytest.raises(PriorError, match="cannot be read") as refused:
        load_prior("dinov2", tmp_path / "evil.pth")
    said = str(refused.value)
    assert "could be a program" in said
    assert said.count("\n") == said.count("\x1b") == said.count("weights_only") == 0, "our sentence, not torch's page"


def test_out_of_reach_required_stops_and_auto_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("vqseg.models.weight_files._reachable", lambda endpoint: False)
    with pytest.raises(PriorError, match="prior_path"):
        load_prior("dinov2", policy="required")
    with pytest.warns(PriorWarning, match="without alignment to it"):
        assert load_prior("dinov2", policy="auto") is None


def test_several_priors_stand_side_by_side(tmp_path: Path) -> None:
    save_file(_state("dinov2"), tmp_path / "dinov2.safetensors")
    torch.save(_to_transformers(_state("rad-dino")), tmp_path / "rad-dino.bin")
    save_file(_state("mae"), tmp_path / "mae.safetensors")
    together = load_priors(ModelConfig(prior="dinov2+mae+rad-dino", prior_path=str(tmp_path)))
    assert together is not None
    assert together.dims == [384, 768, 768]
    x = torch.rand(2, 1, 70, 56)
    features = together.features(x)
    assert features.shape == (2, 1920, 5, 4), "on the grid of the first"
    for name, part in (("dinov2", features[:, :384]), ("rad-dino", features[:, -768:])):
        alone = load_prior(name, tmp_path)
        assert alone is not None
        torch.testing.assert_close(part, alone.features(x))


def test_a_folder_must_hold_a_file_for_each_prior(tmp_path: Path) -> None:
    save_file(_state("dinov2"), tmp_path / "dinov2.safetensors")
    both = ModelConfig(prior="dinov2+mae", prior_path=str(tmp_path), prior_policy="required")
    with pytest.raises(PriorError, match=r"holds 0 weights files of mae; put one there: mae\.safetensors or"):
        load_priors(both)
    with pytest.warns(PriorWarning, match="without alignment to it"):
        left = load_priors(ModelConfig(prior="dinov2+mae", prior_path=str(tmp_path)))
    assert left is not None
    assert left.dims == [384]
    with pytest.raises(PriorError, match="one file, but there are 2 priors; give a folder"):
        load_priors(ModelConfig(prior="dinov2+mae", prior_path=str(tmp_path / "dinov2.safetensors")))


@pytest.mark.parametrize("text", ["", "resnet", "dinov2+none", "dinov2+dinov2", "dinov2,mae", "dinov2+"])
def test_other_combinations_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="choose none, or one or more of dinov2, clip"):
        ModelConfig(prior=text)
