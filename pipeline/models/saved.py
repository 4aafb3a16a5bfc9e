"""A trained network on disk: its weights, its description and its own file.

`weights.safetensors`, `meta.json` with all that is needed to build and use the network, and the
network's own file where it has one (`network.py`, `network.onnx`).
"""

import traceback
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import ModelError, repaired
from pipeline.core.files import file_fingerprint, fingerprint
from pipeline.core.sealed import read_sealed, write_sealed
from pipeline.core.tensors import read_tensors, write_tensors
from pipeline.data.input_kinds import FIRST_WORD, IMAGE, INPUT_KINDS, InputKind
from pipeline.data.manifest import DatasetManifest
from pipeline.data.signal_kinds import SignalKind
from pipeline.models import Classifier, ClassifierSpec, head_names, load_weights, network_copy
from pipeline.models.embedding import Embedded
from pipeline.models.estimators import check_rows
from pipeline.models.families import InputSize, check_kind
from pipeline.models.faults import place_of, reason
from pipeline.models.input_side import InputSide, input_side
from pipeline.models.output_kinds import OutputKind

META = "meta.json"


@dataclass(frozen=True)
class ModelMeta:
    """The description of a trained network: what it was trained for, and its validation figures.

    Attributes:
        image_shape: Of the data, one of its samples; `size_px` is what the network has its images
            resized to, None: to nothing.
        num_outputs: Of the network, and `class_groups` those that stand for each class; None: a
            class has one, the same.
        outputs: The kind that the network is said to give; None: nothing is said, they are logits.
        signal: The signal of the data that it was trained for.
        input: What the data states about samples that are no images, and `side` the settings by
            which the network takes them.
        files: The fingerprints of the files beside the description, by their names.
    """

    model: str
    model_settings: dict[str, Any]
    class_names: list[str]
    image_shape: list[int]
    mean: list[float]
    std: list[float]
    settings: dict[str, Any]
    precision: str
    val: dict[str, Any]
    size_px: list[int] | None = None
    num_outputs: int | None = None
    class_groups: list[list[int]] | None = None
    outputs: OutputKind | None = None
    signal: SignalKind = "categorical"
    input: dict[str, Any] | None = None
    side: dict[str, Any] | None = None
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def untrained(
        cls, model: str, model_settings: dict[str, Any], data: DatasetManifest, settings: dict[str, Any] | None = None
    ) -> "ModelMeta":
        """Returns the description of a network that is to be trained on a data set by `settings`.

        It has that data's normalisation.
        """
        pixels, recipe = (data.image_shape, data.mean, data.std), settings or {}
        facts = data.input
        return cls(model, model_settings, data.class_names, *pixels, recipe, "", {}, signal=data.signal, input=facts)

    @property
    def kind(self) -> InputKind:
        """The kind of samples that it takes."""
        return INPUT_KINDS[(self.input or {"kind": "image"})["kind"]]

    def blank(self, count: int = 1) -> torch.Tensor:
        """Returns samples as it takes them, all the same."""
        return torch.from_numpy(self.kind.blank(self.image_shape, count))

    def random(self) -> torch.Tensor:
        """Returns one sample of random numbers, as long as samples are: to time a network with."""
        facts, kind = self.input or {}, self.kind
        last_word = FIRST_WORD + facts.get("num_words", 1) - 1
        ends = {"image": (0, 255), "tokens": (FIRST_WORD, last_word), "waveform": (-(1 << 15), (1 << 15) - 1)}
        low, high = ends.get(kind.name, (0, 1 << 30))
        draws, dtype = torch.Generator().manual_seed(0), self.blank().dtype
        sample = torch.randint(low, high + 1, (1, *self.image_shape), dtype=dtype, generator=draws)
        columns = [column["num_codes"] for column in facts.get("columns", [])]
        return sample % torch.tensor(columns, dtype=dtype) if columns else sample

    def trained(self, precision: str, val: dict[str, Any]) -> "ModelMeta":
        """Returns the description after training."""
        return replace(self, precision=precision, val=val)

    def build(self, seed: int = 0, folder: Path | None = None) -> Classifier:
        """Returns the network with fresh weights; raises ModelError where it does not fit the
        images.

        Args:
            folder: Where the copy of the network's own file is; only who has such a file needs it.
        """
        check_kind(self.model, self.kind.name)
        check_rows(self.model, self.kind.name)
        model = ClassifierSpec(
            self.model,
            self.model_settings,
            num_classes=len(self.class_names),
            channels=self.image_shape[0],
            mean=self.mean,
            std=self.std,
            size_px=self.size_px,
            groups=self.class_groups,
            num_outputs=self.num_outputs,
            outputs=self.outputs or "logits",
            signal=self.signal,
            side=self._side(folder),
        ).build(seed, file=self._own_file(folder))
        self._try(model)
        return model.train()

    @property
    def own_files(self) -> dict[str, str]:
        """The fingerprints of the network's own files, which no library has."""
        return {name: digest for name, digest in self.files.items() if name.startswith("network.")}

    def check_data(self, data: DatasetManifest, folder: Path, made_by: str) -> None:
        """Raises ModelError where it was trained for other classes or images than a data set
        has.
        """
        for what, own, wanted in (
            ("classes", self.class_names, data.class_names),
            ("kinds of samples", self.kind, data.kind),
            (data.kind.things, self.image_shape, data.image_shape),
            (f"{data.kind.things} (what their numbers mean has changed)", self.input, data.input),
            ("kinds of labels", self.signal, data.signal),
        ):
            if own != wanted:
                found = f"was trained for other {what} than data/prepare has"
                raise ModelError(folder, found, fix=f"run `dvc repro {made_by}`")

    def to_dict(self) -> dict[str, Any]:
        """Returns the description as plain values; a signal is named where it is not the usual one,
        and an input where it is no image.
        """
        values = asdict(self)
        usual = {"signal": "categorical", "input": None, "side": None}
        return {key: value for key, value in values.items() if key not in usual or value != usual[key]}

    def head(self, folder: Path | None = None) -> frozenset[str]:
        """Returns the names of the bare network's tensors that depend on the number of classes.

        `folder` is as for `build`.
        """
        outputs = self.num_outputs or len(self.class_names)
        return head_names(self.model, self.model_settings, outputs, self.input_size(folder), self._own_file(folder))

    def input_size(self, folder: Path | None = None) -> InputSize:
        """Returns what the network is told of its inputs; `folder` is as for `build`."""
        side = self._side(folder)
        return self.image_shape[0] if side is None else side.size

    def _side(self, folder: Path | None) -> InputSide | None:
        return input_side(self.input, self.side or {}, folder)

    def embedded(self, model: Classifier, folder: Path | None = None) -> Embedded:
        """Returns a network of this description with its embedding; raises ModelError where it has
        none.

        `folder` is as for `build`.
        """
        return Embedded.of(model, self.blank(), partial(self.head, folder))

    def _own_file(self, folder: Path | None) -> Path | None:
        return None if folder is None else network_copy(self.model, folder)

    def _try(self, model: Classifier) -> None:
        """Sends one sample through the network as it will be used."""
        thing = self.kind.thing
        try:
            with torch.no_grad():
                found = tuple(model.eval()(self.blank()).shape)
        except ModelError:
            raise
        except Exception as error:  # a network of a library or of a user may raise anything
            size = " x ".join(map(str, [self.image_shape[0], *(self.size_px or self.image_shape[1:])]))
            place = place_of(traceback.walk_tb(error.__traceback__), model) or f"model {self.model!r}"
            fix = "input: {size_px: ...} resizes them" if self.kind == IMAGE else ""
            raise ModelError(place, f"can't take {self.kind.things} of {size} ({reason(error)})", fix=fix) from error
        if found[:2] != (1, len(self.class_names)):
            expected = f"{(1, len(self.class_names), *found[2:])}: one logit per class"
            raise ModelError(f"model {self.model!r}", f"outputs of shape {found} for one {thing}", expected=expected)


