"""dump_labels: teacher + data/prepare -> data/dump_labels/<encoding>.zarr, every encoding in one teacher pass.

Any number of processes may run it at once (torchrun, a SLURM array, a Kubernetes indexed job, or by hand with
`--worker i/n`): they share one folder and its blocks, and the first one that finds all of them there publishes.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows, load_section
from pipeline.core.errors import DataError, StoreError
from pipeline.core.files import read_tensors, write_tensors
from pipeline.core.progress import progress, say
from pipeline.core.scratch import Scratch
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.opening import open_for_blocks
from pipeline.data.splits import Split
from pipeline.labelling.dump import Target, dump_labels
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.takeover import Source
from pipeline.labelling.teacher import Teacher, pilot_log_probs, teacher_precision
from pipeline.labelling.workers import Claims, Worker, this_worker
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import Encoding, build_encoding
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import check_compiler, choose_device, has_room
from pipeline.models.saved import model_fingerprint, read_meta
from pipeline.views.plan import RowOrder

_PILOT_PER_CLASS = 20  # below, a learned tail may be worse than an even one (docs/log.md)
_SAME_CODE = ("code", "torch", "device")  # what an earlier dump's labels must have been made by, to be taken over


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    out: Path = Path("data/dump_labels"),
    work: Path = Path("work"),
    worker: Annotated[str | None, typer.Option(help="i/n: this process is worker i of n that share `work`.")] = None,
    grow: Annotated[Path | None, typer.Option(help="A folder of finished stores whose labels are taken over.")] = None,
) -> None:
    settings = load_section(DumpLabels, "dump_labels", params)
    settings.check(f"{params}: dump_labels")
    rows = load_rows("encodings", params)
    encodings = {name: build_encoding(row, f"{params}: encodings.{name}") for name, row in rows.items()}
    me = this_worker(worker, os.environ)
    device = choose_device(settings.device, me.local_index)
    if settings.compile:
        check_compiler(device, f"{params}: dump_labels.compile")
    dataset = ImageDataset(data)
    settings.views.check(dataset.manifest.image_shape, f"{params}: dump_labels.views")
    about = _about(teacher, teacher_precision(teacher, device, settings.precision))
    manifests = _manifests(settings, encodings, dataset, teacher, about)
    for name, encoding in encodings.items():
        encoding.check(manifests[name].space, f"{params}: encodings.{name}")
    where = f"{params}: dump_labels.memory_budget_mb"
    budget = MemoryBudget.of_megabytes(settings.memory_budget_mb, settings.batch_size, where)
    decides = {
        "settings": {key: value for key, value in asdict(settings).items() if key != "memory_budget_mb"},
        "encodings": {name: encoding.to_dict() for name, encoding in encodings.items()},
        "teacher": about,
        "data": dataset.manifest.fingerprints["train"],
        "device": device.type,
    }
    with Scratch(out, decides, work, code=Path(__file__), shared=True) as scratch:
        claimed = work / f"{scratch.name}.claims" / scratch.fingerprint[:16]
        try:
            if not scratch.done:
                at_work = Teacher.read(teacher, device, settings.batch_size, settings.precision)
                if settings.compile:
                    at_work.model.compile()
                split = open_for_blocks(dataset, budget, settings.block_samples)
                _work(scratch, Claims(claimed), me, settings, encodings, manifests, split, at_work, grow)
        except FileNotFoundError:
            if not scratch.done:
                raise
            # Another process has published, and cleared away what this one was about to use.
        shutil.rmtree(claimed, ignore_errors=True)


def _work(
    scratch: Scratch,
    claims: Claims,
    me: Worker,
    settings: DumpLabels,
    encodings: Mapping[str, Encoding],
    manifests: Mapping[str, Manifest],
    split: Split,
    teacher: Teacher,
    grow: Path | None,
) -> None:
    """One worker's part, from the first block that nobody has to the finished stores."""
    sources = _sources(grow, scratch, manifests, split)
    with claims.hold("begin"):
        if scratch.done:
            return
        tables = _tables(scratch.folder, encodings, manifests, sources, teacher, split, settings)
        targets = _targets(scratch, settings, split, manifests, tables, sources)
    shown = split.to(teacher.device) if has_room(teacher.device, split.held_bytes) else split
    blocks = next(iter(manifests.values())).blocks()
    if split.is_streamed:  # so that images are read once for all views
        blocks = sorted(blocks, key=lambda block: (block.rows.start, block.view_index))
    first = me.first(len(blocks))
    with progress(f"dump_labels{me.name}", len(split) * settings.num_views, "label") as on_labels:
        turn = [*blocks[first:], *blocks[:first]]
        dump_labels(
            teacher, shown, settings.views, turn, list(targets.values()), on_labels, claims, lambda: scratch.done
        )
    with claims.hold("finish"), claims.hold("begin"):  # nobody may begin with what is about to be moved away
        if scratch.done:
            return
        scratch.sweep()  # or what killed workers left would count as bytes of labels
        for name, target in targets.items():
            _tell(name, target.writer.finish(), target.source)
        scratch.publish()  # and keeps the labels: a dump of more views or images takes them over


def _about(teacher: Path, precision: str) -> dict[str, Any]:
    meta = read_meta(teacher, made_by="train_teacher")
    return {
        "fingerprint": model_fingerprint(teacher),
        "model": meta.model,
        "model_settings": meta.model_settings,
        "val_accuracy": meta.val["accuracy"],
        "calibration_temperature": meta.val["calibration_temperature"],
        "precision": precision,
    }


