"""Stages without DVC, in one process: what they write, and what they say of a user's mistakes."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import Made
from project import edit_sealed, files_of, forget, small_params, student, write_params
from teachers import edit_params
from website import Website

import pipeline.export.predict  # noqa: F401  # imported late by export; what is loaded is part of fingerprints
from benchmarks.object_server import ObjectServer
from pipeline.core.errors import ConfigError, ModelError, PipelineError, StoreError, VerificationError, one_line_errors
from pipeline.core.tensors import read_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.labelling.packing import pack_store
from pipeline.labels.reader import StoreReader
from pipeline.models.saved import read_meta, write_model
from pipeline.results.costs import Cost
from stages import dump_labels, evaluate, explain, export, prepare, report, train_student, train_teacher, verify_labels

Change = Callable[[dict[str, Any]], object]


def run_prepare(folder: Path) -> None:
    prepare.main(
        params=folder / "params.yaml", raw=folder / "data/raw", out=folder / "data/prepare", work=folder / "work"
    )


def run_teacher(folder: Path) -> None:
    data = folder / "data"
    train_teacher.main(
        folder / "params.yaml", data / "prepare", data / "train_teacher", folder / "reports", folder / "work"
    )


def run_dump(folder: Path) -> None:
    data = folder / "data"
    dump_labels.main(
        folder / "params.yaml", data / "prepare", data / "train_teacher", data / "dump_labels", folder / "work"
    )


def run_verify(folder: Path) -> None:
    data = folder / "data"
    verify_labels.main(
        folder / "params.yaml",
        data / "prepare",
        data / "train_teacher",
        data / "dump_labels",
        folder / "reports/verify_labels.json",
    )


def run_student(folder: Path, name: str = "small", labels: str | None = None) -> None:
    data = folder / "data"
    train_student.main(
        name,
        folder / "params.yaml",
        data / "prepare",
        labels or str(data / "dump_labels"),
        data / "train_student",
        folder / "reports/train_student",
        folder / "work",
    )


def run_evaluate(folder: Path) -> None:
    data = folder / "data"
    evaluate.main(
        folder / "params.yaml",
        data / "prepare",
        data / "train_teacher",
        data / "train_student",
        data / "dump_labels",
        folder / "reports",
        data / "evaluate",
    )


def run_explain(folder: Path) -> None:
    data = folder / "data"
    explain.main(
        folder / "params.yaml",
        data / "prepare",
        data / "train_teacher",
        data / "train_student",
        data / "dump_labels",
        data / "evaluate",
        data / "explain",
        folder / "reports",
    )


def run_export(folder: Path) -> None:
    data = folder / "data"
    export.main(
        "small",
        folder / "params.yaml",
        data / "prepare",
        data / "train_student",
        data / "export",
        folder / "reports/export",
        folder / "work",
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Returns a folder after every stage."""
    folder = made.copy(small_params(), "dump_labels", tmp_path_factory.mktemp("finished"))
    run_verify(folder)
    for name in small_params()["students"]:
        run_student(folder, name)
    run_evaluate(folder)
    run_explain(folder)
    run_export(folder)
    report.main(folder / "params.yaml", folder / "reports", folder / "data/explain")
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project"))


def change(folder: Path, edit: Change) -> None:
    params = small_params()
    edit(params)
    write_params(folder, params)


def test_the_report_says_whether_it_paid(finished: Path) -> None:
    text = (finished / "reports/report.md").read_text()
    table = (finished / "reports/table.txt").read_text()
    rows = json.loads((finished / "reports/evaluate.json").read_text())["models"]
    gain = 100 * (rows["small"]["accuracy"] - rows["small_hard"]["accuracy"])
    assert f"{gain:+.2f}" in text
    assert f"{gain:+.2f}" in table
    for figure in (finished / "reports/figures").iterdir():
        assert f"figures/{figure.name}" in text
    assert rows["small"]["train_seconds"] > 0
    assert [row["role"] for row in rows.values()] == ["teacher", "student", "twin"]
    assert 0 <= rows["small"]["agreement"] <= 1


