"""The defaults of a new project, fitted to its images and to this machine.

1. A look at the source, as the check-up takes it, gives the facts.
2. What fits the facts alone is written into params.yaml (recipe.py).
3. The networks are timed as they then stand.
4. The size of images, epochs and views follow from these speeds and a budget of time (schedule.py).
"""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pipeline.core.config import Setting, load_params, load_section, write_settings
from pipeline.core.errors import ModelError, PipelineError
from pipeline.doctor.checkup import fitting_students
from pipeline.doctor.facts import Facts, Speeds
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import Look
from pipeline.doctor.labels import plan_stores
from pipeline.doctor.load import Load
from pipeline.doctor.networks import ImageSeconds, StudentCheck, TeacherCheck
from pipeline.doctor.params import read_params
from pipeline.doctor.pretrained import candidates, fine_tuned
from pipeline.doctor.recipe import fit_recipe
from pipeline.doctor.reporting import duration
from pipeline.doctor.schedule import Schedule, fit_schedule, schedule_settings
from pipeline.doctor.source import SourceLook
from pipeline.labelling.settings import DumpLabels
from pipeline.models import downloaded_weights
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import build_source
from pipeline.teacher.settings import TrainTeacher

Result = TypeVar("Result")
_TIMED_PX = 64  # the shorter side of the images that networks are timed on


def fit_project(path: Path, raw: Path, minutes: float) -> list[str]:
    """Writes what fits the images into params.yaml; returns what was done, line by line.

    Raises PipelineError where the images can't be looked at; params.yaml is then as it was.
    """
    before = path.read_text(encoding="utf-8")
    try:
        return _fit(path, raw, minutes)
    except PipelineError:
        path.write_text(before, encoding="utf-8")
        raise


def _fit(path: Path, raw: Path, minutes: float) -> list[str]:
    # 1. The facts.
    look, facts = _facts(path, raw)
    # 2. What fits them on any machine.
    recipe = fit_recipe(facts, load_params(path))
    write_settings(path, recipe)
    # 3. The speeds, and what fits them.
    load = Load()
    tuned, speeds = _choose_teacher(path, look, facts, minutes)
    busy = load.remark()
    params = load_params(path)
    schedule = fit_schedule(facts, speeds, params, minutes)
    fitted = list(schedule_settings(schedule, facts, params, minutes))
    write_settings(path, fitted)
    return [*_lines([*recipe, *tuned, *fitted]), *_remarks(schedule, busy, minutes)]


def _facts(path: Path, raw: Path) -> tuple[Look, Facts]:
    """Returns a look at images of the size that networks are timed on, and the facts."""
    settings = load_section(Prepare, "prepare", path)
    source = build_source(settings.source, f"{path}: prepare.source")
    first = SourceLook(source, raw, settings)
    sizes = first.sizes()
    short_px = min(_TIMED_PX, min(map(min, sizes), default=_TIMED_PX))
    look = SourceLook(source, raw, replace(settings, image_px=(short_px, short_px), broken="skip")).look()
    return look, Facts.of(look, sizes or [(short_px, short_px)], path.parent)


def _choose_teacher(path: Path, look: Look, facts: Facts, minutes: float) -> tuple[Sequence[Setting], Speeds]:
    """Returns the settings of a pretrained teacher that fits the budget, and the speeds with it.

    Without one the teacher stays as it is.
    """
    students = _time_students(path, look)
    own = path.read_text(encoding="utf-8")
    for name in candidates(facts, downloaded_weights()):
        tuned = list(fine_tuned(name))
        write_settings(path, tuned)
        try:
            speeds = _speeds(look, _time_teacher(path, look), students, teacher_scales=False)
            if fit_schedule(facts, speeds, load_params(path), minutes).seconds <= 60 * minutes:
                return tuned, speeds
        except ModelError:  # it does not take such images, or its file is damaged
            pass
        path.write_text(own, encoding="utf-8")
    return [], _speeds(look, _time_teacher(path, look), students, teacher_scales=True)


def _speeds(look: Look, teacher: ImageSeconds, students: Sequence[ImageSeconds], *, teacher_scales: bool) -> Speeds:
    height, width = look.data.image_shape[1:]
    return Speeds(height * width, look.seconds or 0.0, teacher, students, teacher_scales)


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


def _lines(settings: Sequence[Setting]) -> list[str]:
    """Returns a line for each setting; those with one reason share it."""
    by_why: dict[str, list[Setting]] = {}
    for setting in settings:
        by_why.setdefault(setting.why, []).append(setting)
    return [f"{_names(group)}  # {why}" for why, group in by_why.items()]


def _names(settings: Sequence[Setting]) -> str:
    first, more = settings[0], f" (and {len(settings) - 1} more)" if len(settings) > 1 else ""
    value = "left out" if first.removed else json.dumps(first.value).replace('"', "")
    return f"{first.entry}: {value}{more}"


def _remarks(schedule: Schedule, busy: str | None, minutes: float) -> list[str]:
    remarks = []
    if schedule.seconds > 60 * minutes:
        least = f"{duration(schedule.seconds)} at least, more than the {minutes:g} min of --minutes"
        remarks.append(f"warning: {least}: fewer images, smaller networks or a faster machine would help")
    return [*remarks, busy] if busy else remarks
