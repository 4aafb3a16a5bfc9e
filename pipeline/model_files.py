"""A trained network on disk: `weights.safetensors`, and `meta.json` with all that is needed to build and use it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts import file_fingerprint, read_json, read_tensors, write_json, write_tensors
from pipeline.datasets import DatasetManifest
from pipeline.errors import ModelError
from pipeline.models import Classifier, build_model, load_weights


@dataclass(frozen=True)
class ModelMeta:
    """What a trained network is, what it was trained for, and how well it did on the validation split."""

    model: str
    model_settings: dict[str, Any]
    class_names: list[str]
    image_shape: list[int]
    mean: list[float]
    std: list[float]
    settings: dict[str, Any]
    precision: str
    val: dict[str, Any]

    @classmethod
    def untrained(
        cls, model: str, model_settings: dict[str, Any], data: DatasetManifest, settings: dict[str, Any]
    ) -> "ModelMeta":
        """Of a network that is to be trained on a data set by `settings`, with that data's normalisation."""
        return cls(model, model_settings, data.class_names, data.image_shape, data.mean, data.std, settings, "", {})

    def trained(self, precision: str, val: dict[str, Any]) -> "ModelMeta":
        """The same network after training."""
        return replace(self, precision=precision, val=val)

    def build(self, seed: int = 0) -> Classifier:
        """The network with fresh weights; raises ModelError where it does not fit the images."""
        model = build_model(
            self.model,
            self.model_settings,
            num_classes=len(self.class_names),
            channels=self.image_shape[0],
            mean=self.mean,
            std=self.std,
            seed=seed,
        )
        try:
            with torch.no_grad():
                found = tuple(model.eval()(torch.zeros(1, *self.image_shape, dtype=torch.uint8)).shape)
        except RuntimeError as error:
            size = " x ".join(map(str, self.image_shape))
            reason = str(error).splitlines()[0]
            raise ModelError(f"model {self.model!r}", f"can't take images of {size} ({reason})") from None
        if found != (1, len(self.class_names)):
            expected = f"{(1, len(self.class_names))}: one logit per class"
            raise ModelError(f"model {self.model!r}", f"outputs of shape {found} for one image", expected=expected)
        return model.train()


def write_model(
    folder: Path, meta: ModelMeta, weights: dict[str, torch.Tensor], **others: dict[str, torch.Tensor]
) -> None:
    """Writes a network; `others` are further weights of it, each to a file of that name."""
    for name, tensors in {"weights": weights, **others}.items():
        write_tensors(folder / f"{name}.safetensors", tensors)
    write_json(folder / "meta.json", asdict(meta))


def read_meta(folder: Path, *, made_by: str) -> ModelMeta:
    """Raises DataError or ModelError where there is no readable `meta.json`."""
    path = folder / "meta.json"
    try:
        return ModelMeta(**read_json(path, made_by=made_by))
    except TypeError as error:
        raise ModelError(path, f"not a network's description ({error})", mend=f"run `dvc repro {made_by}`") from None


def read_model(folder: Path, *, made_by: str, weights: str = "weights") -> Classifier:
    """The trained network, in eval mode."""
    model = read_meta(folder, made_by=made_by).build()
    path = folder / f"{weights}.safetensors"
    load_weights(model, read_tensors(path, made_by=made_by), path)
    return model.eval()


def model_fingerprint(folder: Path) -> str:
    """32 hex digits of the weights."""
    return file_fingerprint(folder / "weights.safetensors")
