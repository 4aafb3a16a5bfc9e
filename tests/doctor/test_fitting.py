"""The defaults of a new project fit its images: a table of facts, and a project on disk."""

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.core.closure import TOP
from pipeline.core.config import Setting, load_params, write_settings
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.doctor import load, speed
from pipeline.doctor.announcement import announce
from pipeline.doctor.choice import settings_of, value_at
from pipeline.doctor.facts import LARGE_PX, Facts, Speeds, epochs_for
from pipeline.doctor.findings import Findings
from pipeline.doctor.fitting import Fitted, fit_project
from pipeline.doctor.networks import ImageSeconds
from pipeline.doctor.new_project import Created
from pipeline.doctor.params import read_params
from pipeline.doctor.pretrained import candidates
from pipeline.doctor.recipe import AUTOMATIC, batch_size, fit_recipe
from pipeline.doctor.schedule import MOST_VIEWS, STUDENT_STEPS, TEACHER_STEPS, fit_schedule
from pipeline.doctor.sizes_and_steps import schedule_choices
from pipeline.labelling.stores import unfit_encodings
from pipeline.labels.encodings import budgets_of
from pipeline.models import downloaded_weights
from pipeline.training.batches import num_steps

PARAMS = load_params(TOP / "params.yaml")
FEW = Facts(2000, 250, 4, (150, 600), 1, 300, 300, one_size=True, free_bytes=10**11)
MANY = replace(FEW, num_train=1_200_000, num_val=50_000, num_classes=1000, class_counts=(700, 1300), channels=3)
THUMBNAILS = Facts(54_000, 6000, 10, (5400, 5400), 1, 28, 28, one_size=True, free_bytes=10**11)
SPEEDS = Speeds(64 * 64, 0.002, ImageSeconds(0.008, 0.003), [ImageSeconds(0.001, 0.0004)] * 6)


def recipe(facts: Facts) -> dict[str, Any]:
    settings = settings_of(fit_recipe(facts, PARAMS))
    found = {setting.entry: "removed" if setting.removed else setting.value for setting in settings}
    return {entry: value for entry, value in found.items() if value != "auto"}  # which every project gets


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (THUMBNAILS, {}),
        (
            replace(THUMBNAILS, num_train=3000),
            {"train_teacher.fit.batch_size": 64, "students_defaults.fit.batch_size": 64},
        ),
        (FEW, {"train_teacher.fit.batch_size": 32, "train_teacher.fit.learning_rate": 0.0015}),
        (replace(FEW, num_train=50), {"students_defaults.fit.batch_size": 16}),
        (
            replace(FEW, class_counts=(100, 1000)),
            {"train_teacher.class_balance": 0.5, "students_defaults.class_balance": 0.5},
        ),
        (replace(FEW, num_classes=2), {"encodings.top2": "removed"}),
        (replace(FEW, num_classes=33), {"encodings.dense8": "removed", "students.tiny.labels": "soft"}),
        (replace(FEW, num_classes=150), {"dump_labels.pilot_labels": 3000}),
        (
            MANY,
            {
                "encodings.dense8": "removed",
                "encodings.dense16": "removed",
                "encodings.soft": {"kind": "auto", "bytes": 8},
                "students.small.labels": "soft",
            },
        ),
    ],
    ids=[
        "as the defaults",
        "3,000",
        "2,000",
        "50",
        "imbalance",
        "2 classes",
        "33 classes",
        "150 classes",
        "1,000 classes",
    ],
)
def test_what_fits_the_facts(facts: Facts, expected: dict[str, Any]) -> None:
    found = recipe(facts)
    assert found | expected == found
    assert expected or not found


def test_students_with_soft_labels_choose_weights_and_temperature_and_their_time_is_counted(tmp_path: Path) -> None:
    choice = next(each for each in fit_recipe(THUMBNAILS, PARAMS) if "trials" in each.line)
    assert choice.line == "students: weights and temperature of tiny, small, medium by short trials"
    entries = [f"students.{name}.{key}" for name in ("tiny", "small", "medium") for key in AUTOMATIC]
    assert {setting.entry: setting.value for setting in choice.settings} == dict.fromkeys(entries, "auto")
    path = tmp_path / "params.yaml"
    path.write_text((TOP / "params.yaml").read_text())
    write_settings(path, choice.settings)
    found, numbers = (read_params(each, Findings()).students for each in (path, TOP / "params.yaml"))
    assert {name for name, row in found.items() if row.has_auto_weights} == {"tiny", "small", "medium"}
    assert not any(row.has_auto_weights for row in numbers.values())

    plain, tried = (
        fit_schedule(THUMBNAILS, SPEEDS, load_params(each), 10**6).seconds for each in (TOP / "params.yaml", path)
    )
    images = 3 * (3 + 2) * 300 * 128  # of three students: three temperatures, two pairs of weights beside halves
    assert tried - plain == pytest.approx(
        1.3 * (28 / 64) ** 2 * (images * 0.001 + 3 * 5 * THUMBNAILS.num_val * 0.0004), rel=1e-6
    )