def write_model(
    folder: Path, meta: ModelMeta, weights: dict[str, torch.Tensor], **others: dict[str, torch.Tensor]
) -> None:
    """Writes a network beside its own file; `others` are further weights, each to a file of that
    name.
    """
    for name, tensors in {"weights": weights, **others}.items():
        write_tensors(folder / f"{name}.safetensors", tensors)
    files = {path.name: file_fingerprint(path) for path in sorted(folder.iterdir()) if path.name != META}
    write_sealed(folder / META, replace(meta, files=files).to_dict())


def read_meta(folder: Path, *, made_by: str) -> ModelMeta:
    """Returns a network's description; raises DataError or ModelError where it can't be read."""
    path = folder / META
    try:
        return ModelMeta(**read_sealed(path, made_by=made_by))
    except TypeError as error:
        raise ModelError(path, f"not a network's description ({error})", fix=repaired(made_by)) from None


def read_model(folder: Path, *, made_by: str, weights: str = "weights") -> Classifier:
    """Returns the trained network in eval mode; nothing but its folder is needed.

    Raises what `read_meta` raises, and ModelError where a file is not the one that was written.
    """
    meta = read_meta(folder, made_by=made_by)
    path = folder / f"{weights}.safetensors"
    for name in [*meta.own_files, path.name]:
        _check_file(folder / name, meta, made_by)
    model = meta.build(folder=folder)
    load_weights(model, read_tensors(path, made_by=made_by), path)
    return model.eval()


def _check_file(path: Path, meta: ModelMeta, made_by: str) -> None:
    """Raises ModelError where a file is missing, or not as it was when its network was written."""
    if not path.exists() or file_fingerprint(path) != meta.files.get(path.name):
        found = f"not the file that {META} was written with" if path.exists() else "no such file"
        raise ModelError(path, found, fix=repaired(made_by))


def model_fingerprint(folder: Path) -> str:
    """Returns 32 hex digits of the weights, and of the network's own file where it has one."""
    weights = file_fingerprint(folder / "weights.safetensors")
    own = [file_fingerprint(path) for path in sorted(folder.glob("network.*"))]
    return fingerprint([weights, *own]) if own else weights
