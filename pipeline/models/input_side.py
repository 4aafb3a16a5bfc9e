"""The way from samples that are no images to a network: built from the facts that a data set states
about its inputs, and from files that are kept beside the weights.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.core.errors import ModelError, repaired
from pipeline.data.content_files import TOKENIZER, WORDS, read_content_words
from pipeline.models.classifier import Classifier, Outputs

_OWN = "network."  # the beginning of the names of files that are kept beside the weights


class InputSide(ABC):
    """The way from samples of one kind to a network.

    Attributes:
        size: What the network is told of its inputs: `InputSize` of families.py.
    """

    size: int | list[int]

    @abstractmethod
    def classifier(self, network: nn.Module, outputs: Outputs) -> Classifier:
        """Returns the network with all that stands before it."""


@dataclass(frozen=True)
class _Sound(InputSide):
    rate_hz: int
    settings: Mapping[str, Any]

    @property
    def size(self) -> int:  # type: ignore[override]
        return 1

    def classifier(self, network: nn.Module, outputs: Outputs) -> Classifier:
        from pipeline.models.sound_classifier import SoundClassifier, Spectra

        return SoundClassifier(network, self.rate_hz, Spectra.of(self.settings, "input"), outputs)


@dataclass(frozen=True)
class _Row(InputSide):
    columns: list[dict[str, Any]]

    @property
    def size(self) -> list[int]:  # type: ignore[override]
        return [column["num_codes"] for column in self.columns]

    def classifier(self, network: nn.Module, outputs: Outputs) -> Classifier:
        from pipeline.models.row_classifier import RowClassifier

        return RowClassifier(network, outputs)


@dataclass(frozen=True)
class _Text(InputSide):
    folder: Path
    words_digest: str
    settings: Mapping[str, Any]

    @property
    def size(self) -> int:  # type: ignore[override]
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def _tokenizer(self) -> Any:
        from pipeline.data.tokenizer_file import read_tokenizer  # with tokenizers, which images do without

        return read_tokenizer(self.folder / f"{_OWN}{TOKENIZER}")

    def classifier(self, network: nn.Module, outputs: Outputs) -> Classifier:
        from pipeline.models.text_classifier import TextClassifier

        words = read_content_words(self.folder / f"{_OWN}{WORDS}", self.words_digest)
        return TextClassifier(network, words, self._tokenizer, self.settings.get("max_tokens", 512), outputs)


def input_side(facts: Mapping[str, Any] | None, settings: Mapping[str, Any], folder: Path | None) -> InputSide | None:
    """Returns what stands before a network; None where samples are images.

    Args:
        facts: What the data set states about its inputs (`DatasetManifest.input`).
        settings: The settings of the network's own side of it.
        folder: The folder of the network's weights, where `copy_input_files` put what it needs.
    """
    kind = None if facts is None else facts["kind"]
    if facts is None:
        return None
    if kind == "waveform":
        return _Sound(facts["rate_hz"], settings)
    if kind == "row":
        return _Row(facts["columns"])
    if folder is None:
        raise ModelError("a network of texts", "has no folder", fix=repaired("train_teacher"))
    return _Text(folder, facts["words"], settings)


def copy_input_files(facts: Mapping[str, Any] | None, data: Path | None, folder: Path, tokenizer: Path | None) -> None:
    """Copies what a network needs of a data set into the folder of its weights.

    Args:
        data: The folder of the data set.
        tokenizer: The network's own; None: the data set's.
    """
    if facts is None or facts["kind"] != "tokens":
        return
    assert data is not None, "texts have a folder"
    shutil.copyfile(data / WORDS, folder / f"{_OWN}{WORDS}")
    own = tokenizer or data / TOKENIZER
    if not own.is_file():
        raise ModelError(own, "no such file", expected="a tokenizer.json")
    shutil.copyfile(own, folder / f"{_OWN}{TOKENIZER}")