def test_evaluate_says_the_same_in_its_report_and_in_its_predictions(finished: Path) -> None:
    content = json.loads((finished / "reports/evaluate.json").read_text())
    said = read_tensors(finished / "data/evaluate/predictions.safetensors", made_by="")
    labels = ImageDataset(finished / "data/prepare").split("test").hard_labels
    assert content["num_test"] == len(labels) == sum(content["class_counts"])
    assert content["class_names"] == [str(number) for number in range(10)]
    for name, row in content["models"].items():
        right = said[f"{name}.predicted"] == labels
        assert row["accuracy"] == right.double().mean().item()
        assert row["nll"] == pytest.approx(-said[f"{name}.hard_prob"].double().log().mean().item(), rel=1e-5)
        assert torch.equal(said[f"{name}.hard_prob"][right], said[f"{name}.confidence"][right])
        shares = [share for share in row["class_accuracy"] if share is not None]
        weights = [count for count in content["class_counts"] if count]
        assert np.average(shares, weights=weights) == pytest.approx(row["accuracy"])
        assert row["accuracy"] <= row["top5_accuracy"] <= 1
        if name != "teacher":
            assert row["kl_to_teacher"] == pytest.approx(said[f"{name}.kl_to_teacher"].double().mean().item(), rel=1e-5)
        folder = "train_teacher" if name == "teacher" else f"train_student/{name}"
        assert row["file_bytes"] == (finished / "data" / folder / "weights.safetensors").stat().st_size
    assert "teacher.kl_to_teacher" not in said


def test_evaluate_tries_worse_images_and_takes_the_cost(finished: Path) -> None:
    content = json.loads((finished / "reports/evaluate.json").read_text())
    assert content["robustness"] == {"severity": 3, "num_images": 150}
    for row in content["models"].values():
        kinds = {"gaussian_noise", "gaussian_blur", "contrast", "jpeg"}
        assert row["corruptions"].keys() == kinds | {"clean", "mean"}
        assert row["corruptions"]["mean"] == pytest.approx(np.mean([row["corruptions"][kind] for kind in kinds]))
        assert row["corruptions"]["gaussian_blur"] <= row["corruptions"]["clean"] + 0.1
        cost = row["cost"]
        assert 0 < cost["latency_ms"]["one"]["p50"] <= cost["latency_ms"]["one"]["p95"]
        assert 0 < cost["import_memory_bytes"] <= cost["peak_memory_bytes"]  # both of this very process
    rows = content["models"]
    assert rows["small"]["cost"] == rows["small_hard"]["cost"] != rows["teacher"]["cost"]
    (compared,) = content["comparisons"]
    assert (compared["student"], compared["twins"], compared["seeds"]) == ("small", ["small_hard"], [0])
    assert compared["gain_points"]["mean"] == pytest.approx(rows["small"]["gain_points"])


def test_the_tables_for_plots_add_up(finished: Path) -> None:
    plots, content = finished / "reports/plots", json.loads((finished / "reports/evaluate.json").read_text())
    confused = [line.split("\t") for line in (plots / "confusion.tsv").read_text().splitlines()]
    assert confused[0] == ["name", "actual", "predicted", "count"]
    for name, row in content["models"].items():
        own = [(actual, said, int(count)) for who, actual, said, count in confused[1:] if who == name]
        assert sum(count for *_, count in own) == content["num_test"]
        right = sum(count for actual, said, count in own if actual == said)
        assert right / content["num_test"] == pytest.approx(row["accuracy"])
        assert all(count > 0 for *_, count in own)
    sizes = (plots / "accuracy_against_size.tsv").read_text().splitlines()
    assert sizes[0].split("\t") == ["name", "role", "parameters", "accuracy", "train_seconds", "latency_ms"]
    assert len(sizes) == 1 + len(content["models"])
    metrics = json.loads((finished / "reports/metrics.json").read_text())
    assert {key: set(value) for key, value in metrics.items()} == {
        "accuracy": {"teacher", "small", "small_hard"},
        "gain_points": {"small"},
        "ece": {"teacher", "small", "small_hard"},
    }
    assert content["stores"]["dense8"]["num_labels"] == 2 * content["stores"]["dense8"]["num_samples"]


def test_evaluate_says_the_same_again_but_for_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "data/evaluate/predictions.safetensors").read_bytes()
    rows = json.loads((folder / "reports/evaluate.json").read_text())["models"]
    change(folder, lambda p: p["evaluate"].update(batch_size=64))
    monkeypatch.setattr(
        "pipeline.evaluation.networks.measure_cost", lambda *asked: Cost(1, {"one": {"p50": 1.0}}, 2, 1)
    )
    run_evaluate(folder)
    assert (folder / "data/evaluate/predictions.safetensors").read_bytes() == before
    again = json.loads((folder / "reports/evaluate.json").read_text())["models"]
    assert {n: r | {"cost": None} for n, r in again.items()} == {n: r | {"cost": None} for n, r in rows.items()}


