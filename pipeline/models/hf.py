"""Networks in a folder of Hugging Face's, `hf/<folder>`; the one file that imports transformers.

The folder is on this disk: `config.json`, weights in safetensors, `tokenizer.json`. Nothing is
downloaded, and no code in it is executed. A folder of a classifier gives that network; one without
a head (an encoder) gets a linear layer over the mean of its last features, which are its embedding.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import nn

from pipeline.core.errors import ModelError, suggest
from pipeline.core.files import write_json
from pipeline.models.classifier import EMBEDDING, LOGITS
from pipeline.models.weights import Weights

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
_HEAD = "ForSequenceClassification"
_COPIED = ("config", "before", "after")
#: Networks that number positions from the token of padding on, so that they have fewer.
_FROM_PADDING = ("roberta", "camembert", "mpnet", "longformer", "data2vec-text")


def is_folder(name: str) -> bool:
    """Returns whether a network's name is of this kind."""
    return name.startswith("hf/")


def folder_of(name: str) -> Path:
    """Returns the folder that a name is about."""
    return Path(name.removeprefix("hf/"))


def files(name: str) -> list[Path]:
    """Returns the files that a network comes in; raises ModelError where one is not there."""
    folder, where = folder_of(name), f"model {name!r}"
    if not folder.is_dir():
        raise ModelError(where, f"{folder}: no such folder", expected="a folder with config.json and weights")
    for needed in (CONFIG, TOKENIZER):
        if not (folder / needed).is_file():
            fix = (
                "write it with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`" if needed == TOKENIZER else ""
            )
            raise ModelError(where, f"no {needed} in {folder}", fix=fix)
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        others = sorted(path.name for path in (*folder.glob("*.bin"), *folder.glob("*.h5"), *folder.glob("*.msgpack")))
        beside = f", but {others[0]}, which would have to be executed" if others else ""
        fix = "write the weights as safetensors: `save_pretrained(...)`"
        raise ModelError(where, f"no safetensors in {folder}{beside}", fix=fix)
    return [folder / CONFIG, folder / TOKENIZER, *found]


def copy(name: str, to: Path) -> None:
    """Writes what builds the network, without its weights, to one file."""
    from pipeline.data.tokenizer_file import read_tokenizer

    folder = folder_of(name)
    tokenizer = read_tokenizer(folder / TOKENIZER)
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
    write_json(to, dict(zip(_COPIED, (_config(folder, name), whole[:start], whole[start + len(bare) :]), strict=True)))


def build(name: str, settings: Mapping[str, Any], num_outputs: int, num_tokens: int, file: Path | None) -> nn.Module:
    """Returns the network with random weights.

    Args:
        settings: Keys of its `config.json` that are changed, such as `hidden_dropout_prob`.
        num_tokens: Of the tokenizer that is used.
        file: The file that `copy` wrote.

    Raises:
        ModelError: It can't be built, or has not as many tokens as the tokenizer.
    """
    where = f"model {name!r}"
    assert file is not None, "who has a folder has a copy of what builds it"
    content, before, after = (json.loads(file.read_text())[key] for key in _COPIED)
    if unknown := [key for key in settings if key not in content]:
        raise ModelError(where, f"unknown setting {unknown[0]!r}", expected=suggest(unknown[0], list(content)))
    if content["vocab_size"] < num_tokens:
        found = f"has {content['vocab_size']:,} tokens, and the tokenizer {num_tokens:,}"
        raise ModelError(where, found, fix="leave out input.tokenizer: the folder has its own")
    library = _library(name)
    is_whole = _is_classifier(content)
    try:
        config = library.AutoConfig.for_model(**content | dict(settings) | {"num_labels": num_outputs})
        kind = library.AutoModelForSequenceClassification if is_whole else library.AutoModel
        network = kind.from_config(config, trust_remote_code=False)
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RuntimeError) as error:
        raise ModelError(where, f"can't be built ({str(error).splitlines()[0]})") from None
    ends = (torch.tensor(before, dtype=torch.int64), torch.tensor(after, dtype=torch.int64))
    most = _most_tokens(content)
    if is_whole:
        return HfClassifier(network, ends, most, config.pad_token_id or 0)
    return HfEncoder(network, ends, most, config.pad_token_id or 0, config.hidden_size, num_outputs)


