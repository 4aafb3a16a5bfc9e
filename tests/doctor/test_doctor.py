"""The doctor reports all that is wrong before hours are spent, and leaves nothing behind."""

import importlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import typer
from image_files import make_samples, write_folder
from made import Made
from PIL import Image
from project import files_of, small_params, student, write_params
from runs import recipe
from safetensors.torch import save_file

import pipeline.core.files
import pipeline.core.scratch
import pipeline.data.budget
from pipeline.core.closure import TOP
from pipeline.doctor import labels, load, memory, speed, steps, trials
from pipeline.doctor.disk import count_copies
from pipeline.doctor.networks import ImageSeconds
from pipeline.doctor.params import SECTIONS
from pipeline.doctor.reporting import duration
from pipeline.labelling import ladder as rungs
from pipeline.models import ClassifierSpec
from pipeline.training.batches import num_steps
from stages import doctor

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Times networks for a moment, measures few labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.core.scratch, "code_fingerprint", lambda script: "code")
        patch.setattr(speed, "_SECONDS", 0.01)
        patch.setattr(trials, "_SLOW_SECONDS", 0.0)
        patch.setattr(trials, "_WRITTEN_TIMES", 2)
        patch.setattr(labels, "MEASURED", 200)
        patch.setattr(load, "_SAMPLE_SECONDS", 0.0)
        patch.setattr(steps, "FEW_STEPS", 30)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Returns a folder with data, a teacher and stores."""
    return made.copy(small_params(), "dump_labels", tmp_path_factory.mktemp("finished"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder with params and nothing else."""
    write_params(tmp_path, small_params())
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Report:
    """The lines that the doctor printed, by level, and its exit status."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        *lines, self.verdict = text.splitlines()
        self.lines = {level: [ln[9:] for ln in lines if ln.startswith(level)] for level in ("ok", "warning", "error")}
        assert sum(map(len, self.lines.values())) == len(lines), f"each line is of a level:\n{text}"

    def only_error(self, *parts: str) -> None:
        assert len(self.lines["error"]) == 1, self.text
        assert all(part in self.lines["error"][0] for part in parts), self.text
        assert self.status == 1

    def line(self, level: str, *parts: str) -> str:
        found = [line for line in self.lines[level] if all(part in line for part in parts)]
        assert len(found) == 1, self.text
        return found[0]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., Report]:
    def asked(folder: Path, change: Change | None = None, *, quick: bool = True) -> Report:
        if change:
            params = small_params()
            change(params)
            write_params(folder, params)
        places = [folder / "data" / name for name in ("raw", "prepare", "train_teacher", "dump_labels")]
        capsys.readouterr()
        with pytest.raises(typer.Exit) as stop:
            doctor.main(folder / "params.yaml", *places, quick)
        return Report(stop.value.exit_code, capsys.readouterr().out)

    return asked


def images_in(folder: Path, **settings: Any) -> Change:
    """Returns a change that takes images from a folder."""
    return lambda params: params["prepare"].update(
        source={"kind": "folder", "path": str(folder / "images")}, val_fraction=0.4, **settings
    )


def test_with_nothing_but_params_it_reports_images_networks_time_and_disk_and_leaves_nothing(
    folder: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_SLOW_SECONDS", 60.0)
    before = files_of(folder)
    report = ask(folder, quick=False)
    assert (report.status, report.verdict) == (0, "0 errors, 0 warnings")
    report.line("ok", "images: digits, not prepared yet", "10 classes", "about 1,295 train, about 142 val", "1 x 8 x 8")
    report.line("ok", "classes: 127 to 131 training images each")
    report.line("ok", "train_teacher: convnet_small, 6,274 parameters", "10 outputs")
    stages = ("prepare", "train_teacher", "dump_labels", "train_student@small ", "train_student@small_hard")
    for stage in (*stages, "the other stages"):
        report.line("ok", f"time: {stage}", "about")
    report.line("ok", "store dense8", "made-up")
    report.line("ok", "at the peak", "free")
    assert files_of(folder) == before


def test_what_is_there_already_is_looked_at_in_place_of_the_source(
    finished: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.preparation.sources.digits.Digits.load", None)
    before = files_of(finished)
    report = ask(finished, quick=False)
    assert report.status == 0
    report.line("ok", "images: digits, prepared as the settings say", "1,295 train, 142 val, 360 test")
    for split in ("train", "val", "test"):
        report.line("ok", f"images: {split}: its first image is whole, 1 x 8 x 8")
    report.line("ok", "store dense8", "the present teacher's")
    report.line("ok", "disk: data/prepare", "there")
    assert not any("time: prepare" in line for line in report.lines["ok"])
    assert files_of(finished) == before


def test_data_of_other_settings_is_passed_over(finished: Path, tmp_path: Path, ask: Callable[..., Report]) -> None:
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    report = ask(project, lambda params: params["prepare"].update(storage="encoded"))
    report.line("warning", "storage was pixels, and is encoded now", "dvc repro prepare")
    report.line("ok", "not prepared yet", "storage: encoded")
    assert report.status == 0


def test_every_fault_in_params_is_reported_at_once(folder: Path, ask: Callable[..., Report]) -> None:
    def spoil(params: dict[str, Any]) -> None:
        params["prepare"].update(val_fraction=2.0, storage="pixel", sede=1)
        params["train_teacher"]["fit"]["epochs"] = "2"
        del params["dump_labels"]["num_views"]
        params["encodings"]["dense8"]["levls"] = 3
        params["students"]["small"].update(twin_of="smal", hard_weight=-1.0)
        params["students"]["other"] = student(soft_weight=0.0, hard_weight=0.0)
        params["evaluate"] = 3

    report = ask(folder, spoil)
    for key in (
        "prepare.val_fraction",
        "prepare.storage",
        "prepare.sede",
        "train_teacher.fit.epochs",
        "dump_labels.num_views",
        "encodings.dense8.levls",
        "students.small.hard_weight",
        "students.other: hard_weight and soft_weight are both 0",
        "evaluate: 3",
    ):
        report.line("error", key)
    assert report.status == 1


def test_a_section_that_nothing_reads_gets_the_nearest_name(folder: Path, ask: Callable[..., Report]) -> None:
    report = ask(folder, lambda params: params.update(student_defaults=params.pop("students_defaults")))
    report.line("warning", "student_defaults: nothing reads", "did you mean 'students_defaults'?")


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_means_the_same_to_the_doctor_and_to_its_stage(name: str) -> None:
    kind = getattr(importlib.import_module(f"stages.{name}"), "".join(word.capitalize() for word in name.split("_")))
    told = [{field.name: str(field.type) for field in fields(each)} for each in (kind, SECTIONS[name])]
    assert told[0] == told[1]


def test_no_params_at_all_is_one_error(tmp_path: Path, ask: Callable[..., Report]) -> None:
    ask(tmp_path).only_error("params.yaml", "no such file")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda p: p["students"]["small"].update(labels="dens8"), ["students.small.labels", "did you mean 'dense8'"]),
        (lambda p: p["students"]["small"].update(labels="none"), ["students.small.labels", "no soft labels"]),
        (
            lambda p: p["students"]["small"].update(labels="top2", loss={"kind": "mse", "standardize": False}),
            ["students.small.loss", "'mse'", "dense"],
        ),
        (lambda p: p["students"]["small"].update(labels="top2", temperature=3.0), ["temperature", "3", "1, 2"]),
        (lambda p: p["dump_labels"].update(temperature=3.0), ["dump_labels.temperatures", "3"]),
        (
            lambda p: p["dump_labels"]["views"].update(operations=[{"kind": "saturation", "strength": 0.2}]),
            ["dump_labels.views", "saturation"],
        ),
        (
            lambda p: p["students"].update(a=student(group="g"), b=student(group="g", memory_budget_mb=50)),
            ["students.b.memory_budget_mb", "50"],
        ),
    ],
)
def test_what_does_not_go_together_is_an_error(
    folder: Path, ask: Callable[..., Report], change: Change, parts: list[str]
) -> None:
    ask(folder, change).only_error(*parts)


def test_an_encoding_that_does_not_fit_is_an_error_where_a_student_names_it(
    folder: Path, ask: Callable[..., Report]
) -> None:
    def change(params: dict[str, Any], labels: str) -> None:
        params["encodings"]["top2"].update(k=11)
        params["students"]["small"].update(labels=labels)

    report = ask(folder, lambda params: change(params, "dense8"))
    report.line("warning", "encodings.top2.k: 11", "no student names this row, so it is passed over")
    assert report.status == 0
    report = ask(folder, lambda params: change(params, "top2"))
    report.line("error", "encodings.top2.k: 11", "at most 9 for 10 classes")
    assert report.status == 1


SOFT: dict[str, Any] = {"kind": "auto", "bytes": 6}


def with_budget(row: dict[str, Any], **changes: Any) -> Change:
    """Returns a change to stores of a budget and of views alone, and to a student of the first."""
    return lambda p: p.update(
        encodings={"soft": row, "none": {"kind": "none"}},
        students={"small": student(labels="soft", **changes)},
        exports=["small"],
    )


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (SOFT, ["6.00 bytes a label (the most by its budget)"]),
        ({"kind": "auto", "kl_nats": 0.02}, ["a guess: the dump chooses for a mean KL of 0.02 nats"]),
        ({"kind": "auto", "kl_p999_nats": 0.5}, ["a guess: the dump chooses for a p99.9 KL of 0.5 nats"]),
    ],
)
def test_a_budget_is_counted_before_there_is_a_teacher(
    folder: Path, ask: Callable[..., Report], row: dict[str, Any], told: list[str]
) -> None:
    report = ask(folder, with_budget(row))
    report.line("ok", "disk: store soft", *told)
    assert report.status == 0
    assert not [line for line in report.lines["ok"] if "encodings: soft" in line], "nothing is chosen yet"


def test_a_budget_is_told_by_what_it_becomes_where_there_is_a_teacher(
    finished: Path, tmp_path: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = rungs.ladder
    kept = ["dense_uint8/32", "topk 2/64 uniform"]
    monkeypatch.setattr(rungs, "ladder", lambda space, counts: {name: full(space, counts)[name] for name in kept})
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    report = ask(project, with_budget(SOFT | {"bytes": 100}), quick=False)
    report.line(
        "ok", "encodings: soft: for at most 100 bytes per label: {kind: dense_uint8", "the dump chooses by its own"
    )
    report.line("ok", "disk: store soft", "measured on the present teacher's")
    assert report.status == 0
    ask(project, with_budget(SOFT | {"bytes": 0.01}), quick=False).only_error(
        "encodings.soft: no encoding of the ladder fits 0.01 bytes per label", "the nearest is"
    )
    kept[:] = ["anchored 16/0.1/2"]
    report = ask(project, with_budget({"kind": "auto", "kl_p999_nats": 9}), quick=False)
    report.line("ok", "encodings: soft: for at most a p99.9 KL of 9 nats: {kind: anchored", "p99.9 up to")
    report.line("ok", "disk: store soft", "measured on the present teacher's")


def test_a_student_may_need_more_than_a_budget_gives(folder: Path, ask: Callable[..., Report]) -> None:
    mse = {"loss": {"kind": "mse", "standardize": False}}
    ask(folder, with_budget(SOFT, **mse)).only_error("students.small.loss", "'mse'", "a dense encoding")
    assert ask(folder, with_budget(SOFT | {"bytes": 10}, **mse)).status == 0, "a byte for each class"


def test_classes_of_too_few_images_are_an_error_that_names_them_all(folder: Path, ask: Callable[..., Report]) -> None:
    write_folder(folder / "images", [one for one in make_samples(each=4) if one.split == "train"])
    ask(folder, images_in(folder, test_fraction=0.1)).only_error("3 of 3 classes have too few", "'ant' (4), 'bee' (4)")


@pytest.mark.parametrize("stage", ["train_teacher", "dump_labels", "students.small"])
def test_a_memory_budget_that_is_too_small_is_an_error_and_one_that_is_not_is_reported(
    folder: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def change(params: dict[str, Any], megabytes: int) -> None:
        for key in stage.split("."):
            params = params[key]
        params["memory_budget_mb"] = megabytes

    monkeypatch.setattr(pipeline.data.budget, "_MEGABYTE", 10_000)
    monkeypatch.setattr(memory, "IMAGE_CHUNK_BYTES", 640)
    ask(folder, lambda params: change(params, 1)).only_error(f"{stage}.memory_budget_mb", "at least", "batches of")
    report = ask(folder, lambda params: change(params, 8))
    report.line("ok", f"memory: {stage} reads images from disk")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda t: t.update(model="convnet_smal"), ["convnet_smal", "did you mean 'convnet_small'"]),
        (lambda t: t.update(device="mps"), ["device 'mps'"]),
        (lambda t: t.update(weights="other.safetensors"), ["other.safetensors", "all fits but the head", "new_head"]),
        (lambda t: t.update(weights="gone.safetensors"), ["gone.safetensors"]),
        (
            lambda t: t.update(model="broken.py:build", model_settings={}),
            ["train_teacher: model 'broken.py:build', line 12: fails (RuntimeError: sorry)"],
        ),
    ],
)
def test_a_teacher_that_can_not_be_trained_is_an_error(
    folder: Path, ask: Callable[..., Report], change: Change, parts: list[str]
) -> None:
    save_file(weights_for(4), folder / "other.safetensors")
    (folder / "broken.py").write_text(_BREAKS_IN_TRAINING)
    report = ask(folder, lambda params: change(params["train_teacher"]), quick=False)
    report.only_error(*parts)
    report.line("ok", "students.small: convnet_small")


_BREAKS_IN_TRAINING = """
from torch import nn


