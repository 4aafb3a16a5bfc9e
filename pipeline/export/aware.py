"""The int8 file of a network that learns to be in int8: distillation with fake quantisation.

The network goes on from its weights, with the same labels and losses, while everything that the
file has in 8 bits is rounded as in the file.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic

import torch
from jaxtyping import Float, Integer

from pipeline.export.fake_int8 import FakeInt8
from pipeline.export.int8_file import whole_form
from pipeline.export.libraries import ExportError, first_line, onnx_libraries
from pipeline.export.onnx_file import Keep, run_onnx
from pipeline.export.quantization import Quantiser, in_batches, quantiser
from pipeline.export.settings import Export
from pipeline.export.trials import Samples, Trials
from pipeline.results.export import AwareInt8
from pipeline.signals.thinning import kept_outputs
from pipeline.training.fit import fit
from pipeline.training.recipe import FitSettings
from pipeline.training.run import Workplace
from pipeline.training.task import AnyBatch, Task
from pipeline.training.trainer import Trainer

_NUM_COMPARED = 16  # images by which the operators known here are compared with onnxruntime's
_TOLERANCE = 1e-3  # of a logit, as a share of the largest one


@dataclass(frozen=True)
class Further(Generic[AnyBatch]):
    """A student's training once more: its batches and losses, the recipe, the place."""

    task: Task[AnyBatch]
    recipe: FitSettings
    workplace: Workplace


def recipe_for(own: FitSettings, settings: Export, steps_per_epoch: int) -> FitSettings:
    """Returns the recipe of a network that learns to be in int8, from that of its training.

    In float32, because a shorter format would round where the file does not.
    """
    return replace(
        own,
        epochs=-(-settings.aware.steps // steps_per_epoch),
        accumulate_batches=1,
        optimizer="adamw",
        learning_rate=settings.aware.learning_rate,
        schedule="cosine",
        warmup_fraction=0.1,
        ema_decay=0.9,
        patience_epochs=None,
        freeze_epochs=0,
        layer_decay=1.0,
        precision="float32",
        compile=False,
    )


def write_aware(
    path: Path,
    source: Path,
    kept: frozenset[str],
    samples: Samples,
    settings: Export,
    further: Further[AnyBatch],
) -> AwareInt8:
    """Writes the network of an ONNX file wholly in int8, after it has learned to be so.

    Nothing is chosen by the validation images. A killed process goes on from its last checkpoint.

    Args:
        kept: Nodes that stay in float32.

    Raises:
        ExportError: An operator is not known here, or onnxruntime can't quantise the network.
        ModelError: Its loss stops being a finite number.
    """
    with quantiser(source, samples.calibration.inputs) as network:
        # 1. The file as static quantisation makes it, as a network.
        _check_operators(source, samples.calibration.inputs[:_NUM_COMPARED])
        form = whole_form(Trials(network, path, source, samples), settings.reduce_range, kept)
        model = network.quantised(path, form)
        fake = FakeInt8(model, network.weights, form.bits)
        # 2. Its training.
        run = Trainer(fake, further.task, further.recipe, further.workplace)
        (result,) = fit([run])
        fake.load_state_dict(result.last)
        # 3. The file with what it has learned.
        _write(path, network, model, fake.cpu())
    return _facts(path, fake, samples, form.bits, run.settings.epochs * run.task.steps_per_epoch)


def _check_operators(source: Path, images: Integer[torch.Tensor, "images ..."]) -> None:
    """Raises ExportError where a network in float32 is another one here than in onnxruntime."""
    onnx, _ = onnx_libraries()
    expected = run_onnx(source, [images])
    try:
        found = _logits(FakeInt8(onnx.load(source), {}), images)
        difference = ((found - expected).abs().max() / expected.abs().max().clamp(min=1)).item()
    except ExportError:
        raise
    except Exception as error:  # an attribute that is not known here, or a shape
        raise ExportError("aware int8", f"can't be trained: {first_line(error)}") from error
    if not difference <= _TOLERANCE:
        found_text = f"a logit differs from onnxruntime's by {difference:.2g} of the largest"
        raise ExportError("aware int8", f"can't be trained: {found_text}", expected=f"at most {_TOLERANCE:g}")


def _write(path: Path, network: Quantiser, model: Any, fake: FakeInt8) -> None:
    """Writes the model with the tensors of the network that has learned."""
    onnx, _ = onnx_libraries()
    learned = fake.tensors()
    for tensor in model.graph.initializer:
        if tensor.name in learned:
            tensor.CopyFrom(onnx.numpy_helper.from_array(learned[tensor.name], tensor.name))
    network.save(path, model)


def _facts(path: Path, fake: FakeInt8, samples: Samples, bits: int, num_steps: int) -> AwareInt8:
    """Returns what the report says of the file, beside what was trained."""
    inputs = samples.checked.inputs
    keep = partial(kept_outputs, num_samples=len(inputs))
    found, trained = run_onnx(path, in_batches(inputs), keep), _logits(fake, inputs, keep)
    return AwareInt8(
        weight_bits=bits,
        num_steps=num_steps,
        num_checked=len(inputs),
        agreement=samples.signal.agreement(found, trained),
    )


@torch.no_grad()
def _logits(
    network: FakeInt8,
    images: Integer[torch.Tensor, "images ..."],
    keep: Keep = lambda outputs: outputs,
) -> Float[torch.Tensor, "images classes *grid"]:
    return torch.cat([keep(network(some)) for some in in_batches(images)])
