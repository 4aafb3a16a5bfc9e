"""tune_labels: tries a ladder of encodings on the teacher's labels and names the one that fits a budget.

A command, not a stage of the DAG: it writes reports/tune_labels/ladder.{tsv,json,png} and changes no store.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from jaxtyping import Float, Int64
from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as settings_dataclass

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, STRICT, load_section
from pipeline.core.errors import ConfigError, DataError, StoreError
from pipeline.core.files import write_bytes, write_json
from pipeline.core.progress import progress, say
from pipeline.core.seeding import derive_seed, permutation
from pipeline.data.dataset import ImageDataset
from pipeline.labelling.teacher import Teacher, label_rows
from pipeline.labelling.tune import Trial, by_size, choose, ladder, measure_encoding, pareto_front
from pipeline.labels.encodings import LabelSpace
from pipeline.labels.fields import gather
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import DeviceName, choose_device
from pipeline.models.precision import Precision
from pipeline.models.saved import model_fingerprint, read_meta
from pipeline.report.label_figures import draw_ladder
from pipeline.report.tables import ladder_table
from pipeline.views.spec import ViewSpec


@settings_dataclass(frozen=True, kw_only=True, config=STRICT | {"extra": "ignore"})
class LabelSettings:
    """What decides a label's size, of the section `dump_labels`."""

    num_views: PositiveInt
    temperature: PositiveFloat
    temperatures: list[PositiveFloat]
    pilot_labels: PositiveInt
    batch_size: PositiveInt
    block_samples: PositiveInt
    device: DeviceName
    precision: Precision
    views: ViewSpec


LogProbs = Callable[[int, Int64[np.ndarray, " rows"]], Float[torch.Tensor, "rows classes"]]


