"""A network before its first step: its weights, its input size, the meaning of its outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Integer
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError, ModelError, placed
from pipeline.core.files import file_fingerprint, fingerprint
from pipeline.data.manifest import DatasetManifest
from pipeline.models import (
    Classifier,
    OnnxNetwork,
    Weights,
    build_network,
    check_settings,
    copy_network_file,
    find_misfits,
    is_fitted_at_once,
    is_for_inference_alone,
    load_weights,
    match_classes,
    network_copy,
    own_tokenizer,
    published_weights,
    read_weights,
    source_files,
)
from pipeline.models.answers import check_start
from pipeline.models.input_side import copy_input_files
from pipeline.models.output_kinds import OutputKind, check_meaning
from pipeline.models.saved import ModelMeta
from pipeline.models.weight_sets import choose_set
from pipeline.signals import signal_named
from pipeline.training.input_settings import InputSettings
from pipeline.training.recipe import FitSettings

PUBLISHED = "published"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkSettings:
    """The network and what it starts from: keys that teachers and students have in common.

    `weights` are null, `published`, or a file; with `new_head` all but the tensors that depend on
    the classes are taken from them. `weights_key` names one of several sets of weights in a file.
    `outputs` is the kind that the network gives; None: logits, and it is refused where they look
    like probabilities.
    """

    model: str
    model_settings: dict[str, Any]
    weights: str | None
    new_head: bool
    input: InputSettings | None
    weights_key: str | None = None
    outputs: OutputKind | None = None


def check_network(settings: NetworkSettings, fit: FitSettings, where: str) -> None:
    """Raises ConfigError or ModelError where keys contradict each other."""
    epochs = fit.epochs
    if settings.weights_key is not None and settings.weights in (None, PUBLISHED):
        raise ConfigError(f"{where}.weights_key", "given, and no file of weights", expected="null")
    if is_for_inference_alone(settings.model):
        if epochs > 0:
            raise ConfigError(f"{where}.fit.epochs", f"{epochs}", expected="0: an ONNX network can't be trained")
        if settings.weights is not None or settings.new_head:
            raise ConfigError(f"{where}.weights", "an ONNX file has its own", expected="weights: null, new_head: false")
    elif is_fitted_at_once(settings.model):
        if epochs > 0:
            expected = "0: an estimator is fitted at once, as a teacher; it can't be a student"
            raise ConfigError(f"{where}.fit.epochs", f"{epochs}", expected=expected)
        if settings.weights is not None or settings.new_head or settings.outputs is not None:
            found, expected = (
                "given with `new_head` or `outputs`, or alone",
                "weights: null, new_head: false, outputs: null",
            )
            raise ConfigError(f"{where}.weights", found, expected=expected)
    elif settings.weights is None:
        if epochs == 0:
            raise ConfigError(where, "epochs: 0 and no weights", expected="epochs, or weights to import")
        if settings.new_head:
            raise ConfigError(f"{where}.new_head", "true, and no weights", expected="weights that lack but the head")
        if fit.freeze_epochs >= epochs:
            found = f"{fit.freeze_epochs} of {epochs} epochs, and no weights: all but the head stays random"
            raise ConfigError(f"{where}.fit.freeze_epochs", found, expected="0, or weights to start from")
    elif settings.new_head and epochs == 0:
        raise ConfigError(f"{where}.new_head", "true, and epochs: 0", expected="epochs that train the head")
    with placed(where):
        check_settings(settings.model, settings.model_settings)


def origins(settings: NetworkSettings, where: str) -> dict[str, str | None]:
    """Returns fingerprints of the files that a network starts from.

    They decide whether it must be made again.

    Raises ConfigError or ModelError where one is missing.
    """
    files = [file_fingerprint(path) for path in source_files(settings.model)]
    found = {"weights": _origin_of_weights(settings, where), "network_file": fingerprint(files) if files else None}
    if settings.input and settings.input.tokenizer:
        path = Path(settings.input.tokenizer)
        if not path.is_file():
            raise ConfigError(f"{where}.input.tokenizer", f"{path}: no such file", expected="a tokenizer.json")
        found["tokenizer"] = file_fingerprint(path)
    return found


def _origin_of_weights(settings: NetworkSettings, where: str) -> str | None:
    if settings.weights is None:
        return None
    if settings.weights == PUBLISHED:
        library = settings.model.partition("/")[0]
        try:
            return f"{library} {version(library)}"
        except PackageNotFoundError:
            return PUBLISHED  # building says what is wrong
    path = Path(settings.weights)
    if not path.is_file():
        expected = f"a file of weights, or {PUBLISHED!r}"
        raise ConfigError(f"{where}.weights", f"{path}: no such file", expected=expected)
    return file_fingerprint(path)


class WeightClasses(NamedTuple):
    """The meaning of the outputs that imported weights have.

    Attributes:
        names: The classes of the outputs; None: as the weights name them, or else those of the
            data.
        groups: For a class of the data the classes of the weights that make it up; None: by name.
    """

    names: Sequence[str] | None = None
    groups: Mapping[str, Sequence[int | str]] | None = None


_AS_NAMED = WeightClasses()


class Start(NamedTuple):
    """A network before its first step, built as often as it is asked for.

    Attributes:
        folder: Where the copy of the network's own file is, if it has one.
        weights: None: it starts from random numbers.
        head: The tensors of the bare network that do not come from the weights.
        weights_key: The set of weights, where the file holds several.
        where: The network's place in `params.yaml`, for messages.
    """

    meta: ModelMeta
    folder: Path
    weights: Weights | None
    head: frozenset[str]
    weights_key: str | None
    where: str

    @classmethod
    def of(
        cls,
        settings: NetworkSettings,
        data: DatasetManifest,
        folder: Path,
        where: str,
        classes: WeightClasses = _AS_NAMED,
        prepared: Path | None = None,
    ) -> "Start":
        """Reads what the settings name, and puts the network's own file into `folder`.

        Args:
            prepared: The folder of the data set; networks of texts need it.

        Raises:
            ModelError, ConfigError: Weights, classes or inputs do not fit.
        """
        with placed(where):
            copy_network_file(settings.model, folder)
            given = settings.input or InputSettings()
            side = given.of_kind(data.kind.name, f"{where}.input")
            tokenizer = Path(given.tokenizer) if given.tokenizer else own_tokenizer(settings.model)
            copy_input_files(data.input, prepared, folder, tokenizer)
            meta = replace(ModelMeta.untrained(settings.model, settings.model_settings, data), side=side)
            weights = _weights(settings, meta, network_copy(settings.model, folder))
            meta = _with_input(meta, given, weights, f"{where}.input") if data.input is None else meta
            meta = replace(meta, outputs=settings.outputs or (weights.outputs if weights else None))
            head = meta.head(folder) if settings.new_head else frozenset()
        if weights is not None and not settings.new_head:
            names = classes.names or weights.class_names
            outputs = weights.num_outputs or len(names or data.class_names)
            groups = match_classes(data.class_names, names, classes.groups, outputs, where)
            meta = replace(meta, num_outputs=outputs, class_groups=groups)
        check_meaning(meta.outputs, meta.class_groups, signal_named(data.signal), where)
        return cls(meta, folder, weights, head, settings.weights_key, where)

    def with_recipe(self, recipe: dict[str, Any]) -> "Start":
        """Returns the start of a network whose description states these settings."""
        return self._replace(meta=replace(self.meta, settings=recipe))

    def build(self, seed: int) -> Classifier:
        """Returns the network with its weights; what these do not give is initialised from
        `seed`.
        """
        with placed(self.where):
            model = self.meta.build(seed, self.folder)
            if self.weights is not None:
                self._fill(model, self.weights)
        return model

    def check(self, model: Classifier, images: Integer[torch.Tensor, "some ..."]) -> None:
        """Raises ModelError where the network can't be relied on, judged by a few images."""
        with placed(self.where):
            check_start(model, self.meta, self.folder, images)

    def _fill(self, model: Classifier, weights: Weights) -> None:
        tensors = choose_set(weights.tensors, model.network, weights.where, self.weights_key, self.head)
        try:
            load_weights(model.network, tensors, weights.where, but=self.head)
        except ModelError:
            self._explain_head(model, tensors)
            raise
        for name, values in weights.buffers.items():
            getattr(model, name).copy_(values)

    def head_for(self, fit: FitSettings) -> frozenset[str]:
        """Returns the tensors that training treats otherwise than the rest, if it does."""
        return frozenset(f"network.{name}" for name in self.meta.head(self.folder)) if fit.spares_head else frozenset()

    def _explain_head(self, model: Classifier, tensors: Mapping[str, torch.Tensor]) -> None:
        """Raises ModelError where only the head does not fit."""
        assert self.weights is not None, "something did not fit"
        misfits = find_misfits(model.network, tensors)
        try:
            head = self.meta.head(self.folder)
        except ModelError:
            return
        if self.head or not misfits or not misfits.keys() <= head:
            return
        fix = "new_head: true trains another head; or say what its outputs are in teacher_classes"
        raise ModelError(self.weights.where, f"all fits but the head: {next(iter(misfits.values()))}", fix=fix)