def _manifests(
    settings: DumpLabels,
    encodings: Mapping[str, Encoding],
    dataset: ImageDataset,
    teacher: Path,
    about: dict[str, Any],
) -> dict[str, Manifest]:
    """What each store will say of itself, but for what is measured."""
    class_names = read_meta(teacher, made_by="train_teacher").class_names
    if class_names != dataset.manifest.class_names:
        raise DataError(teacher, "was trained for other classes", expected=str(dataset.manifest.class_names))
    num_samples = dataset.manifest.num_samples["train"]
    manifests = {}
    for name, encoding in encodings.items():
        manifest = Manifest(
            encoding=encoding.to_dict(),
            class_names=class_names,
            view_numbers=list(range(settings.num_views)),
            num_samples=num_samples,
            block_samples=min(settings.block_samples, num_samples),
            temperature=settings.temperature,
            temperatures=settings.temperatures,
            views=settings.views.to_dict(),
            dataset_fingerprint=dataset.manifest.fingerprints["train"],
            teacher=about,
        )
        holds_labels = bool(encoding.fields(manifest.space))
        manifests[name] = manifest if holds_labels else replace(manifest, teacher=None)
    return manifests


def _sources(
    grow: Path | None,
    scratch: Scratch,
    manifests: Mapping[str, Manifest],
    split: Split,
) -> dict[str, Source]:
    """Stores of an earlier dump that hold the very labels which some of the new ones want."""
    earlier = scratch.read_kept().get("decides", {})
    if grow is None and any(earlier.get(name) != scratch.decides[name] for name in _SAME_CODE):
        return {}
    sources = {}
    for name, manifest in manifests.items():
        path = (grow or scratch.kept / "output") / f"{name}.zarr"
        if not path.exists():
            continue
        try:
            store = StoreReader(path)
            if not store.manifest.may_share_labels(manifest):
                continue
            fault = next((error for _, error in store.check() if error), None)
            if fault:
                raise fault
        except StoreError:
            if grow:
                raise
            continue
        sources[name] = Source(store, split.sample_ids)
    if grow and not sources:
        mixed = any(manifest.mixes for manifest in manifests.values())
        found = "holds no store of this teacher, these encodings and views"
        if mixed:
            found += ", with these very images in blocks of this size (views are mixed of two images)"
        raise StoreError(grow, found, expected=", ".join(manifests))
    return sources


def _tables(
    folder: Path,
    encodings: Mapping[str, Encoding],
    manifests: Mapping[str, Manifest],
    sources: Mapping[str, Source],
    teacher: Teacher,
    split: Split,
    settings: DumpLabels,
) -> dict[str, dict[str, np.ndarray]]:
    """What each encoding learned: taken over with labels, as another worker wrote it, or from a pilot of the teacher."""
    wanting = [n for n, encoding in encodings.items() if n not in sources and encoding.tables(manifests[n].space)]
    file = folder / "tables.safetensors"
    if wanting and not file.exists():
        views = range(settings.num_views)
        num_classes = manifests[wanting[0]].num_classes
        if settings.pilot_labels < _PILOT_PER_CLASS * num_classes:
            few = f"{settings.pilot_labels:,} pilot labels for {num_classes:,} classes are few"
            say(
                f"dump_labels: {few}; {_PILOT_PER_CLASS} per class or more make labels better (dump_labels.pilot_labels)"
            )
        pilot = pilot_log_probs(teacher, split, settings.views, views, settings.pilot_labels, settings.temperature)
        learned = {n: encodings[n].learn(pilot, manifests[n].space) for n in wanting}
        write_tensors(
            file,
            {f"{n}/{name}": torch.from_numpy(table) for n, tables in learned.items() for name, table in tables.items()},
        )
    read = read_tensors(file, made_by="dump_labels") if wanting else {}
    tables = {n: source.store.tables for n, source in sources.items()}
    for n in wanting:
        tables[n] = {key.removeprefix(f"{n}/"): table.numpy() for key, table in read.items() if key.startswith(f"{n}/")}
    return tables


def _targets(
    scratch: Scratch,
    settings: DumpLabels,
    split: Split,
    manifests: Mapping[str, Manifest],
    tables: Mapping[str, dict[str, np.ndarray]],
    sources: Mapping[str, Source],
) -> dict[str, Target]:
    """Every store, begun or as earlier workers left it."""
    order = RowOrder(split.sample_ids, next(iter(manifests.values())).block_samples)
    canaries = make_canaries(split, settings.views, range(settings.num_views), settings.num_canaries, order)
    targets = {}
    for name, manifest in manifests.items():
        source = sources.get(name)
        inherited = source.other_fidelity(manifest.view_numbers, manifest.blocks()) if source else []
        path, records = scratch.output / f"{name}.zarr", scratch.folder / "records" / name
        writer = StoreWriter(path, records, manifest, split.sample_ids, canaries, tables.get(name), inherited)
        targets[name] = Target(writer, source)
    return targets


def _tell(name: str, manifest: Manifest, source: Source | None) -> None:
    if manifest.fidelity is None:
        say(f"dump_labels: {name}: views only, no labels")
        return
    kl = ", ".join(f"{t}: {v['mean']:.1e}" for t, v in manifest.fidelity["kl_nats"].items())
    taken = " (some taken over from an earlier dump)" if source else ""
    say(
        f"dump_labels: {name}: {manifest.num_labels:,} labels{taken}, {manifest.label_bytes:.2f} bytes each, "
        f"mean KL to the teacher in nats by temperature {{{kl}}}, same top-1 class {manifest.fidelity['top1_agreement']:.3%}"
    )


if __name__ == "__main__":
    run_stage(main)
