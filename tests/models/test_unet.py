"""The rivals' U-Net."""

import torch
from torch import nn

from vqseg.models.unet import UNet


def test_any_size_goes_in_and_comes_out() -> None:
    network = UNet(3, 5).eval()
    with torch.no_grad():
        out = network(torch.rand(2, 3, 37, 50))
    assert out.logits.shape == (2, 5, 37, 50)
    assert [f.shape[1] for f in out.encoded.features] == [16, 32, 64, 128, 256]
    assert torch.equal(network.decode(out.encoded), out.logits)


def test_it_is_monais_network() -> None:
    network = UNet(1, 2).eval()
    x = torch.rand(1, 1, 32, 48)
    with torch.no_grad():
        assert torch.equal(network(x).logits, network.net(x))


def test_perturbation_drops_whole_channels() -> None:
    torch.manual_seed(0)
    network = UNet(1, 2).eval()
    encoded = network.encode(torch.rand(1, 1, 32, 32))
    perturbed = network.perturb(encoded)
    dropped = (perturbed.features[-1].flatten(2) == 0).all(2).float().mean()
    assert 0.3 < dropped < 0.7
    assert network.decode(perturbed).shape == (1, 2, 32, 32)


def test_dropout_grows_with_the_encoders_depth_and_spares_the_decoder() -> None:
    network = UNet(1, 2)
    rates = {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout) and module.p}
    assert list(rates.values()) == [0.05, 0.1, 0.2, 0.3, 0.5]
    assert all("conv_0" in name and "up" not in name for name in rates)
    x = torch.rand(2, 1, 32, 32)
    assert not torch.equal(network(x).logits, network(x).logits)
    network.eval()
    assert torch.equal(network(x).logits, network(x).logits)
