"""The wiring: any input size, perturbation, blend, determinism, learning."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vqseg.config import ModelConfig
from vqseg.errors import ConfigError
from vqseg.models.ema import make_teacher, update_ema
from vqseg.models.vqseg import VQSegNet


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _network(**settings: object) -> VQSegNet:
    torch.manual_seed(0)
    config = ModelConfig(**{"encoder": "conv", "codebook_size": 32, "code_dim": 4, **settings})  # type: ignore[arg-type]
    return VQSegNet(config, 3, 4, pretrained=False)


def _slices(height: int = 48, width: int = 32) -> Tensor:
    return torch.rand(2, 3, height, width, generator=_generator(5))


@pytest.mark.parametrize("encoder", ["conv", "efficientnet-lite0", "dinov2"])
@pytest.mark.parametrize("size", [(48, 32), (37, 50), (5, 3)])
def test_outputs_have_the_size_of_the_input(encoder: str, size: tuple[int, int]) -> None:
    network = _network(encoder=encoder).eval()
    with torch.no_grad():
        out = network(_slices(*size))
        assert out.logits.shape == (2, 4, *size)
        assert network.reconstruct(out.encoded).shape == (2, 1, *size)
        assert out.indices.shape == (2, *(-(-side // network.stride) for side in size))
        assert out.quantized.shape[1] == out.encoded.z.shape[1]
        assert out.commitment_loss.ndim == 0


def test_the_quantizer_can_sit_higher() -> None:
    network = _network(stride=8, code_scale=2.0)
    assert network.stride == 8
    assert network.quantizer.scale == 2.0
    assert network(_slices()).indices.shape == (2, 6, 4)
    with pytest.raises(ConfigError, match="at 14 px"):
        VQSegNet(ModelConfig(encoder="dinov2", stride=8), 3, 4, pretrained=False)


def test_without_its_image_branch_the_network_cannot_reconstruct() -> None:
    network = _network(image_branch=False)
    with pytest.raises(RuntimeError, match="image_branch"):
        network.reconstruct(network.encode(_slices()))


def test_perturbation_changes_the_features_only_where_asked() -> None:
    network = _network()
    encoded = network.encode(_slices())
    assert torch.equal(network.perturb(encoded, 0.7, _generator(), "none"), encoded.quantized)
    torch.testing.assert_close(network.perturb(encoded, 0.0, _generator(), "qpm"), encoded.quantized)
    for kind in ("qpm", "dropout"):
        changed = network.perturb(encoded, 0.7, _generator(), kind)  # type: ignore[arg-type]
        again = network.perturb(encoded, 0.7, _generator(), kind)  # type: ignore[arg-type]
        assert torch.equal(changed, again)
        assert not torch.equal(changed, encoded.quantized)
        assert network.decode(encoded, changed).shape == (2, 4, 48, 32)
    assert torch.equal(network.perturb(encoded, 0.7, _generator()), network.perturb(encoded, 0.7, _generator(), "qpm"))


def test_blend_is_stored_with_the_weights_and_shared_with_the_teacher() -> None:
    student = _network()
    student(_slices())
    teacher = make_teacher(student)
    assert isinstance(teacher, VQSegNet)
    for network in (student, teacher):
        network.set_blend(0.25)
    update_ema(teacher, student, 0.5)
    assert teacher.blend.item() == 0.25
    student.eval()
    a = student(_slices()).quantized
    student.set_blend(1.0)
    assert not torch.equal(a, student(_slices()).quantized)
    fresh = _network()
    fresh.load_state_dict(teacher.state_dict())
    assert fresh.blend.item() == 0.25


def test_a_checkpoint_gives_the_same_output() -> None:
    network = _network()
    network(_slices())
    copy = _network()
    copy.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(_slices()).logits, copy.eval()(_slices()).logits)


def test_every_parameter_gets_a_gradient() -> None:
    network, x = _network(), _slices()
    shape = torch.rand(len(x), network.segmentation_decoder.head.out_channels, *x.shape[-2:])
    out = network(x, shape)
    loss = out.logits.square().mean() + network.reconstruct(out.encoded).square().mean() + out.commitment_loss
    loss.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def _train() -> tuple[VQSegNet, list[float]]:
    network, x = _network(), _slices(32, 32)
    target = (x[:, 1] > 0.5).long()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    generator, losses = _generator(), []
    for _ in range(30):
        out = network(x)
        perturbed = network.decode(out.encoded, network.perturb(out.encoded, 0.7, generator))
        loss = F.cross_entropy(out.logits, target) + F.cross_entropy(perturbed, target) + out.commitment_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        network.revive(out.encoded, generator)
        losses.append(loss.item())
    return network, losses


def test_training_lowers_the_loss_and_a_seed_repeats_it() -> None:
    first, losses = _train()
    second, again = _train()
    assert losses[-1] < 0.7 * losses[0]
    assert losses == again
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
