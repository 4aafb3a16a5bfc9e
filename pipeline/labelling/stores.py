"""The stores that one dump or import writes: their manifests, and the facts that these state about
the teacher.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from pipeline.core.config import load_row, load_rows
from pipeline.core.errors import ConfigError, DataError, listed
from pipeline.core.progress import say
from pipeline.data.content_files import detail_of
from pipeline.data.dataset import ImageDataset
from pipeline.data.manifest import DatasetManifest
from pipeline.labelling.at_once import samples_of_block
from pipeline.labelling.settings import DumpLabels, StoreSettings
from pipeline.labels.encodings import Budget, Encoding, EncodingRow, LabelSpace, budgets_of, encodings_of
from pipeline.labels.manifest import MOST_BLOCKS, MOST_DIMENSIONS, Block, Manifest
from pipeline.models.saved import model_fingerprint, read_meta
from pipeline.signals import signal_named
from pipeline.views.spec import ViewSpec


@dataclass(frozen=True)
class TeacherFacts:
    """The facts about a teacher that each of its stores states; the order of the fields is that of
    the JSON.

    Attributes:
        headline: The figure by which networks are compared, by its name, where that is not the
            accuracy.
    """

    fingerprint: str
    model: str
    model_settings: dict[str, Any]
    val_accuracy: float | None
    calibration_temperature: float | None
    precision: str
    headline: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the facts as a manifest has them."""
        facts = {key: value for key, value in asdict(self).items() if key != "headline"}
        return facts | {f"val_{name}": value for name, value in self.headline.items()}

    @classmethod
    def read(cls, teacher: Path, precision: str) -> "TeacherFacts":
        """Returns the facts about the teacher in a folder, which computes its labels in
        `precision`.
        """
        meta = read_meta(teacher, made_by="train_teacher")
        name = signal_named(meta.signal).headline
        return cls(
            fingerprint=model_fingerprint(teacher),
            model=meta.model,
            model_settings=meta.model_settings,
            val_accuracy=meta.val["accuracy"],
            calibration_temperature=meta.val["calibration_temperature"],
            precision=precision,
            headline={name: meta.val[name]} if name != "accuracy" and name in meta.val else {},
        )


@dataclass(frozen=True)
class StorePlan:
    """The stores that are to be written.

    Attributes:
        rows: Of the table `encodings`, by store.
        manifests: By store, without the figures that are measured while it is written; in place of
            the encoding that a budget becomes, the budget.
    """

    settings: StoreSettings
    rows: Mapping[str, EncodingRow]
    manifests: Mapping[str, Manifest]

    @property
    def budgets(self) -> dict[str, Budget]:
        """The rows whose encoding is still to be chosen."""
        return budgets_of(self.rows)

    @property
    def encodings(self) -> dict[str, Encoding]:
        """The rows that are encodings: all of them, once the plan is settled."""
        return encodings_of(self.rows)

    def settled(self, encodings: Mapping[str, Encoding]) -> Self:
        """Returns the plan with encodings in place of budgets."""
        manifests = {name: replace(self.manifests[name], encoding=e.to_dict()) for name, e in encodings.items()}
        return replace(self, rows={**self.rows, **encodings}, manifests={**self.manifests, **manifests})


@dataclass(frozen=True)
class DumpPlan(StorePlan):
    """The stores that one pass of the teacher writes."""

    settings: DumpLabels
    teacher: TeacherFacts

    @property
    def blocks(self) -> list[Block]:
        """The blocks, view by view: the same in all stores."""
        return next(iter(self.manifests.values())).blocks()

    @property
    def decides(self) -> dict[str, Any]:
        """The inputs that decide the stores, for the scratch folder; memory only decides how they
        are made.
        """
        settings = {key: value for key, value in asdict(self.settings).items() if key != "memory_budget_mb"}
        return {
            "settings": settings,
            "encodings": {name: row.to_dict() for name, row in self.rows.items()},
            "teacher": self.teacher.to_dict(),
            "data": next(iter(self.manifests.values())).dataset_fingerprint,
        }


def plan_dump(
    settings: DumpLabels,
    rows: Mapping[str, EncodingRow],
    dataset: ImageDataset,
    teacher: Path,
    precision: str,
    dimensions: int | None = None,
) -> DumpPlan:
    """Returns the stores to write; raises DataError where the teacher was trained for other
    classes.

    Args:
        dimensions: Those of the teacher's embedding; only stores of embeddings need it.
    """
    facts = TeacherFacts.read(teacher, precision)
    class_names = read_meta(teacher, made_by="train_teacher").class_names
    if class_names != dataset.manifest.class_names:
        raise DataError(teacher, "was trained for other classes", expected=listed(dataset.manifest.class_names))
    views = StoreViews(settings.views, range(settings.num_views))
    manifests = manifests_of(settings, rows, dataset.manifest, facts.to_dict(), views, dimensions)
    return DumpPlan(settings, rows, manifests, facts)


@dataclass(frozen=True)
class StoreViews:
    """The views that a store holds: how they are drawn, and their numbers."""

    spec: ViewSpec
    numbers: Iterable[int]