class _HfNetwork(nn.Module):
    """A network that takes tokens plus 1, 0 behind the end, and puts the marks of its own beginning
    and end around them.

    Args:
        ends: The tokens before and behind a text.
        most: Longer texts are cut to so many tokens with these, as the network has no more
            positions.
    """

    before: torch.Tensor
    after: torch.Tensor

    def __init__(
        self, model: nn.Module, ends: tuple[torch.Tensor, torch.Tensor], most: int | None, padding: int
    ) -> None:
        super().__init__()
        self.model, self._padding = model, padding
        self._most = None if most is None else most - len(ends[0]) - len(ends[1])
        self.register_buffer("before", ends[0], persistent=False)
        self.register_buffer("after", ends[1], persistent=False)

    def _taken(self, tokens: Int64[torch.Tensor, "batch tokens"]) -> dict[str, torch.Tensor]:
        """Returns the arguments of the network."""
        tokens = tokens if self._most is None else tokens[:, : self._most]
        num_after = len(self.after)
        before, after = self.before.expand(tokens.shape[0], -1), self.after.expand(tokens.shape[0], -1)
        ids = F.pad(torch.cat([before + 1, tokens], dim=1), (0, num_after))
        ends = (ids > 0).sum(dim=1, keepdim=True)
        ids = ids.scatter(1, ends + torch.arange(num_after, device=ids.device), after + 1)
        there = ids > 0
        return {"input_ids": torch.where(there, ids - 1, self._padding), "attention_mask": there.long()}


class HfClassifier(_HfNetwork):
    """A classifier of Hugging Face's."""

    def forward(self, tokens: Int64[torch.Tensor, "batch tokens"]) -> torch.Tensor:
        logits: torch.Tensor = self.model(**self._taken(tokens)).logits
        return logits


class HfEncoder(_HfNetwork):
    """An encoder of Hugging Face's: the mean of its last features is the embedding, over which
    there is a linear layer.

    References:
        Nils Reimers, Iryna Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese
        BERT-Networks", 2019, arXiv 1908.10084, section 3 (the mean of the outputs).
    """

    def __init__(
        self,
        model: nn.Module,
        ends: tuple[torch.Tensor, torch.Tensor],
        most: int | None,
        padding: int,
        num_features: int,
        num_outputs: int,
    ) -> None:
        super().__init__(model, ends, most, padding)
        self.head = nn.Linear(num_features, num_outputs)

    def forward(self, tokens: Int64[torch.Tensor, "batch tokens"]) -> dict[str, torch.Tensor]:
        taken = self._taken(tokens)
        shown = taken["attention_mask"][:, :, None]
        features = self.model(**taken).last_hidden_state * shown
        embedding = features.sum(dim=1) / shown.sum(dim=1).clamp(min=1)
        return {LOGITS: self.head(embedding), EMBEDDING: embedding}


def published(name: str, settings: Mapping[str, Any]) -> Weights:
    """Returns the weights in the folder, by the names of the network that `build` returns.

    Raises ModelError where they can't be read.
    """
    where, folder, library = f"model {name!r}", folder_of(name), _library(name)
    files(name)
    content = _config(folder, name)
    is_whole = _is_classifier(content)
    kind = library.AutoModelForSequenceClassification if is_whole else library.AutoModel
    # Renamed tensors, those that are tied and those in several files are the library's matter.
    about = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False, "dtype": torch.float32}
    try:
        network, report = kind.from_pretrained(str(folder), output_loading_info=True, **about)
    except Exception as error:  # whatever a file that is damaged may raise
        found = f"weights can't be read ({type(error).__name__}: {str(error).splitlines()[0]})"
        raise ModelError(where, found, expected="weights as `save_pretrained` writes them") from None
    missing = set(report["missing_keys"])
    tensors = {f"model.{key}": tensor for key, tensor in network.state_dict().items() if key not in missing}
    names = [network.config.id2label[number] for number in range(network.config.num_labels)] if is_whole else None
    if names and all(label == f"LABEL_{number}" for number, label in enumerate(names)):
        names = None
    outputs = network.config.num_labels if is_whole else None
    return Weights(tensors, f"the weights in {folder}", num_outputs=outputs, class_names=names)


def _is_classifier(content: Mapping[str, Any]) -> bool:
    return any(name.endswith(_HEAD) for name in content.get("architectures") or ())


def _most_tokens(content: Mapping[str, Any]) -> int | None:
    """Returns how many positions a network has; None: as many as one likes."""
    most = content.get("max_position_embeddings")
    if most is None:
        return None
    from_padding = any(name in content["model_type"] for name in _FROM_PADDING)
    return int(most) - (content["pad_token_id"] + 1 if from_padding else 0)


def _config(folder: Path, name: str) -> dict[str, Any]:
    """Returns all settings of a network, the usual ones included."""
    where, path = f"model {name!r}", folder / CONFIG
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(where, f"{path} can't be read ({error})") from None
    if not isinstance(content, dict) or "model_type" not in content:
        raise ModelError(where, f"{path} names no model_type", expected="a config.json of transformers")
    try:
        config = _library(name).AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        found = f"{content['model_type']!r} is no network of transformers ({str(error).splitlines()[0]})"
        raise ModelError(where, found, fix="code of a folder's own is not executed") from None
    whole: dict[str, Any] = config.to_dict()
    whole["architectures"] = content.get("architectures")
    return {key: value for key, value in whole.items() if key not in ("transformers_version", "_name_or_path", "dtype")}


def _library(name: str) -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        fix = "`pip install -c constraints.txt transformers`"
        raise ModelError(f"model {name!r}", f"transformers can't be imported ({error})", fix=fix) from None
    transformers.utils.logging.set_verbosity_error()
    module: ModuleType = transformers
    return module