class Network(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.head = nn.Linear(64, outputs)

    def forward(self, images):
        if self.training:
            raise RuntimeError("sorry")
        return self.head(images.flatten(1))


def build(num_classes, channels):
    return Network(num_classes)
"""


def weights_for(num_classes: int) -> dict[str, torch.Tensor]:
    """Returns tensors of the teacher's network, untrained."""
    settings = {"width": 8, "depth": 1}
    model = ClassifierSpec("convnet_small", settings, num_classes=num_classes, channels=1, mean=[0.5], std=[0.5]).build(
        1
    )
    return {name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}


def test_weights_that_know_nothing_of_the_images_are_reported(folder: Path, ask: Callable[..., Report]) -> None:
    blind = {name: torch.zeros_like(tensor) for name, tensor in weights_for(10).items() if tensor.ndim <= 2}
    save_file(weights_for(10) | blind, folder / "own.safetensors")

    def imported(params: dict[str, Any]) -> None:
        params["train_teacher"].update(weights="own.safetensors")
        params["train_teacher"]["fit"]["epochs"] = 0

    report = ask(folder, imported, quick=False)
    assert report.status == 0
    report.line("warning", "no better than chance", "teacher_classes")


def test_quick_runs_no_network(folder: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.start.Start.of", None)
    report = ask(folder)
    assert report.status == 0
    assert not any("time" in line or "train_teacher:" in line for line in report.lines["ok"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: None, ["train_teacher: 2 epochs", "students.small: 2 epochs", "students.small_hard: 2 epochs"]),
        (lambda p: p["train_teacher"]["fit"].update(epochs=60), ["students.small: ", "students.small_hard: "]),
        (lambda p: p["students"]["small"]["fit"].update(batch_size=2), ["train_teacher: ", "students.small_hard: "]),
        (
            lambda p: p["train_teacher"].update(weights="published", new_head=True, model="timm/resnet18"),
            ["students.small: ", "students.small_hard: "],
        ),
    ],
    ids=["as it is", "more epochs", "smaller batches", "published weights"],
)
def test_a_schedule_of_few_steps_is_a_warning_with_the_epochs_that_it_takes(
    folder: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, change: Change, told: list[str]
) -> None:
    monkeypatch.setattr(steps, "FEW_STEPS", 1000)
    report = ask(folder, change)
    found = [line for line in report.lines["warning"] if " steps" in line]
    assert len(found) == len(told)
    assert all(part in line for part, line in zip(told, found, strict=True))
    assert all("expected" in line and "fit.epochs:" in line and len(line) <= 291 for line in found)


def test_a_setting_of_views_that_changes_nothing_is_told(folder: Path, ask: Callable[..., Report]) -> None:
    report = ask(folder, lambda p: [row.update(new_views=True) for row in p["students"].values()])
    report.line("warning", "students.small: new_views: true changes nothing: 2 of 2 epochs have a stored view")
    assert report.status == 0
    assert "new_views" not in ask(folder, lambda p: p["students"]["small_hard"].update(new_views=True)).text


def test_times_on_a_busy_machine_are_told_to_be_those_of_an_idle_one(
    folder: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load.Load, "others", 0.62)
    ask(folder, quick=False).line("ok", "time: other processes took 62% of the processors", "idle machine")
    monkeypatch.setattr(load.Load, "others", 0.02)
    assert "other processes" not in ask(folder, quick=False).text


def test_a_class_with_few_images_is_reported(folder: Path, ask: Callable[..., Report]) -> None:
    write_folder(folder / "images", make_samples(("ant", "bee", "cat"), each=6))
    report = ask(folder, images_in(folder))
    report.line("warning", "classes: 3 of 3", "'ant': 6")
    report.line("ok", "images: train", "its first image is whole, 3 x 6 x 5 (train/ant/000.png)")
    assert report.status == 0


def test_broken_images_are_an_error_unless_they_are_skipped(folder: Path, ask: Callable[..., Report]) -> None:
    write_folder(folder / "images", make_samples(each=6))
    (folder / "images/train/bee/002.jpg").write_bytes(b"no image")
    ask(folder, images_in(folder)).only_error("train/bee/002.jpg", "broken: skip")
    assert ask(folder, images_in(folder, broken="skip")).status == 0


def test_images_of_several_sizes_ask_for_one(folder: Path, ask: Callable[..., Report]) -> None:
    write_folder(folder / "images", make_samples(each=6))
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(folder / "images/train/bee/wide.png")
    ask(folder, images_in(folder)).only_error("6 x 5", "9 x 7", "image_px")
    report = ask(folder, images_in(folder, image_px=[4, 4], storage="encoded"))
    assert report.status == 0
    report.line("ok", "3 x 4 x 4", "encoded")


def test_unlabelled_images_are_counted_and_refuse_losses_that_need_a_class(
    folder: Path, ask: Callable[..., Report]
) -> None:
    write_folder(folder / "images", make_samples(("ant", "bee", "cat", None), each=30))
    report = ask(folder, images_in(folder))
    report.line("ok", "30 training images are unlabelled")
    assert report.status == 0

    def nkd(params: dict[str, Any]) -> None:
        images_in(folder)(params)
        params["students"]["small"]["loss"] = {"kind": "nkd", "standardize": False, "gamma": 1.5}

    ask(folder, nkd).only_error("students.small.loss", "30 training samples are unlabelled")


def test_a_source_below_home_is_to_be_written_out(
    folder: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    source = {"kind": "folder", "path": "~/pets"}
    report = ask(folder, lambda params: params["prepare"].update(source=source))
    report.only_error("prepare.source.path: '~/pets'", "write /home/anna/pets")


@pytest.mark.parametrize("quick", [True, False])
def test_a_device_that_is_not_here_is_an_error_before_any_stage_runs(
    folder: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def change(params: dict[str, Any]) -> None:
        for section in (params["evaluate"], params["train_teacher"], params["students"]["small"]):
            section["device"] = "cuda"

    def with_launcher(params: dict[str, Any]) -> None:
        change(params)
        params["launcher"]["train_teacher"] = "nice -n 10 python"  # or srun, which finds it elsewhere

    places = ["evaluate", "students.small", "train_teacher"]
    found = ask(folder, change, quick=quick).lines["error"]
    told = sorted(line.partition(": device 'cuda': not on this machine")[0] for line in found)
    assert [line.partition("params.yaml: ")[2] for line in told] == places
    if quick:
        assert len(ask(folder, with_launcher).lines["error"]) == 2


def test_a_source_that_is_not_there_is_an_error_with_its_own_path(folder: Path, ask: Callable[..., Report]) -> None:
    ask(folder, images_in(folder)).only_error(f"{folder}/images", "no such folder")


def test_a_disk_that_is_too_small_is_an_error(
    folder: Path, ask: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    ask(folder).only_error("disk: about", "1.0 kB free", "encodings")


@pytest.mark.parametrize(
    ("config", "local", "copies"),
    [
        (None, None, 3),
        ("[cache]\n    type = reflink,copy\n", None, 3),
        ('[cache]\n    type = "reflink,hardlink,symlink,copy"\n', None, 2),
        ("[cache]\n    type = copy\n", "[cache]\n    type = symlink\n", 2),
        ((TOP / ".dvc/config").read_text(), None, 1),
    ],
)
def test_the_copies_in_dvcs_cache_and_in_work_count_where_they_are_no_links(
    tmp_path: Path, config: str | None, local: str | None, copies: int
) -> None:
    (tmp_path / ".dvc").mkdir()
    for name, text in (("config", config), ("config.local", local)):
        if text:
            (tmp_path / ".dvc" / name).write_text(text)
    assert count_copies(tmp_path) == copies


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.1, "about 1 s"),
        (43.2, "about 43 s"),
        (99.0, "about 99 s"),
        (130.0, "about 2.2 min"),
        (3000.0, "about 50 min"),
        (7200.0, "about 2.0 h"),
        (100_000.0, "about 28 h"),
        (400_000.0, "about 4.6 days"),
    ],
)
def test_a_duration_has_two_figures(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_a_training_is_its_steps_and_a_look_at_the_validation_split_after_each_epoch() -> None:
    fit = recipe(epochs=3, batch_size=16)
    assert num_steps(100, 16) == 6
    assert ImageSeconds(training=2.0, forward=0.5).of_training(fit, 100, 10) == 3 * (96 * 2.0 + 10 * 0.5)


def test_a_slow_network_is_timed_on_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, clock = [], [0.0]

    def run(count: int) -> None:
        asked.append(count)
        clock[0] += 1.0 * count

    monkeypatch.setattr(speed, "_SECONDS", 20.0)
    monkeypatch.setattr(load.time, "perf_counter", lambda: clock[0])
    assert speed.image_seconds(run, 512) == 1.0
    assert asked == [4, 4, 20]
    monkeypatch.setattr(speed, "_SECONDS", 3.0)
    assert speed.image_seconds(run, 512) == 1.0
    assert asked == [4, 4, 20, 4, 4]
