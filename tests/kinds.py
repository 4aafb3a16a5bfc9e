"""Made-up texts, sounds and rows of a table, and projects of them that the real stages make.

Each kind has three classes that a small network learns in a second, and a few training samples
whose hard label is wrong.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from project import small_params, student, write_params

from pipeline.core.files import file_fingerprint, fingerprint
from pipeline.data.content import Content
from pipeline.data.content_files import TOKENIZER, WORDS, detail_of, write_words
from pipeline.data.input_kinds import FIRST_WORD, INPUT_KINDS, InputKindName
from pipeline.data.splits import SplitInMemory
from pipeline.preparation.write import write_dataset
from stages import dump_labels, evaluate, explain, report, train_student, train_teacher, verify_labels

KINDS: tuple[InputKindName, ...] = ("tokens", "waveform", "row")
CLASSES = ["<b>sea</b>", "wood", "hill"]
MOST_WORDS = 12
RATE_HZ, LENGTH = 2000, 1000  # half a second
WRONG = range(8)  # the training samples whose hard label is wrong

_OWN = (("boat", "fish", "wave"), ("tree", "leaf", "moss"), ("peak", "rock", "snow"))
#: In the order of their characters, as words.txt has them.
VOCABULARY = sorted(
    [*(word for words in _OWN for word in words), "a", "and", "is", "of", "the", "<script>alert(1)</script>"]
)
_PITCH_HZ = (150, 400, 850)
COLUMNS: list[dict[str, Any]] = [
    {
        "name": "height",
        "type": "number",
        "num_codes": 5,
        "edges": [10.0, 100.0, 1000.0],
        "values": [1.5, 20.0, 310.0, 4000.0],
    },
    {"name": "<i>place</i>", "type": "category", "num_codes": 6, "names": ["bay", "glade", "ridge", "<u>tarn</u>"]},
    {
        "name": "noise",
        "type": "number",
        "num_codes": 8,
        "edges": [0.15, 0.25, 0.35, 0.45, 0.55, 0.65],
        "values": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    },
]


class Kind(NamedTuple):
    """A kind of made-up samples: how they are drawn, and the network and operations they have."""

    draw: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    model: dict[str, Any]
    input: dict[str, Any] | None
    operations: list[dict[str, Any]]


def _texts(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws texts of 4 to 12 words, the third of which is one of the class's own."""
    number = {word: FIRST_WORD + place for place, word in enumerate(VOCABULARY)}
    others = [number[word] for word in VOCABULARY if not any(word in own for own in _OWN)]
    texts = np.zeros((len(labels), MOST_WORDS), np.int32)
    for text, label in zip(texts, labels, strict=True):
        length = rng.integers(4, MOST_WORDS + 1)
        text[:length] = rng.choice(others, length)
        text[2] = number[_OWN[label][rng.integers(3)]]
    return texts


