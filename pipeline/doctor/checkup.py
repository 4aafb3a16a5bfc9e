"""The check-up from params.yaml to the disk; each step looks at what the ones before it found
sound.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.data.dataset import ImageDataset
from pipeline.doctor.changes import change
from pipeline.doctor.dag import check_dag
from pipeline.doctor.devices import check_devices
from pipeline.doctor.embeddings import embedding_bytes, find_features
from pipeline.doctor.findings import Findings
from pipeline.doctor.folders import Folders
from pipeline.doctor.images import Look, look_at_prepared
from pipeline.doctor.labels import (
    LabelStore,
    find_store,
    made_up_labels,
    notes_about,
    plan_stores,
    teacher_labels,
    wanted_first_views,
)
from pipeline.doctor.memory import check_memory
from pipeline.doctor.params import Params, read_params
from pipeline.doctor.reporting import report_images, report_space, report_times
from pipeline.doctor.source import SourceLook
from pipeline.doctor.space import measure_label_bytes, measure_space
from pipeline.doctor.steps import check_steps
from pipeline.doctor.times import Students, stage_seconds
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.temporary import temporary_folder
from pipeline.labels.encodings import encodings_of
from pipeline.preparation.contradictions import contradictions_line
from pipeline.preparation.elsewhere import is_elsewhere
from pipeline.preparation.enough import check_counts
from pipeline.preparation.settings import Prepare
from pipeline.student.features import features_line
from pipeline.student.shown_views import views_line
from pipeline.views.maps import need_maps


def check_up(path: Path, folders: Folders, findings: Findings, *, quick: bool = False) -> None:
    """Reports every fault that can be found before the stages run.

    Args:
        path: Of params.yaml.
        quick: No network is run, so that times are not estimated.
    """
    with ExitStack() as held:
        _check_up(path, folders, findings, held, quick=quick)


def _check_up(path: Path, folders: Folders, findings: Findings, held: ExitStack, *, quick: bool) -> None:
    # 1. The settings. The steps below look at those that are sound.
    params = read_params(path, findings)
    if not findings.counts["error"]:
        findings.attempt(check_dag, path)
    lacking = check_devices(params, findings)
    # 2. The images, and whether they fit into memory and suffice for the schedules.
    look = look_at_images(params, folders, findings, held)
    if look is None:
        return
    report_images(look, findings)
    check_memory(params, look.data, findings)
    check_steps(params, look, findings)
    # 3. The labels, and whether students can learn from them.
    dump = params.get(DumpLabels)
    if dump is None:
        return
    asks_teacher = look.seconds is None and not quick and "dump_labels" not in lacking
    anchor_views = wanted_first_views(params.encodings, dump.num_views)
    known = teacher_labels(dump, look, folders, findings, anchor_views) if asks_teacher else None
    stores = plan_stores(params, dump, look, findings, known)
    students = fitting_students(params, stores, folders.labels, look, findings)
    # 4. The networks: each has a try on a batch, which is timed.
    if not quick:
        report_times(stage_seconds(params, dump, students, look, findings), findings)
    # 5. The disk.
    labels = known or made_up_labels(dump.space_of(look.data), anchor_views)
    sizes = findings.attempt(measure_label_bytes, dump, stores, labels, look.data.num_samples["train"]) or {}
    sizes |= embedding_bytes(params.encodings, labels.space, folders, findings, f"{params.path}: encodings")
    report_space(measure_space(dump, sizes, look, folders), findings)


def look_at_images(params: Params, folders: Folders, findings: Findings, held: ExitStack) -> Look | None:
    """Returns a look at the prepared data, or else at the source; None if neither can be read.

    Args:
        held: Holds the files that stand in for those of a data set which is not prepared yet.
    """
    prepare = params.get(Prepare)
    if prepare is None:
        return None
    if (folders.data / "manifest.json").exists():
        dataset = findings.attempt(ImageDataset, folders.data)
        if dataset is None:
            return None
        if not (wrong := change(dataset.manifest, prepare, params.source, folders)):
            if line := contradictions_line(folders.data, prepare.contradicting, dataset.manifest.kind.things):
                findings.warning(line)
            return findings.attempt(look_at_prepared, dataset)
        findings.warning(f"{folders.data}: its {wrong}; looking at the source; `dvc repro prepare` makes it again")
    if params.source is None:
        return None
    if is_elsewhere(prepare.source):
        findings.warning(f"{prepare.source['path']} is not on this machine: samples, networks and disk are not checked")
        return None
    try:
        findings.attempt(check_counts, params.source, folders.raw, prepare)
        beside = None if params.source.input_kind == "image" else held.enter_context(temporary_folder())
        return SourceLook(params.source, folders.raw, prepare).look(beside)
    except PipelineError as fault:
        findings.error(fault)
        return None


def fitting_students(
    params: Params, stores: Mapping[str, LabelStore], folder: Path, look: Look, findings: Findings
) -> Students:
    """Returns the students that can learn from the labels that they name, with their stores."""
    fitting = {}
    for name, row in params.students.items():
        where = f"{params.path}: students.{name}"
        before = findings.counts["error"]
        named = encodings_of(params.encodings).get(row.labels)
        if named is not None and named.is_of_embeddings:
            findings.attempt(row.check_encoding, named, where)
            continue
        findings.attempt(find_features, row, params.encodings, folder, where)
        store = findings.attempt(find_store, row, stores, folder, where)
        if store:
            findings.attempt(row.check_labels, store.encoding, store.codec, store.views.mixes_labels, where)
            findings.attempt(row.check_data, look.data.num_unlabelled, where)
            if row.hard_weight:
                findings.attempt(need_maps, store.views, look.data.signal, f"{where}.hard_weight")
        if store and findings.counts["error"] == before:
            fitting[name] = (row, store)
            if line := views_line(row, store.views, store.num_views):
                findings.warning(f"{where}: {line}")
            for line in notes_about(row, folder, where):
                findings.warning(line)
            if line := features_line(row):
                findings.warning(f"{where}: {line}")
    return fitting
