"""The commands `potstill labels pack`, `card` and `unpack`: one file for others, always the same
bytes, that any unzip unpacks, with a card of what is known.
"""

import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from stores import FLOAT16, NONE, content, flip, make, shards, take

from pipeline.core.command import run_stage
from pipeline.core.sealed import write_sealed
from pipeline.data.manifest import DatasetManifest
from stages import pack_labels

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make(folder / "soft.zarr", FLOAT16, take(range(12)))
    make(folder / "plain.zarr", NONE, take(range(6)), range(1))
    noted = {"fingerprint": "0a", "note": "Labels of <b>crops</b>."}
    make(folder / "noted.zarr", FLOAT16, take(range(6)), range(1), teacher=noted)
    return folder


@pytest.fixture
def call(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in a folder with two stores; gives its exit status, standard output and
    standard error.
    """
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pack_labels", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_stage(pack_labels.pack, pack_labels.card, pack_labels.unpack)
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


def test_a_store_is_packed_to_the_same_bytes_and_unpacked_as_it_was(call: Call) -> None:
    Path("soft.zarr/notes.txt").write_text("mine")
    options = ("--licence", "CC-BY-4.0", "--images", "from the zoo, 4 px wide")
    assert call("pack", "soft.zarr", "--out", "a/soft.zip", *options)[:2] == (
        0,
        f"a/soft.zip: {Path('a/soft.zip').stat().st_size:,} bytes, 24 labels\n",
    )
    assert call("pack", "a/soft.zip", "--out", "b/soft.zip", *options)[0] == 0
    assert Path("a/soft.zip").read_bytes() == Path("b/soft.zip").read_bytes()
    assert call("unpack", "a/soft.zip", "--out", "again.zarr")[:2] == (0, "again.zarr: 24 labels, all whole\n")
    with zipfile.ZipFile("a/soft.zip") as packed:
        assert packed.testzip() is None
        assert packed.namelist()[:2] == ["zarr.json", "README.md"]
        packed.extractall("unzipped.zarr")
    assert content(Path("unzipped.zarr")) == content(Path("again.zarr"))
    again = content(Path("again.zarr"))
    card = again.pop("README.md").decode()
    Path("soft.zarr/notes.txt").unlink()
    assert again == content(Path("soft.zarr"))
    assert card.startswith("# soft\n")
    assert "| licence | CC-BY-4.0 |" in card
    assert sorted(path.name for path in Path("a").iterdir()) == ["soft.zip"]


def test_the_card_has_what_the_store_states_and_nothing_else(call: Call) -> None:
    status, out, _ = call("card", "soft.zarr")
    assert status == 0
    assert out.startswith("# soft\n\n24 soft labels: 2 views of each of 12 images, in 6 classes. A Potstill label")
    for line in (
        "| licence | not stated |",
        "| author | not stated |",
        "| data set | not stated |",
        "How to get the images: not stated",
        "| images | 12 of shape not stated (channels, height, width) |",
        "| classes | a, b, c, d, e, f |",
        "a network, validation accuracy 90.00%, fingerprint 0000",
        "Views 0, 1, made by the seed 5. Operations, in this order:",
        "1. `pad_crop`, pad_px 2",
        "| encoding | dense_float16 |",
        "| temperatures | stored at 1; declared: 1, 2, 4; served: any |",
        "(`channels,height,width`; here: not stated)",
        "potstill labels unpack FILE --out soft.zarr",
    ):
        assert line in out, line
    assert "measured on 24 labels" in out
    assert "measured on" not in call("card", "plain.zarr")[1]
    noted = call("card", "noted.zarr")[1]
    assert "## Teacher\n\na network, fingerprint 0a\n\nLabels of &lt;b>crops&lt;/b>.\n\n## Data" in noted
    assert "6 views without labels: 1 views of each of 6 images" in call("card", "plain.zarr")[1]


def test_the_owners_words_stand_in_the_card_as_they_are(call: Call) -> None:
    words = {
        "licence": "CC0",
        "author": "Ann | Bo",
        "data": "Zoo 2",
        "images": "Ask the zoo.\n\n- cages\n- \x1b[31mpens",
    }
    options = [option for name, text in words.items() for option in (f"--{name}", text)]
    assert call("card", "soft.zarr", *options, "--out", "card.md")[:2] == (0, "card.md: written\n")
    text = Path("card.md").read_text()
    assert call("card", "soft.zarr", *options)[1] == text
    assert "| licence | CC0 |" in text
    assert "| author | Ann \\| Bo |" in text
    assert "| data set | Zoo 2 |" in text
    assert "How to get the images: Ask the zoo.\n\n- cages\n- \\x1b[31mpens\n" in text


def test_the_prepared_data_gives_the_shape_of_the_images(call: Call) -> None:
    facts = DatasetManifest("zoo", ["a"], [3, 4, 5], [0.0], [1.0], {"train": 12}, {"train": "00ff"}, 0, 0)
    write_sealed(Path("data/manifest.json"), asdict(facts))
    out = call("card", "soft.zarr", "--prepared", "data")[1]
    assert "| images | 12 of shape 3,4,5 (channels, height, width) |" in out
    assert "here: 3,4,5)" in out
    write_sealed(Path("data/manifest.json"), asdict(facts) | {"fingerprints": {"train": "0123"}})
    status, _, err = call("card", "soft.zarr", "--prepared", "data")
    assert (status, err) == (1, "error: data: its training split is 0123; expected 00ff (soft.zarr)\n")


def test_what_the_card_lacks_is_told_when_a_store_is_packed(call: Call) -> None:
    assert call("pack", "soft.zarr", "--out", "x.zip")[1].endswith("; the card lacks --licence and --images\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["pack", "soft.zarr", "--out", "x.tar"],
            "x.tar: not the name of a packed store; expected a name that ends in",
        ),
        (["pack", "soft.zarr", "--out", "there.zip"], "there.zip: exists already"),
        (["pack", "nowhere.zarr", "--out", "x.zip"], "nowhere.zarr: no such folder"),
        (["pack", "soft.zarr", "--out", "x.zip", "--licence", " "], "--licence: 0 characters; expected 1 to 10,000"),
        (["card", "soft.zarr", "--prepared", "nowhere"], "nowhere/manifest.json: no such file"),
        (["card", "soft.zarr", "--out", "there.zip"], "there.zip: exists already"),
        (["unpack", "there.zip", "--out", "x.zarr"], "there.zip: is cut off, or no packed store"),
        (["unpack", "nowhere.zip", "--out", "x.zarr"], "nowhere.zip: no such file; fix the path"),
        (["unpack", "there.zip", "--out", "soft.zarr"], "soft.zarr: exists already"),
        (["unpack", "there.zip", "--out", "x.zip"], "x.zip: not the name of a store"),
        (["unpack", "soft.zarr", "--out", "x.zarr"], "soft.zarr: a folder; expected a file"),
    ],
)
def test_what_cannot_be_packed_is_one_line_and_leaves_nothing(call: Call, arguments: list[str], told: str) -> None:
    Path("there.zip").write_bytes(b"")
    before = content(Path())
    status, _, err = call(*arguments)
    assert status == 1
    assert err.startswith(f"error: {told}")
    assert err.count("\n") == 1
    assert content(Path()) == before


def test_a_store_that_is_not_whole_is_neither_packed_nor_unpacked(call: Call) -> None:
    call("pack", "soft.zarr", "--out", "good.zip")
    flip(shards(Path("soft.zarr"), "log_probs")[1])
    status, _, err = call("pack", "soft.zarr", "--out", "x.zip")
    assert (status, Path("x.zip").exists()) == (1, False)
    assert "soft.zarr/log_probs" in err
    with zipfile.ZipFile("good.zip") as good, zipfile.ZipFile("foreign.zip", "w") as foreign:
        for name in good.namelist():
            foreign.writestr(name, good.read(name))
        foreign.writestr("other/zarr.json", "{}")
    status, _, err = call("unpack", "foreign.zip", "--out", "y.zarr")
    assert (status, Path("y.zarr").exists()) == (1, False)
    assert err == "error: foreign.zip: holds other/zarr.json, which is no file of its store; pack the store again\n"
    with zipfile.ZipFile("good.zip") as good, zipfile.ZipFile("wrong.zip", "w") as wrong:
        for name in good.namelist():
            other = "log_probs/c/1/0/0" if name == "log_probs/c/0/0/0" else name
            wrong.writestr(name, good.read(other))
    status, _, err = call("unpack", "wrong.zip", "--out", "y.zarr")
    assert (status, Path("y.zarr").exists()) == (1, False)
    assert err.startswith(
        "error: wrong.zip: holds a store that is not whole (block view 0, samples 0 to 7 is not what was written"
    )
    assert not list(Path().glob("*.partial"))
