"""The forms of a student, written into a folder."""

from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.core.files import write_bytes
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.export.about import example_script, file_metadata, write_weights
from pipeline.export.executorch_file import write_executorch
from pipeline.export.onnx_file import run_onnx, write_onnx
from pipeline.export.programs import trace
from pipeline.export.quantization import write_int8
from pipeline.export.settings import Export
from pipeline.models import Classifier
from pipeline.models.saved import ModelMeta
from pipeline.signals.metrics import agreement, kl_to_teacher

WEIGHTS, FLOAT32, INT8, EXECUTORCH = "model.safetensors", "model.onnx", "model_int8.onnx", "model.pte"
EXAMPLE = "predict.py"
_BATCH = 100
_ALIKE = 0.99  # of the calibration images have the same likeliest class


def write_forms(folder: Path, model: Classifier, meta: ModelMeta, train: SplitOnDisk, settings: Export) -> int:
    """Writes the student in every form that the settings ask for, and a script that runs it;
    returns the bits of its int8 weights.

    Args:
        train: From which images are taken, evenly, to calibrate the int8 form.

    Raises:
        ExportError: The network has no such form.
    """
    rows = torch.linspace(0, len(train) - 1, min(settings.num_calibration_images, len(train))).long()
    images = train.take(rows.numpy()).inputs
    about = file_metadata(meta)
    write_weights(folder / WEIGHTS, model.state_dict(), about)
    write_onnx(folder / FLOAT32, trace(model, images[:2]), about)
    bits = _write_int8(folder, images, about, settings.reduce_range)
    if settings.executorch:
        write_executorch(folder / EXECUTORCH, trace(model, images[:1]), about)
    write_bytes(folder / EXAMPLE, example_script())
    return bits


def _write_int8(folder: Path, images: torch.Tensor, about: Mapping[str, str], reduce_range: bool | None) -> int:
    """Writes the int8 form; returns the bits of its weights.

    Where the user leaves it open, weights have 8 bits unless the network predicts other classes
    with them than in float32, and is nearer to it with 7.
    """

    def write(reduced: bool) -> float:
        """Returns the mean KL to float32 on the images, in nats."""
        write_int8(folder / INT8, folder / FLOAT32, images.numpy(), about, reduce_range=reduced)
        return kl_to_teacher(run_onnx(folder / INT8, images.split(_BATCH)), exact)

    exact = run_onnx(folder / FLOAT32, images.split(_BATCH))
    plain = write(bool(reduce_range))
    if reduce_range is not None or agreement(run_onnx(folder / INT8, images.split(_BATCH)), exact) >= _ALIKE:
        return 7 if reduce_range else 8
    content = (folder / INT8).read_bytes()
    if write(True) < plain:
        return 7
    write_bytes(folder / INT8, content)
    return 8
