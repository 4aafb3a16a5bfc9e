"""Stores of imported logits and embeddings: labels of the inputs as they are, without a view."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64

from pipeline.core.errors import ConfigError, StoreError, listed
from pipeline.core.files import read_json
from pipeline.core.progress import progress, say
from pipeline.core.scratch import Scratch
from pipeline.core.seeding import derive_seed, permutation
from pipeline.data.manifest import DatasetManifest
from pipeline.data.splits import Split
from pipeline.labelling.budgets import beyond, settle
from pipeline.labelling.imported_teachers import ImportedEmbeddings, ImportedTeacher, TeacherElsewhere
from pipeline.labelling.pilot import Pilot
from pipeline.labelling.settings import ImportLabels
from pipeline.labelling.stores import StorePlan, StoreViews, manifests_of
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import EncodingRow, encodings_of
from pipeline.labels.encodings.unlabelled import Unlabelled
from pipeline.labels.manifest import Block, Manifest
from pipeline.views.plan import RowOrder
from pipeline.views.spec import ViewSpec

PLAIN = ViewSpec(seed=0, plain_first=True, operations=())  # its view 0 is the input
PLAIN_VIEWS = StoreViews(PLAIN, [0])
_MODELS = ("imported logits", "imported embeddings")


@dataclass(frozen=True)
class Imports:
    """The predictions that stores are made of: logits, embeddings, or both."""

    logits: ImportedTeacher | None
    embeddings: ImportedEmbeddings | None

    def of(self, manifest: Manifest) -> TeacherElsewhere | None:
        """Returns those that a store holds; None: it holds none."""
        if manifest.teacher is None:
            return None
        return self.embeddings if manifest.is_of_embeddings else self.logits

    def check(self, rows: Mapping[str, EncodingRow], where: str) -> None:
        """Raises ConfigError where nothing is given for some rows of the table `encodings`: a store
        that is there would be lost without a word.
        """
        of_embeddings = {name for name, row in encodings_of(rows).items() if row.is_of_embeddings}
        empty = {name for name, row in rows.items() if isinstance(row, Unlabelled)}
        for given, lacking, what, option in (
            (self.embeddings, of_embeddings, "embeddings", "--embeddings"),
            (self.logits, rows.keys() - of_embeddings - empty, "labels of classes", "--logits"),
        ):
            if given is None and lacking:
                found = f"{listed(sorted(lacking))}, of {what}, and no {option}"
                raise ConfigError(where, found, fix="give both files in one command, or take these rows out")

    def plan(
        self, settings: ImportLabels, rows: Mapping[str, EncodingRow], data: DatasetManifest, figures: dict[str, float]
    ) -> StorePlan:
        """Returns the stores to write.

        Args:
            figures: Of the logits, for the manifests of their stores.
        """
        facts: dict[str, Any] = {}
        if self.logits is not None:
            facts = {**self.logits.facts, **figures, **self.logits.note}
        dimensions = None if self.embeddings is None else self.embeddings.dimensions
        manifests = manifests_of(settings, rows, data, facts, PLAIN_VIEWS, dimensions)
        return StorePlan(settings, rows, {name: self._with_own_facts(each) for name, each in manifests.items()})

    def _with_own_facts(self, manifest: Manifest) -> Manifest:
        """Returns the manifest of a store of embeddings with facts about these, any other as it
        is.
        """
        if self.embeddings is None or not manifest.is_of_embeddings:
            return manifest
        return replace(manifest, teacher=self.embeddings.facts)


def spare_other_stores(out: Path) -> None:
    """Raises StoreError where `out` has stores of another teacher, which would be lost."""
    for path in sorted(out.glob("*.zarr/zarr.json")):
        teacher = read_json(path, made_by="dump_labels").get("attributes", {}).get("teacher")
        if teacher is not None and teacher.get("model") not in _MODELS:
            raise StoreError(path.parent, "holds labels of another teacher", fix="move it away, or name another --out")


def write_stores(scratch: Scratch, plan: StorePlan, train: Split, imports: Imports) -> None:
    """Writes every store, from the first block that it lacks on; raises ModelError where a sample
    has no row in a file.
    """
    settings, budgets = plan.settings, plan.budgets
    order = RowOrder(train.sample_ids, next(iter(plan.manifests.values())).block_samples)
    canaries = make_canaries(train, PLAIN, [0], settings.num_canaries, order)
    some = permutation(derive_seed(PLAIN.seed, "pilot"), len(train), 0)[: settings.pilot_labels]
    values = {name: _Values(imports.of(each), each, train.sample_ids) for name, each in plan.manifests.items()}
    chosen = next(iter(budgets), "")
    plan = settle(plan, scratch.folder / "encodings.json", {}, lambda: Pilot(values[chosen].at(some)), "import_labels")
    with progress("import_labels", len(train) * len(plan.encodings), "label") as on_labels:
        for name, manifest in plan.manifests.items():
            encoding, own = plan.encodings[name], values[name]
            tables = encoding.learn(own.at(some), manifest.space) if encoding.tables(manifest.space) else {}
            path, records = scratch.output / f"{name}.zarr", scratch.folder / "records" / name
            writer = StoreWriter(path, records, manifest, train.sample_ids, canaries, tables)
            for block in manifest.blocks():
                if not writer.settle(block) and own.teacher:
                    own.write(writer, block)
                on_labels(len(block.rows))
            done = writer.finish()
            size = f"{done.num_labels:,} labels, {done.label_bytes:.2f} bytes each"
            say(f"import_labels: {name}: {size}, of inputs as they are{beyond(budgets.get(name), done)}")


class _Values:
    """The values that a store is made of, sample by sample."""

    def __init__(
        self, teacher: TeacherElsewhere | None, manifest: Manifest, ids: UInt64[np.ndarray, " samples"]
    ) -> None:
        self.teacher, self._manifest = teacher, manifest
        self._rows = None if teacher is None else teacher.rows_of(ids)

    def outputs(self, samples: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some values"]:
        """Returns the outputs of some samples; raises ModelError where one is not finite."""
        assert self.teacher is not None
        assert self._rows is not None
        return self.teacher.take(self._rows[samples])

    def at(self, samples: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some values"]:
        """Returns the values of some samples at the stored temperature."""
        return self._manifest.space.signal.values(self.outputs(samples), self._manifest.temperature)

    def write(self, writer: StoreWriter, block: Block) -> None:
        """Writes a block, and the anchors that it stands on."""
        samples = np.arange(block.rows.start, block.rows.stop)
        if not writer.anchors.has(block.rows):  # all plain views are the same input
            writer.write_anchors(block.rows, self.at(samples))
        writer.write(block, self.outputs(samples))
