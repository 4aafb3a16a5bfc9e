"""Stores of imported logits: the labels of the inputs as they are, without a view."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64

from pipeline.core.errors import ModelError, StoreError
from pipeline.core.files import file_fingerprint, fingerprint, read_json
from pipeline.core.progress import progress, say
from pipeline.core.scratch import Scratch
from pipeline.core.seeding import derive_seed, permutation
from pipeline.data.sample_ids import find_samples
from pipeline.data.splits import Split
from pipeline.labelling.budgets import beyond, settle
from pipeline.labelling.imported_logits import ImportedLogits
from pipeline.labelling.pilot import Pilot
from pipeline.labelling.settings import ImportedClasses
from pipeline.labelling.stores import StorePlan, StoreViews
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.models import group_table, join_outputs, match_classes, read_class_names
from pipeline.models.output_kinds import check_meaning
from pipeline.views.plan import RowOrder
from pipeline.views.spec import ViewSpec

MODEL = "imported logits"
PLAIN = ViewSpec(seed=0, plain_first=True, operations=())  # its view 0 is the input
PLAIN_VIEWS = StoreViews(PLAIN, [0])
_LOOKED_AT = 10_000  # rows at most, to decide whether values are probabilities


class ImportedTeacher:
    """A teacher that ran elsewhere: its logits, as logits of this data's classes.

    Args:
        groups: The outputs that make each class, where outputs and classes are not the same.
    """

    def __init__(self, imported: ImportedLogits, groups: list[list[int]] | None) -> None:
        self._imported, self.groups = imported, groups
        self._table = None if groups is None else group_table(groups)
        ids = fingerprint([f"{i:016x}" for i in imported.sample_ids.tolist()])
        kind = imported.are_probabilities
        content = imported.digest or file_fingerprint(imported.where)
        self.fingerprint = fingerprint([content, ids, groups, kind])
        self.note = {"note": imported.note} if imported.note else {}

    @classmethod
    def of(
        cls, imported: ImportedLogits, classes: ImportedClasses, class_names: list[str], where: str
    ) -> "ImportedTeacher":
        """Returns the teacher whose outputs the settings at `where` match to the classes of this
        data.

        Raises ConfigError where outputs and classes do not match, ModelError where the values are
        of another kind."""
        names = read_class_names(classes.teacher_classes, f"{where}.teacher_classes") or imported.output_names
        outputs = imported.values.shape[1]
        imported.check_kind(np.arange(min(len(imported.values), _LOOKED_AT)))
        groups = match_classes(class_names, names, classes.class_map, outputs, where)
        check_meaning(None, groups, imported.signal, where)
        return cls(imported, groups)

    @property
    def where(self) -> Path:
        """The file that the logits come from."""
        return self._imported.where

    def find(self, sample_ids: UInt64[np.ndarray, " samples"]) -> Int64[np.ndarray, " samples"]:
        """Returns the row of each sample, -1 for samples that have none."""
        return find_samples(sample_ids, self._imported.sample_ids)

    def take(self, rows: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some classes"]:
        """Returns the logits of some rows, class by class of this data."""
        values = self._imported.take(rows)
        return values if self._table is None else join_outputs(values, self._table)

    def rows_of(self, sample_ids: UInt64[np.ndarray, " samples"]) -> Int64[np.ndarray, " samples"]:
        """Returns the row of each training sample; raises ModelError where one has none."""
        rows = self.find(sample_ids)
        lacking = np.flatnonzero(rows < 0)
        if len(lacking):
            found = f"no logits for {len(lacking):,} of {len(rows):,} training samples"
            first = f"the first is sample {int(sample_ids[lacking[0]]):016x}, see samples.tsv"
            raise ModelError(self.where, f"{found} ({first})", expected="one row for each")
        return rows


def spare_other_stores(out: Path) -> None:
    """Raises StoreError where `out` has stores of another teacher, which would be lost."""
    for path in sorted(out.glob("*.zarr/zarr.json")):
        teacher = read_json(path, made_by="dump_labels").get("attributes", {}).get("teacher")
        if teacher is not None and teacher.get("model") != MODEL:
            raise StoreError(path.parent, "holds labels of another teacher", fix="move it away, or name another --out")


def write_stores(scratch: Scratch, plan: StorePlan, train: Split, teacher: ImportedTeacher) -> None:
    """Writes every store, from the first block that it lacks on; raises ModelError where a sample
    has no logits.
    """
    rows, settings = teacher.rows_of(train.sample_ids), plan.settings
    order = RowOrder(train.sample_ids, next(iter(plan.manifests.values())).block_samples)
    canaries = make_canaries(train, PLAIN, [0], settings.num_canaries, order)
    some = permutation(derive_seed(PLAIN.seed, "pilot"), len(train), 0)[: settings.pilot_labels]
    space = next(iter(plan.manifests.values())).space
    pilot = space.signal.values(teacher.take(rows[some]), settings.temperature)
    budgets = plan.budgets
    plan = settle(plan, scratch.folder / "encodings.json", {}, lambda: Pilot(pilot), "import_labels")
    with progress("import_labels", len(train) * len(plan.encodings), "label") as on_labels:
        for name, manifest in plan.manifests.items():
            tables = plan.encodings[name].learn(pilot, manifest.space)
            path, records = scratch.output / f"{name}.zarr", scratch.folder / "records" / name
            writer = StoreWriter(path, records, manifest, train.sample_ids, canaries, tables)
            for block in manifest.blocks():
                if not writer.settle(block):
                    logits = teacher.take(rows[block.rows.start : block.rows.stop])
                    if not writer.anchors.has(block.rows):  # all plain views are the same input
                        writer.write_anchors(block.rows, space.signal.values(logits, settings.temperature))
                    writer.write(block, logits)
                on_labels(len(block.rows))
            done = writer.finish()
            size = f"{done.num_labels:,} labels, {done.label_bytes:.2f} bytes each"
            say(f"import_labels: {name}: {size}, of inputs as they are{beyond(budgets.get(name), done)}")
