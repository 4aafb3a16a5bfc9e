"""The int8 file of a network: layers that lose too much stay in float32."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.core.progress import progress
from pipeline.data.input_kinds import IMAGE, WAVEFORM
from pipeline.export.libraries import ExportError, onnx_libraries
from pipeline.export.onnx_file import FRONT_END
from pipeline.export.quantization import Form, layer_name, quantiser
from pipeline.export.settings import Export
from pipeline.export.time_limit import time_limit
from pipeline.export.trials import Samples, Trials
from pipeline.results.export import Int8Layers

_ALIKE = 0.99  # of the images have the same likeliest class


def write_int8(
    path: Path,
    source: Path,
    samples: Samples,
    modules: Sequence[str],
    settings: Export,
    kept: frozenset[str] = frozenset(),
) -> Int8Layers:
    """Writes the network of an ONNX file in int8, within the loss that the settings allow.

    1. All that onnxruntime can quantise is in int8.
    2. Where that loses too much or can't be run: layers with weights alone.
    3. Where that does, too: the loss of each layer is measured alone, and as few of them as
       possible, the worst first, stay in float32.

    Args:
        modules: The name of the module that each node of the file comes from.
        kept: Nodes that stay in float32 whatever they would lose.

    Raises:
        ExportError: Not one layer can be in int8.
        TimeLimitError: It took longer than the settings allow.
    """
    limit = time_limit(settings.int8_seconds, "export.int8_seconds")
    with limit, quantiser(source, samples.calibration.inputs) as network:
        trials = Trials(network, path, source, samples)
        layers = [layer for layer in network.layers if layer not in kept]
        whole = whole_form(trials, settings.reduce_range, kept)
        form = whole if _within(trials, whole, settings) else _in_part(trials, layers, kept, settings)
        trials.write(form)
        float32 = [layer for layer in layers if layer in form.float32]
        return Int8Layers(
            weight_bits=form.bits,
            weights_alone=not form.whole,
            num_layers=len(layers),
            float32_layers=_names(float32, modules),
            float32_bytes=4 * sum(network.layers[layer] for layer in float32),
            num_checked=len(samples.checked),
            drop_points=trials.drop_points(form),
            whole_drop_points=None if math.isinf(drop := trials.drop_points(whole)) else drop,
            others=_others(path, samples, bool(kept)),
        )


def whole_form(trials: Trials, reduce_range: bool | None, kept: frozenset[str] = frozenset()) -> Form:
    """Returns the form in which all is in int8 that onnxruntime can quantise, except what is
    kept.
    """
    return _with_bits(trials, Form(whole=True, bits=8, float32=kept), reduce_range)


def _within(trials: Trials, form: Form, settings: Export) -> bool:
    return trials.drop_points(form) <= settings.max_int8_drop_points


def _with_bits(trials: Trials, form: Form, reduce_range: bool | None) -> Form:
    """Returns a form with 8 or 7 bits, as `reduce_range` says.

    None: 8, unless the network predicts other classes with them than in float32 on this processor,
    and is nearer to it with 7.
    """
    with_8, with_7 = (Form(form.whole, bits, form.float32) for bits in (8, 7))
    if reduce_range is not None:
        return with_7 if reduce_range else with_8
    return with_8 if trials.agreement(with_8) >= _ALIKE or trials.kl(with_8) <= trials.kl(with_7) else with_7


def _in_part(trials: Trials, layers: Sequence[str], kept: frozenset[str], settings: Export) -> Form:
    """Returns the form of layers with weights alone, with as few of them in float32 as the settings
    allow.
    """
    weights = _with_bits(trials, Form(whole=False, bits=8, float32=kept), settings.reduce_range)
    if _within(trials, weights, settings):
        return weights
    worst = _worst_first(trials, layers, kept, weights.bits)
    fewest, enough = 0, len(worst) - 1  # layers in float32
    if enough < 0 or not _within(trials, _keeping(weights, worst[:enough]), settings):
        most = f"{settings.max_int8_drop_points:g} points (export.max_int8_drop_points)"
        raise ExportError("int8", trials.fault or f"loses more than {most} even where a single layer is in int8")
    while fewest < enough:
        middle = (fewest + enough) // 2
        if _within(trials, _keeping(weights, worst[:middle]), settings):
            enough = middle
        else:
            fewest = middle + 1
    return _keeping(weights, worst[:enough])


def _worst_first(trials: Trials, layers: Sequence[str], kept: frozenset[str], bits: int) -> list[str]:
    """Returns the layers in the order of what each loses when it alone is in int8."""
    losses = {}
    with progress("export: int8, layer by layer", len(layers), "layer") as on_layer:
        for layer in layers:
            alone = Form(whole=False, bits=bits, float32=(kept | frozenset(layers)) - {layer})
            losses[layer] = trials.loss(alone)
            on_layer(1)
    return sorted(layers, key=lambda layer: -losses[layer])


def _keeping(form: Form, layers: Iterable[str]) -> Form:
    return Form(form.whole, form.bits, form.float32.union(layers))


def _names(layers: Iterable[str], modules: Sequence[str]) -> list[str]:
    """Returns the modules of layers."""
    places = {layer_name(index): name for index, name in enumerate(modules)}
    return [places.get(layer) or layer for layer in layers]


def front_end(modules: Sequence[str]) -> frozenset[str]:
    """Returns the nodes between samples and the network.

    Those of sounds stay in float32: the power of a spectrum has too wide a range for 8 bits.
    """
    return frozenset(layer_name(index) for index, name in enumerate(modules) if name == FRONT_END)


def _others(path: Path, samples: Samples, front: bool) -> list[str] | None:
    """Returns what else is in float32 in the file, in words; None of images, which have nothing
    like it.
    """
    if samples.calibration.content.kind is IMAGE:
        return None
    onnx, _ = onnx_libraries()
    graph = onnx.load(path).graph
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    tables = [
        4 * math.prod(tensor.dims)
        for tensor in graph.initializer
        if tensor.name in looked_up and tensor.data_type == onnx.TensorProto.FLOAT
    ]
    told = ["its front end"] if front and samples.calibration.content.kind is WAVEFORM else []
    return [*told, f"a table of embeddings ({sum(tables):,} bytes)"] if tables else told
