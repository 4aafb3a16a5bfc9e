"""The defaults of a new project, fitted to its images and to this machine.

1. A look at the source, as the check-up takes it, gives the facts.
2. What fits the facts alone is written into params.yaml (recipe.py).
3. The networks are timed as they then stand.
4. The size of images, epochs and views follow from these speeds and a budget of time (schedule.py).
"""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.core.config import load_params, load_section, write_settings
from pipeline.core.errors import ModelError, PipelineError
from pipeline.doctor.checkup import fitting_students
from pipeline.doctor.choice import Choice, settings_of
from pipeline.doctor.facts import LARGE_PX, Facts, Speeds
from pipeline.doctor.findings import Findings
from pipeline.doctor.grid_task import whole_sides
from pipeline.doctor.images import Look
from pipeline.doctor.labels import plan_stores
from pipeline.doctor.load import Load
from pipeline.doctor.networks import ImageSeconds, StudentCheck, TeacherCheck
from pipeline.doctor.params import read_params
from pipeline.doctor.pretrained import candidates, fine_tuned
from pipeline.doctor.recipe import fit_recipe
from pipeline.doctor.schedule import fit_schedule
from pipeline.doctor.sizes_and_steps import deeper, schedule_choices
from pipeline.doctor.source import SourceLook
from pipeline.labelling.settings import DumpLabels
from pipeline.models import downloaded_weights
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import build_source
from pipeline.preparation.understood import Understood
from pipeline.teacher.settings import TrainTeacher

Result = TypeVar("Result")
_TIMED_PX = 64  # the shorter side of the images that networks are timed on


@dataclass(frozen=True)
class Fitted:
    """The settings fitted to images.

    Attributes:
        found: The facts about the images, as `prepare` and the doctor print them.
        choices: The settings that were written, with their reasons.
        seconds: The time that a whole run takes here on an idle machine, of `minutes`.
        busy: A line where other processes were at work; else None.
    """

    found: Understood
    choices: Sequence[Choice]
    seconds: float
    minutes: float
    busy: str | None


def fit_project(path: Path, raw: Path, minutes: float) -> Fitted:
    """Writes what fits the images into params.yaml.

    Raises PipelineError where the images can't be looked at; params.yaml is then as it was.
    """
    before = path.read_text(encoding="utf-8")
    try:
        return _fit(path, raw, minutes)
    except PipelineError:
        path.write_text(before, encoding="utf-8")
        raise


def _fit(path: Path, raw: Path, minutes: float) -> Fitted:
    # 1. The facts.
    source = _source_look(path, raw)
    look, facts = _facts(source, path)
    # 2. What fits them on any machine.
    recipe = fit_recipe(facts, load_params(path))
    write_settings(path, settings_of(recipe))
    # 3. The speeds, and what fits them.
    load = Load()
    tuned, speeds = _choose_teacher(path, look, facts, minutes)
    busy = load.remark()
    params = load_params(path)
    schedule = fit_schedule(facts, speeds, params, minutes)
    fitted = schedule_choices(schedule, facts, params, minutes)
    write_settings(path, settings_of(fitted))
    return Fitted(source.understood, [*fitted, *tuned, *recipe], schedule.seconds, minutes, busy)


def _source_look(path: Path, raw: Path) -> SourceLook:
    settings = load_section(Prepare, "prepare", path)
    return SourceLook(build_source(settings.source, f"{path}: prepare.source"), raw, settings)


def _facts(source: SourceLook, path: Path) -> tuple[Look, Facts]:
    """Returns a look at images of the size that networks are timed on, and the facts."""
    sizes = source.sizes()
    short_px = min(_TIMED_PX, min(map(min, sizes), default=_TIMED_PX))
    if source.signal == "grid":
        short_px = whole_sides((short_px, short_px))[0]
    look = source.resized(short_px).look()
    return look, Facts.of(look, sizes or [(short_px, short_px)], path.parent)


def _choose_teacher(path: Path, look: Look, facts: Facts, minutes: float) -> tuple[Sequence[Choice], Speeds]:
    """Returns a pretrained teacher that fits the budget, and the speeds with it.

    Without one the teacher stays as it is.
    """
    own = path.read_text(encoding="utf-8")
    students, deep = _time_students(path, look), None
    if facts.short_px > LARGE_PX:
        write_settings(path, deeper(load_params(path)))
        deep = _time_students(path, look)
        path.write_text(own, encoding="utf-8")

    def speeds(*, teacher_scales: bool) -> Speeds:
        height, width = look.data.image_shape[1:]
        teacher = _time_teacher(path, look)
        return Speeds(height * width, look.seconds or 0.0, teacher, students, teacher_scales, deep)

    for name in candidates(facts, downloaded_weights()):
        tuned = list(fine_tuned(name))
        write_settings(path, tuned)
        try:
            found = speeds(teacher_scales=False)
            if fit_schedule(facts, found, load_params(path), minutes).seconds <= 60 * minutes:
                line = f"teacher: {name}, fine-tuned, because its published weights are on this machine"
                return [Choice(line, tuned)], found
        except ModelError:  # it does not take such images, or its file is damaged
            pass
        path.write_text(own, encoding="utf-8")
    return [], speeds(teacher_scales=True)


def _time_teacher(path: Path, look: Look) -> ImageSeconds:
    settings, dump = load_section(TrainTeacher, "train_teacher", path), load_section(DumpLabels, "dump_labels", path)
    cost = _unheard(lambda findings: TeacherCheck(settings, look, "train_teacher", dump).run(findings))
    assert cost is not None, "or it would have been an error"
    return cost


def _time_students(path: Path, look: Look) -> list[ImageSeconds]:
    def time_all(findings: Findings) -> list[ImageSeconds | None]:
        params = read_params(path, findings)
        dump = load_section(DumpLabels, "dump_labels", path)
        stores = plan_stores(params, dump, look, findings)
        rows = fitting_students(params, stores, path.parent, look, findings)
        return [StudentCheck(row, look, name, store).run(findings) for name, (row, store) in rows.items()]

    return [cost for cost in _unheard(time_all) if cost is not None]


def _unheard(check: Callable[[Findings], Result]) -> Result:
    """Returns what a check returns; its lines are not printed, and its first error is raised."""
    with redirect_stdout(io.StringIO()) as said:
        found = check(Findings())
    if errors := [line for line in said.getvalue().splitlines() if line.startswith("error")]:
        raise ModelError("the networks can't be timed", errors[0].removeprefix("error").strip())
    return found
