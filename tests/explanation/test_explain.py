"""The stage `explain`: it shows the contents of data and stores and the predictions of networks,
twice the same, and does without some.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import Made
from project import edit_sealed, files_of, small_params, write_params

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.tensors import read_tensors, write_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.data.decoding import decode
from pipeline.explanation.samples import ATTRIBUTED, DISAGREED, SUSPECT, choose, rank_classes
from pipeline.explanation.tiles import TileSheet, draw_map
from pipeline.labels.reader import StoreReader
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.views.plan import plan_view
from stages import dump_labels, explain, train_student

CPU = torch.device("cpu")
NAMES = ("teacher", "small", "small_hard")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Iterator[Path]:
    """Yields a folder after all stages up to `explain`; `evaluate`'s part of it is made up."""
    folder = made.copy(small_params(), "dump_labels", tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in NAMES[1:]:
            train_student.main(name, labels="data/dump_labels")
        count = ImageDataset(Path("data/prepare")).manifest.num_samples["test"]
        made_up = {f"{name}.kl_to_teacher": torch.rand(count) for name in NAMES[1:]}
        made_up["teacher.predicted"] = torch.zeros(count, dtype=torch.int32)
        write_tensors(Path("data/evaluate/predictions.safetensors"), made_up)
        explain.main()
        yield folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a copy to work in, which is the current folder."""
    copy = Path(shutil.copytree(trained, tmp_path / "project"))
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture(scope="module")
def told(trained: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((trained / "data/explain/samples.json").read_text())
    return content


def by_kind(told: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [row for row in told["samples"] if kind in row["kinds"]]


def sheet_of(path: Path, told: dict[str, Any], channels: int) -> list[np.ndarray]:
    """Returns the tiles of a sheet."""
    pixels = decode(path, channels)  # type: ignore[arg-type]
    height, width = told["tile_px"]
    rows, columns = pixels.shape[1] // height, pixels.shape[2] // width
    assert columns == told["columns"]
    return [
        pixels[:, r * height : (r + 1) * height, c * width : (c + 1) * width]
        for r in range(rows)
        for c in range(columns)
    ]


def run_again(**changes: Any) -> dict[str, Any]:
    """Runs `explain` with other settings and returns its samples."""
    params = small_params()
    params["explain"] |= changes
    write_params(Path(), params)
    explain.main()
    content: dict[str, Any] = json.loads(Path("data/explain/samples.json").read_text())
    return content


def test_it_gives_the_same_bytes_twice(folder: Path) -> None:
    before = files_of(folder / "data/explain"), files_of(folder / "reports")
    shutil.rmtree(folder / "data/explain")
    explain.main()
    assert (files_of(folder / "data/explain"), files_of(folder / "reports")) == before
    assert sorted(before[0]) == ["maps.png", "samples.json", "tiles.png"]
    assert not any(str(folder).encode() in content for content in before[0].values())


def test_images_views_and_labels_are_those_of_data_and_store(trained: Path, told: dict[str, Any]) -> None:
    tiles = sheet_of(trained / "data/explain/tiles.png", told, 1)
    dataset = ImageDataset(trained / "data/prepare")
    splits = {name: dataset.split(name) for name in ("train", "test")}
    assert told["store"] == "dense16.zarr"
    store = StoreReader(trained / "data/dump_labels/dense16.zarr")
    for row in told["samples"]:
        split = splits[row["split"]]
        assert int(row["id"], 16) == split.sample_ids[row["index"]]
        assert row["hard_label"] == split.hard_labels[row["index"]]
        assert np.array_equal(tiles[row["image"]], split.inputs[row["index"]].numpy())
        assert ("views" in row) == ("suspicion" in row) == (row["split"] == "train")
        for view, tile in enumerate(row.get("views", [])):
            plan = plan_view(split, store.views, view, rows=np.array([row["index"]]))
            assert np.array_equal(tiles[tile], plan.render(slice(None))[0].numpy())
            probs = store.decode(store.read_view(view), 1.0).exp()[store.find(split.sample_ids[[row["index"]]])[0]]
            assert [number for number, _ in row["view_labels"][view]] == probs.topk(3).indices.tolist()
            assert [prob for _, prob in row["view_labels"][view]] == pytest.approx(
                probs.topk(3).values.tolist(), abs=1e-4
            )


def test_predictions_are_those_of_the_plain_image(trained: Path, told: dict[str, Any]) -> None:
    assert told["networks"] == list(NAMES)
    dataset = ImageDataset(trained / "data/prepare")
    splits = {name: dataset.split(name) for name in ("train", "test")}
    images = torch.stack([splits[row["split"]].inputs[row["index"]] for row in told["samples"]])
    folders = {"teacher": "train_teacher", **{name: f"train_student/{name}" for name in NAMES[1:]}}
    probs = {
        name: predict_logits(read_model(trained / "data" / path, made_by=""), [images], CPU).double().softmax(dim=1)
        for name, path in folders.items()
    }
    for number, row in enumerate(told["samples"]):
        for name in NAMES:
            best = probs[name][number].topk(3)
            assert [label for label, _ in row["says"][name]] == best.indices.tolist()
            assert [prob for _, prob in row["says"][name]] == pytest.approx(best.values.tolist(), abs=1e-4)
        teacher, student = (
            probs["teacher"][number],
            probs["small"][number],
        )  # the twin never saw the teacher's labels
        assert row["disagreement"] == pytest.approx((teacher * (teacher / student).log()).sum().item(), abs=1e-5)


def test_the_samples_are_those_that_were_asked_for(trained: Path, told: dict[str, Any]) -> None:
    kl = read_tensors(trained / "data/evaluate/predictions.safetensors", made_by="")["small.kl_to_teacher"]
    assert [row["index"] for row in by_kind(told, DISAGREED)] == kl.argsort(descending=True)[:4].tolist()
    listed = [line.split("\t") for line in (trained / "reports/suspects.tsv").read_text().splitlines()]
    assert listed[0] == [
        "sample_id",
        "index",
        "hard_label",
        "teacher_says",
        "hard_prob",
        "teacher_prob",
        "suspicion",
        "key",
    ]
    suspects = by_kind(told, SUSPECT)
    assert len(suspects) == min(4, len(listed) - 1) > 0
    assert [[row["id"], str(row["index"])] for row in suspects] == [line[:2] for line in listed[1:5]]
    assert [row["suspicion"] for row in suspects] == [float(line[6]) for line in listed[1:5]]
    known = [line.split("\t") for line in (trained / "data/prepare/samples.tsv").read_text().splitlines()]
    keys = {line[0]: line[3] for line in known}
    assert all(line[7] == keys[line[0]] for line in listed[1:])
    report = json.loads((trained / "reports/explain.json").read_text())
    assert report["num_suspects"] == len(listed) - 1
    assert report["num_checked"] == ImageDataset(trained / "data/prepare").manifest.num_samples["train"]


def test_maps_are_of_every_network_for_the_attributed_samples(trained: Path, told: dict[str, Any]) -> None:
    attributed = by_kind(told, ATTRIBUTED)
    assert len(attributed) == 6
    assert {len(row["kinds"]) for row in attributed} == {1, 2}
    tiles = sheet_of(trained / "data/explain/maps.png", told, 3)
    numbers = [row["maps"][name] for row in attributed for name in NAMES]
    assert numbers == list(range(18))
    assert all((tiles[number][0] != tiles[number][2]).any() for number in numbers)
    report = json.loads((trained / "reports/explain.json").read_text())
    for name in NAMES[1:]:
        mean = np.mean([row["map_agreement"][name] for row in attributed])
        assert report["map_agreement"][name] == pytest.approx(mean, abs=1e-4)
        assert -1 <= report["map_agreement_by_chance"][name] <= 1
    assert not any("maps" in row for row in told["samples"] if ATTRIBUTED not in row["kinds"])


def test_nothing_is_shown_where_nothing_is_asked_for(folder: Path) -> None:
    told = run_again(num_suspects=0, num_disagreed=0, num_attributed=0)
    assert told["samples"] == []
    assert told["maps_sheet"] is None
    assert sorted(files_of(folder / "data/explain")) == ["samples.json", "tiles.png"]
    report = json.loads((folder / "reports/explain.json").read_text())
    assert report["num_suspects"] > 0
    assert report["map_agreement"] == {}


def test_without_soft_labels_nothing_is_suspected_and_it_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for store in ("dense8", "dense16", "top2"):
        shutil.rmtree(folder / f"data/dump_labels/{store}.zarr")
    told = run_again()
    assert "no labels were checked: data/dump_labels has no store with soft labels" in capsys.readouterr().err
    assert told["store"] is None
    assert by_kind(told, SUSPECT) == []
    assert len(by_kind(told, ATTRIBUTED)) == 6
    assert json.loads((folder / "reports/explain.json").read_text())["num_checked"] == 0
    assert (folder / "reports/suspects.tsv").read_text().count("\n") == 1


def test_views_of_two_images_are_no_ground_for_suspicion(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = small_params()
    params["dump_labels"]["views"]["operations"] = [{"kind": "mixup", "probability": 1.0, "alpha": 1.0}]
    params["encodings"] = {"top2": params["encodings"]["top2"]}
    write_params(folder, params)
    dump_labels.main()
    explain.main()
    assert "all its views are mixed of two images" in capsys.readouterr().err
    assert json.loads((folder / "data/explain/samples.json").read_text())["samples"][0]["split"] == "test"


def test_labels_of_a_few_classes_do(folder: Path) -> None:
    for store in ("dense8", "dense16"):
        shutil.rmtree(folder / f"data/dump_labels/{store}.zarr")
    told = run_again()
    assert told["store"] == "top2.zarr"
    assert by_kind(told, SUSPECT)


def test_predictions_of_other_students_or_data_are_refused(folder: Path) -> None:
    path = folder / "data/evaluate/predictions.safetensors"
    for tensors in ({"other.kl_to_teacher": torch.rand(3)}, {"small.kl_to_teacher": torch.rand(3)}):
        write_tensors(path, tensors | {"teacher.predicted": torch.zeros(3)})
        with pytest.raises(PipelineError, match="data/evaluate: not of these students and this data"):
            explain.main()
    path.unlink()
    with pytest.raises(PipelineError, match="run `dvc repro evaluate`"):
        explain.main()


def test_a_teacher_that_runs_elsewhere_says_something_of_views_alone(folder: Path) -> None:
    shutil.rmtree(folder / "data/train_teacher")
    write_tensors(folder / "data/evaluate/predictions.safetensors", {"small.predicted": torch.zeros(3)})
    told = run_again()
    assert told["networks"] == ["small", "small_hard"]
    assert by_kind(told, SUSPECT)[0]["view_labels"]
    assert by_kind(told, DISAGREED) == []
    for row in told["samples"]:
        assert row["says"].keys() == {"small", "small_hard"}
        assert "disagreement" not in row
    assert by_kind(told, ATTRIBUTED)[0]["map_agreement"] == {}
    assert json.loads((folder / "reports/explain.json").read_text())["map_agreement"] == {}


def test_a_network_that_is_not_there_is_asked_for(folder: Path) -> None:
    for name, stage in (("train_student/small", "train_student@small"), ("train_teacher", "train_teacher")):
        shutil.rmtree(folder / "data" / name)
        with pytest.raises(PipelineError, match=f"run `dvc repro {stage}`"):
            explain.main()
        shutil.copytree(folder / "data/train_student/small_hard", folder / "data" / name)


def test_a_store_of_other_classes_is_refused(folder: Path) -> None:
    path = folder / "data/prepare/manifest.json"
    edit_sealed(path, lambda content: content | {"class_names": content["class_names"][::-1]})
    with pytest.raises(PipelineError, match=r"dense16\.zarr: its classes are not those of data/prepare"):
        explain.main()


@pytest.mark.parametrize(("key", "value"), [("patch_share", 0.0), ("patch_share", 1.5), ("num_suspects", -1)])
def test_a_setting_out_of_range_is_refused(folder: Path, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"explain.{key}"):
        run_again(**{key: value})


@pytest.mark.parametrize(
    ("suspects", "disagreed", "num_attributed", "num_test", "expected"),
    [
        ([7, 8, 9], [1, 2], 3, 9, {SUSPECT: 3, DISAGREED: 2, ATTRIBUTED: 3}),
        ([], [], 24, 5, {SUSPECT: 0, DISAGREED: 0, ATTRIBUTED: 5}),
        ([4], [0, 1, 2], 9, 3, {SUSPECT: 1, DISAGREED: 3, ATTRIBUTED: 4}),
        ([4], [0], 0, 3, {SUSPECT: 1, DISAGREED: 1, ATTRIBUTED: 0}),
        ([1, 2, 3, 4], [0], 6, 30, {SUSPECT: 4, DISAGREED: 1, ATTRIBUTED: 6}),
    ],
)
def test_a_third_of_the_maps_are_of_each_sort_where_there_are_so_many(
    suspects: list[int], disagreed: list[int], num_attributed: int, num_test: int, expected: dict[str, int]
) -> None:
    chosen = choose(dict.fromkeys(suspects), disagreed, num_attributed, num_test)
    assert {kind: sum(kind in one.kinds for one in chosen) for kind in expected} == expected
    assert len({(one.split, one.index) for one in chosen}) == len(chosen)
    assert all(0 <= one.index < num_test for one in chosen if one.split == "test")


def test_large_images_become_small_tiles() -> None:
    sheet = TileSheet(200, 100)
    assert sheet.tile_px == (96, 48)
    assert [sheet.add(np.full((3, 200, 100), level, dtype=np.uint8)) for level in range(40)] == list(range(40))
    pixels = decode(sheet.png(), 3)
    assert pixels.shape == (3, 2 * 96, 32 * 48)
    assert (pixels[:, 96:, 7 * 48 : 8 * 48] == 39).all()
    assert not pixels[:, 96:, 8 * 48 :].any()


def test_a_map_is_orange_where_it_speaks_for_and_blue_where_against() -> None:
    image = np.full((1, 1, 3), 100, dtype=np.uint8)
    red, _, blue = draw_map(image, np.array([[2.0, 0.0, -2.0]]))[:, 0]
    assert red[0] > 150 > 60 > blue[0]
    assert red[1] == blue[1]
    assert blue[2] > 140 > 80 > red[2]
    assert len(set(draw_map(image, np.zeros((1, 3))).ravel())) == 1


def test_of_equally_likely_classes_the_first_comes_first() -> None:
    assert rank_classes(torch.tensor([[0.2, 0.4, 0.2, 0.2], [0.5, 0.0, 0.0, 0.5]])) == [
        [[1, 0.4], [0, 0.2], [2, 0.2]],
        [[0, 0.5], [3, 0.5], [1, 0.0]],
    ]
    assert rank_classes(torch.tensor([[0.3, 0.7]])) == [[[1, 0.7], [0, 0.3]]]
