"""doctor: looks at params.yaml, the images, the networks and the disk before hours are spent on them.

A command, not a stage of the DAG. It tells what it finds, line by line, and leaves nothing behind (published weights
are fetched to where their library keeps them, as training would). Ends with status 1 where there is an error.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import typer
from jaxtyping import Float

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS
from pipeline.core.errors import PipelineError
from pipeline.data.dataset import ImageDataset
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import Look, SourceLook, look_at_prepared, misfit, spared, spread
from pipeline.doctor.labels import MEASURED, Store, plan_stores, random_logits, store_of
from pipeline.doctor.memory import check_memory
from pipeline.doctor.networks import try_student, try_teacher
from pipeline.doctor.params import Params, read_params
from pipeline.doctor.space import keeps_second_copy, label_bytes, tree_bytes
from pipeline.doctor.telling import Space, duration, tell_images, tell_space, tell_times
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.teacher import Teacher, label_rows
from pipeline.models.devices import choose_device
from pipeline.models.saved import read_meta
from pipeline.preparation.settings import Prepare
from pipeline.student.settings import TrainStudent
from pipeline.teacher.settings import TrainTeacher

_LABELLING_SECONDS = 10.0  # that the teacher may take for labels to be measured
LogProbs = Float[torch.Tensor, "labels classes"]


def main(
    params: Path = PARAMS,
    raw: Path = Path("data/raw"),
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    labels: Path = Path("data/dump_labels"),
    quick: Annotated[bool, typer.Option("--quick", help="Without running the networks.")] = False,
) -> None:
    findings = Findings()
    settings = read_params(params, findings)
    look = _look(settings, raw, data, findings)
    if look:
        tell_images(look, findings)
        check_memory(settings, look.data, findings)
    if look and (dump := settings.get(DumpLabels)):
        stores = plan_stores(settings, dump, look, findings)
        students = _students(settings, stores, labels, look, findings)
        times: dict[str, float] = {}
        if not quick:
            times = _times(settings, dump, students, look, findings)
            tell_times(times, findings)
        own = _log_probs(dump, look, data, teacher, findings) if look.seconds is None and not quick else None
        _space(dump, stores, look, own, data, labels, findings)
    errors, warnings = findings.counts["error"], findings.counts["warning"]
    print(f"{errors} errors, {warnings} warnings")
    raise typer.Exit(1 if errors else 0)


def _look(params: Params, raw: Path, data: Path, findings: Findings) -> Look | None:
    """At the prepared data, or else at the source."""
    prepare = params.get(Prepare)
    if prepare is None:
        return None
    if (data / "manifest.json").exists():
        dataset = findings.attempt(ImageDataset, data)
        if dataset is None:
            return None
        if not (wrong := misfit(dataset.manifest, prepare)):
            return findings.attempt(look_at_prepared, dataset)
        findings.warning(f"{data}: its {wrong}; looking at the source; `dvc repro prepare` makes it anew")
    if params.source is None:
        return None
    with spared(raw) as mirror:
        try:
            return SourceLook(params.source, mirror, prepare).look()
        except PipelineError as fault:
            findings.error(str(fault).replace(str(mirror), str(raw)))
            return None


def _students(
    params: Params, stores: Mapping[str, Store], folder: Path, look: Look, findings: Findings
) -> dict[str, tuple[TrainStudent, Store]]:
    """Those whose labels fit, with the stores that these are in."""
    fitting = {}
    for name, row in params.students.items():
        where = f"{params.path}: students.{name}"
        before = findings.counts["error"]
        store = findings.attempt(store_of, row, stores, folder, where)
        if store:
            findings.attempt(row.check_labels, store.encoding, store.codec, store.views.mixes, where)
            findings.attempt(row.check_data, look.data.num_unlabelled, where)
        if store and findings.counts["error"] == before:
            fitting[name] = (row, store)
    return fitting


def _times(
    params: Params,
    dump: DumpLabels,
    students: Mapping[str, tuple[TrainStudent, Store]],
    look: Look,
    findings: Findings,
) -> dict[str, float]:
    """Seconds of each stage on this machine; every network has a try on a batch for that."""
    data, times = look.data, {}
    train, val = data.num_samples["train"], data.num_samples["val"]
    if look.seconds is not None:
        times[f"prepare ({sum(data.num_samples.values()):,} images)"] = look.seconds * sum(data.num_samples.values())
    teacher = params.get(TrainTeacher)
    where = f"{params.path}: train_teacher"
    cost = try_teacher(teacher, dump, look, where, findings) if teacher else None
    if cost and teacher:
        fit, labelled = teacher.fit, train - data.num_unlabelled
        times[f"train_teacher ({fit.epochs} epochs)"] = cost.of_training(fit, labelled, val)
        each = train * cost.forward
        times[f"dump_labels ({dump.num_views} views, {duration(each)} each)"] = dump.num_views * each
    for name, (row, store) in students.items():
        cost = try_student(row, store, look, f"{params.path}: students.{name}", findings)
        if cost:
            count = train if row.soft_weight else train - data.num_unlabelled
            seconds = cost.of_training(row.fit, count, val)
            if row.temperature == "auto":
                seconds += len(dump.temperatures) * cost.of_pilot(row.fit, count, val)
            times[f"train_student@{name} ({row.fit.epochs} epochs)"] = seconds
    return times


def _log_probs(dump: DumpLabels, look: Look, data: Path, folder: Path, findings: Findings) -> LogProbs | None:
    """What the present teacher says of some views; None where there is none for this data."""
    if not (folder / "meta.json").exists():
        return None

    def ask() -> LogProbs | None:
        meta = read_meta(folder, made_by="train_teacher")
        if meta.class_names != look.data.class_names or meta.image_shape != look.data.image_shape:
            findings.warning(
                f"{folder}: was trained for other classes or images; `dvc repro train_teacher` makes it anew"
            )
            return None
        device = choose_device(dump.device)
        teacher = Teacher.read(folder, device, dump.batch_size, dump.precision)
        return torch.log_softmax(_some_logits(teacher, dump, data, look) / dump.temperature, dim=1)

    return findings.attempt(ask)


def _some_logits(teacher: Teacher, dump: DumpLabels, data: Path, look: Look) -> LogProbs:
    """Of as many images as there is time for."""
    begin = time.monotonic()
    label_rows(teacher, look.some, dump.views, 0, range(len(look.some)))
    per_image = (time.monotonic() - begin) / len(look.some)
    some = spread(ImageDataset(data), max(len(look.some), min(MEASURED, int(_LABELLING_SECONDS / per_image))))
    return label_rows(teacher, some, dump.views, 0, range(len(some)))


def _space(
    dump: DumpLabels,
    stores: Mapping[str, Store],
    look: Look,
    log_probs: LogProbs | None,
    data: Path,
    labels: Path,
    findings: Findings,
) -> None:
    num_samples = look.data.num_samples
    num_labels = dump.num_views * num_samples["train"]
    of = "measured on the present teacher's" if log_probs is not None else "measured on made-up ones: no teacher yet"
    if log_probs is None:
        log_probs = torch.log_softmax(random_logits(MEASURED, len(look.data.class_names)) / dump.temperature, dim=1)
    encodings = {name: store.encoding for name, store in stores.items()}
    sizes = label_bytes(
        encodings,
        log_probs,
        dump.space(len(look.data.class_names)),
        num_labels=num_labels,
        block_samples=dump.block_samples,
        pilot_labels=dump.pilot_labels,
    )
    there = next(parent for parent in [data.absolute(), *data.absolute().parents] if parent.exists())
    beside = num_samples["train"] * 8  # sample ids
    space = Space(
        prepare=look.image_bytes * sum(num_samples.values()),
        pool=look.pool_bytes * sum(num_samples.values()),
        is_prepared=look.seconds is None,
        stores={name: num_labels * size + beside for name, size in sizes.items()},
        stores_there=tree_bytes(labels),
        copies=2 if keeps_second_copy(Path()) else 1,
        free=shutil.disk_usage(there).free,
    )
    tell_space(space, sizes, of, findings)


if __name__ == "__main__":
    run_stage(main)
