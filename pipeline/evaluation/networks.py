"""Every network on the test split: its facts, its scores, its answers, and its cost."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.core.errors import ModelError
from pipeline.core.files import read_json
from pipeline.core.progress import progress
from pipeline.data.manifest import DatasetManifest
from pipeline.evaluation.exam import Exam
from pipeline.evaluation.marks import Marked
from pipeline.models import count_multiply_adds, count_parameters, is_in_own_file, network_copy
from pipeline.models.saved import ModelMeta, read_meta, read_model
from pipeline.profiling.latency import measure_cost
from pipeline.results.costs import Cost
from pipeline.results.evaluation import ExaminedNetwork, NetworkFacts, NetworkRow
from pipeline.results.networks import TEACHER, stage_of

_WARMUP = 10  # calls before those that are timed


@dataclass
class Examined:
    """The findings about every network that has been examined, by name."""

    networks: dict[str, ExaminedNetwork] = field(default_factory=dict)
    marked: dict[str, Marked] = field(default_factory=dict)


def examine(exam: Exam, folders: Mapping[str, Path], reports: Path, data: DatasetManifest) -> Examined:
    """Runs every network on the test split; the teacher comes first, where there is one.

    Args:
        folders: The trained networks by name.
        reports: The folder with the reports of the stages that trained them.

    Raises:
        DataError: Where a network is missing, or was trained for other data.
        ModelError: Where a network's outputs are not finite.
    """
    found, teacher_logits = Examined(), None
    total = sum(exam.num_seen(is_student=name != TEACHER) for name in folders)
    with progress("evaluate", total, data.kind.thing) as on_images:
        for name, folder in folders.items():
            meta, model = read_meta(folder, made_by=stage_of(name)), read_model(folder, made_by=stage_of(name))
            meta.check_data(data, folder, stage_of(name))
            facts = network_facts(name, folder, reports, meta, model)
            logits = exam.logits(model.to(exam.device), on_images)
            if not logits.isfinite().all():
                raise ModelError(folder, "its outputs are not finite numbers", fix=f"run `dvc repro {stage_of(name)}`")
            validation = exam.validation(model, on_images)
            marked = exam.marks.mark(logits, exam.test.hard_labels, teacher_logits, validation)
            found.networks[name] = ExaminedNetwork(
                **vars(facts),
                **vars(marked.scores),
                corruptions=exam.corrupted(model, logits, on_images),
                val=meta.val if name == TEACHER else None,
                **({} if name == TEACHER else _best_epoch(exam, name, folder, on_images)),
            )
            found.marked[name] = marked
            if name == TEACHER:
                teacher_logits = logits
    return replace(found, networks=pair_twins(found.networks))


def network_facts(name: str, folder: Path, reports: Path, meta: ModelMeta, model: nn.Module) -> NetworkFacts:
    """Returns a network's recipe, how large it is, and how much it computes."""
    report = reports / ("train_teacher.json" if name == TEACHER else f"train_student/{name}.json")
    settings = meta.settings
    return NetworkFacts(
        role=TEACHER if name == TEACHER else "twin" if settings.get("twin_of") else "student",
        model=meta.model,
        model_settings=meta.model_settings,
        labels=settings.get("labels"),
        twin_of=settings.get("twin_of"),
        parameters=count_parameters(model),
        multiply_adds=count_multiply_adds(model, meta.blank()),
        file_bytes=_weight_file(folder, meta).stat().st_size,
        settings=settings,
        train_seconds=read_json(report, made_by=stage_of(name)).get("seconds"),
    )


def pair_twins(networks: Mapping[str, ExaminedNetwork]) -> dict[str, ExaminedNetwork]:
    """Returns the networks with the name of its twin (the first, of several) and the gain over it
    in every student's row.
    """
    paired = dict(networks)
    for name, row in networks.items():
        if row.twin_of in paired and (student := paired[row.twin_of]).twin is None:
            gain_points = 100 * (student.score - row.score)
            paired[row.twin_of] = replace(student, twin=name, gain_points=gain_points)
    return paired


def with_costs(
    networks: Mapping[str, ExaminedNetwork], folders: Mapping[str, Path], repeats: int
) -> dict[str, NetworkRow]:
    """Returns the networks with the latency and memory that each takes."""
    with progress("evaluate: latency and memory", len(folders), "network") as on_networks:
        costs = measure_costs(folders, repeats, on_networks)
    return {name: NetworkRow(**vars(network), cost=costs[name]) for name, network in networks.items()}


def measure_costs(folders: Mapping[str, Path], repeats: int, on_networks: Callable[[int], object]) -> dict[str, Cost]:
    """Returns each network's cost; networks that differ in nothing but their weights are measured
    once.
    """
    alike: dict[str, list[str]] = {}
    for name, folder in folders.items():
        meta = read_meta(folder, made_by="evaluate")
        shape = (meta.image_shape, meta.size_px, meta.num_outputs, meta.own_files, meta.input, meta.side)
        alike.setdefault(json.dumps([meta.model, meta.model_settings, shape], sort_keys=True), []).append(name)
    costs = {}
    for names in alike.values():
        cost = measure_cost("torch", folders[names[0]], repeats, _WARMUP)
        costs.update(dict.fromkeys(names, cost))
        on_networks(len(names))
    return costs


def _best_epoch(exam: Exam, name: str, folder: Path, on_images: Callable[[int], object]) -> dict[str, Any]:
    """Returns the figures of the student's best epoch."""
    best = read_model(folder, made_by=stage_of(name), weights="best").to(exam.device)
    return exam.marks.best_epoch(exam.logits(best, on_images), exam.test.hard_labels)


def _weight_file(folder: Path, meta: ModelMeta) -> Path:
    copy = network_copy(meta.model, folder) if is_in_own_file(meta.model) else None
    return copy or folder / "weights.safetensors"
