"""The forms of a student, written into a folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from pipeline.core.errors import PipelineError
from pipeline.core.files import write_bytes
from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import IMAGE
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import SplitInMemory
from pipeline.export.about import example_script, file_metadata, write_weights
from pipeline.export.executorch_file import write_executorch
from pipeline.export.int8_file import front_end, write_int8
from pipeline.export.onnx_file import write_onnx
from pipeline.export.programs import trace
from pipeline.export.settings import Export
from pipeline.export.trials import Samples
from pipeline.models import Classifier
from pipeline.models.saved import ModelMeta
from pipeline.results.export import AwareInt8, Int8Layers
from pipeline.signals import signal_named

WEIGHTS, FLOAT32, EXECUTORCH = "model.safetensors", "model.onnx", "model.pte"
INT8, AWARE = "model_int8.onnx", "model_int8_aware.onnx"
EXAMPLE = "predict.py"
Made = TypeVar("Made")
_NUM_COMPARED = 128  # images for each layer: a mean over them ranks layers well enough


@dataclass
class Forms:
    """The outcome of writing a student's forms.

    Attributes:
        int8: None where there is no int8 file.
        aware: None where there is none of a network that was trained for it.
        left_out: Why a file could not be made, by its name.
    """

    int8: Int8Layers | None = None
    aware: AwareInt8 | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def attempt(self, path: Path, write: Callable[[], Made]) -> Made | None:
        """Returns what `write` does; where it can't make its file, notes why and leaves none."""
        try:
            return write()
        except PipelineError as error:
            path.unlink(missing_ok=True)
            self.left_out[path.name] = str(error).replace(f"{path}", path.name).removeprefix(f"{path.name}: ")
            return None


def write_forms(
    folder: Path,
    model: Classifier,
    meta: ModelMeta,
    samples: Samples,
    settings: Export,
    aware: Callable[[Path, Path, frozenset[str]], AwareInt8] | None = None,
) -> Forms:
    """Writes the student in every form that the settings ask for, and a script that runs it.

    Weights and ONNX in float32 are always there; any other form is left out where the network has
    none.

    Args:
        aware: Writes the file of a network that is trained for int8, from the one in float32, in
            which some nodes stay; None: there is to be none.

    Raises:
        ExportError: The network has no form in ONNX.
    """
    kind, portable, forms = meta.kind, model.portable(), Forms()
    about, samples = file_metadata(meta, portable.facts), samples.taken(portable.taken)
    inputs = samples.calibration.inputs
    write_weights(folder / WEIGHTS, model.state_dict(), about)
    modules = write_onnx(folder / FLOAT32, trace(portable, inputs[:2]), about, portable.input_name)
    kept = frozenset() if kind is IMAGE else front_end(modules)
    int8, executorch, trained = folder / INT8, folder / EXECUTORCH, folder / AWARE
    if settings.int8:
        forms.int8 = forms.attempt(int8, lambda: write_int8(int8, folder / FLOAT32, samples, modules, settings, kept))
    if aware and portable.open_axes:
        forms.left_out[AWARE] = f"a network can't learn from {kind.things} to be in int8: its file takes tokens"
    elif aware:
        forms.aware = forms.attempt(trained, lambda: aware(trained, folder / FLOAT32, kept))
    if settings.executorch and kind is not IMAGE:
        forms.left_out[EXECUTORCH] = f"ExecuTorch programs are made of networks for images alone, not for {kind.things}"
    elif settings.executorch:
        forms.attempt(executorch, lambda: write_executorch(executorch, trace(portable, inputs[:1]), about))
    for name, content in portable.files.items():
        write_bytes(folder / name, content)
    write_bytes(folder / EXAMPLE, example_script(kind.name))
    return forms


def samples_for(dataset: ImageDataset, settings: Export) -> Samples:
    """Returns the images that decide on the int8 file, each kind evenly from its split."""
    calibration = _evenly(dataset.stream("train"), settings.num_calibration_images)
    checked = _evenly(dataset.stream("val"), settings.num_checked_images)
    return Samples(calibration, _evenly(calibration, _NUM_COMPARED), checked, signal_named(dataset.manifest.signal))


def _evenly(split: SplitOnDisk | SplitInMemory, count: int) -> SplitInMemory:
    return split.take(torch.linspace(0, len(split) - 1, min(count, len(split))).long().numpy())