def test_a_student_trains_from_a_url_as_from_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(folder / "cache"))
    local = files_of(folder / "data/train_student/small")
    forget(folder, "train_student/small")
    shutil.move(folder / "data/dump_labels", folder / "site/labels")
    with Website(folder / "site") as site:
        run_student(folder, labels=f"{site.url}/labels")
        assert max(site.blocks().values()) == 1
        run_student(folder, "small_hard", labels=f"{site.url}/labels/")
        change(folder, lambda p: p["students"]["small"].update(labels="dense9"))
        with pytest.raises(StoreError, match=r"/labels/dense9\.zarr/zarr\.json: no such store"):
            run_student(folder, labels=f"{site.url}/labels")
    assert files_of(folder / "data/train_student/small") == local


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_student_trains_from_an_object_store_as_from_a_folder(
    scheme: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(folder / "cache"))
    local, labels = files_of(folder / "data/train_student/small"), folder / "data/dump_labels"
    forget(folder, "train_student/small")
    with ObjectServer(scheme) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.objects.update({f"bucket/labels/{name}": content for name, content in files_of(labels).items()})
        shutil.rmtree(labels)
        run_student(folder, labels=f"{scheme}://bucket/labels")
    assert files_of(folder / "data/train_student/small") == local


def test_a_student_trains_from_one_packed_store_as_from_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(folder / "cache"))
    local = files_of(folder / "data/train_student/small")
    forget(folder, "train_student/small")
    pack_store(StoreReader(folder / "data/dump_labels/dense8.zarr"), "# labels", folder / "site.zip")
    shutil.rmtree(folder / "data/dump_labels")
    with Website(folder) as site:
        run_student(folder, labels=f"{site.url}/site.zip")
    assert files_of(folder / "data/train_student/small") == local
    change(folder, lambda p: [row.update(group="a") for row in p["students"].values()])
    with pytest.raises(
        ConfigError, match=r"site\.zip: one packed store, for small, small_hard, whose `labels` are dense8"
    ):
        run_student(folder, labels=str(folder / "site.zip"))


def test_outputs_hold_nothing_of_time_or_place(finished: Path) -> None:
    for path, content in files_of(finished / "data").items():
        assert str(finished).encode() not in content, path
        assert b"seconds" not in content.replace(b"checkpoint_seconds", b""), path


def test_the_test_split_is_read_by_evaluate_alone(folder: Path) -> None:
    shutil.rmtree(folder / "data/prepare/test.zarr")
    for out in ("train_teacher", "dump_labels", "train_student/small"):
        forget(folder, out)
    run_teacher(folder)
    run_dump(folder)
    run_verify(folder)
    run_student(folder)
    with pytest.raises(PipelineError, match=r"test\.zarr"):
        run_evaluate(folder)


def test_a_finished_stage_is_not_done_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_student(folder)
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change_it", "told"),
    [
        (lambda about: about | {"class_names": about["class_names"][::-1]}, "other classes"),
        (lambda about: about | {"image_shape": [1, 9, 9]}, "other images"),
    ],
)
def test_a_network_of_other_data_is_refused(
    folder: Path, change_it: Callable[[dict[str, Any]], dict[str, Any]], told: str
) -> None:
    path = folder / "data/train_student/small/meta.json"
    edit_sealed(path, change_it)
    for run in (run_evaluate, run_export):
        with pytest.raises(ModelError, match=f"small: was trained for {told}.*dvc repro train_student@small"):
            run(folder)


def test_a_network_that_gives_no_numbers_is_named(folder: Path) -> None:
    place = folder / "data/train_student/small"
    tensors = read_tensors(place / "weights.safetensors", made_by="")
    endless = {name: torch.full_like(t, torch.inf) if t.is_floating_point() else t for name, t in tensors.items()}
    write_model(place, read_meta(place, made_by=""), endless, best=endless)
    with pytest.raises(ModelError, match="small: its outputs are not finite"):
        run_evaluate(folder)


