"""Networks of texts: the tokens of words, and families that see nothing behind a text's end."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import VOCABULARY, write_kind
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from pipeline.core.closure import TOP
from pipeline.core.errors import ModelError, PipelineError
from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import FIRST_WORD, MASKED, PAD
from pipeline.data.tokenizer_file import read_tokenizer
from pipeline.models.families import build, families_for
from pipeline.models.saved import ModelMeta
from pipeline.models.text_classifier import TextClassifier
from pipeline.models.word_tokens import choose_prefix, tokens_of
from pipeline.training.start import InputSettings, NetworkSettings, Start

SETTINGS: dict[str, dict[str, Any]] = {
    "bag_small": {"width": 6},
    "textconv_small": {"width": 6, "depth": 2},
    "transformer_small": {"width": 8, "depth": 2, "heads": 2},
}
EACH = pytest.mark.parametrize("name", SETTINGS)
WORDS = ("", "", "a", "bank", "don't", "naïve", "of", "rivers", "“quoted”")
TEXTS = torch.tensor([[3, 5, 1, 6, 7, 8, 4, 2], [7, 0, 0, 0, 0, 0, 0, 0], [0] * 8], dtype=torch.int32)


def pairs(prefix: bool, words: tuple[str, ...] = WORDS) -> Tokenizer:
    """Makes a tokenizer of byte pairs; without a prefix, words in a text have other tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        [" ".join(words)] * 5,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=["[UNK]", "[MASK]"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return made


class Tokens(torch.nn.Module):
    """A network that gives its tokens."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.float()


@pytest.mark.parametrize("prefix", [True, False])
def test_tokens_of_a_text_are_those_of_the_tokenizer(prefix: bool) -> None:
    tokenizer = pairs(prefix)
    model = TextClassifier(Tokens(), WORDS, tokenizer, 100)
    assert model.prefix == ("" if prefix else " ")
    for row, taken in zip(TEXTS.tolist(), model.to_network(TEXTS).tolist(), strict=True):
        parts = [[tokenizer.token_to_id("[MASK]")]] if MASKED in row else []
        before, _, after = (
            (row[: row.index(MASKED)], None, row[row.index(MASKED) + 1 :]) if MASKED in row else (row, None, [])
        )
        pieces = [" ".join(WORDS[number] for number in part if number != PAD) for part in (before, after)]
        # A space before each: a text of this tokenizer in the middle of a longer one.
        ids = [tokenizer.encode(f" {piece}" if not prefix else piece).ids if piece else [] for piece in pieces]
        expected = [*ids[0], *(parts[0] if parts else []), *ids[1]]
        assert [token - 1 for token in taken if token] == expected


def test_a_text_is_cut_to_the_most_tokens() -> None:
    whole = TextClassifier(Tokens(), WORDS, pairs(True), 100).to_network(TEXTS)
    cut = TextClassifier(Tokens(), WORDS, pairs(True), 4).to_network(TEXTS)
    assert torch.equal(cut, whole[:, :4])


def test_a_tokenizer_that_sees_more_than_a_word_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a_bank": 1, "of_rivers": 2, "bank": 3, "a": 4}, unk_token="[UNK]"))
    made.normalizer = normalizers.Replace(" ", "_")  # whole texts are one word to it
    words = ("", "", "a", "bank", "of", "rivers")
    assert choose_prefix(words[2:], made)[1] > 0
    tokens_of(words, made)
    assert "others where words are cut on their own" in "".join(capsys.readouterr())


def test_many_words_have_the_tokens_that_each_has() -> None:
    words = tuple(f"{number:x}q" for number in range(1203))
    tokenizer = pairs(True, words)
    starts, tokens, _ = tokens_of(("", "", *words), tokenizer)
    for place in (0, 1, 499, 500, 501, 1202):
        begin, end = starts[FIRST_WORD + place : FIRST_WORD + place + 2].tolist()
        assert tokens[begin:end].tolist() == tokenizer.encode(words[place]).ids
    assert int(starts[-1]) == len(tokens)


@EACH
def test_what_is_behind_a_text_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, SETTINGS[name], 3, 20).eval()
    tokens = torch.randint(1, 21, (5, 9))
    alone = torch.cat([network(row[None, : 9 - place]) for place, row in enumerate(tokens)])
    for place in range(5):
        tokens[place, 9 - place :] = 0
    padded = network(torch.cat([tokens, torch.zeros(5, 7, dtype=torch.int64)], dim=1))
    assert torch.allclose(padded, alone, atol=1e-5)


@EACH
def test_the_order_of_words_counts_where_it_is_meant_to(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, SETTINGS[name], 3, 20).eval()
    found = network(torch.tensor([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]]))
    assert torch.allclose(found[0], found[1], atol=1e-5) == (name == "bag_small")


@EACH
def test_a_text_of_no_words_has_logits_and_gradients(name: str) -> None:
    network = build(name, SETTINGS[name], 3, 20)
    found = network(torch.tensor([[1, 2, 0], [0, 0, 0]]))
    found.sum().backward()
    assert found.isfinite().all()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in network.parameters())


def test_families_of_texts_are_those_tested_here() -> None:
    assert set(families_for("tokens")) == set(SETTINGS)


def test_heads_that_do_not_fit_the_width_are_a_line() -> None:
    with pytest.raises(ModelError, match="width 9, heads 2; expected a width that is a multiple of heads"):
        build("transformer_small", {"width": 9, "depth": 1, "heads": 2}, 3, 20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kind(tmp_path_factory.mktemp("data") / "prepare", "tokens", (12, 6, 6))


def start(data: Path, to: Path, **changes: Any) -> Start:
    to.mkdir(parents=True, exist_ok=True)
    values = {
        "model": "bag_small",
        "model_settings": {"width": 4},
        "weights": None,
        "new_head": False,
        "input": None,
    }
    return Start.of(NetworkSettings(**values | changes), ImageDataset(data).manifest, to, "student", prepared=data)


def test_a_network_may_have_its_own_tokenizer(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    pairs(True, tuple(VOCABULARY)).save(str(own))
    begun = start(data, tmp_path / "own", input=InputSettings(tokenizer=str(own)))
    theirs, mine = start(data, tmp_path / "theirs").build(0), begun.build(0)
    assert mine.network[0].table.num_embeddings == read_tokenizer(own).get_vocab_size() + 1
    assert theirs.network[0].table.num_embeddings != mine.network[0].table.num_embeddings
    begun.meta.check_data(ImageDataset(data).manifest, data, "train_student")  # that is no fault


def test_a_changed_vocabulary_is_refused(data: Path, tmp_path: Path) -> None:
    meta = start(data, tmp_path / "a").meta
    manifest = ImageDataset(data).manifest
    other = type(manifest)(**manifest.__dict__ | {"input": manifest.input | {"words": "0" * 32}})
    with pytest.raises(ModelError, match=r"texts .*what their numbers mean has changed"):
        meta.check_data(other, data, "train_teacher")


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}', ""], ids=["cut", "list", "no model", "empty"])
def test_a_file_that_is_no_tokenizer_is_a_line(content: str, data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(content)
    with pytest.raises(PipelineError, match="not a tokenizer") as caught:
        start(data, tmp_path / "to", input=InputSettings(tokenizer=str(own))).build(0)
    assert "\n" not in str(caught.value)


def test_networks_of_images_are_not_for_texts(data: Path, tmp_path: Path) -> None:
    for name in ("convnet_small", "torchvision/resnet18"):
        with pytest.raises(ModelError, match=r"is for images, and the data is texts.*bag_small, textconv_small"):
            ModelMeta(name, {}, ["a", "b"], [12], [], [], {}, "", {}, input={"kind": "tokens"}).build(folder=tmp_path)


def test_images_go_without_the_libraries_of_other_kinds() -> None:
    script = (
        "import sys; from stages import prepare, train_teacher, dump_labels, train_student;"
        "from pipeline.models.saved import ModelMeta;"
        "meta = ModelMeta('convnet_small', {'width': 4, 'depth': 1}, ['a', 'b'], [1, 8, 8], [0.5], [0.5], {}, '', {});"
        "meta.embedded(meta.build())(meta.blank(2));"
        "foreign = {'tokenizers', 'transformers', 'soundfile', 'sklearn', 'scipy', 'skops'};"
        "sys.exit(str(foreign & set(sys.modules)) if foreign & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
