"""Networks by name: they build, count as by hand, start the same from a seed, and refuse what does
not fit.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.core.errors import ConfigError, ModelError
from pipeline.models import (
    Classifier,
    ClassifierSpec,
    ImageClassifier,
    count_multiply_adds,
    count_parameters,
    load_weights,
)

SMALL = {"width": 2, "depth": 1}


def build(
    name: str = "convnet_small", settings: dict[str, Any] | None = None, seed: int = 0, **changes: Any
) -> Classifier:
    arguments: dict[str, Any] = {"num_classes": 3, "channels": 1, "mean": [0.3], "std": [0.2], **changes}
    return ClassifierSpec(name, SMALL if settings is None else settings, **arguments).build(seed)


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["convnet_small", "resnet_small"])
@pytest.mark.parametrize("width", [1, 3, 8])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (13, 21)])
def test_every_family_gives_logits_at_any_width_and_image_size(name: str, width: int, size: tuple[int, int]) -> None:
    model = build(name, {"width": width, "depth": 2}, num_classes=5, channels=3, mean=[0.5] * 3, std=[0.2] * 3)
    logits = model(pixels(4, 3, *size))
    assert logits.shape == (4, 5)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_parameters_and_multiply_adds_are_as_counted_by_hand() -> None:
    convnet = build()
    convolutions, norms, linear = 9 * (1 * 2 + 2 * 4 + 4 * 8), 2 * (2 + 4 + 8), 8 * 3 + 3
    assert count_parameters(convnet) == convolutions + norms + linear
    # 8 x 8 pixels become 4 x 4, 2 x 2 and 1 x 1.
    assert (
        count_multiply_adds(convnet, torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
        == 16 * 9 * 2 + 4 * 9 * 8 + 1 * 9 * 32 + 8 * 3
    )

    resnet = build("resnet_small", {"width": 1, "depth": 1}, num_classes=2)
    stem, first, second, third = 9 + 2, (9 + 9) + 4, (18 + 36 + 2) + 12, (72 + 144 + 8) + 24
    shortcut_of_first = 1 + 2
    assert count_parameters(resnet) == stem + first + shortcut_of_first + second + third + (4 * 2 + 2)
    expected = 64 * 9 + 16 * (9 + 9 + 1) + 4 * (18 + 36 + 2) + 1 * (72 + 144 + 8) + 4 * 2
    assert count_multiply_adds(resnet, torch.zeros(1, 1, 8, 8, dtype=torch.uint8)) == expected


def test_counting_leaves_the_network_as_it_was() -> None:
    model = build().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_multiply_adds(model, torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet_smal", SMALL, "model 'resnet_smal': unknown.*did you mean 'resnet_small'"),
        ("convnet_small", {"widht": 2, "depth": 1}, "unknown setting 'widht'.*did you mean 'width'"),
        ("convnet_small", {"width": 2}, "setting 'depth' is missing"),
        ("convnet_small", {"width": 0, "depth": 1}, "width: 0 .*greater than 0"),
        ("convnet_small", {"width": "2", "depth": 1}, "width: '2' .*integer"),
        ("convnet_small", {"width": 2, "depth": 1.5}, "depth: 1.5 .*integer"),
        ("convnet_small", {"width": True, "depth": 1}, "width: True .*integer"),
        ("vgg_small", {"stages": [[8], [0]]}, "stages.1.0: 0 .*greater than 0"),
        ("vgg_small", {"stages": 8}, "stages: 8 .*array"),
        ("unet_small", {"widths": [8], "depth": 1, "up": "bilinear"}, "widths: .*at least 2"),
        ("unet_small", {"widths": [8, 8], "depth": 1, "up": "nearest"}, "up: 'nearest' .*'bilinear' or 'transposed'"),
        ("torchvision/mobilenet_v3_smal", {}, "unknown to torchvision.*did you mean 'mobilenet_v3_small'"),
        ("torchvision/squeezenet1_1", {"colour": 1}, "can't be built with.*colour"),
        ("timm/test_resnett", {}, "unknown to timm.*in all.*did you mean 'test_resnet'"),
        ("timm/test_resnet", {"colour": 1}, "can't be built with.*colour"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused_with_a_hint(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ModelError, ConfigError), match=message):
        build(name, settings)


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "raft_small"])
def test_torchvision_networks_that_do_not_classify_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Built, they would fetch the weights of a backbone, and give no logits.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=name):
        build(f"torchvision/{name}", {})


@pytest.mark.parametrize("name", ["convnet_small", "resnet_small", "torchvision/squeezenet1_1"])
def test_a_seed_gives_the_same_weights_whatever_was_drawn_before(name: str) -> None:
    settings = {} if name.startswith("torchvision") else SMALL
    torch.manual_seed(1)
    first = build(name, settings, seed=7).state_dict()
    torch.manual_seed(2)
    again = build(name, settings, seed=7).state_dict()
    other = build(name, settings, seed=8).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_building_leaves_the_global_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    build(seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_torchvision_network_takes_grey_and_colour_images(channels: int) -> None:
    model = build("torchvision/mobilenet_v3_small", {}, num_classes=7, mean=[0.5] * channels, std=[0.2] * channels)
    assert model.eval()(pixels(2, channels, 32, 32)).shape == (2, 7)


def test_a_classifier_normalises_its_pixels_by_channel() -> None:
    images = pixels(2, 3, 4, 5)
    model = ImageClassifier(nn.Flatten(), [0.1, 0.5, 0.9], [0.2, 0.3, 0.4], network_channels=3)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.4])
    expected = (images.float() / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(model(images), expected.flatten(1))


def test_a_grey_image_fills_every_channel_of_a_colour_network() -> None:
    images = pixels(2, 1, 4, 5)
    model = ImageClassifier(nn.Flatten(), [0.4], [0.25], network_channels=3)
    expected = ((images.float() / 255 - 0.4) / 0.25).expand(-1, 3, -1, -1)
    torch.testing.assert_close(model(images), expected.flatten(1))


def test_weights_of_another_network_are_refused_by_tensor_and_nothing_is_loaded() -> None:
    model, other = build(seed=1), build(seed=2).state_dict()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    last = list(other)[-1]
    faults: list[tuple[dict[str, torch.Tensor], str]] = [
        ({name: tensor for name, tensor in other.items() if name != last}, f"weights.file: no tensor '{last}'"),
        ({**other, last: torch.zeros(9)}, rf"{last} is \[9\]; expected \[3\]"),
        ({**other, "network.extra.weight": torch.zeros(1)}, "also holds 'network.extra.weight'"),
    ]
    for tensors, message in faults:
        with pytest.raises(ModelError, match=message):
            load_weights(model, tensors, "weights.file")
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    load_weights(model, other, "weights.file")
    assert all(torch.equal(tensor, other[name]) for name, tensor in model.state_dict().items())


def test_vgg_small_pools_between_its_stages() -> None:
    model = build("vgg_small", {"stages": [[4], [8, 8], [16]]})
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [4, 8, 8, 16]
    sizes: list[int] = []
    for module in convolutions:
        module.register_forward_hook(lambda _, __, output: sizes.append(output.shape[2]))
    model(torch.zeros(2, 1, 12, 12, dtype=torch.uint8))
    assert sizes == [12, 6, 6, 3]