def test_a_teacher_can_be_imported(folder: Path) -> None:
    weights = folder / "mine.safetensors"
    shutil.copy(folder / "data/train_teacher/weights.safetensors", weights)

    def edit(params: dict[str, Any]) -> None:
        params["train_teacher"]["weights"] = str(weights)
        params["train_teacher"]["fit"]["epochs"] = 0

    change(folder, edit)
    run_teacher(folder)
    imported = read_tensors(folder / "data/train_teacher/weights.safetensors", made_by="")
    assert all(torch.equal(tensor, imported[name]) for name, tensor in read_tensors(weights, made_by="").items())
    run_dump(folder)
    run_verify(folder)


@pytest.mark.parametrize(
    ("run", "edit", "parts"),
    [
        (
            run_prepare,
            lambda p: p["prepare"].update(source={"kind": "fashion_mnits"}),
            ["source.kind", "'fashion_mnist'"],
        ),
        (run_prepare, lambda p: p["prepare"].update(val_fractoin=0.1), ["prepare.val_fractoin", "val_fraction"]),
        (run_prepare, lambda p: p["prepare"].update(val_fraction=0.001), ["10 of 10 classes", "val_fraction"]),
        (run_teacher, lambda p: p["train_teacher"].update(model="resnet_smal"), ["resnet_smal", "'resnet_small'"]),
        (run_teacher, lambda p: p["train_teacher"]["model_settings"].update(widht=3), ["widht", "'width'"]),
        (run_teacher, lambda p: p["train_teacher"]["fit"].update(epochs="2"), ["train_teacher.fit.epochs", "integer"]),
        (run_teacher, lambda p: p["train_teacher"]["fit"].update(epochs=0), ["epochs: 0", "weights"]),
        (run_teacher, lambda p: p["train_teacher"].update(weights="none.safetensors"), ["none.safetensors"]),
        (
            run_teacher,
            lambda p: p["train_teacher"]["fit"].update(learning_rate=1e6, weight_decay=1e6),
            ["learning_rate"],
        ),
        (run_dump, lambda p: p["encodings"].update(x={"kind": "dense_unit8"}), ["encodings.x", "'dense_uint8'"]),
        (run_dump, lambda p: p["encodings"].update(x={"kind": "dense_uint8"}), ["encodings.x.range_nats", "missing"]),
        (run_dump, lambda p: p["encodings"].update(x=3), ["encodings.x", "a map of settings"]),
        (run_student, lambda p: p["students"]["small"].update(labels="dens8"), ["dens8", "'dense8'"]),
        (run_student, lambda p: p["students"]["small"].update(labels="none"), ["none", "soft_weight"]),
        (run_student, lambda p: p["students"]["small"].update(twin_of="smal"), ["twin_of", "'small'"]),
        (run_student, lambda p: p["students"]["small"].update(hard_weight=0.0, soft_weight=0.0), ["both 0"]),
        (run_student, lambda p: p["students"]["small"]["fit"].update(epochs=0), ["epochs"]),
        (run_student, lambda p: p["students"].pop("small"), ["students.small", "small_hard"]),
        (run_student, lambda p: p["students"]["small"].update(device="cuda"), ["cuda"]),
        (run_evaluate, lambda p: p["evaluate"]["robustness"].update(severity=6), ["evaluate.robustness.severity", "6"]),
        (run_evaluate, lambda p: p["evaluate"].pop("robustness"), ["evaluate.robustness", "missing"]),
        (run_evaluate, lambda p: p["evaluate"].update(latency_repeats=0), ["evaluate.latency_repeats", "0"]),
    ],
)
def test_a_mistake_in_params_is_one_clear_line(
    folder: Path, run: Callable[[Path], None], edit: Change, parts: list[str]
) -> None:
    if "cuda" in parts and torch.cuda.is_available():
        pytest.skip("there is one")
    before = files_of(folder / "data")
    change(folder, edit)
    with pytest.raises(PipelineError) as caught:
        run(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert all(part in line for part in parts), line
    assert files_of(folder / "data") == before


def shard_of(folder: Path, name: str = "dense8") -> Path:
    return next((folder / f"data/dump_labels/{name}.zarr/log_prob_codes/c/1/0").rglob("0"))


def test_a_flipped_bit_in_a_block_stops_a_student(folder: Path) -> None:
    shard = shard_of(folder)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 4
    shard.write_bytes(content)
    forget(folder, "train_student/small")
    with pytest.raises(PipelineError, match="damaged") as caught:
        run_student(folder)
    assert "dense8.zarr/log_prob_codes" in str(caught.value)
    with pytest.raises(VerificationError):
        run_verify(folder)
    faults = json.loads((folder / "reports/verify_labels.json").read_text())["stores"]
    assert faults["dense8"]["faults"]
    assert not faults["dense16"]["faults"]


def test_a_missing_block_stops_a_student(folder: Path) -> None:
    shard_of(folder).unlink()
    forget(folder, "train_student/small")
    with pytest.raises(PipelineError, match="view 1, samples 0 to 255 is missing"):
        run_student(folder)
    with pytest.raises(VerificationError, match="view 1, samples 0 to 255 is missing"):
        run_verify(folder)


def test_a_store_for_other_data_is_refused(folder: Path) -> None:
    from pipeline.data.sample_ids import sample_ids
    from pipeline.preparation.write import write_dataset

    dataset = ImageDataset(folder / "data/prepare")
    splits = {name: dataset.split(name) for name in ("train", "val", "test")}
    others = {
        name: type(s)(255 - s.inputs, s.hard_labels, sample_ids((255 - s.inputs).numpy())) for name, s in splits.items()
    }
    shutil.rmtree(folder / "data/prepare")
    write_dataset(folder / "data/prepare", "digits", dataset.manifest.class_names, others)
    with pytest.raises(PipelineError, match="other data"):
        run_student(folder)


def test_a_teacher_whose_weights_hold_nan_is_refused(folder: Path) -> None:
    place = folder / "data/train_teacher"
    weights = read_tensors(place / "weights.safetensors", made_by="")
    name = next(key for key in weights if key.endswith("bias"))
    nan = weights | {name: torch.full_like(weights[name], torch.nan)}
    write_model(place, read_meta(place, made_by=""), nan)
    with pytest.raises(PipelineError, match=rf"{name} holds NaN"):
        run_dump(folder)


def test_labels_of_another_teacher_are_drift(folder: Path) -> None:
    place = folder / "data/train_teacher"
    weights = read_tensors(place / "weights.safetensors", made_by="")
    name = next(key for key in weights if key.endswith("bias"))
    other = weights | {name: weights[name] + torch.arange(weights[name].numel())}
    write_model(place, read_meta(place, made_by=""), other)
    with pytest.raises(VerificationError, match="teacher"):
        run_verify(folder)
    faults = json.loads((folder / "reports/verify_labels.json").read_text())["stores"]["dense16"]["faults"]
    assert any("nats from the teacher" in fault for fault in faults)
    assert any("written by teacher" in fault for fault in faults)


def test_labels_in_bfloat16_say_so_and_are_verified_so(folder: Path) -> None:
    before = files_of(folder / "data/dump_labels/dense16.zarr")
    edit_params(folder, "dump_labels", precision="bfloat16")
    run_dump(folder)
    after = files_of(folder / "data/dump_labels/dense16.zarr")
    said = json.loads(after["zarr.json"])["attributes"]["teacher"]["precision"]
    assert said == "bfloat16"
    changed = [name for name, content in after.items() if name.startswith("log_probs/c/") and content != before[name]]
    assert changed
    run_verify(folder)


def test_a_teacher_is_compiled_where_that_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    edit_params(folder, "dump_labels", num_views=1)
    run_dump(folder)
    assert not compiled
    edit_params(folder, "dump_labels", compile=True, num_views=3)
    run_dump(folder)
    assert len(compiled) == 1


def test_a_full_disk_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = files_of(folder / "data/dump_labels")
    forget(folder, "dump_labels")
    real, calls = os.fsync, iter(range(10**6))

    def full(handle: int) -> None:
        if next(calls) > 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SystemExit) as stopped, one_line_errors():
            run_dump(folder)
    assert stopped.value.code == 1
    assert "No space left on device" in capsys.readouterr().err
    run_dump(folder)
    assert "going on" in capsys.readouterr().err
    assert files_of(folder / "data/dump_labels") == expected


def test_a_student_may_use_any_store_of_the_table(folder: Path) -> None:
    change(folder, lambda p: p["students"].update(other=student(labels="dense16")))
    run_student(folder, "other")
    assert (folder / "data/train_student/other/weights.safetensors").exists()
