"""Networks in folders of Hugging Face's: the logits that the library itself gives for a text."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import MOST_WORDS, VOCABULARY, content_of, make_kind_split, write_kind
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pipeline.core.errors import PipelineError
from pipeline.data.dataset import ImageDataset
from pipeline.models import hf
from pipeline.models.saved import ModelMeta, read_model, write_model
from pipeline.training.start import InputSettings, NetworkSettings, Start

transformers = pytest.importorskip("transformers")

_SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def tokenizer() -> Tokenizer:
    """Makes a tokenizer of words, with marks before and behind a text."""
    known = [*_SPECIAL, *VOCABULARY]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(known)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made


def write_folder(folder: Path, kind: str = "bert", head: bool = True, classes: int = 3, **changes: Any) -> Path:
    """Writes a network with random weights as the library writes it."""
    torch.manual_seed(0)
    configs = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig}
    config = configs[kind](
        **_SMALL | {"vocab_size": len(_SPECIAL) + len(VOCABULARY), "num_labels": classes, "pad_token_id": 0} | changes
    )
    named = {
        ("bert", True): transformers.BertForSequenceClassification,
        ("roberta", True): transformers.RobertaForSequenceClassification,
        ("bert", False): transformers.BertModel,
    }
    network = named[kind, head](config)
    network.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kind(tmp_path_factory.mktemp("data") / "prepare", "tokens", (12, 6, 6))


def start(folder: Path, data: Path, to: Path, **changes: Any) -> Start:
    to.mkdir(parents=True, exist_ok=True)
    values = {"model": f"hf/{folder}", "model_settings": {}, "weights": "published", "new_head": False, "input": None}
    settings = NetworkSettings(**values | changes)
    return Start.of(settings, ImageDataset(data).manifest, to, "teacher", prepared=data)


def texts() -> list[str]:
    words, split = content_of("tokens").words, make_kind_split("tokens", 8)
    return [" ".join(words[number] for number in row if number) for row in split.inputs.tolist()]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_logits_are_those_of_the_library(kind: str, data: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hf", kind)
    model = start(folder, data, tmp_path / "to").build(0).eval()
    theirs, cut = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval(), tokenizer()
    with torch.no_grad():
        found = model(make_kind_split("tokens", 8).inputs)
        for text, logits in zip(texts(), found, strict=True):
            expected = theirs(input_ids=torch.tensor([cut.encode(text).ids])).logits[0]
            assert torch.allclose(logits, expected, atol=1e-5)


def test_a_text_longer_than_its_positions_is_cut(data: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hf", max_position_embeddings=6)
    model = start(folder, data, tmp_path / "to").build(0).eval()
    long = make_kind_split("tokens", 8).inputs
    short = long.clone()
    short[:, 4:] = 0
    with torch.no_grad():
        assert torch.allclose(model(long), model(short), atol=1e-6)


def test_a_saved_network_needs_nothing_but_its_folder(data: Path, tmp_path: Path) -> None:
    folder, to = write_folder(tmp_path / "hf"), tmp_path / "to"
    begun = start(folder, data, to)
    model = begun.build(0).eval()
    write_model(to, begun.meta, model.state_dict())
    shutil.rmtree(folder)
    inputs = make_kind_split("tokens", 8).inputs
    with torch.no_grad():
        assert torch.equal(read_model(to, made_by="train_teacher")(inputs), model(inputs))


def test_a_traced_network_takes_texts_of_any_number_and_length(data: Path, tmp_path: Path) -> None:
    portable = start(write_folder(tmp_path / "hf"), data, tmp_path / "to").build(0).eval().portable()
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=500)}
    some = torch.randint(0, 20, (3, 9)).sort(dim=1, descending=True).values
    traced = torch.export.export(portable.network, (some,), dynamic_shapes=(axes,)).module()
    for shape in ((1, 4), (5, 30)):
        tokens = torch.randint(0, 20, shape).sort(dim=1, descending=True).values
        assert torch.allclose(traced(tokens), portable.network(tokens), atol=1e-5)


def test_an_encoder_gives_the_mean_of_its_features(data: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hf", head=False)
    begun = start(folder, data, tmp_path / "to", new_head=True)
    model = begun.build(0)
    logits, embedding = begun.meta.embedded(model, tmp_path / "to").eval()(make_kind_split("tokens", 8).inputs)
    theirs, cut = transformers.AutoModel.from_pretrained(folder).eval(), tokenizer()
    for text, vector in zip(texts(), embedding, strict=True):
        features = theirs(input_ids=torch.tensor([cut.encode(text).ids])).last_hidden_state[0]
        assert torch.allclose(vector, features.mean(dim=0), atol=1e-5)
    assert logits.shape == (8, 3)


def test_a_text_of_no_words_has_logits(data: Path, tmp_path: Path) -> None:
    model = start(write_folder(tmp_path / "hf"), data, tmp_path / "to").build(0).eval()
    assert model(torch.zeros(2, MOST_WORDS, dtype=torch.int32)).isfinite().all()


def test_another_head_is_trained_from_its_weights(data: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hf", classes=7)
    with pytest.raises(PipelineError, match=r"7 outputs|7 classes|new_head"):
        start(folder, data, tmp_path / "a").build(0)
    model = start(folder, data, tmp_path / "b", new_head=True).build(0)
    kept = load_file(folder / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    assert torch.equal(model.network.model.bert.embeddings.word_embeddings.weight, kept)


def break_(folder: Path, what: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    if what == "pickle":
        weights.rename(folder / "pytorch_model.bin")
    elif what == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif what == "own code":
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
        (folder / "mine.py").write_text("raise SystemExit('executed')")
    elif what == "damaged":
        weights.write_bytes(weights.read_bytes()[:100])
    elif what == "lacks a layer":
        tensors = load_file(weights)
        save_file({key: value for key, value in tensors.items() if "layer.1" not in key}, weights, {"format": "pt"})
    elif what == "no json":
        (folder / "config.json").write_text("{")
        return
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("pickle", r"no safetensors in .*pytorch_model\.bin, which would have to be executed"),
        ("no tokenizer", r"no tokenizer\.json in"),
        ("own code", r"'mine' is no network of transformers.*code of a folder's own is not executed"),
        ("damaged", r"weights can't be read"),
        ("lacks a layer", r"layer\.1"),
        ("no json", r"config\.json can't be read"),
    ],
)
def test_a_folder_that_is_not_whole_is_a_line(what: str, line: str, data: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hf")
    break_(folder, what)
    with pytest.raises(PipelineError, match=line) as caught:
        start(folder, data, tmp_path / "to").build(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model_settings": {"hiden_size": 3}}, r"unknown setting 'hiden_size'.*hidden_size"),
        ({"model": "hf/nowhere"}, r"nowhere: no such folder"),
        ({"input": InputSettings(size_px=3)}, r"input\.size_px: given, and the data is texts"),
    ],
    ids=["setting", "nowhere", "size"],
)
def test_settings_that_do_not_fit_are_a_line(changes: dict[str, Any], line: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=line):
        start(write_folder(tmp_path / "hf"), data, tmp_path / "to", **changes).build(0)


def test_images_are_not_for_it(data: Path, tmp_path: Path) -> None:
    begun = start(write_folder(tmp_path / "hf"), data, tmp_path / "to")
    meta = ModelMeta(begun.meta.model, {}, ["a", "b"], [1, 8, 8], [0.5], [0.5], {}, "", {})
    with pytest.raises(PipelineError, match="is for texts, and the data is images"):
        meta.build(folder=tmp_path / "to")


def test_other_networks_go_without_the_library() -> None:
    assert not hf.is_folder("hf.py:build")
