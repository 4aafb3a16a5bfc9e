"""Labels for a data set of the caller's own, without params.yaml and stages."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError, ModelError, StoreError
from pipeline.core.scratch import SharedScratch
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import split_fingerprint
from pipeline.data.manifest import DatasetManifest
from pipeline.data.splits import Split
from pipeline.labelling.run import work_on_dump
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.site import DumpSite
from pipeline.labelling.stores import DumpPlan, StoreViews, TeacherFacts, manifests_of
from pipeline.labelling.teacher import Teacher
from pipeline.labels.encodings import EncodingRow, build_row
from pipeline.labels.reader import StoreReader
from pipeline.library.arguments import need_row, need_sequence, need_whole
from pipeline.library.labels import Labels, open_labels
from pipeline.library.own_images import MapStyle, OwnImages, need_known_classes, read_all
from pipeline.library.own_teacher import OwnTeacher
from pipeline.models.precision import inference_precision
from pipeline.sharing.claims import Claims
from pipeline.sharing.ending import claims_folder
from pipeline.sharing.workers import Worker
from pipeline.views.spec import ViewSpec

STORE = "soft.zarr"
_FEW_CLASSES = 32  # whose labels are small enough as they are
_BLOCK_BYTES = 1 << 27  # of images
_PILOT_PER_CLASS = 20
_WHERE = "label_dataset"


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """The settings of labels that a teacher is to make; docs/labels.md explains what there is.

    Attributes:
        num_views: How many views of each image are labelled. A student sees one an epoch.
        views: A ViewSpec, or its operations as rows of `params.yaml`: `[{"kind": "pad_crop",
            "pad_px": 4}, {"kind": "flip_horizontal", "probability": 0.5}]`. None: crops that are
            shifted by up to an eighth of the side.
        seed: Of the views, where these are no ViewSpec.
        encoding: A row of the table `encodings`; None: every class to a byte for up to 32 classes,
            else the most faithful label of at most 8 bytes.
        temperature: The one that labels are stored at.
        temperatures: Those that every encoding can serve.
        batch_size: Views at once.
        precision: What the teacher computes in, `float32` or `bfloat16`.
        memory_mb: Larger data sets are read again for their labels, block by block.
    """

    num_views: int = 8
    views: ViewSpec | Sequence[Mapping[str, Any]] | None = None
    seed: int = 0
    encoding: Mapping[str, Any] | None = None
    temperature: float = 1.0
    temperatures: Sequence[float] = (1.0, 2.0, 4.0)
    batch_size: int = 128
    precision: str = "float32"
    memory_mb: int = 4000

    def view_spec(self, image_shape: Sequence[int]) -> ViewSpec:
        """Returns the settings of the views; raises ConfigError where images can't have them."""
        rows = self.views
        if rows is None:
            rows = [{"kind": "pad_crop", "pad_px": max(1, min(image_shape[1:]) // 8)}]
        if not isinstance(rows, ViewSpec):
            if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
                expected = "a ViewSpec, or a list of operations: [{'kind': ...}]"
                raise ConfigError(f"{_WHERE}: views", f"{rows!r}", expected=expected, fix="their number is num_views")
            content = {"seed": self.seed, "plain_first": False, "operations": [dict(row) for row in rows]}
            rows = ViewSpec.from_dict(content, f"{_WHERE}: views")
        rows.check(image_shape, f"{_WHERE}: views")
        return rows

    def dump(self, image_shape: Sequence[int], num_classes: int) -> DumpLabels:
        """Returns the settings as a dump has them; raises ConfigError where one is of no use."""
        content = {
            "num_views": self.num_views,
            "temperature": self.temperature,
            "temperatures": need_sequence(f"{_WHERE}: temperatures", self.temperatures, "numbers"),
            "pilot_labels": max(2048, _PILOT_PER_CLASS * num_classes),
            "batch_size": self.batch_size,
            "block_samples": min(4096, max(1, _BLOCK_BYTES // math.prod(image_shape))),
            "num_canaries": 64,
            "device": "auto",
            "precision": self.precision,
            "compile": False,
            "memory_budget_mb": self.memory_mb,
            "views": self.view_spec(image_shape).to_dict(),
        }
        settings: DumpLabels = validate(DumpLabels, content, _WHERE)
        settings.check(_WHERE)
        return settings

    def row(self, num_classes: int) -> EncodingRow:
        """Returns the encoding, or the budget that one is chosen for; raises ConfigError where it
        is none.
        """
        few, many = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}, {"kind": "auto", "bytes": 8.0}
        row = self.encoding if self.encoding is not None else (few if num_classes <= _FEW_CLASSES else many)
        return build_row(need_row(f"{_WHERE}: encoding", row), f"{_WHERE}: encoding")


def label_dataset(
    dataset: MapStyle,
    teacher: Callable[..., Any],
    out: str | Path,
    class_names: Sequence[str] | None = None,
    *,
    normalise: Callable[[Any], Any] | None = None,
    settings: LabelSettings | None = None,
) -> Labels:
    """Returns labels of views of a data set's images, made by the teacher in one pass and kept in
    `out/soft.zarr`.

    Killed and called again, it goes on where it stopped; finished, it returns what is there. With
    more views or images than before it makes the labels of these alone. The folder `out` with
    `.work` behind its name is for that, and may be deleted.

    Images are known by their pixels: `DistillationDataset` and `LabelledLoader` take the same data
    set, or any that has some of its images, in any order.

    Args:
        dataset: Items are images, (image, class), or maps with `image` and `label`; images as
            `sample_ids` takes them, all of one size, the same whenever they are read.
        teacher: A module, or any function from a batch of views to logits. It runs in eval mode, on
            the device of its parameters. A function is known by its name and by what it predicts.
        class_names: In the order of the teacher's outputs; None: the numbers.
        normalise: Makes of a batch of views, uint8 [views, channels, height, width], what the
            teacher takes; None: it takes them as they are.

    Raises:
        DataError: Items are no images, or not of one size.
        ModelError: The teacher fails, or gives other logits than classes.
        ConfigError: A setting is of no use.
        StoreError: In `out` are other things than such a store.
    """
    settings, place = LabelSettings() if settings is None else settings, Path(out).absolute()
    if not isinstance(settings, LabelSettings):
        raise ConfigError(f"{_WHERE}: settings", f"a {type(settings).__name__}", expected="a potstill.LabelSettings")
    memory, batch = (need_whole(f"{_WHERE}: {key}", getattr(settings, key), 1) for key in ("memory_mb", "batch_size"))
    budget = MemoryBudget.of_megabytes(memory, batch, f"{_WHERE}: memory_mb")
    model = OwnTeacher(teacher, normalise)
    images = OwnImages(dataset)
    # 1. The teacher on a few images: what can't work shows before all of them are read.
    logits = model.tried(images.some(range(min(2, len(images)))).inputs)
    given = range(logits.shape[1]) if class_names is None else class_names
    names = [str(name) for name in need_sequence(f"{_WHERE}: class_names", given, "names")]
    if len(names) != logits.shape[1]:
        found = f"gives {logits.shape[1]} logits, and there are {len(names)} class names"
        fix = f"give {logits.shape[1]} class_names, or leave them out"
        raise ModelError(model.name, found, expected="one for each", fix=fix)
    dump, row = settings.dump(images.shape, len(names)), settings.row(len(names))
    precision = inference_precision(dump.precision, "float32", model.device)
    facts = TeacherFacts(model.fingerprint(logits), model.name, {}, None, None, precision)
    _spare(place, facts, dump, names)
    # 2. The images, and the plan.
    split = read_all(images, budget)
    need_known_classes(split.hard_labels, len(names))
    plan = _plan(dump, row, split, names, facts)
    # 3. The labels.
    _label(place, plan, split, Teacher(model, model.device, dump.batch_size, precision))
    return open_labels(place / STORE)


def _plan(dump: DumpLabels, row: EncodingRow, split: Split, names: Sequence[str], facts: TeacherFacts) -> DumpPlan:
    rows = {Path(STORE).stem: row}
    data = DatasetManifest(
        source="a data set of the caller's own",
        class_names=list(names),
        image_shape=list(split.input_shape),
        mean=[],
        std=[],
        num_samples={"train": len(split)},
        fingerprints={"train": split_fingerprint(split)},
        num_repeated_in_train=0,
        num_shared_with_test=0,
    )
    views = StoreViews(dump.views, range(dump.num_views))
    return DumpPlan(dump, rows, manifests_of(dump, rows, data, facts.to_dict(), views), facts)


def _label(out: Path, plan: DumpPlan, split: Split, teacher: Teacher) -> None:
    """Makes and publishes the store, unless it is there already."""
    work = out.with_name(f"{out.name}.work")
    decides = plan.decides | {"device": teacher.device.type}
    with SharedScratch(out, decides, work, code=Path(__file__)) as scratch, claims_folder(scratch) as claimed:
        if not scratch.done:
            site = DumpSite(scratch, Claims(claimed, lambda: scratch.done), Worker(), title=_WHERE)
            work_on_dump(site, plan, split, teacher)


def _spare(out: Path, facts: TeacherFacts, dump: DumpLabels, names: Sequence[str]) -> None:
    """Raises StoreError where `out` has anything that would be lost: it is replaced as a whole, and
    only labels of the same teacher, classes and views are taken over.
    """
    others = sorted(path.name for path in out.iterdir() if path.name != STORE) if out.is_dir() else []
    if others or out.is_file():
        fix = "name a folder that holds nothing else"
        raise StoreError(out, f"holds {others[0]!r}" if others else "is a file", expected=f"{STORE} alone", fix=fix)
    if not (out / STORE).exists():
        return
    there = StoreReader(out / STORE).manifest
    differing = {
        "another teacher": (there.teacher or {}).get("fingerprint") != facts.fingerprint,
        "other classes": there.class_names != list(names),
        "other views": there.views != dump.views.to_dict(),
        f"{there.num_views} views of each image, more than {dump.num_views}": there.num_views > dump.num_views,
    }
    for what, differs in differing.items():
        if differs:
            fix = "name another folder, or delete it"
            raise StoreError(out / STORE, f"holds labels of {what}", fix=fix)
