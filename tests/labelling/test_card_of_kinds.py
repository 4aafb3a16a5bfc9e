"""The card of a store of texts, sounds or rows names these, and says what their ids are made of."""

from pathlib import Path

import pytest
from kinds import KINDS, kind_params, write_kind
from project import write_params

from pipeline.data.input_kinds import INPUT_KINDS, InputKindName
from pipeline.labelling.card import OwnersWords, store_card
from pipeline.labels.reader import StoreReader
from stages import dump_labels, train_teacher

KEYS = {"tokens": "`tokens`", "waveform": "`waveform:2000:1000`", "row": ":3`"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_speaks_of_its_samples(kind: InputKindName, tmp_path: Path) -> None:
    params = kind_params(kind)
    params["train_teacher"]["fit"] |= {"epochs": 1}
    params["encodings"] = {"dense8": params["encodings"]["dense8"]}
    path, data, work = write_params(tmp_path, params), tmp_path / "data", tmp_path / "work"
    write_kind(data / "prepare", kind, (48, 24, 24))
    train_teacher.main(path, data / "prepare", data / "train_teacher", tmp_path / "reports", work)
    dump_labels.main(path, data / "prepare", data / "train_teacher", data / "dump_labels", work, None, None)
    card = store_card(StoreReader(data / "dump_labels/dense8.zarr"), OwnersWords(), data / "prepare")
    things = INPUT_KINDS[kind].things
    assert f"of each of 48 {things}" in card
    assert f"it holds no {things}" in card
    assert KEYS[kind] in card
    assert "image" not in card
    assert "pixel" not in card
