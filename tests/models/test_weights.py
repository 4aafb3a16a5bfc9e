"""Weights that were made elsewhere: every common form is read, nothing is executed, and what does
not fit is named.
"""

import os
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stores import cut
from teachers import CLASSES, USER_FILE, begin
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.core.tensors import write_tensors
from pipeline.models import ClassifierSpec, head_names, read_weights
from pipeline.signals.chance import chance_level, check_above_chance

SMALL = {"model": "convnet_small", "model_settings": {"width": 2, "depth": 1}}


def state(num_classes: int = 4, seed: int = 5, **settings: int) -> dict[str, torch.Tensor]:
    """Returns the bare network's weights."""
    arguments: dict[str, Any] = {"num_classes": num_classes, "channels": 1, "mean": [0.2], "std": [0.1]}
    return (
        ClassifierSpec("convnet_small", {"width": 2, "depth": 1, **settings}, **arguments)
        .build(seed)
        .network.state_dict()
    )


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        OrderedDict,
        lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"model": prefixed("module.", s)},
        lambda s: prefixed("_orig_mod.module.", s),
        lambda s: prefixed("module._orig_mod.", s),
        lambda s: prefixed("model.", s),
        lambda s: prefixed("network.module.", s),
        lambda s: {name.replace(".", ".module.", 1): tensor for name, tensor in s.items()},
        lambda s: {name: tensor for name, tensor in s.items() if not name.endswith("num_batches_tracked")},
        lambda s: {"n_averaged": torch.tensor(3), **prefixed("module.", s)},
        lambda s: {**s, "epoch": 3},
        lambda s: {"model": s, "optimizer": adam(s), "args": Namespace(lr=0.1), "loss.weight": torch.ones(2)},
        lambda s: {"state_dict": s, "best": dict(s)},
        lambda s: {name: nn.Parameter(tensor) if tensor.is_floating_point() else tensor for name, tensor in s.items()},
        lambda s: {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in s.items()},
    ],
)
@pytest.mark.parametrize("old_format", [False, True])
def test_a_state_dict_is_found_however_it_is_wrapped(
    tmp_path: Path, wrap: Callable[[dict[str, torch.Tensor]], Any], old_format: bool
) -> None:
    torch.save(wrap(state()), tmp_path / "mine.pt", _use_new_zipfile_serialization=not old_format)
    model = begin(tmp_path, SMALL | {"weights": str(tmp_path / "mine.pt")}).build(0)
    for name, tensor in state().items():
        torch.testing.assert_close(model.network.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)


