"""Evaluation, explanation, report and inspection of texts, sounds and rows, from what the real
stages made of them.
"""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from kinds import CLASSES, COLUMNS, KINDS, VOCABULARY, WRONG, judge_kind, make_kind_project
from whole import TIMES

from pipeline.data.dataset import ImageDataset
from pipeline.data.decoding import decode
from pipeline.data.input_kinds import INPUT_KINDS
from pipeline.explanation.shown.spectrogram import COLUMNS as STRETCHES
from pipeline.explanation.shown.spectrogram import ROWS as BANDS
from pipeline.results.costs import Cost
from stages import inspect_labels


class Judged(NamedTuple):
    """A project of samples of a kind, after `report`."""

    kind: str
    folder: Path

    def read(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    @property
    def things(self) -> str:
        return INPUT_KINDS[self.kind].things  # type: ignore[index]

    @property
    def page(self) -> str:
        return (self.folder / "reports/report.html").read_text()


@pytest.fixture(scope="module", params=KINDS)
def judged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    folder = make_kind_project(tmp_path_factory.mktemp(request.param), request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.evaluation.networks.measure_cost", lambda *asked: Cost(1, TIMES, 2, 1))
        judge_kind(folder)
    return Judged(request.param, folder)


def test_there_are_no_corruptions_of_other_samples_than_images(judged: Judged) -> None:
    evaluation = judged.read("reports/evaluate.json")
    assert evaluation["robustness"] is None
    assert evaluation["thing"] == INPUT_KINDS[judged.kind].thing  # type: ignore[index]
    assert all(row["corruptions"] == {} for row in evaluation["models"].values())
    assert all(row["multiply_adds"] > 0 for row in evaluation["models"].values())
    text = (judged.folder / "reports/report.md").read_text()
    for word in ("obustness", "orrupt"):
        assert word not in text
        assert word not in _text_of(judged.page)
    assert not (judged.folder / "reports/figures/robustness.png").exists()


def test_no_word_of_the_report_is_of_images(judged: Judged) -> None:
    markdown = (judged.folder / "reports/report.md").read_text()
    assert f"On 60 test {judged.things}." in markdown
    for text in (markdown, _text_of(judged.page)):
        lines = [line for line in text.splitlines() if "image" in line.lower() and "](figures" not in line]
        assert lines == []
    assert "{thing" not in judged.page


def test_planted_wrong_labels_are_suspects_and_shown_first(judged: Judged) -> None:
    rows = (judged.folder / "reports/suspects.tsv").read_text().splitlines()[1:]
    places = [int(row.split("\t")[1]) for row in rows]
    assert len(places) >= 2
    assert {*places[:2]} <= {*WRONG}
    shown = judged.read("data/explain/samples.json")["samples"]
    assert [row["index"] for row in shown if "suspect" in row["kinds"]] == places[:2]


def test_samples_and_their_maps_are_shown_as_their_kind_is(judged: Judged) -> None:
    told, dataset = judged.read("data/explain/samples.json"), ImageDataset(judged.folder / "data/prepare")
    assert sum("maps" in row for row in told["samples"]) == 3
    for row in told["samples"]:
        sample = dataset.stream(row["split"]).take(np.array([row["index"]])).inputs[0]
        if judged.kind == "tokens":
            words = [dataset.content.words[number] for number in sample.tolist() if number]
            assert [part["text"] for part in row["image"]] == words
        elif judged.kind == "row":
            assert [part["name"] for part in row["image"]] == [column["name"] for column in COLUMNS]
        if judged.kind != "waveform" and "maps" in row:
            assert [len(nats) for nats in row["maps"].values()] == [len(row["image"])] * 3
    if judged.kind == "waveform":
        assert told["tile_px"] == told["map_px"] == [BANDS, STRETCHES]
        for sheet, channels in (("tiles", 1), ("maps", 3)):
            pixels = decode(judged.folder / f"data/explain/{sheet}.png", channels)  # type: ignore[arg-type]
            assert pixels[:, :BANDS, :STRETCHES].max() > 200
    else:
        assert told["tiles_sheet"] is told["maps_sheet"] is None
        assert [*(judged.folder / "data/explain").glob("*.png")] == []


def test_the_maps_point_to_what_makes_the_class(judged: Judged) -> None:
    """Checks the teacher's maps of ordinary samples: the third word, the second half, the place."""
    told = judged.read("data/explain/samples.json")
    rows = [row for row in told["samples"] if "maps" in row and row["says"]["teacher"][0][1] > 0.6]
    assert rows
    for row in rows:
        shown = row["maps"]["teacher"]
        if judged.kind == "waveform":
            assert isinstance(shown, int)
        elif row["image"][1]["text"] != "missing":
            assert int(np.abs(shown).argmax()) == {"tokens": 2, "row": 1}[judged.kind]


def test_hostile_texts_are_data_and_never_marks_of_the_page(judged: Judged) -> None:
    assert "<script>alert" not in judged.page
    if judged.kind == "tokens":
        assert any("<script>" in word for word in VOCABULARY)
        assert "\\u003cscript>alert(1)\\u003c/script>" in judged.page
    for name in (CLASSES[0], COLUMNS[1]["name"]):
        assert name not in judged.page.replace(f"\\u003c{name[1:]}", "")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_sample_of_a_store_is_inspected(
    judged: Judged, as_json: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store, data, figure = (judged.folder / name for name in ("data/dump_labels/dense8.zarr", "data/prepare", "x.png"))
    figure.unlink(missing_ok=True)
    inspect_labels.main(str(store), "row:0", None, 3, figure, data, as_json)
    told = capsys.readouterr()
    split, inspected = ImageDataset(data).stream("train"), json.loads(told.out) if as_json else {}
    if judged.kind == "waveform":
        assert figure.exists()
        assert "views" not in inspected
        return
    assert not figure.exists()
    assert f"no figure: {judged.things} are shown in words" in told.err
    if as_json:
        assert len(inspected["views"]) == 2
        assert len(inspected["sample"]) == len([part for part in inspected["views"][0] if "added" not in part.values()])
        assert split.index.find(np.array([int(inspected["sample_id"], 16)], np.uint64)) >= 0
    else:
        lines = told.out.splitlines()
        assert [line.partition(": ")[0] for line in lines[-3:]] == ["as it is", "view 0", "view 1"]
        for number in range(1, 10):
            inspect_labels.main(str(store), f"row:{number}", None, 3, None, data)
        others = capsys.readouterr().out
        assert "[-" in others, "some word or cell was dropped in a view"
        assert ("[?" in others) == (judged.kind == "tokens"), "some word was hidden"


class _Text(HTMLParser):
    """A reader of what a person sees of a page, and of what an element says of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found, self._hidden = list[str](), False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        self.found += [value for name, value in attrs if name in ("title", "aria-label") and value]

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def _text_of(page: str) -> str:
    reader = _Text()
    reader.feed(page)
    return "\n".join(reader.found)