def manifests_of(
    settings: StoreSettings,
    rows: Mapping[str, EncodingRow],
    data: DatasetManifest,
    teacher: dict[str, Any],
    views: StoreViews,
    dimensions: int | None = None,
) -> dict[str, Manifest]:
    """Returns the manifest of each store, without the figures that are measured while it is
    written.

    A store without labels states nothing of the teacher, and stays the same when the teacher
    changes.

    Raises ConfigError where a store is of embeddings and the teacher has none."""
    num_samples, space = data.num_samples["train"], settings.space_of(data)
    manifests = {}
    for name, row in rows.items():
        manifest = Manifest(
            encoding=row.to_dict(),
            class_names=data.class_names,
            view_numbers=list(views.numbers),
            num_samples=num_samples,
            block_samples=min(samples_of_block(space, settings.block_samples), num_samples),
            temperature=settings.temperature,
            temperatures=settings.temperatures,
            views=views.spec.to_dict(),
            dataset_fingerprint=data.fingerprints["train"],
            teacher=teacher,
            signal=data.signal,
            positions=data.positions,
            input=samples_of(data),
        )
        if isinstance(row, Encoding) and row.is_of_embeddings:
            manifest = _of_embeddings(manifest, dimensions, f"encodings.{name}")
        if manifest.num_blocks > MOST_BLOCKS:
            found, most = (
                f"{manifest.block_samples}, so that there are {manifest.num_blocks:,} blocks",
                f"{MOST_BLOCKS:,}",
            )
            raise ConfigError("dump_labels.block_samples", found, expected=f"at most {most} blocks", fix="raise it")
        holds_labels = isinstance(row, Budget) or bool(row.fields(manifest.space))
        manifests[name] = manifest if holds_labels else replace(manifest, teacher=None)
    return manifests


def samples_of(data: DatasetManifest) -> dict[str, Any] | None:
    """Returns what a store states about samples that are no images."""
    return None if data.input is None else {"kind": data.kind.name, "detail": detail_of(data.input)}


def _of_embeddings(manifest: Manifest, dimensions: int | None, where: str) -> Manifest:
    """Returns the manifest of a store of embeddings: they have no classes and no temperature."""
    if dimensions is None:
        found, fix = "a store of embeddings, and this teacher gives logits alone", "leave the row out"
        raise ConfigError(where, found, expected="an encoding of labels of classes", fix=fix)
    own: dict[str, Any] = {"signal": "vector", "num_dimensions": dimensions, "class_names": [], "positions": None}
    return replace(manifest, temperature=1.0, temperatures=[1.0], **own)


def unfit_encodings(
    rows: Mapping[str, EncodingRow], space: LabelSpace, where: str, dimensions: int = MOST_DIMENSIONS
) -> dict[str, ConfigError]:
    """Returns why some encodings do not fit the labels, by name; what a budget becomes fits, unless
    labels are of a grid.

    Args:
        dimensions: Those of the teacher's embedding, by default as many as there may be.
    """
    faults = {}
    for name, row in rows.items():
        try:
            _check_row(row, space, f"{where}.{name}", dimensions)
        except ConfigError as fault:
            faults[name] = fault
    return faults


def _check_row(row: EncodingRow, space: LabelSpace, where: str, dimensions: int) -> None:
    """Raises ConfigError where a row does not fit the labels."""
    if space.positions is not None and (isinstance(row, Budget) or row.is_of_embeddings):
        what = "embeddings" if isinstance(row, Encoding) else "a row that the dump chooses"
        expected = "one with `positions`, such as dense_uint8 or topk, or none"
        raise ConfigError(f"{where}.kind", f"{row.kind!r}, {what}, beside labels at positions", expected=expected)
    if isinstance(row, Encoding):
        row.check(space.of_embeddings(dimensions) if row.is_of_embeddings else space, where)


def fitting_encodings(
    rows: Mapping[str, EncodingRow], space: LabelSpace, params: Path, dimensions: int | None = None
) -> dict[str, EncodingRow]:
    """Returns the rows that fit the labels, and reports the others, which no student names.

    Raises ConfigError where a student names one that does not fit, where one is for embeddings and
    does not fit, or where none fits.
    """
    unfit = unfit_encodings(rows, space, f"{params}: encodings", dimensions or MOST_DIMENSIONS)
    # The students' rows decide no byte of a store, so a change of them makes no store again.
    named = (
        {load_row(dict, "students", name, params).get("labels") for name in load_rows("students", params)}
        if unfit
        else set()
    )
    for name, fault in unfit.items():
        row = rows[name]
        if name in named or len(unfit) == len(rows) or (isinstance(row, Encoding) and row.is_of_embeddings):
            raise fault
        say(passed_over(fault))
    return {name: row for name, row in rows.items() if name not in unfit}


def passed_over(fault: ConfigError) -> str:
    """Returns the line about a row that does not fit and that no student names."""
    return f"{fault}; no student names this row, so it is passed over"
