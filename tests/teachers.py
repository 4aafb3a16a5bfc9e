"""Networks that know the made-up images of `make_split` without training, in every form in which
people bring them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import make_split
from project import small_params, write_params
from torch import nn

from pipeline.core.config import validate
from pipeline.data.manifest import DatasetManifest
from pipeline.models import build_network
from pipeline.preparation.write import write_dataset
from pipeline.training.start import NetworkSettings, Start, WeightClasses
from stages import dump_labels, evaluate, train_student, train_teacher, verify_labels

CLASSES = ("ant", "bee", "cow", "doe")
SHAPE = (1, 12, 12)

#: The mean brightness of each quarter of an image, which is what its class is.
USER_FILE = """
from torch import nn


class Quarters(nn.Module):
    def __init__(self, outputs, sharpness):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(4, outputs)
        nn.init.zeros_(self.head.bias)
        nn.init.eye_(self.head.weight)
        self.sharpness = sharpness

    def forward(self, images):
        return self.sharpness * self.head(self.pool(images).mean(dim=1).flatten(1))


def build(num_classes, channels, *, sharpness=4.0):
    return Quarters(num_classes, sharpness)


def other(num_classes, channels):
    return [num_classes]
"""


def make_project(folder: Path, teacher: dict[str, Any], *, shape: tuple[int, int, int] = SHAPE, **fit: Any) -> Path:
    """Returns a folder with the made-up images and params for this teacher (by default imported,
    not trained); the validation images are the training images, so that what was fitted to these
    does well on those."""
    params = small_params()
    params["train_teacher"] |= teacher
    params["train_teacher"]["fit"] |= {"epochs": 0, "batch_size": 16, "checkpoint_seconds": 60.0} | fit
    params["dump_labels"] |= {"block_samples": 32, "pilot_labels": 80, "num_views": 2}
    write_params(folder, params)
    split = make_split(64, shape=shape)
    splits = {"train": split, "val": split, "test": make_split(32, shape=shape, seed=1)}
    write_dataset(folder / "data/prepare", "made up", CLASSES, splits)
    return folder


def begin(folder: Path, teacher: dict[str, Any], *classes: WeightClasses) -> Start:
    """Returns what a teacher starts from; the made-up images themselves are not needed for that."""
    count, given = {"train": 64, "val": 64, "test": 32}, {"weights": None, "new_head": False, "input": None}
    data = DatasetManifest("made up", list(CLASSES), list(SHAPE), [0.4], [0.3], count, {}, 0, 0)
    settings = validate(NetworkSettings, given | teacher, "params.yaml: train_teacher")
    return Start.of(settings, data, folder, "params.yaml: train_teacher", *classes)


def edit_params(folder: Path, section: str, **changes: Any) -> None:
    """Changes some keys of a section, or of a row (`students.small`)."""
    from ruamel.yaml import YAML

    params = YAML(typ="safe", pure=True).load((folder / "params.yaml").read_text())
    node = params
    for key in section.split("."):
        node = node[key]
    node.update(changes)
    write_params(folder, params)


def run_teacher(folder: Path) -> Path:
    """Runs train_teacher; returns the teacher's folder."""
    data = folder / "data"
    train_teacher.main(
        folder / "params.yaml", data / "prepare", data / "train_teacher", folder / "reports", folder / "work"
    )
    return data / "train_teacher"


def run_dump(folder: Path) -> None:
    data = folder / "data"
    dump_labels.main(
        folder / "params.yaml", data / "prepare", data / "train_teacher", data / "dump_labels", folder / "work"
    )


def run_verify(folder: Path, *, with_teacher: bool = True) -> None:
    data = folder / "data"
    arguments = (folder / "params.yaml", data / "prepare", data / "train_teacher", data / "dump_labels")
    verify_labels.main(*arguments, folder / "reports/verify_labels.json", with_teacher)


def run_student(folder: Path, name: str = "small") -> Path:
    """Runs train_student; returns the student's folder."""
    data = folder / "data"
    arguments = (name, folder / "params.yaml", data / "prepare", str(data / "dump_labels"), data / "train_student")
    train_student.main(*arguments, folder / "reports/train_student", folder / "work")
    return data / "train_student" / name


def run_evaluate(folder: Path) -> None:
    data = folder / "data"
    arguments = (folder / "params.yaml", data / "prepare", data / "train_teacher", data / "train_student")
    evaluate.main(*arguments, data / "dump_labels", folder / "reports", data / "evaluate")


def knowing(
    name: str,
    settings: dict[str, Any],
    *,
    num_outputs: int = 4,
    outputs: tuple[int, ...] = (0, 1, 2, 3),
    shape: tuple[int, int, int] = SHAPE,
    size: int | None = None,
) -> nn.Module:
    """Returns a network of random layers whose head is fitted by least squares to predict class c
    by output `outputs[c]`, of images that are normalised with mean and standard deviation 0.5.
    """
    split = make_split(64, shape=shape)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build_network(name, settings, num_outputs, shape[0])[0].eval()
    images = split.inputs.float()
    if size is not None:
        images = nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    images = ((images / 255 - 0.5) / 0.5).expand(-1, 3, -1, -1)
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        network(images)
        features = torch.cat([seen[0], torch.ones(len(split), 1)], dim=1).double()
        wanted = torch.full((len(split), num_outputs), -5.0, dtype=torch.float64)
        wanted[torch.arange(len(split)), torch.tensor(outputs)[split.hard_labels]] = 5.0
        solved = torch.linalg.lstsq(features, wanted, driver="gelsd").solution.float()
        head.weight.copy_(solved[:-1].T)
        head.bias.copy_(solved[-1])
    hook.remove()
    return network


def write_onnx(
    path: Path,
    *,
    batch: int | str = "batch",
    size: int | str = 12,
    channels: int | str = 1,
    classes: int = 4,
    inputs: int = 1,
    kind: str = "FLOAT",
    outputs: int = 1,
    rank: int = 4,
    beside: bool = False,
) -> Path:
    """Writes an ONNX file that knows the made-up images: quarters, averaged, times a matrix."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.tile(8 * np.eye(4, classes, dtype=np.float32), (channels if isinstance(channels, int) else 1, 1))
    nodes = [
        helper.make_node("AveragePool", ["images"], ["quarters"], kernel_shape=[6, 6], strides=[6, 6]),
        helper.make_node("Flatten", ["quarters"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["logits"]),
    ]
    if kind == "FLOAT16":
        nodes[:0] = [helper.make_node("Cast", ["half"], ["images"], to=TensorProto.FLOAT)]
    if inputs == 2:
        nodes.append(helper.make_node("Identity", ["extra"], ["more"]))
    shape = [batch, channels, size, size][:rank]
    if rank == 3:
        nodes[:2] = [helper.make_node("Flatten", ["images"], ["flat"])]
        matrix = np.zeros((12, classes), np.float32)
    name = "half" if kind == "FLOAT16" else "images"
    given = [helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)]
    given += [helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1])] * (inputs - 1)
    told = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])]
    told += [helper.make_tensor_value_info("flat", TensorProto.FLOAT, None)] * (outputs - 1)
    graph = helper.make_graph(nodes, "net", given, told, [numpy_helper.from_array(matrix, "matrix")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    keywords: dict[str, Any] = {"save_as_external_data": True, "size_threshold": 0} if beside else {}
    onnx.save(model, path, **keywords)
    return path