def test_what_does_not_ask_for_it_stays() -> None:
    assert not [entry for entry in recipe(FEW) if entry.startswith(("encodings", "dump_labels")) or "balance" in entry]
    uncounted = recipe(replace(FEW, class_counts=None))
    assert uncounted == recipe(FEW)
    assert "students.small_hard.labels" not in recipe(MANY), "a twin reads no soft labels"
    assert not [entry for entry in recipe(MANY) if "batch_size" in entry]
    assert not [entry for entry in recipe(replace(FEW, num_classes=32)) if entry.startswith(("encodings", "students."))]


@pytest.mark.parametrize("num_classes", [2, 3, 10, 32, 33, 1000, 20_000])
def test_every_encoding_that_is_left_fits_the_classes_and_every_student_finds_its_own(
    tmp_path: Path, num_classes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((TOP / "params.yaml").read_text())
    write_settings(path, settings_of(fit_recipe(replace(MANY, num_classes=num_classes), PARAMS)))
    params = read_params(path, Findings())
    assert "error" not in capsys.readouterr().out
    dump = params.sections["dump_labels"]
    assert not unfit_encodings(params.encodings, dump.space(num_classes, "categorical"), "here")
    assert bool(budgets_of(params.encodings)) == (num_classes > 32)
    assert {row.labels for row in params.students.values()} <= set(params.encodings)


@pytest.mark.parametrize("num_train", [10, 700, 2000, 5119, 5120, 10**6])
def test_an_epoch_has_enough_steps_unless_the_smallest_batch_has_not(num_train: int) -> None:
    assert num_train // batch_size(num_train) >= 40 or batch_size(num_train) == 16


def applied(params: dict[str, Any], settings: list[Setting]) -> dict[str, Any]:
    """Returns params with settings put in."""
    made = deepcopy(params)
    for setting in settings:
        *above, last = setting.entry.split(".")
        node = made
        for key in above:
            node = node[key]
        node.pop(last, None) if setting.removed else node.update({last: setting.value})
    return made


def fitted(facts: Facts, minutes: float, speeds: Speeds = SPEEDS, **changes: Any) -> tuple[Any, dict[str, Any]]:
    params = applied(PARAMS | changes, settings_of(fit_recipe(facts, PARAMS)))
    schedule = fit_schedule(facts, speeds, params, minutes)
    settings = settings_of(schedule_choices(schedule, facts, params, minutes))
    return schedule, {each.entry: each.value for each in settings}


def test_a_larger_budget_has_larger_images_and_none_is_exceeded() -> None:
    sides = []
    for minutes in (5, 10, 30, 120, 600):
        schedule, settings = fitted(FEW, minutes)
        assert schedule.seconds <= 60 * minutes or schedule.size_px == (32, 32)
        assert settings["prepare.image_px"] == list(schedule.size_px)
        sides.append(schedule.size_px[0])
    assert sides == sorted(sides)
    assert (sides[0], sides[-1]) == (32, 128), "more than small networks can use is not taken"


DEEPER = replace(SPEEDS, deeper=[ImageSeconds(0.004, 0.001)] * 6)


@pytest.mark.parametrize("minutes", [5, 30, 120])
def test_students_are_as_deep_as_the_chosen_size_asks_for_and_timed_so(minutes: float) -> None:
    schedule, settings = fitted(FEW, minutes, DEEPER)
    is_large = schedule.size_px[0] > LARGE_PX
    assert is_large == (minutes > 5)
    assert (settings.get("students.tiny.model_settings") == {"width": 8, "depth": 2}) == is_large
    shallow = fit_schedule(
        FEW, replace(DEEPER, deeper=None), applied(PARAMS, settings_of(fit_recipe(FEW, PARAMS))), minutes
    )
    assert (schedule == shallow) != is_large


def test_a_slower_machine_gets_smaller_images() -> None:
    slow = replace(SPEEDS, teacher=ImageSeconds(0.03, 0.01))
    assert fitted(FEW, 30, slow)[0].size_px < fitted(FEW, 30)[0].size_px


@pytest.mark.parametrize("facts", [FEW, THUMBNAILS, replace(FEW, num_train=60), MANY])
def test_every_network_gets_its_steps_and_views_are_no_more_than_epochs(facts: Facts) -> None:
    schedule, settings = fitted(facts, 30)
    epochs = settings["students_defaults.fit.epochs"]
    assert epochs * num_steps(facts.num_train, batch_size(facts.num_train)) >= STUDENT_STEPS
    assert settings["dump_labels.num_views"] == min(epochs, MOST_VIEWS)
    assert settings["train_teacher.fit.epochs"] >= schedule.student_epochs


def test_images_that_are_small_already_stay_as_they_are() -> None:
    _, settings = fitted(THUMBNAILS, 120)
    assert settings["prepare.image_px"] is None
    assert (settings["train_teacher.fit.epochs"], settings["students_defaults.fit.epochs"]) == (7, 4)
    assert not [entry for entry in settings if "views.operations" in entry]
    assert fitted(replace(THUMBNAILS, one_size=False), 120)[1]["prepare.image_px"] == [28, 28]


def test_images_of_one_shape_keep_it_and_of_several_become_square() -> None:
    wide = replace(FEW, height=240, width=320)
    assert fitted(wide, 600)[0].size_px == (128, 171)
    assert fitted(replace(wide, one_size=False), 600)[0].size_px == (128, 128)


def test_very_many_images_lose_epochs_before_steps_and_then_the_budget_is_told_to_be_too_small() -> None:
    schedule, _ = fitted(MANY, 30)
    assert (schedule.size_px, schedule.student_epochs) == ((32, 32), 1)
    assert schedule.seconds > 30 * 60


def test_pixels_that_fill_the_disk_are_kept_as_files() -> None:
    _, settings = fitted(replace(MANY, free_bytes=10**9), 30)
    assert (settings["prepare.storage"], settings["prepare.longest_px"]) == ("encoded", 64)
    assert "prepare.storage" not in fitted(MANY, 30)[1]


def test_a_teacher_gets_its_steps_from_the_images_that_have_a_class() -> None:
    some = replace(FEW, num_unlabelled=1500)
    settings = fitted(some, 600)[1] | recipe(some)
    size = settings["train_teacher.fit.batch_size"]
    assert (size, settings["students_defaults.fit.batch_size"]) == (16, 32)
    assert settings["train_teacher.fit.epochs"] * num_steps(500, size) >= TEACHER_STEPS


def test_a_student_whose_encoding_can_not_be_takes_a_dense_one() -> None:
    params = applied(PARAMS, [Setting("students.tiny.labels", "top2", "")])
    found = {each.entry: each.value for each in settings_of(fit_recipe(replace(FEW, num_classes=2), params))}
    assert found["students.tiny.labels"] == "dense8"


def test_views_are_shifted_by_a_share_of_the_size_and_few_images_in_the_teachers_too() -> None:
    schedule, settings = fitted(FEW, 30)
    crop = {"kind": "pad_crop", "pad_px": schedule.size_px[0] // 16}
    flip = {"kind": "flip_horizontal", "probability": 0.5}
    assert settings["dump_labels.views.operations"] == settings["train_teacher.views.operations"] == [crop, flip]
    assert "train_teacher.views.operations" not in fitted(MANY, 30)[1]


def test_a_fine_tuned_teacher_needs_fewer_steps_and_its_time_does_not_follow_the_images_size() -> None:
    teacher = PARAMS["train_teacher"] | {"weights": "published"}
    tuned = replace(SPEEDS, teacher_scales=False)
    assert fitted(FEW, 600, tuned, train_teacher=teacher)[0].seconds < fitted(FEW, 600)[0].seconds
    assert fitted(FEW, 600, tuned, train_teacher=teacher)[0].teacher_epochs < fitted(FEW, 600)[0].teacher_epochs


SIZES = {"timm/huge": 400_000_000, "timm/a": 90_000_000, "timm/b": 40_000_000, "timm/c": 9, "timm/d": 8}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [(FEW, ["timm/a", "timm/b", "timm/c"]), (THUMBNAILS, []), (MANY, []), (replace(FEW, height=48), [])],
)
def test_published_weights_are_tried_where_images_are_few_and_no_thumbnails(facts: Facts, expected: list[str]) -> None:
    assert candidates(facts, SIZES) == expected
    assert candidates(facts, {}) == []


def test_weights_are_found_where_their_libraries_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    assert downloaded_weights() == {}
    for name, size in {
        "hub/checkpoints/mobilenet_v3_small-047dcff4.pth": 3,
        "hub/checkpoints/other.pth": 4,
        "hf/models--timm--resnet18.a1_in1k/snapshots/0/model.safetensors": 5,
        "hf/models--timm--gone.a1/snapshots/0/model.safetensors": 6,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    assert downloaded_weights() == {"torchvision/mobilenet_v3_small": 3, "timm/resnet18.a1_in1k": 5}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the params.yaml of a project for 120 images of 80 x 100 pixels in 2 classes."""
    monkeypatch.setattr(speed, "_SECONDS", 0.01)
    monkeypatch.setattr(load, "_SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    rng = np.random.default_rng(0)
    for name, count in {"common": 110, "rare": 10}.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (80, 100), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    path = tmp_path / "params.yaml"
    path.write_text((TOP / "params.yaml").read_text())
    source = {"kind": "folder", "path": str(tmp_path / "images")}
    write_settings(path, [Setting("prepare.source", source, "the images")])
    return path


def announced(fitted: Fitted | None, **row: object) -> list[str]:
    return list(announce(Created(Path("pets"), {"kind": "folder", **row}, fitted)))


def test_a_project_gets_what_fits_with_reasons_and_is_sound(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit_project(project, project.parent / "raw", 10_000.0)
    params = load_params(project)
    assert params["prepare"]["image_px"] is None, "80 x 100 fits the budget"
    assert "top2" not in params["encodings"]
    assert params["train_teacher"]["class_balance"] == 0.5
    assert params["train_teacher"]["model"] == "vgg_small", "no weights are here"
    text = project.read_text()
    for entry, why in {
        "batch_size: 16": "steps in an epoch",
        "image_px: null": "all are 80 x 100",
        "class_balance: 0.5": "classes have 8 to 89 training images",
    }.items():
        (line,) = {line.strip() for line in text.splitlines() if line.strip().startswith(entry)}
        assert why in line
    assert capsys.readouterr().out == "", "what was tried is not told line by line"
    read_params(project, Findings())
    assert "error" not in capsys.readouterr().out


def test_published_weights_on_this_machine_become_the_teacher(project: Path) -> None:
    from torchvision.models import mobilenet_v3_small

    place = project.parent / "hub/checkpoints/mobilenet_v3_small-047dcff4.pth"
    place.parent.mkdir(parents=True)
    torch.save(mobilenet_v3_small().state_dict(), place)
    lines = announced(fit_project(project, project.parent / "raw", 10_000.0))
    teacher = load_params(project)["train_teacher"]
    assert (teacher["model"], teacher["weights"], teacher["new_head"]) == (
        "torchvision/mobilenet_v3_small",
        "published",
        True,
    )
    assert any("published weights are on this machine" in line for line in lines)


def test_damaged_weights_are_passed_over(project: Path) -> None:
    place = project.parent / "hub/checkpoints/mobilenet_v3_small-047dcff4.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"no weights")
    fit_project(project, project.parent / "raw", 10_000.0)
    assert load_params(project)["train_teacher"]["model"] == "vgg_small"


@pytest.mark.parametrize("minutes", [1.0, 10_000.0])
def test_what_was_found_chosen_and_is_next_is_told_in_plain_lines_on_one_screen(project: Path, minutes: float) -> None:
    lines = announced(fit_project(project, project.parent / "raw", minutes), path="/images")
    heads = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert [lines[head].partition(" ")[0] for head in heads] == ["Found", "Chosen", "Next,"]
    found, chosen = lines[: heads[1]], lines[heads[1] : heads[2]]
    assert found[0] == "Found at /images:"
    for start in ("class 0 'common': 110 train", "splits: none called", "colour: grey", "sizes: all 80 x 100 pixels"):
        assert any(line.startswith(f"  {start}") for line in found), found
    time = "warning: a whole run takes about" if minutes == 1 else "time: about"
    assert chosen[1].startswith(f"  {time}")
    assert f"{minutes:g} min were asked for" in chosen[1], "the budget comes first"
    assert ("allow more minutes" in chosen[1]) == (minutes == 1)
    size = "scaled to 32 x 40 pixels, the smallest" if minutes == 1 else "80 x 100 pixels, as they are"
    for start in (
        f"images: {size}",
        "steps: 2,5",
        "views: 16 of each image",
        "batches: of 16 images, because 97 training images are few",
        "balance: images of rare classes weigh more",
        "labels: no store top2: it does not fit 2 classes",
    ):
        assert sum(line.startswith(f"  {start}") for line in chosen) == 1, chosen
    assert any(line.startswith("  students: deeper") for line in chosen) == (minutes > 1)
    assert len(lines) <= 22
    assert max(map(len, lines)) <= 200
    assert not [line for line in lines if "(and " in line or "params.yaml:" in line or "--" in line]


def test_images_that_can_not_be_looked_at_leave_everything_as_it_was(project: Path) -> None:
    for image in project.parent.glob("images/*/*.png"):
        image.write_bytes(b"no image")
    before = project.read_text()
    with pytest.raises(PipelineError, match="images"):
        fit_project(project, project.parent / "raw", 30.0)
    assert project.read_text() == before


def test_settings_are_written_with_their_reasons_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a:\n  b: 1 # old\n  c: {d: 2} # mine\n  e: 3\nf:\n  - 1 # one\n")
    write_settings(
        path,
        [Setting("a.b", [4, 5], "two"), Setting("a.e", None, "", removed=True), Setting("a.g", {"k": None}, "new")],
    )
    assert path.read_text() == "a:\n  b: [4, 5] # two\n  c: {d: 2} # mine\n  g: {k: null} # new\nf:\n  - 1 # one\n"
    with pytest.raises(ConfigError, match=r"no entry 'x\.y'"):
        write_settings(path, [Setting("a.b", 1, "one"), Setting("x.y", 1, "one")])
    assert "[4, 5]" in path.read_text(), "all or nothing"


def test_epochs_for_some_steps_are_enough_and_no_more() -> None:
    assert epochs_for(1500, 2000, 32) == 25
    assert 24 * num_steps(2000, 32) < 1500 <= 25 * num_steps(2000, 32)
    assert epochs_for(1500, 10, 32) == 1500


def test_value_at_finds_entries_and_nothing() -> None:
    assert value_at(PARAMS, "dump_labels.num_views") == 4
    assert value_at(PARAMS, "dump_labels.gone.deeper") is None


# Times.


def stat(busy: int) -> str:
    return f"cpu  {busy} 0 0 1000000 5 0 0 0 0 0\ncpu0 1 2 3\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float, float], None]:
    """Returns a function that sets the ticks of all processors, the clock and this process's
    seconds; there are two processors.
    """
    monkeypatch.setattr(load, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    def set_to(ticks: int, clock: float, own: float) -> None:
        (tmp_path / "stat").write_text(stat(ticks))
        monkeypatch.setattr(load.time, "perf_counter", lambda: clock)
        monkeypatch.setattr(load.time, "process_time", lambda: own)

    set_to(0, 0.0, 0.0)
    return set_to


@pytest.mark.parametrize(
    ("ticks", "own", "others"), [(200, 2.0, 0.0), (200, 1.0, 0.5), (60, 0.5, 0.05), (900, 0.0, 1.0), (0, 0.0, 0.0)]
)
def test_what_other_processes_take_is_told(
    machine: Callable[[int, float, float], None], ticks: int, own: float, others: float
) -> None:
    watched = load.Load()
    machine(ticks * os.sysconf("SC_CLK_TCK") // 100, 1.0, own)
    assert watched.others == pytest.approx(others)
    told = watched.remark()
    assert (told is None) == (others <= 0.1)
    assert told is None or f"other processes took {others:.0%} of the processors" in told


def test_a_system_that_does_not_tell_is_taken_to_be_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_STAT", tmp_path / "none")
    watched = load.Load()
    assert (watched.others, watched.remark()) == (0.0, None)


def test_on_a_busy_machine_processor_time_of_one_thread_is_counted_and_threads_come_back(
    machine: Callable[[int, float, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(load.time, "sleep", lambda _: machine(2 * os.sysconf("SC_CLK_TCK"), 1.0, 0.0))
    with load.idle_clock() as clock:
        assert threads == [4, 1]
        machine(0, 50.0, 10.0)
        assert clock.read() == pytest.approx(10 * (0.1 + 0.9 / 4))
    assert threads == [4, 1, 4]


def test_on_an_idle_machine_the_clock_is_the_clock(
    machine: Callable[[int, float, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load.time, "sleep", lambda _: machine(0, 1.0, 0.0))
    with load.idle_clock() as clock:
        machine(0, 50.0, 10.0)
        assert clock.read() == 50.0
