"""One worker's part of a dump, from the first block that nobody has to the finished stores."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch

from pipeline.core.errors import PipelineError, StoreError
from pipeline.core.progress import progress, say
from pipeline.core.tensors import read_digested, write_digested
from pipeline.data.splits import Split
from pipeline.labelling.budgets import beyond, earlier_encodings, settle
from pipeline.labelling.closeness import closeness_line
from pipeline.labelling.dump import dump_labels
from pipeline.labelling.ladder import PILOT_PER_CLASS
from pipeline.labelling.pilot import Pilot, ask_pilot
from pipeline.labelling.site import Site
from pipeline.labelling.stores import DumpPlan
from pipeline.labelling.takeover import EarlierStore
from pipeline.labelling.target import Target
from pipeline.labelling.teacher import Teacher
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import Budget
from pipeline.labels.manifest import Block, Manifest
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples
from pipeline.models.devices import has_room
from pipeline.sharing.workers import Worker
from pipeline.views.plan import RowOrder


def work_on_dump(site: Site, plan: DumpPlan, split: Split, teacher: Teacher) -> None:
    """Runs the teacher on blocks that nobody else has, then finishes and publishes the stores
    unless another worker has.
    """
    teacher = teacher.giving(*(manifest.signal for manifest in plan.manifests.values()))
    # 1. Find labels to take over, and open the stores.
    targets = _begin(site, plan, split, teacher)
    if targets is None:
        return
    # 2. Label every block that is lacking, from this worker's own first block on.
    shown = split.to(teacher.device) if has_room(teacher.device, split.held_bytes) else split
    turn = _turn(plan, split, site.worker)
    writers = {name: target.writer for name, target in targets.items()}
    site.look(writers)
    whole = False
    while not whole:
        with progress(f"{site.title}{site.worker.name}", len(split) * plan.settings.num_views, "label") as on_labels:
            dump_labels(teacher, shown, turn, list(targets.values()), on_labels, site.claims)
        if site.done:
            return
        whole = site.look(writers)  # what has been lost meanwhile is labelled again
    # 3. Finish the stores.
    with site.finishing():
        if site.done:
            return
        try:
            finished = {name: target.finish() for name, target in targets.items()}
        except PipelineError:
            if site.done:
                return  # where nobody waits: another worker was faster, and has cleared records away
            raise
        for name, manifest in finished.items():
            say(f"{site.title}: {name}: {_about(manifest, targets[name].source, plan.budgets.get(name))}")
        site.publish()


def _begin(site: Site, plan: DumpPlan, split: Split, teacher: Teacher) -> dict[str, Target] | None:
    """Returns every store; None where another worker has finished them meanwhile.

    One worker at a time: the first chooses encodings for budgets, learns tables and begins the
    stores; the teacher labels the pilot once for all of that.
    """
    earlier = earlier_encodings(site, plan)
    sources = find_sources(site, plan.settled(earlier).manifests, split)
    with site.beginning():
        if site.done:
            return None
        pilot = _pilot(plan, teacher, split)
        asked = plan
        plan = site.agreed("encodings.json", lambda file: settle(asked, file, earlier, pilot, site.title))
        if any(plan.encodings[name] != encoding for name, encoding in earlier.items()):
            sources = find_sources(site, plan.manifests, split)  # another worker has begun without that folder
        settled, found = plan, sources
        tables = site.agreed("tables.safetensors", lambda file: learn_tables(file, settled, found, pilot))
        columns = {name: teacher.columns(manifest.signal) for name, manifest in plan.manifests.items()}
        return _open_targets(site, plan, split, tables, sources, columns)


def find_sources(site: Site, manifests: Mapping[str, Manifest], split: Split) -> dict[str, EarlierStore]:
    """Returns, by store, an earlier one that holds the very labels which it wants, where there is
    one.

    Raises StoreError where `grow` was asked for and has none, or a damaged one.
    """
    grow, folder = site.grow, site.earlier
    if folder is None:
        return {}
    sources = {}
    for name, manifest in manifests.items():
        path = folder / f"{name}.zarr"
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
            continue  # nobody asked for it: the teacher labels everything again
        sources[name] = EarlierStore(store, StoredSamples.of(split.sample_ids))
    if grow and not sources:
        mixed = any(manifest.mixes for manifest in manifests.values())
        found = "holds no store of this teacher, these encodings and views"
        if mixed:
            found += ", with these very samples in blocks of this size (views are mixed of two samples)"
        raise StoreError(grow, found, expected=", ".join(manifests))
    return sources


def _pilot(plan: DumpPlan, teacher: Teacher, split: Split) -> Callable[[], Pilot]:
    """Returns what labels the pilot, at most once: before the first block, where anything is to be
    chosen or learned by it.
    """
    settings, views = plan.settings, range(plan.settings.num_views)
    spaces = [manifest.space for manifest in plan.manifests.values()]
    space = min(spaces, key=lambda each: each.signal_kind == "vector")  # that of classes, where there is one
    return cache(lambda: ask_pilot(teacher, split, settings.views, views, settings.pilot_labels, space))


def learn_tables(
    file: Path, plan: DumpPlan, sources: Mapping[str, EarlierStore], pilot: Callable[[], Pilot]
) -> dict[str, dict[str, np.ndarray]]:
    """Returns the tables of each store's encoding.

    They are taken over with labels, or read as another worker wrote them, or learned from the
    pilot."""
    settings, encodings, manifests = plan.settings, plan.encodings, plan.manifests
    wanting = [n for n, encoding in encodings.items() if n not in sources and encoding.tables(manifests[n].space)]
    if wanting and read_digested(file) is None:
        of_classes = [manifests[n] for n in wanting if not manifests[n].is_of_embeddings]
        num_classes = max((manifest.num_classes for manifest in of_classes), default=0)
        needed = 0 if any(manifest.positions for manifest in of_classes) else PILOT_PER_CLASS * num_classes
        if settings.pilot_labels < needed:  # of a grid, each label has many positions
            few = f"{settings.pilot_labels:,} pilot labels for {num_classes:,} classes are few"
            say(
                f"dump_labels: {few}; {PILOT_PER_CLASS} per class or more make labels better (dump_labels.pilot_labels)"
            )
        learned = {n: encodings[n].learn(pilot().of(manifests[n].space), manifests[n].space) for n in wanting}
        write_digested(
            file,
            {f"{n}/{name}": torch.from_numpy(table) for n, tables in learned.items() for name, table in tables.items()},
        )
    read = (wanting and read_digested(file)) or {}
    tables = {n: source.store.tables for n, source in sources.items()}
    for n in wanting:
        tables[n] = {key.removeprefix(f"{n}/"): table.numpy() for key, table in read.items() if key.startswith(f"{n}/")}
    return tables


def _open_targets(
    site: Site,
    plan: DumpPlan,
    split: Split,
    tables: Mapping[str, dict[str, np.ndarray]],
    sources: Mapping[str, EarlierStore],
    columns: Mapping[str, slice],
) -> dict[str, Target]:
    """Returns every store, begun now or as earlier workers left it."""
    settings = plan.settings
    order = RowOrder(split.sample_ids, next(iter(plan.manifests.values())).block_samples)
    canaries = make_canaries(split, settings.views, range(settings.num_views), settings.num_canaries, order)
    targets = {}
    for name, manifest in plan.manifests.items():
        path = site.output / f"{name}.zarr"
        writer = StoreWriter(path, site.records(name), manifest, split.sample_ids, canaries, tables.get(name))
        targets[name] = Target(writer, sources.get(name), columns[name])
    return targets


def _turn(plan: DumpPlan, split: Split, worker: Worker) -> list[Block]:
    """Returns the blocks in the order in which a worker tries them: from its own first one on, and
    around.
    """
    blocks = plan.blocks
    if split.is_streamed:  # so that inputs are read once for all views
        blocks = sorted(blocks, key=lambda block: (block.rows.start, block.view_index))
    first = worker.first(len(blocks))
    return [*blocks[first:], *blocks[:first]]


def _about(manifest: Manifest, source: EarlierStore | None, budget: Budget | None = None) -> str:
    """Returns what a finished store holds, what a label takes, and how close it is to the
    teacher.
    """
    if manifest.fidelity is None:
        return "views only, no labels"
    tables = ", with the tables that it learned" if source and source.store.tables else ""
    taken = f" (some taken over from an earlier dump{tables})" if source else ""
    size = f"{manifest.num_labels:,} labels{taken}, {manifest.label_bytes:.2f} bytes each"
    return f"{size}, {closeness_line(manifest.fidelity, manifest.signal)}{beyond(budget, manifest)}"
