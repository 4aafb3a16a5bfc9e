"""The forms of a student, written into a folder."""

from pathlib import Path

import torch

from pipeline.core.files import write_bytes
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.export.about import example_script, file_metadata, write_weights
from pipeline.export.executorch_file import write_executorch
from pipeline.export.onnx_file import write_onnx
from pipeline.export.programs import trace
from pipeline.export.quantization import write_int8
from pipeline.export.settings import Export
from pipeline.models import Classifier
from pipeline.models.saved import ModelMeta

WEIGHTS, FLOAT32, INT8, EXECUTORCH = "model.safetensors", "model.onnx", "model_int8.onnx", "model.pte"
EXAMPLE = "predict.py"


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
    bits = write_int8(folder / INT8, folder / FLOAT32, images, about, reduce_range=settings.reduce_range)
    if settings.executorch:
        write_executorch(folder / EXECUTORCH, trace(model, images[:1]), about)
    write_bytes(folder / EXAMPLE, example_script())
    return bits