def _weights(settings: NetworkSettings, meta: ModelMeta, copy: Path | None) -> Weights | None:
    """Returns the weights to start from, with what their maker declares."""
    if settings.weights == PUBLISHED:
        return published_weights(settings.model, settings.model_settings)
    if settings.weights is not None:
        weights = read_weights(Path(settings.weights))
        says = settings.input is not None and (settings.input.mean or settings.input.std)
        return replace(weights, buffers={}) if says else weights
    if not is_for_inference_alone(settings.model):
        return None
    network, channels = build_network(settings.model, settings.model_settings, 0, meta.image_shape[0], copy)
    assert isinstance(channels, int), "images have channels"
    assert isinstance(network, OnnxNetwork), "no other comes without weights"
    size = _size(settings.input) or network.size_px
    outputs = network.count_outputs([channels, *(size or meta.image_shape[1:])])
    return Weights({}, settings.model, num_outputs=outputs, size_px=network.size_px)


def _size(settings: InputSettings | None) -> list[int] | None:
    if settings is None or settings.size_px is None:
        return None
    size = settings.size_px
    return [size, size] if isinstance(size, int) else list(size)


def _with_input(meta: ModelMeta, settings: InputSettings, weights: Weights | None, where: str) -> ModelMeta:
    """Returns the description with the image size and normalisation that are to be used.

    They are as the settings say, or else the weights' maker, or else as they are.
    """
    known = weights or Weights({}, "")
    size = _size(settings) or known.size_px
    mean = settings.mean or known.mean or meta.mean
    std = settings.std or known.std or meta.std
    for key, values in {"mean": mean, "std": std}.items():
        if len(values) not in {1, meta.image_shape[0]} and (meta.image_shape[0], len(values)) != (1, 3):
            raise ConfigError(f"{where}.{key}", f"{len(values)} numbers", expected="one for each channel")
    if size == meta.image_shape[1:]:
        size = None
    return replace(meta, size_px=size, mean=list(mean), std=list(std))
