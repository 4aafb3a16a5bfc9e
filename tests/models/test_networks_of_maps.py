"""Networks that give a class at each pixel: of our family, of torchvision, of a file, of ONNX.

What they give is as large as the image, whatever they give it at, and what gives something else is
one line.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.models import (
    Classifier,
    ImageClassifier,
    count_multiply_adds,
    count_parameters,
    load_weights,
    published_weights,
)
from pipeline.models.answers import check_answers
from pipeline.models.classifier import Outputs
from pipeline.models.saved import ModelMeta, read_model, write_model
from pipeline.signals import signal_named

UNET: dict[str, Any] = {"widths": [4, 8], "depth": 1, "up": "bilinear"}
CLASSES = ["sky", "road", "car"]
GRID = signal_named("grid")


def about(model: str = "unet_small", settings: dict[str, Any] | None = None, **changes: Any) -> ModelMeta:
    pixels: tuple[Any, ...] = [1, 8, 8], [0.3], [0.2]
    meta = ModelMeta(model, UNET if settings is None else settings, CLASSES, *pixels, {}, "", {}, signal="grid")
    return replace(meta, **changes)


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def given(outputs: Any, *, outputs_mean: Outputs | None = None) -> Classifier:
    """Returns a classifier whose network gives these outputs."""

    class Given(nn.Module):
        def forward(self, images: torch.Tensor) -> Any:
            return outputs

    return ImageClassifier(Given(), [0.5], [0.5], network_channels=1, outputs=outputs_mean or Outputs(signal=GRID))


@pytest.mark.parametrize("up", ["bilinear", "transposed"])
@pytest.mark.parametrize(("widths", "size"), [([4, 8], [8, 8]), ([2, 3, 5], [12, 8]), ([1, 1, 1, 1], [8, 24])])
def test_a_unet_gives_a_logit_of_each_class_at_each_pixel(up: str, widths: list[int], size: list[int]) -> None:
    model = about(settings={"widths": widths, "depth": 2, "up": up}, image_shape=[3, *size]).build().eval()
    logits = model(pixels(2, 3, *size))
    assert logits.shape == (2, 3, *size)
    assert logits.isfinite().all()


def test_a_unets_parameters_and_multiply_adds_are_as_counted_by_hand() -> None:
    top, down, up, head = 9 * 1 * 4, 9 * 4 * 8, 9 * (4 + 4) * 4, 4 * 3
    norms, biases = 2 * (4 + 8 + 4), 3
    sizes = {"bilinear": (8 * 4, 16), "transposed": (4 * 8 * 4, 16)}  # numbers, and places where they are used
    for kind, (larger, places) in sizes.items():
        model = about(settings=UNET | {"up": kind}).build()
        assert count_parameters(model) == top + down + up + head + norms + biases + larger + 4
        assert (
            count_multiply_adds(model, torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
            == 64 * (top + up + head) + 16 * down + places * larger
        )


def test_what_a_unet_sees_far_away_it_sees_by_its_coarse_half() -> None:
    model = about(settings={"widths": [4, 8, 8], "depth": 1, "up": "bilinear"}, image_shape=[1, 32, 32]).build().eval()
    one, other = pixels(1, 1, 32, 32), pixels(1, 1, 32, 32)
    other[..., 24:] = 255 - other[..., 24:]
    changed = (model(one) != model(other)).any(dim=1)[0].any(dim=0)
    assert changed[24:].all()
    assert changed[19]  # further than the two convolutions at full size reach
    assert not changed[0]


MISFITS = {
    "a U-Net for classes of images": (
        {"signal": "categorical"},
        r"model 'unet_small': gives outputs of shape \[1, 3, 8, 8\], and the data has a class for each image; "
        r"expected \[batch, classes\]; take convnet_small",
    ),
    "a classifier for masks": (
        {"model": "vgg_small", "model_settings": {"stages": [[4]]}},
        r"model 'vgg_small': gives outputs of shape \[1, 3\], and the data has a class for each pixel; "
        r"expected \[batch, classes, height, width\]; take unet_small, torchvision/fcn_resnet50 and the like",
    ),
    "sides that can't be halved": (
        {"image_shape": [1, 8, 9]},
        "model 'unet_small': has 2 widths, .* images are 8 x 9; expected sides that are multiples of 2; .*size_px",
    ),
    "auxiliary outputs": (
        {"model": "torchvision/fcn_resnet50", "model_settings": {"aux_loss": True}},
        "torchvision/fcn_resnet50': aux_loss: true gives several outputs; expected aux_loss: false",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_network_that_does_not_fit_the_labels_is_one_line(name: str) -> None:
    changes, told = MISFITS[name]
    with pytest.raises(ModelError, match=f"^{told}" if told.startswith("model") else told) as refused:
        about(**changes).build()
    assert len(str(refused.value)) <= 500


@pytest.mark.parametrize("size_px", [None, [32, 32]])
def test_a_network_of_torchvision_gives_maps_of_the_images_size(
    size_px: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing is downloaded
    meta = about("torchvision/lraspp_mobilenet_v3_large", {}, image_shape=[1, 24, 24], size_px=size_px)
    assert meta.build().eval()(pixels(2, 1, 24, 24)).shape == (2, 3, 24, 24)
    assert not list(tmp_path.rglob("*.pth"))


def test_published_weights_leave_their_auxiliary_head_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    short = "deeplabv3_mobilenet_v3_large"
    for name in ("kaiming_normal_", "kaiming_uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *arguments, **named: nn.init.zeros_(tensor))
    whole = models.get_model(short, weights=None, weights_backbone=None, aux_loss=True)
    monkeypatch.setattr(
        type(models.get_model_weights(short).DEFAULT), "get_state_dict", lambda self, **named: whole.state_dict()
    )
    weights = published_weights(f"torchvision/{short}", {})
    assert not any(key.startswith("aux_classifier") for key in weights.tensors)
    assert (weights.num_outputs, weights.size_px) == (21, [520, 520])
    assert weights.mean == pytest.approx([0.485, 0.456, 0.406])
    network = models.get_model(short, weights=None, weights_backbone=None, aux_loss=False)
    load_weights(network, weights.tensors, weights.where)


def test_coarser_outputs_are_brought_to_the_images_size() -> None:
    coarse = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(coarse, (8, 8), mode="bilinear", align_corners=False)
    for outputs in (coarse, {"logits": coarse}, {"out": coarse, "aux": None}):
        assert torch.equal(given(outputs)(pixels(2, 1, 8, 8)), expected)


@pytest.mark.parametrize("size", [(6, 6), (16, 16), (8, 3)])
def test_outputs_of_a_size_that_no_whole_factor_makes_are_one_line(size: tuple[int, int]) -> None:
    message = f"gives outputs at {size[0]} x {size[1]} positions for an image of 8 x 8; expected as many, or fewer"
    with pytest.raises(ModelError, match=message):
        given(torch.zeros(2, 3, *size))(pixels(2, 1, 8, 8))


def test_classes_of_several_outputs_are_joined_pixel_by_pixel() -> None:
    outputs = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    groups = [[3], [0, 4], [1, 2]]
    joined = given(outputs, outputs_mean=Outputs(groups, "logits", GRID))(pixels(2, 1, 8, 8))
    rows = given(outputs.movedim(1, 3).flatten(0, 2), outputs_mean=Outputs(groups))(pixels(128, 1, 8, 8))
    assert torch.allclose(joined.movedim(1, 3).flatten(0, 2), rows)


FAULTS = {
    "not finite": (torch.nan, "its output for class 'road' is nan for 1 of 2 images"),
    "probabilities": (None, "its outputs look like probabilities: each row sums up to 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_answers_at_pixels_are_judged_like_those_of_images(name: str) -> None:
    value, told = FAULTS[name]
    outputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    if value is None:
        outputs = outputs.softmax(dim=1)
    else:
        outputs[1, 1, 2:4, 5] = value
    with pytest.raises(ModelError, match=told):
        check_answers(given(outputs), about(), pixels(2, 1, 8, 8))


def test_a_written_unet_is_the_same_when_it_is_read(tmp_path: Path) -> None:
    model = about().build(seed=3)
    write_model(tmp_path, about(), model.state_dict())
    images = pixels(2, 1, 8, 8)
    assert torch.equal(read_model(tmp_path, made_by="x")(images), model.eval()(images))


def test_maps_have_no_embedding() -> None:
    with pytest.raises(ModelError, match=r"^model 'unet_small': gives a class for each pixel, and an embedding is"):
        about().embedded(about().build())


def test_an_onnx_file_may_give_maps(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Concat", ["images", "images", "images"], ["logits"], axis=1)
    names = (("images", ["n", 1, 8, 8]), ("logits", ["n", 3, 8, 8]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in names]
    graph = helper.make_graph([node], "maps", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "a.onnx")
    images = pixels(2, 1, 8, 8)
    logits = about(f"onnx/{tmp_path}/a.onnx", {}).build()(images)
    assert torch.allclose(logits, ((images / 255 - 0.3) / 0.2).expand(-1, 3, -1, -1), atol=1e-6)
