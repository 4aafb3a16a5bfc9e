"""The commands beside the DAG, as a user calls them, in one process: what they print and write, and
their one-line errors.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import Made
from project import files_of, small_params, write_params
from ruamel.yaml import YAML
from website import Website

from pipeline.core.command import run_stage
from pipeline.data.dataset import ImageDataset
from pipeline.labelling import ladder as rungs
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.encodings import Encoding, LabelSpace, build_encoding
from pipeline.labels.reader import StoreReader
from pipeline.report.label_figures import SampleViews, draw_ladder, draw_sample
from pipeline.report.tables import ladder_table
from pipeline.views.spec import render
from stages import derive_labels, dump_labels, inspect_labels, prepare, train_teacher, tune_labels

COMMANDS: dict[str, list[Callable[..., None]]] = {
    "tune": [tune_labels.main],
    "inspect": [inspect_labels.main],
    "derive": [derive_labels.subset, derive_labels.merge, derive_labels.average],
}

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Returns a folder after `dump_labels`, with a store of another encoding beside."""
    params = small_params()
    params["encodings"]["drawn"] = {"kind": "sampled", "draws": 12, "seed": 0}
    folder = made.copy(params, "dump_labels", tmp_path_factory.mktemp("finished"))
    shutil.rmtree(folder / "work")
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Changes to a folder: a project of its own whose data is that one's."""
    (tmp_path / "data").mkdir()
    for place in (finished / "data").iterdir():
        (tmp_path / "data" / place.name).symlink_to(place)
    shutil.copy(finished / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command; gives its exit status, standard output and standard error."""

    def run(command: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_stage(*COMMANDS[command])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Returns a ladder of a few rungs."""
    full = rungs.ladder
    kept = ("dense_float16", "dense_uint8/255", "dense_uint8/32", "topk 1/255", "topk 2/64", "sampled 12")
    kept += ("anchored 32/0.05/2",)

    def some(space: LabelSpace, views: Sequence[int] = ()) -> dict[str, Encoding]:
        return {name: encoding for name, encoding in full(space, views).items() if name in kept}

    monkeypatch.setattr(rungs, "ladder", some)


def change(edit: Callable[[dict[str, Any]], object]) -> None:
    """Writes other settings into the current folder."""
    params = small_params()
    edit(params)
    write_params(Path(), params)


def store(name: str) -> str:
    return f"data/dump_labels/{name}.zarr"


def reader(name: str) -> StoreReader:
    return StoreReader(Path(store(name)))


def assert_one_line(result: tuple[int, str, str], *parts: str) -> None:
    """Checks that it failed, and said why in one line."""
    status, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert status == 1, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == lines[0]
    for part in parts:
        assert part in lines[0], lines[0]


# tune_labels


def test_the_ladder_is_printed_and_written(call: Call, folder: Path) -> None:
    status, out, _ = call("tune", "--labels", 300)
    assert status == 0
    assert "300 random ones measured, tables learned from 500 others" in out
    assert "tuned:" not in out
    content = json.loads(Path("reports/tune_labels/ladder.json").read_text())
    rows = content["rows"]
    assert content["chosen"] is content["budget"] is None
    assert content["num_measured"] == 300
    assert content["num_labels"] == reader("dense8").manifest.num_labels
    sizes = [row["label_bytes"] for row in rows.values()]
    assert sizes == sorted(sizes)
    lines = [line.split("\t") for line in Path("reports/tune_labels/ladder.tsv").read_text().splitlines()]
    assert [line[0] for line in lines[1:]] == list(rows)
    assert len({len(line) for line in lines}) == 1
    assert lines[0][-4:] == ["mean_kl_at_1", "mean_kl_at_2", "p999_kl_at_1", "p999_kl_at_2"]
    for name, row in rows.items():
        shown = next(line for line in out.splitlines() if line.startswith(f"{name}  "))
        assert f" {row['label_bytes']:.3f} " in shown
        assert shown.endswith("*") is row["on_front"]
    assert Path("reports/tune_labels/ladder.png").read_bytes().startswith(b"\x89PNG")
    # What was measured on a few labels is near what the whole store's own manifest says.
    for name, whole in {"dense_uint8/255": "dense8", "topk 2/64": "top2", "dense_float16": "dense16"}.items():
        kl = (reader(whole).manifest.fidelity or {})["kl_nats"]["2"]["mean"]
        assert rows[name]["kl_nats"]["2"]["mean"] == pytest.approx(kl, rel=0.5)


@pytest.mark.usefixtures("short")
def test_the_chosen_row_can_be_dumped_and_keeps_to_its_budget(call: Call) -> None:
    status, out, _ = call("tune", "--labels", 600, "--bytes", 5.5)
    assert status == 0
    content = json.loads(Path("reports/tune_labels/ladder.json").read_text())
    row = YAML(typ="safe", pure=True).load(out.splitlines()[-1])["tuned"]
    assert row == content["rows"][content["chosen"]]["encoding"]
    build_encoding(row, "params.yaml: encodings.tuned")
    change(lambda p: p.update(encodings={"tuned": row}))
    dump_labels.main(out=Path("data/new"))
    new = StoreReader(Path("data/new/tuned.zarr"))
    fields = sum(
        file.stat().st_size
        for name in new.encoding.fields(new.manifest.space)
        for file in (new.path / name / "c").rglob("*")
        if file.is_file()
    )
    told = content["rows"][content["chosen"]]
    beside = (new.manifest.table_bytes or 0) + (new.manifest.anchor_bytes or 0)
    whole = (fields + beside) / new.manifest.num_labels
    assert whole == pytest.approx(told["label_bytes"], rel=0.15)


@pytest.mark.parametrize("store_or_teacher", [["--store", "data/dump_labels/dense16.zarr"], []])
@pytest.mark.usefixtures("short")
def test_views_and_bytes_for_a_total_size_come_as_a_table_and_as_settings(
    call: Call, store_or_teacher: list[str]
) -> None:
    some = ("--labels", 200, "--samples", 150, "--epochs", 2)
    status, out, err = call("tune", "--total", "22kB", *some, *store_or_teacher)
    assert status == 0, err
    lines = out.splitlines()
    rows = [line.split() for line in lines if re.match(r" *[12]  ", line)]
    assert [row[0] for row in rows] == ["1", "2"]
    samples = reader("dense8").manifest.num_samples
    assert rows[0][1:3] != rows[1][1:3], "another encoding for each number of views"
    for row in rows:
        assert float(row[3]) * int(row[0]) * samples + 8 * samples <= 22_000
    accuracies = [float(next(cell for cell in row if cell.endswith("%"))[:-1]) for row in rows]
    assert [row[-1] == "*" for row in rows].index(True) == accuracies.index(max(accuracies))
    assert "student small on 2 pairs of views and encoding: 150 training images, 2 epochs, 142 validation images" in err
    settings = YAML(typ="safe", pure=True).load("\n".join(lines[lines.index("dump_labels:") :]))
    assert settings["dump_labels"]["num_views"] == accuracies.index(max(accuracies)) + 1
    build_encoding(settings["encodings"]["tuned"], "params.yaml: encodings.tuned")


@pytest.mark.usefixtures("short")
def test_a_store_stands_in_for_the_teacher(call: Call) -> None:
    for gone in ("data/prepare", "data/train_teacher", "params.yaml"):
        Path(gone).rename(f"{gone}.gone")
    status, out, _ = call("tune", "--labels", 200, "--store", store("dense16"), "--kl", 0.05, "--out", "here/x")
    assert status == 0
    content = json.loads(Path("here/x/ladder.json").read_text())
    assert content["labels_of"] == f"store {store('dense16')}"
    assert 0 < content["own_kl_nats"] < 1e-6
    assert content["rows"][content["chosen"]]["worst_kl_nats"] <= 0.05
    assert "Against the labels of that store" in out
    assert_one_line(call("tune", "--store", store("top2")), "top2.zarr", "'topk'", "a dense one")
    assert_one_line(call("tune", "--store", store("dense8"), "--kl", 1e-9), "nats from the teacher", "dense_float16")


@pytest.mark.usefixtures("short")
def test_labels_of_the_store_are_what_the_teacher_says(call: Call) -> None:
    """The same rows are drawn either way, so all figures agree except for float16."""
    change(lambda p: p["dump_labels"].update(pilot_labels=200))
    call("tune", "--labels", 200, "--out", "a")
    call("tune", "--labels", 200, "--out", "b", "--store", store("dense16"))
    one, two = (json.loads(Path(f"{name}/ladder.json").read_text())["rows"] for name in "ab")
    for name in ("dense_uint8/32", "topk 2/64", "topk 1/255"):
        assert one[name]["label_bytes"] == pytest.approx(two[name]["label_bytes"], rel=0.01)
        assert one[name]["worst_kl_nats"] == pytest.approx(two[name]["worst_kl_nats"], rel=0.02)


@pytest.mark.usefixtures("short")
def test_more_labels_than_there_are_means_half_of_them(call: Call) -> None:
    call("tune", "--labels", 10**6, "--store", store("dense16"))
    content = json.loads(Path("reports/tune_labels/ladder.json").read_text())
    count = reader("dense16").manifest.num_samples
    assert content["num_measured"] == 2 * (count // 2)
    assert content["num_pilot"] == 2 * (count - count // 2)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--bytes", 0.1], ["fits 0.1 bytes per label", "the nearest is topk 1/"]),
        (["--kl", 1e-15], ["fits a mean KL of 1e-15 nats", "the nearest is dense_float16"]),
        (["--bytes", 3, "--kl", 0.1], ["both --bytes and --kl"]),
        (["--bytes", 3, "--total", "3MB"], ["both --bytes and --total"]),
        (["--total", "3"], ["--total", "'3'", "a size such as 300MB"]),
        (["--total", "10kB"], ["--total", "more than the 8 bytes of a sample's id"]),
        (["--total", "12kB"], ["--total", "no encoding of the ladder fits", "the nearest is topk 1/"]),
        (["--total", "3MB", "--student", "smal"], ["students", "'smal'", "did you mean 'small'?"]),
        (["--total", "3MB", "--student", "small_hard"], ["students", "'small_hard' is none that learns from soft"]),
        (["--bytes", -1], ["--bytes", "above 0"]),
        (["--kl", "nan"], ["--kl", "above 0"]),
        (["--data", "nowhere"], ["nowhere", "prepare"]),
        (["--teacher", "nowhere"], ["nowhere", "train_teacher"]),
        (["--params", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--store", "nowhere.zarr"], ["nowhere.zarr"]),
    ],
)
@pytest.mark.usefixtures("short")
def test_what_tune_labels_cannot_do_is_one_line(call: Call, arguments: list[object], parts: list[str]) -> None:
    assert_one_line(call("tune", "--labels", 50, *arguments), *parts)


# inspect_labels


@pytest.mark.parametrize("name", ["dense16", "dense8", "top2", "drawn", "none"])
def test_a_store_is_described(call: Call, name: str) -> None:
    status, out, _ = call("inspect", store(name), "--json")
    assert status == 0
    facts = json.loads(out)
    manifest, path = reader(name).manifest, Path(store(name))
    everything = files_of(path)
    assert facts["total_bytes"] == sum(map(len, everything.values()))
    assert facts["num_files"] == len(everything)
    assert sum(array["bytes"] for array in facts["arrays"].values()) == facts["total_bytes"]
    assert {array["holds"] for array in facts["arrays"].values()} <= {
        "labels",
        "table",
        "about the store",
        "names of samples",
        "digests of blocks",
        "checks of views",
        "fidelity by block",
    }
    assert facts["encoding"] == manifest.encoding
    assert facts["fidelity"] == manifest.fidelity
    assert facts["missing_blocks"] == []
    assert facts["class_names"] == list("0123456789")
    assert facts["num_labels"] == (0 if name == "none" else manifest.num_labels)
    assert facts["served_temperatures"] == {"none": [], "drawn": [1.0]}.get(name, [1.0, 2.0])
    assert facts["serves_undeclared"] is name.startswith("dense")
    status, out, _ = call("inspect", store(name))
    assert status == 0
    assert out.startswith(store(name))
    assert f"{facts['total_bytes']:,} bytes" in out
    assert max(map(len, out.splitlines())) < 200
    for part in [manifest.fingerprint, manifest.encoding["kind"], "seed 1"]:
        assert part in out
    if manifest.teacher:
        assert f"{manifest.teacher['val_accuracy']:.2%}, fingerprint {manifest.teacher['fingerprint']}" in out
        assert f"{(manifest.fidelity or {})['kl_nats']['1']['mean']:.1e}" in out
    else:
        assert "no soft labels, views only" in out


def test_a_missing_block_is_told(call: Call) -> None:
    shutil.copytree(store("dense8"), "broken.zarr")
    next(Path("broken.zarr/log_prob_codes/c/1/2").rglob("0")).unlink()
    facts = json.loads(call("inspect", "broken.zarr", "--json")[1])
    assert facts["missing_blocks"] == ["log_prob_codes: view 1, samples 512 to 767"]
    assert "1 missing, the first: log_prob_codes: view 1, samples 512 to 767" in call("inspect", "broken.zarr")[1]


def test_a_store_at_a_url_is_described_without_its_labels(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(folder / "cache"))
    local = json.loads(call("inspect", store("top2"), "--json")[1])
    with Website(folder / "data/dump_labels") as site:
        facts = json.loads(call("inspect", f"{site.url}/top2.zarr", "--json")[1])
        assert "at a URL, not fetched" in call("inspect", f"{site.url}/top2.zarr")[1]
        fetched = set(site.blocks())
    assert facts["arrays"] is facts["missing_blocks"] is facts["num_files"] is None
    for key in ("fingerprint", "encoding", "fidelity", "num_labels", "served_temperatures"):
        assert facts[key] == local[key]
    described = sum(
        len(content) for name, content in files_of(Path(store("top2"))).items() if name.endswith("zarr.json")
    )
    assert facts["total_bytes"] == local["total_bytes"] - described
    assert not [name for name in fetched if "log_prob_codes/c" in name]


@pytest.mark.parametrize("temperature", [None, 2.0])
def test_a_sample_is_shown_with_its_views(call: Call, temperature: float | None) -> None:
    labels = reader("top2")
    row = 17
    train = ImageDataset(Path("data/prepare")).split("train")
    place = int(labels.rows_in(train)[row])
    sample_id = f"{int(train.sample_ids[place]):016x}"
    asked = ["--temperature", temperature] if temperature else []
    status, out, err = call("inspect", store("top2"), "--sample", f"row:{row}", "--json", *asked)
    assert status == 0
    shown = json.loads(out)
    exact = [labels.decode(labels.read_view(v), temperature or 1.0)[row].exp() for v in range(2)]
    torch.testing.assert_close(torch.tensor(shown["probabilities"]), torch.stack(exact))
    assert (shown["sample_id"], shown["row"]) == (sample_id, row)
    assert shown["hard_label"] == int(train.hard_labels[place])
    figure = Path(f"reports/inspect/{sample_id}.png")
    assert str(figure) in err
    first = figure.read_bytes()
    status, out, _ = call("inspect", store("top2"), "--sample", sample_id.upper(), "--top", 3, *asked)
    assert status == 0
    assert f"sample {sample_id} (row {row}), hard label: {shown['hard_label_name']}" in out
    for view in range(2):
        line = next(line.split() for line in out.splitlines() if line.startswith(f"{view} "))
        assert len(line) == 5
        assert sum(float(cell.rstrip("%")) for cell in line[1:]) == pytest.approx(100, abs=0.03)
        assert f"{max(shown['probabilities'][view]):.2%}" in line
    assert figure.read_bytes() != first  # of 3 classes, not 5


def test_a_figure_shows_the_pixels_that_the_teacher_saw(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("pipeline.report.label_figures.draw_sample", lambda *arguments: drawn.extend(arguments))
    labels = reader("dense8")
    call("inspect", store("dense8"), "--sample", "row:5", "--figure", "x.png")
    train = ImageDataset(Path("data/prepare")).split("train")
    place = labels.rows_in(train, slice(5, 6))
    ids, image = train.sample_ids[place], train.inputs[place]
    for view, pixels in enumerate(drawn[0].images):
        expected = render(image, labels.views.draw(ids, view), labels.views)[0]
        assert np.array_equal(pixels, expected.numpy())
    assert drawn[-1] == Path("x.png")


def test_a_sample_that_the_data_lacks_has_a_table_and_no_figure(call: Call) -> None:
    change(lambda p: p["prepare"].update(seed=5))
    prepare.main(out=Path("data/other"))
    here = ImageDataset(Path("data/other")).split("train")
    row = int(np.flatnonzero(reader("dense8").rows_in(here) < 0)[0])
    status, out, err = call("inspect", store("dense8"), "--sample", f"row:{row}", "--data", "data/other")
    assert status == 0
    assert f"sample of unknown id (row {row}), hard label: its hard label is not known here" in out
    assert "no figure: this image is not in data/other" in err
    assert not Path("reports/inspect").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere.zarr"], ["nowhere.zarr: no such folder"]),
        (["data/prepare/train.zarr"], ["not a soft-label store"]),
        ([store("dense8"), "--sample", "17"], ["'17'", "16 hex digits", "row:<number>"]),
        ([store("dense8"), "--sample", "row:99999"], ["no row 99999", "row:0 to row:"]),
        ([store("dense8"), "--sample", "00000000000000aa"], ["no sample 00000000000000aa"]),
        ([store("dense8"), "--sample", "row:1", "--data", "nowhere"], ["nowhere", "prepare"]),
        ([store("dense8"), "--sample", "row:1", "--temperature", "0"], ["--temperature", "above 0"]),
        ([store("dense8"), "--sample", "row:1", "--temperature", "inf"], ["--temperature", "above 0"]),
        ([store("top2"), "--sample", "row:1", "--temperature", "3"], ["temperature: 3", "1, 2"]),
        ([store("drawn"), "--sample", "row:1", "--temperature", "2"], ["temperature: 2"]),
        ([store("none"), "--sample", "row:1"], ["none.zarr: holds no soft labels"]),
    ],
)
def test_what_inspect_labels_cannot_show_is_one_line(call: Call, arguments: list[object], parts: list[str]) -> None:
    assert_one_line(call("inspect", *arguments), *parts)


# derive_labels


def test_a_subset_holds_the_same_labels(call: Call) -> None:
    whole = reader("dense8")
    chosen = [40, 3, 700]
    ids = whole.ids_in(ImageDataset(Path("data/prepare")).split("train"))[chosen]
    Path("ids.txt").write_text("\n".join(f"{sample_id:016x}" for sample_id in ids.tolist()) + "\n\n")
    status, out, _ = call("derive", "subset", store("dense8"), "out/some.zarr", "--views", "1", "--samples", "ids.txt")
    # Its canaries are those of the views and samples that are left, and of three samples there may
    # be none.
    if status == 0:
        assert out.startswith("out/some.zarr: 3 labels: views 1 of 3 samples, dense_uint8, ")
    status, out, _ = call("derive", "subset", store("dense8"), "out/first.zarr", "--views", "1,0", "--first", 600)
    assert status == 0
    assert out.startswith("out/first.zarr: 1,200 labels: views 1, 0 of 600 samples, dense_uint8, ")
    assert len(out.splitlines()) == 1
    part = StoreReader(Path("out/first.zarr"))
    for index, view in enumerate((1, 0)):
        wanted = whole.read_view(view, range(600))
        assert torch.equal(part.read_view(index)["log_prob_codes"], wanted["log_prob_codes"])


def test_what_was_taken_apart_is_put_together_again(call: Call) -> None:
    for view in "01":
        call("derive", "subset", store("top2"), f"{view}.zarr", "--views", view)
    status, out, _ = call("derive", "merge", "0.zarr", "1.zarr", "both.zarr")
    assert status == 0
    assert out.startswith("both.zarr: ")
    one, two = reader("top2"), StoreReader(Path("both.zarr"))
    for view in range(2):
        for name, values in one.read_view(view).items():
            assert torch.equal(values, two.read_view(view)[name])


def test_an_average_is_the_mean_by_weight(call: Call) -> None:
    data = Path("data")
    change(lambda p: p.update(encodings={"dense16": {"kind": "dense_float16"}}) or p["train_teacher"].update(seed=1))
    train_teacher.main(out=data / "other_teacher", reports=Path("other"))
    dump_labels.main(teacher=data / "other_teacher", out=data / "other")
    status, out, _ = call(
        "derive", "average", store("dense16"), "data/other/dense16.zarr", "mean.zarr", "--weights", "0.75,0.25"
    )
    assert status == 0
    assert ", dense_float16, " in out
    one, two, mean = (StoreReader(Path(p)) for p in (store("dense16"), "data/other/dense16.zarr", "mean.zarr"))
    first, second, found = (s.decode(s.read_view(1), 1.0).exp() for s in (one, two, mean))
    assert not torch.allclose(first, second, atol=1e-3)
    torch.testing.assert_close(found, 0.75 * first + 0.25 * second, atol=1e-4, rtol=1e-3)
    assert "mean of 0.75 x (convnet_small" in call("inspect", "mean.zarr")[1]
    change(lambda p: None)
    status, out, _ = call(
        "derive", "average", store("dense16"), "data/other/dense16.zarr", "small.zarr", "--encoding", "top2"
    )
    assert status == 0
    assert ", topk, " in out
    weights = [part["weight"] for part in (StoreReader(Path("small.zarr")).manifest.teacher or {})["mean_of"]]
    assert weights == [0.5, 0.5]


def test_a_killed_subset_goes_on_to_the_same_bytes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["subset", store("dense8"), "x.zarr", "--first", 1000]
    call("derive", *arguments)
    expected = files_of(Path("x.zarr"))
    shutil.rmtree("x.zarr")
    real, written = StoreWriter.write_labels, []

    def interrupted(self: StoreWriter, block: Any, labels: Any, fidelity: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(block)
        real(self, block, labels, fidelity)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write_labels", interrupted)
        status, _, err = call("derive", *arguments)
    assert status == 130
    assert err.splitlines()[-1].startswith("interrupted")
    assert not Path("x.zarr").exists()
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write_labels", lambda *a: (written.append(a[1]), real(*a))[0])
        status, _, err = call("derive", *arguments)
    assert status == 0
    assert "going on with unfinished work" in err
    assert len(written) == 8  # each block once
    assert files_of(Path("x.zarr")) == expected


def test_what_is_there_is_not_replaced(call: Call) -> None:
    arguments = ["subset", store("dense8"), "x.zarr", "--first", 500]
    _, out, _ = call("derive", *arguments)
    before = files_of(Path("x.zarr"))
    status, again, err = call("derive", *arguments)
    assert (status, again) == (0, out)
    assert "nothing to do" in err
    assert_one_line(call("derive", "subset", store("dense8"), "x.zarr", "--first", 400), "x.zarr: exists already")
    assert_one_line(call("derive", "merge", "x.zarr", "x.zarr", store("dense8")), "dense8.zarr: exists already")
    assert files_of(Path("x.zarr")) == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["subset", "nowhere.zarr", "x"], ["nowhere.zarr: no such folder"]),
        (["subset", store("dense8"), "x", "--views", "0,7"], ["[0, 7]", "some of [0, 1]"]),
        (["subset", store("dense8"), "x", "--views", "0;1"], ["'0;1'", "numbers of views"]),
        (["subset", store("dense8"), "x", "--views", "0,0"], ["each once"]),
        (["subset", store("dense8"), "x", "--first", "99999"], ["samples, not 99,999"]),
        (["subset", store("dense8"), "x", "--first", "9", "--samples", "bad.txt"], ["both --samples and --first"]),
        (["subset", store("dense8"), "x", "--samples", "bad.txt"], ["bad.txt:2: 'not an id'", "16 hex digits"]),
        (["subset", store("dense8"), "x", "--samples", "empty.txt"], ["empty.txt: is empty"]),
        (["subset", store("dense8"), "x", "--samples", "other.txt"], ["no label for 1 of 1 samples"]),
        (["subset", store("dense8"), "x", "--samples", "nowhere.txt"], ["nowhere.txt: no such file"]),
        (["subset", store("dense8"), "https://host/x"], ["https://host/x", "a folder that does not exist yet"]),
        (["merge", store("dense8"), "x"], ["2 paths", "two stores or more"]),
        (["merge", store("dense8"), store("dense16"), "x"], ["dense16.zarr: encoding", "dense_uint8"]),
        (["average", store("dense8"), store("none"), "x"], ["none.zarr: holds no soft labels"]),
        (["average", store("dense8"), store("dense16"), "x", "--weights", "1"], ["'1'", "2 numbers above 0"]),
        (["average", store("dense8"), store("dense16"), "x", "--weights", "1,0"], ["'1,0'", "2 numbers above 0"]),
        (["average", store("dense8"), store("dense16"), "x", "--weights", "a,b"], ["'a,b'", "2 numbers above 0"]),
        (["average", store("dense8"), store("dense16"), "x", "--encoding", "tpo2"], ["'tpo2'", "mean 'top2'"]),
        (["average", store("dense8"), store("dense16"), "x", "--encoding", "none"], ["'none' holds no soft labels"]),
        (["average", store("dense8"), store("dense16"), "x", "--encoding", "soft"], ["'soft'", "a dump chooses"]),
    ],
)
def test_what_derive_labels_cannot_do_is_one_line(call: Call, arguments: list[object], parts: list[str]) -> None:
    change(lambda p: p["encodings"].update(soft={"kind": "auto", "bytes": 6}))
    Path("bad.txt").write_text("00000000000000aa\nnot an id\n")
    Path("empty.txt").write_text("\n")
    Path("other.txt").write_text("00000000000000aa\n")
    assert_one_line(call("derive", *arguments), *parts)
    assert not Path("x").exists()


