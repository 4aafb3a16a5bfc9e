"""Whether a network can be relied on: the same image has the same logits, whenever, in whatever
batch, and after the network was written and read again.

A network has a try before its first step, and again when it is trained; both take few images.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import nn

from pipeline.core.errors import ModelError, listed
from pipeline.models.classifier import Classifier
from pipeline.models.faults import naming_faults
from pipeline.models.output_kinds import check_kind
from pipeline.models.saved import ModelMeta, read_model, write_model
from pipeline.models.weights import load_weights

SOME = 8  # images
_SEED = 0x5EEDF00D  # of a network that is built to be filled with another one's weights
# Shares of the spread of the logits, above the rounding of any number format. What is random, or of
# another batch, moves them by about all of it; a file that quantises its activations by the batch
# moves them by some percent.
_SAME, _ALONE = 0.01, 0.05
_ROUNDING = 1e-6

Pixels = Integer[torch.Tensor, "some ..."]
Logits = Float[torch.Tensor, "some classes *grid"]


def check_answers(model: Classifier, meta: ModelMeta, images: Pixels) -> Logits:
    """Returns the logits of a few images.

    Raises ModelError where they are not finite, not of the kind that they are said to be, or not a
    function of each image alone.
    """
    where = f"model {meta.model!r}"
    outputs = _outputs(model, images)
    logits = model.to_logits(outputs)
    _need_finite(logits, meta)
    check_kind(outputs, meta.outputs, where)
    if _differ(_logits(model, images, seed=1), logits, _limit(logits, _SAME)):
        found = "gives other outputs for the same images a second time"
        fix = "leave out what is random in eval mode: F.dropout(x, training=self.training)"
        raise ModelError(where, found, expected="the same", fix=fix)
    for place in (0, len(images) - 1):
        alone = _logits(model, images[place : place + 1])
        if _differ(alone, logits[place : place + 1], _limit(logits, _ALONE)):
            raise ModelError(where, "gives an image other outputs alone than in a batch", fix=_batch_fix(model))
    return logits


def check_start(model: Classifier, meta: ModelMeta, folder: Path, images: Pixels) -> None:
    """Raises ModelError where a network can't be relied on before its first step: `check_answers`,
    and its weights alone must make it the same network again.

    Args:
        folder: Where the copy of the network's own file is, if it has one.
    """
    logits = check_answers(model, meta, images)
    other = meta.build(_SEED, folder).to(_device(model))
    load_weights(other, model.state_dict(), f"model {meta.model!r}")
    _need_same(model, other, logits, images)


def write_checked(
    folder: Path, meta: ModelMeta, model: Classifier, images: Pixels, **others: dict[str, torch.Tensor]
) -> None:
    """Writes a trained network as `write_model` does, and reads it back.

    Raises ModelError where it can't be relied on, or is not the same network when it is read.
    """
    logits = check_answers(model, meta, images)
    write_model(folder, meta, model.state_dict(), **others)
    _need_same(model, read_model(folder, made_by=folder.name).to(_device(model)), logits, images)


def _device(model: nn.Module) -> torch.device:
    return next(model.buffers()).device


def _logits(model: Classifier, images: Pixels, seed: int = 0) -> Logits:
    return model.to_logits(_outputs(model, images, seed))


def _outputs(model: Classifier, images: Pixels, seed: int = 0) -> Float[torch.Tensor, "some outputs *grid"]:
    """Returns the outputs in eval mode; what is random draws by `seed`, and the random numbers of
    others are left alone.
    """
    was_training, device = model.training, _device(model)
    model.eval()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), naming_faults(model):
            torch.manual_seed(seed)
            with torch.inference_mode():
                return model.outputs(images.to(device))
    finally:
        model.train(was_training)


def _need_finite(logits: Logits, meta: ModelMeta) -> None:
    values = logits.reshape(*logits.shape[:2], -1)  # with one place, or those of a map
    wrong = ~torch.isfinite(values)
    if not wrong.any():
        return
    number = int(wrong.sum(dim=(0, 2)).argmax())
    value, count = float(values[:, number][wrong[:, number]][0]), int(wrong[:, number].any(dim=1).sum())
    found = f"its output for class {meta.class_names[number]!r} is {value} for {count} of {len(logits)} images"
    fix = "to switch a class off, give it a large negative number (-1e4)" if value == -torch.inf else ""
    raise ModelError(f"model {meta.model!r}", found, expected="finite numbers", fix=fix)


def _limit(logits: Logits, share: float) -> float:
    """Returns a share of the spread of logits."""
    return share * float(logits.max() - logits.min()) + _ROUNDING


def _differ(one: Logits, other: Logits, limit: float) -> bool:
    return not float((one - other).abs().max()) <= limit  # so that NaN differs


def _batch_fix(model: nn.Module) -> str:
    """Returns what to do about a network that mixes the images of a batch."""
    norms = [
        name.removeprefix("network.")
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is None
    ]
    if norms:
        return f"let {listed(norms)} keep statistics (track_running_stats=True)"
    return "use no statistics of the batch in eval mode (F.batch_norm(..., training=self.training))"


def _need_same(model: Classifier, read: Classifier, logits: Logits, images: Pixels) -> None:
    """Raises ModelError where a network that was read has other logits than the one before."""
    if not _differ(_logits(read, images), logits, _limit(logits, _SAME)):
        return
    before, after = dict(_strays(model)), dict(_strays(read))
    lost = [name for name, value in before.items() if name not in after or not np.array_equal(value, after[name])]
    found = "gives other outputs when it is built and read again"
    found += f": {listed(lost)} decides them and is not among its weights" if lost else ""
    fix = "make it a buffer: self.register_buffer(name, tensor)"
    raise ModelError(f"model {model.name!r}", found, expected="parameters and buffers that decide all", fix=fix)


def _strays(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yields the tensors and arrays of a network that its weights do not hold, by name."""
    for prefix, module in model.named_modules():
        unsaved = {name: module._buffers[name] for name in module._non_persistent_buffers_set}
        for name, value in (vars(module) | unsaved).items():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(one, (torch.Tensor, np.ndarray)):
                    array = one.detach().cpu().numpy() if isinstance(one, torch.Tensor) else one
                    yield f"{prefix}.{name}".removeprefix("network."), array