def _sounds(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws noise with a tone of the class's pitch in its second half."""
    time = np.arange(LENGTH) / RATE_HZ
    sounds = rng.normal(0, 300, (len(labels), LENGTH))
    tones = np.sin(2 * np.pi * np.array(_PITCH_HZ)[labels][:, None] * time + rng.random((len(labels), 1)))
    sounds[:, LENGTH // 2 :] += 6000 * tones[:, LENGTH // 2 :]
    return np.rint(sounds).astype(np.int16)


def _rows(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws rows whose place goes with the class, and in a tenth of them nothing is known."""
    rows = np.stack([rng.integers(0, column["num_codes"], len(labels)) for column in COLUMNS], axis=1)
    rows[:, 1] = 2 + labels
    rows[rng.random(len(labels)) < 0.05, 1] = 0
    return rows.astype(np.int32)


_WORD_OPERATIONS = [{"kind": "drop_words", "share": 0.1}, {"kind": "mask_words", "share": 0.1}]
OF_KIND: dict[InputKindName, Kind] = {
    "tokens": Kind(
        _texts, {"model": "bag_small", "model_settings": {"width": 8}}, {"max_tokens": 64}, _WORD_OPERATIONS
    ),
    "waveform": Kind(
        _sounds,
        {"model": "convnet_small", "model_settings": {"width": 4, "depth": 1}},
        {"mels": 16, "window_ms": 32.0, "hop_ms": 32.0},
        [],
    ),
    "row": Kind(
        _rows,
        {"model": "mlp_small", "model_settings": {"width": 16, "depth": 1}},
        None,
        [{"kind": "drop_columns", "share": 0.1}],
    ),
}


def content_of(kind: InputKindName) -> Content:
    """Returns what the made-up samples of a kind stand for."""
    words = (*("",) * FIRST_WORD, *VOCABULARY) if kind == "tokens" else ()
    return Content(INPUT_KINDS[kind], detail_of(_facts(kind)), words)


def make_kind_split(kind: InputKindName, count: int = 60, seed: int = 0) -> SplitInMemory:
    """Makes samples of a kind; no two of them are the same unless their class is."""
    rng, content = np.random.default_rng(seed), content_of(kind)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    inputs = OF_KIND[kind].draw(labels, rng)
    return SplitInMemory(torch.from_numpy(inputs), torch.from_numpy(labels), content.ids(inputs), content)


def _facts(kind: InputKindName) -> dict[str, Any]:
    """Returns what a data set of these samples states about them, files apart."""
    if kind == "row":
        return {"kind": kind, "columns": COLUMNS, "columns_digest": fingerprint(COLUMNS)}
    return {"kind": kind, "rate_hz": RATE_HZ} if kind == "waveform" else {"kind": kind}


def write_kind(folder: Path, kind: InputKindName, counts: Sequence[int] = (240, 60, 60)) -> Path:
    """Writes prepared samples of a kind to `folder`, with all files that `prepare` leaves there."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = _facts(kind)
    if kind == "tokens":
        facts |= {"words": write_words(folder / WORDS, VOCABULARY), "num_words": len(VOCABULARY)}
        (folder / TOKENIZER).write_text(tokenizer_json())
        facts["tokenizer"] = file_fingerprint(folder / TOKENIZER)
    names = ("train", "val", "test")
    splits = {
        name: make_kind_split(kind, count, seed) for seed, (name, count) in enumerate(zip(names, counts, strict=True))
    }
    wrong = splits["train"].hard_labels[: len(WRONG)]
    wrong.copy_((wrong + 1) % len(CLASSES))
    write_dataset(folder, "made up", CLASSES, splits, facts)
    rows = [f"{at:016x}\t{name}\t\tsample {at}" for name, split in splits.items() for at in range(len(split))]
    (folder / "samples.tsv").write_text("\n".join(["sample_id\tsplit\tclass\tkey", *rows]) + "\n")
    return folder


@cache
def tokenizer_json() -> str:
    """Returns a tokenizer.json that knows most words, and a hidden one."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = ["[UNK]", "[MASK]", *VOCABULARY[1:], "</script>", "alert(1)"]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return str(tokenizer.to_str())


def kind_params(kind: InputKindName) -> dict[str, Any]:
    """Returns all of params.yaml for made-up samples of a kind, small."""
    params, own = small_params(), OF_KIND[kind]
    network = own.model | {"input": own.input}
    views = {"seed": 1, "plain_first": False, "operations": own.operations}
    fit = {"epochs": 4, "batch_size": 16, "learning_rate": 0.1 if kind == "tokens" else 0.03, "checkpoint_seconds": 1e6}
    params["train_teacher"] |= network | {"views": views}
    params["dump_labels"] |= {"views": views, "block_samples": 64, "num_canaries": 16, "pilot_labels": 100}
    params["encodings"] = {name: params["encodings"][name] for name in ("dense8", "none")}
    row = student(**network, seed=1)
    params["students"] = {
        "small": row,
        "small_hard": row | {"labels": "none", "twin_of": "small", "hard_weight": 1.0, "soft_weight": 0.0},
    }
    for settings in (params["train_teacher"], *params["students"].values()):
        settings["fit"] = settings["fit"] | fit
    params["explain"] |= {"num_suspects": 2, "num_disagreed": 2, "num_attributed": 3, "batch_size": 60}
    params["exports"] = []
    return params


def make_kind_project(folder: Path, kind: InputKindName) -> Path:
    """Returns a folder with prepared samples, a teacher, its stores and a student with its twin."""
    folder.mkdir(parents=True, exist_ok=True)
    params, at = write_params(folder, kind_params(kind)), folder / "data"
    prepared, teacher, stores, students = (at / name for name in _FOLDERS)
    reports, work = folder / "reports", folder / "work"
    write_kind(prepared, kind)
    train_teacher.main(params, prepared, teacher, reports, work)
    dump_labels.main(params, prepared, teacher, stores, work, None, None)
    verify_labels.main(params, prepared, teacher, stores, reports / "verify_labels.json")
    for name in kind_params(kind)["students"]:
        train_student.main(name, params, prepared, str(stores), students, reports / "train_student", work)
    return folder


_FOLDERS = ("prepare", "train_teacher", "dump_labels", "train_student")


def judge_kind(folder: Path) -> None:
    """Runs the stages `evaluate`, `explain` and `report` in a folder of `make_kind_project`."""
    params, reports, data = folder / "params.yaml", folder / "reports", folder / "data"
    prepared, teacher, stores, students = (data / name for name in _FOLDERS)
    evaluate.main(params, prepared, teacher, students, stores, reports, data / "evaluate")
    explain.main(params, prepared, teacher, students, stores, data / "evaluate", data / "explain", reports)
    report.main(params, reports, data / "explain")


def linked_copy(project: Path, folder: Path) -> Path:
    """Returns a copy of a project whose files are second names: replaced, never changed."""
    return Path(shutil.copytree(project, folder, copy_function=os.link))