def adam(weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Returns what an optimizer keeps beside weights."""
    parameters = [nn.Parameter(tensor) for tensor in weights.values() if tensor.is_floating_point()]
    optimizer = torch.optim.Adam(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("name", ["a.th", "a.tar", "a.bin", "a.weights", "a", "a.safetensors", "a.pt"])
@pytest.mark.parametrize("write", [torch.save, lambda tensors, path: write_tensors(path, tensors)])
def test_a_file_is_known_by_its_content_and_not_by_its_name(
    tmp_path: Path, name: str, write: Callable[[dict[str, torch.Tensor], Path], object]
) -> None:
    write(state(), tmp_path / name)
    assert read_weights(tmp_path / name).tensors.keys() == state().keys()


def test_of_several_sets_of_weights_a_setting_names_one(tmp_path: Path) -> None:
    path, average = tmp_path / "mine.pth.tar", state(seed=6)
    torch.save({"state_dict": state(), "state_dict_ema": {"n_averaged": 1, **prefixed("module.", average)}}, path)
    row = SMALL | {"weights": str(path)}
    told = r"mine.pth.tar: holds 2 sets of weights: state_dict, state_dict_ema.module; .* weights_key: state_dict"
    with pytest.raises(ModelError, match=told):
        begin(tmp_path, row).build(0)
    for key, expected in {"state_dict": state(), "state_dict_ema": average}.items():
        found = begin(tmp_path, row | {"weights_key": key}).build(0).network.state_dict()
        assert torch.equal(found["5.weight"], expected["5.weight"])
    with pytest.raises(ModelError, match=r"no weights of this network under 'ema'; expected one of: state_dict"):
        begin(tmp_path, row | {"weights_key": "ema"}).build(0)


def test_a_weight_that_is_no_number_is_refused_by_name(tmp_path: Path) -> None:
    weights = state()
    weights["0.0.weight"][0, 0, 1] = torch.nan
    torch.save(weights, tmp_path / "mine.pt")
    with pytest.raises(ModelError, match=r"params.yaml: train_teacher: .*0.0.weight holds NaN .3 of 18 values"):
        begin(tmp_path, SMALL | {"weights": str(tmp_path / "mine.pt")}).build(0)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, suffix: str, old_format: bool) -> None:
    path, trace = tmp_path / f"mine{suffix}", tmp_path / "was here"
    torch.save({**state(), "extra": Malicious(trace)}, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(ModelError, match=rf"mine{suffix}: .*not executed") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "mine.pt")
    with pytest.raises(ModelError, match=r"mine.pt: holds more than tensors.*not executed.*expected a state dict"):
        read_weights(tmp_path / "mine.pt")


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("a.safetensors", lambda path: path.write_bytes(b"junk"), "not a file of weights"),
        ("a.safetensors", lambda path: (write_tensors(path, state()), cut(path)), "not a whole safetensors file"),
        ("a.safetensors", lambda path: path.write_bytes(b""), "it is empty"),
        ("a.pt", lambda path: path.write_bytes(b"junk"), "a.pt"),
        ("a.pt", lambda path: path.write_bytes(b""), "it is empty"),
        ("a.pt", lambda path: (torch.save(state(), path), path.write_bytes(path.read_bytes()[:900])), "a.pt"),
        ("a.npz", lambda path: np.savez(path, x=np.zeros(3)), "a.npz: .*expected a state dict"),
        ("a.pt", lambda path: torch.save([1, 2], path), "holds a list; expected a state dict"),
        ("a.pt", lambda path: torch.save({}, path), "holds a dict; expected a state dict"),
        ("a.pt", lambda path: torch.save({"model": 3}, path), "holds no tensors by name .'model' is a int"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_one_line(
    tmp_path: Path, name: str, write: Callable[[Path], object], told: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(ModelError, match=told) as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "mine.pt")
    with pytest.raises(ModelError, match=r"mine.pt: .*expected a state dict"):
        read_weights(tmp_path / "mine.pt")


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (lambda: state(width=3), r"mine.pt: 0.0.weight is \[3, 1, 3, 3\]; expected \[2, 1, 3, 3\]"),
        (lambda: dict(list(state().items())[1:]), "mine.pt: no tensor '0.0.weight'"),
        (lambda: {**state(), "more": torch.zeros(1)}, "mine.pt: also holds 'more'"),
        (lambda: state(7), r"all fits but the head: 5.weight is \[7, 8\]; expected \[4, 8\].*new_head: true"),
    ],
)
def test_weights_that_do_not_fit_are_told_by_their_first_tensor(
    tmp_path: Path, tensors: Callable[[], dict[str, torch.Tensor]], told: str
) -> None:
    torch.save(tensors(), tmp_path / "mine.pt")
    with pytest.raises(ModelError, match=told) as caught:
        begin(tmp_path, SMALL | {"weights": str(tmp_path / "mine.pt")}).build(0)
    assert "\n" not in str(caught.value)


def test_a_misfit_of_a_network_without_a_head_is_told_by_its_tensor(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(USER_FILE.replace("Linear(4, outputs)", "Linear(4, 4)"))
    torch.save(state(), tmp_path / "mine.pt")
    (tmp_path / "out").mkdir()
    row = {"model": f"{tmp_path}/mine.py:build", "model_settings": {}, "weights": str(tmp_path / "mine.pt")}
    with pytest.raises(ModelError, match=r"mine.pt: no tensor 'head.weight'"):
        begin(tmp_path / "out", row).build(0)


@pytest.mark.parametrize("num_classes", [4, 7])
def test_a_new_head_takes_all_but_the_head(tmp_path: Path, num_classes: int) -> None:
    torch.save(state(num_classes), tmp_path / "mine.pt")
    row = SMALL | {"weights": str(tmp_path / "mine.pt"), "new_head": True}
    found, fresh = begin(tmp_path, row).build(1).network.state_dict(), state(seed=1)
    for name in found:
        expected = fresh if name in {"5.weight", "5.bias"} else state(num_classes)
        assert torch.equal(found[name], expected[name]), name


def test_weights_of_this_project_bring_their_normalisation_unless_told_otherwise(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"num_classes": 4, "channels": 1, "mean": [0.3141], "std": [0.2718]}
    model = ClassifierSpec("convnet_small", SMALL["model_settings"], **arguments).build()  # type: ignore[arg-type]
    write_tensors(tmp_path / "mine.safetensors", model.state_dict())
    row = SMALL | {"weights": str(tmp_path / "mine.safetensors")}
    found = begin(tmp_path, row)
    assert found.meta.mean == pytest.approx([0.3141])
    assert torch.equal(found.build(0).pixel_mean, model.pixel_mean)
    told = begin(tmp_path, row | {"input": {"mean": [0.5]}}).build(0)
    assert told.pixel_mean.item() == 127.5
    assert told.pixel_std.item() == pytest.approx(0.2718 * 255)


@pytest.mark.parametrize(
    ("name", "settings", "head"),
    [
        ("vgg_small", {"stages": [[4], [8]]}, {"9.weight", "9.bias"}),
        ("torchvision/shufflenet_v2_x0_5", {}, {"fc.weight", "fc.bias"}),
        ("torchvision/squeezenet1_1", {}, {"classifier.1.weight", "classifier.1.bias"}),
        ("timm/test_vit", {}, {"head.weight", "head.bias"}),
    ],
)
def test_the_head_is_what_follows_the_number_of_classes(name: str, settings: dict[str, Any], head: set[str]) -> None:
    assert head_names(name, settings, 4, 1) == head


def test_a_network_without_a_head_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(USER_FILE.replace("Linear(4, outputs)", "Linear(4, 4)"))
    with pytest.raises(ModelError, match="no tensor follows the number of classes"):
        head_names(f"{tmp_path}/mine.py:build", {}, 4, 1)


# Chance


def says(predicted: list[int]) -> torch.Tensor:
    return torch.eye(len(CLASSES))[predicted]


def test_chance_is_what_the_predictions_would_come_to_by_themselves() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    always_first = says([0] * 100)
    assert chance_level(always_first, labels) == pytest.approx(0.9 + 3 * (0.9 * 0.1 / 100) ** 0.5)
    with pytest.raises(ModelError, match=r"accuracy 90.00% on 100 labelled images is no better than chance"):
        check_above_chance(always_first, labels, "x")
    check_above_chance(says([0] * 88 + [1] * 12), labels, "x")


def test_whoever_is_always_right_is_above_chance_on_few_images_too() -> None:
    check_above_chance(says([0, 1]), torch.tensor([0, 1]), "x")
    with pytest.raises(ModelError):
        check_above_chance(says([1, 0]), torch.tensor([0, 1]), "x")