@dataclass(frozen=True)
class LabelSource:
    """Where labels come from: `log_probs` gives those of a view (by its place) for some rows, in ascending order."""

    about: str
    space: LabelSpace
    num_views: int
    num_samples: int
    block_samples: int
    seed: int
    log_probs: LogProbs
    num_pilot: int | None = None  # labels that a dump learns from; None: as many as are measured
    own_kl: float = 0.0  # mean KL in nats to the teacher

    def draw(self, num_labels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities of about `num_labels` views to measure, and of others for a pilot, drawn at random without
        repeats."""
        per_view = min(-(-num_labels // self.num_views), self.num_samples // 2)
        others = min(-(-(self.num_pilot or num_labels) // self.num_views), self.num_samples - per_view)
        if per_view == 0:
            raise DataError(self.about, f"{self.num_samples} samples", expected="at least 2")
        parts: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        with progress("tune_labels", (per_view + others) * self.num_views, "label") as on_labels:
            for index in range(self.num_views):
                order = permutation(derive_seed(self.seed, "tune"), self.num_samples, index)
                rows = np.sort(order[: per_view + others])  # as they would lie in a block
                log_probs = self.log_probs(index, rows)
                measured = torch.from_numpy(np.isin(rows, order[:per_view]))
                parts[0].append(log_probs[measured])
                parts[1].append(log_probs[~measured])
                on_labels(len(rows))
        return torch.cat(parts[0]), torch.cat(parts[1])


def main(
    max_bytes: Annotated[float | None, typer.Option("--bytes", help="Bytes per label that a store may take.")] = None,
    max_kl: Annotated[
        float | None, typer.Option("--kl", help="Mean KL in nats at every declared temperature that it may have.")
    ] = None,
    labels: Annotated[int, typer.Option(min=1, help="How many labels to measure.")] = 4096,
    store: Annotated[
        str | None, typer.Option(help="A dense store to take labels from, instead of the teacher.")
    ] = None,
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    out: Annotated[Path, typer.Option(help="A folder for ladder.tsv, .json and .png.")] = Path("reports/tune_labels"),
) -> None:
    _check_budget(max_bytes, max_kl)
    source = _from_store(store) if store else _from_teacher(params, data, teacher)
    if max_kl is not None and max_kl < source.own_kl:
        found = f"is itself {source.own_kl:.1e} nats from the teacher, more than the {max_kl:g} asked for"
        raise StoreError(source.about, found, fix="take labels from the teacher, or from a dense_float16 store")
    log_probs, pilot = source.draw(labels)
    num_labels = source.num_views * source.num_samples
    trials: dict[str, Trial] = {}
    encodings = ladder(source.space)
    with progress("tune_labels", len(encodings), "encoding") as on_encodings:
        for name, encoding in encodings.items():
            trials[name] = measure_encoding(
                log_probs,
                encoding,
                source.space,
                pilot=pilot,
                num_labels=num_labels,
                block_samples=source.block_samples,
            )
            on_encodings(1)
    content = _content(source, trials, len(log_probs), len(pilot), num_labels)
    _tell(content)
    budget = {"bytes": max_bytes} if max_bytes is not None else {"kl_nats": max_kl} if max_kl is not None else None
    chosen, misfit = None, None
    try:
        chosen = choose(trials, max_bytes=max_bytes, max_kl=max_kl) if budget else None
    except StoreError as error:
        misfit = error
    _write(out, content | {"budget": budget, "chosen": chosen})
    if misfit:
        raise misfit
    if chosen:
        asked = f"{max_bytes:g} bytes per label" if max_bytes is not None else f"a mean KL of {max_kl:g} nats"
        print(f"\nFor at most {asked}: {chosen}. As a row of `encodings:` in params.yaml:\n")
        print(f"  tuned: {_as_yaml(content['rows'][chosen]['encoding'])}")


def _check_budget(max_bytes: float | None, max_kl: float | None) -> None:
    if max_bytes is not None and max_kl is not None:
        raise ConfigError("tune_labels", "both --bytes and --kl", expected="one of them")
    for name, value in {"--bytes": max_bytes, "--kl": max_kl}.items():
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(name, f"{value:g}", expected="a number above 0")


def _from_teacher(params: Path, data: Path, folder: Path) -> LabelSource:
    settings = load_section(LabelSettings, "dump_labels", params)
    device = choose_device(settings.device)
    dataset = ImageDataset(data)
    settings.views.check(dataset.manifest.image_shape, f"{params}: dump_labels.views")
    class_names = read_meta(folder, made_by="train_teacher").class_names
    if class_names != dataset.manifest.class_names:
        raise DataError(folder, "was trained for other classes", expected=str(dataset.manifest.class_names))
    split = dataset.stream("train")
    teacher = Teacher.read(folder, device, settings.batch_size, settings.precision)

    def log_probs(index: int, rows: np.ndarray) -> torch.Tensor:
        return torch.log_softmax(label_rows(teacher, split, settings.views, index, rows) / settings.temperature, dim=1)

    return LabelSource(
        f"teacher {model_fingerprint(folder)} in {folder}",
        LabelSpace(len(class_names), settings.temperature, tuple(settings.temperatures)),
        settings.num_views,
        len(split),
        settings.block_samples,
        settings.views.seed,
        log_probs,
        num_pilot=settings.pilot_labels,
    )


def _from_store(place: str) -> LabelSource:
    store = StoreReader(place)
    manifest = store.manifest
    if not manifest.encoding["kind"].startswith("dense_") or manifest.fidelity is None:
        found = f"encoding {manifest.encoding['kind']!r}"
        raise StoreError(store.location, found, expected="a dense one, which has every class of every label")

    def log_probs(index: int, rows: np.ndarray) -> torch.Tensor:
        parts = []
        for block in manifest.blocks():
            here = rows[(rows >= block.rows.start) & (rows < block.rows.stop)]
            if block.view_index == index and len(here):
                labels = gather(store.read_view(index, block.rows), here - block.rows.start)
                parts.append(store.decode(labels, manifest.temperature))
        return torch.cat(parts)

    return LabelSource(
        f"store {store.location}",
        manifest.space,
        manifest.num_views,
        manifest.num_samples,
        manifest.block_samples,
        store.views.seed,
        log_probs,
        own_kl=max(kl["mean"] for kl in manifest.fidelity["kl_nats"].values()),
    )


def _content(
    source: LabelSource, trials: dict[str, Trial], num_measured: int, num_pilot: int, num_labels: int
) -> dict[str, Any]:
    """Everything that was measured, as plain JSON; the smallest encoding first."""
    front = pareto_front(trials)
    rows = {
        name: {
            "encoding": trial.encoding.to_dict(),
            "label_bytes": trial.label_bytes,
            "field_bytes": trial.field_bytes,
            "table_bytes": trial.table_bytes,
            "kl_nats": trial.fidelity["kl_nats"],
            "worst_kl_nats": trial.worst_kl,
            "top1_agreement": trial.fidelity["top1_agreement"],
            "on_front": name in front,
        }
        for name, trial in by_size(trials).items()
    }
    return {
        "labels_of": source.about,
        "num_measured": num_measured,
        "num_pilot": num_pilot,
        "num_labels": num_labels,
        "num_views": source.num_views,
        "num_classes": source.space.num_classes,
        "temperature": source.space.temperature,
        "temperatures": list(source.space.temperatures),
        "own_kl_nats": source.own_kl,
        "rows": rows,
    }


def _tell(content: dict[str, Any]) -> None:
    print(
        f"Labels of {content['num_classes']:,} classes by {content['labels_of']}: {content['num_measured']:,} random ones "
        f"measured, tables learned from {content['num_pilot']:,} others.\n"
    )
    print(ladder_table(content["rows"], content["temperatures"], "simple"))
    print(
        f"\n* = no other is both as small and as close to the teacher. KL(teacher, label) in nats; p99.9 rests on the "
        f"{max(1, content['num_measured'] // 1000)} worst labels.\nBytes with the tables' share in a store of "
        f"{content['num_labels']:,} labels; ids of samples take {8 / content['num_views']:.2g} more per label in any store."
    )
    if content["own_kl_nats"]:
        print(f"Against the labels of that store, whose own mean KL is up to {content['own_kl_nats']:.1e}.")


def _write(out: Path, content: dict[str, Any]) -> None:
    """Table, figures and drawing; the same measurements give the same bytes."""
    temperatures = [f"{t:g}" for t in content["temperatures"]]
    columns = ["encoding", "label_bytes", "table_bytes", "top1_agreement", "on_front"]
    lines = ["\t".join([*columns, *(f"{kind}_kl_at_{t}" for kind in ("mean", "p999") for t in temperatures)])]
    for name, row in content["rows"].items():
        cells = [name, f"{row['label_bytes']:.6g}", str(row["table_bytes"]), f"{row['top1_agreement']:.6g}"]
        cells.append(str(int(row["on_front"])))
        for kind in ("mean", "p999"):
            cells += [f"{row['kl_nats'][t][kind]:.6g}" if t in row["kl_nats"] else "" for t in temperatures]
        lines.append("\t".join(cells))
    write_bytes(out / "ladder.tsv", ("\n".join(lines) + "\n").encode())
    write_json(out / "ladder.json", content)
    draw_ladder(content["rows"], content["chosen"], content["num_measured"], out / "ladder.png")
    say(f"tune_labels: {out / 'ladder'}.tsv, .json, .png")


def _as_yaml(row: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in row.items()) + "}"


if __name__ == "__main__":
    run_stage(main)
