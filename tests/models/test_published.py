"""Published weights: each network gets the images and the heads that its weights were made with."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.models import ClassifierSpec, ImageClassifier, build_network, load_weights, published_weights


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the first values of large networks, which take seconds."""
    for name in ("trunc_normal_", "kaiming_uniform_", "normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *arguments, **named: tensor)


def published(monkeypatch: pytest.MonkeyPatch, short: str) -> nn.Module:
    """Puts made-up weights where torchvision's would come from; returns the network as torchvision
    has it.
    """
    from torchvision import models

    whole = models.get_model(short, weights=None, aux_logits=True, init_weights=False, transform_input=True)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(tensor.shape, generator=generator).mul(0.05).abs() if tensor.is_floating_point() else tensor
        for name, tensor in whole.state_dict().items()
    }
    whole.load_state_dict(weights)
    kind = type(models.get_model_weights(short).DEFAULT)
    monkeypatch.setattr(kind, "get_state_dict", lambda self, **named: weights)
    return whole.eval()


@pytest.mark.usefixtures("unfilled")
@pytest.mark.parametrize("short", ["googlenet", "inception_v3"])
@pytest.mark.parametrize("settings", [{}, {"aux_logits": False}])
def test_networks_with_auxiliary_heads_are_as_torchvision_has_them(
    monkeypatch: pytest.MonkeyPatch, short: str, settings: dict[str, Any]
) -> None:
    whole = published(monkeypatch, short)
    name = f"torchvision/{short}"
    weights = published_weights(name, settings)
    assert weights.mean == weights.std == [0.5] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network, _ = build_network(name, settings, 1000, 3)
    load_weights(network, weights.tensors, weights.where)
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    model = ImageClassifier(network, weights.mean, weights.std, network_channels=3).eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        expected = whole((images / 255 - mean) / std)
        torch.testing.assert_close(model(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_auxiliary_heads_are_refused() -> None:
    with pytest.raises(ModelError, match=r"torchvision/googlenet': aux_logits: true gives several outputs"):
        build_network("torchvision/googlenet", {"aux_logits": True}, 4, 3)


def test_a_grey_network_of_timm_has_the_sum_over_the_channels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    colour, _ = build_network("timm/test_resnet", {}, 1000, 3)
    torch.save(colour.state_dict(), tmp_path / "published.pth")
    settings = {"in_chans": 1, "pretrained_cfg_overlay": {"file": str(tmp_path / "published.pth")}}
    weights = published_weights("timm/test_resnet", settings)
    assert weights.mean == weights.std == [0.5]
    model = ClassifierSpec(
        "timm/test_resnet", settings, num_classes=1000, channels=1, mean=weights.mean, std=weights.std
    ).build()
    load_weights(model.network, weights.tensors, weights.where)
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = colour.eval()(((images / 255 - 0.5) / 0.5).expand(-1, 3, -1, -1))
        torch.testing.assert_close(model.eval()(images), expected, rtol=1e-4, atol=1e-4)