# Tables and figures


def ladder_row(size: float, kl: dict[str, float], front: bool, **encoding: Any) -> dict[str, Any]:
    return {
        "encoding": encoding,
        "label_bytes": size,
        "field_bytes": size - 0.25,
        "kl_nats": {t: {"mean": v, "p999": 10 * v, "max": 20 * v} for t, v in kl.items()},
        "worst_kl_nats": max(kl.values()),
        "top1_agreement": 0.9987,
        "on_front": front,
    }


LADDER = {
    "topk 2/64": ladder_row(2.5, {"1": 8e-3, "4": 2e-2}, True, kind="topk", tail="prior"),
    "topk 2/64 uniform": ladder_row(2.8, {"1": 2e-2, "4": 5e-2}, False, kind="topk", tail="uniform"),
    "sampled 12": ladder_row(5.5, {"1": 9e-2}, False, kind="sampled"),
    "dense_uint8/255": ladder_row(8.7, {"1": 1e-5, "4": 0.0}, True, kind="dense_uint8"),
    "dense_float16": ladder_row(16.9, {"1": 0.0, "4": 0.0}, True, kind="dense_float16"),
}


def test_the_table_of_a_ladder_leaves_out_what_is_not_served() -> None:
    lines = ladder_table(LADDER, [1.0, 4.0], "simple").splitlines()
    assert lines[3].split() == [
        "topk",
        "2/64",
        "2.500",
        "0.250",
        "8.0e-03",
        "2.0e-02",
        "8.0e-02",
        "2.0e-01",
        "99.87%",
        "*",
    ]
    assert lines[5].split() == ["sampled", "12", "5.500", "0.250", "9.0e-02", "9.0e-01", "99.87%"]
    assert len(lines) == 3 + len(LADDER)
    heads = ladder_table(LADDER, [1.0, 4.0], "simple", "set of classes").splitlines()[:2]
    assert [line.split()[-1] for line in heads] == ["same", "classes"]


def draw_views(count: int, channels: int, path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, channels, 8, 8), dtype=np.uint8)
    names = [f"a class with a very long name indeed, {n}" for n in range(7)]
    shares = rng.dirichlet(np.ones(7), count)
    views = [f"view {n}" for n in range(count)]
    draw_sample(SampleViews("a sample", images, shares, views, names, [3]), 5, path)


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: draw_ladder(LADDER, "topk 2/64", 4096, path),
        lambda path: draw_ladder(LADDER, None, 4096, path),
        lambda path: draw_views(1, 1, path),
        lambda path: draw_views(3, 3, path),
    ],
)
def test_figures_are_the_same_bytes_each_time(tmp_path: Path, draw: Callable[[Path], None]) -> None:
    for name in ("a.png", "b.png"):
        draw(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
