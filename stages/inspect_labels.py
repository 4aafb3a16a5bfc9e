"""inspect_labels: what a store is, how large and how good, for a person or as JSON; or one sample of it, with a figure.

A command, not a stage of the DAG. A store at a URL is described by its manifest: its files are not fetched.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tabulate import tabulate

from pipeline.core.command import run_stage
from pipeline.core.errors import ConfigError, PipelineError, StoreError
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.data.sample_ids import find_samples
from pipeline.data.splits import UNLABELLED
from pipeline.labels.canaries import check_canaries
from pipeline.labels.reader import StoreReader
from pipeline.labels.remote import is_url
from pipeline.views.plan import plan_view

_FEW = 5  # names that a line has room for


def main(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
    sample: Annotated[
        str | None, typer.Option(help="Show one sample: its id (16 hex digits), or row:<number> of the store.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the sample's labels; by default the stored one.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes of the sample to show.")] = 5,
    figure: Annotated[Path | None, typer.Option(help="By default reports/inspect/<id>.png.")] = None,
    data: Path = Path("data/prepare"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    reader = StoreReader(store)
    if sample is None:
        facts = describe(reader)
        print(json.dumps(facts, indent=2) if as_json else _text(facts))
        return
    shown = Sample.read(reader, sample, reader.manifest.temperature if temperature is None else temperature, data)
    print(json.dumps(shown.facts(), indent=2) if as_json else shown.text(top))
    if shown.images is None:
        say(f"inspect_labels: no figure: this image is not in {data}")
        return
    path = figure or Path("reports/inspect") / f"{shown.sample_id:016x}.png"
    shown.draw(top, path)
    say(f"inspect_labels: {path}")


def describe(store: StoreReader) -> dict[str, Any]:
    """Everything that a store says of itself, and what of it lies on this disk; plain JSON."""
    manifest = store.manifest
    here = None if is_url(store.location) else _on_disk(store)
    total = round((manifest.label_bytes or 0) * manifest.num_labels)
    if here:
        total = sum(array["bytes"] for array in here["arrays"].values())
    return {
        "store": store.location,
        "format": manifest.format,
        "version": manifest.version,
        "fingerprint": manifest.fingerprint,
        "encoding": manifest.encoding,
        "teacher": manifest.teacher,
        "num_classes": manifest.num_classes,
        "class_names": manifest.class_names,
        "temperature": manifest.temperature,
        "temperatures": manifest.temperatures,
        "served_temperatures": store.codec_temperatures if _fields(store) else [],
        "serves_undeclared": bool(_fields(store)) and store.codec.serves(max(manifest.temperatures) + 1),
        "views": manifest.views,
        "view_numbers": manifest.view_numbers,
        "num_views": manifest.num_views,
        "num_samples": manifest.num_samples,
        "num_labels": manifest.num_labels if _fields(store) else 0,
        "dataset_fingerprint": manifest.dataset_fingerprint,
        "block_samples": manifest.block_samples,
        "num_blocks": len(manifest.blocks()),
        "fields": _fields(store),
        "missing_blocks": here and here["missing_blocks"],
        "num_files": here and sum(array["files"] for array in here["arrays"].values()),
        "total_bytes": total,
        "bytes_per_label": total / manifest.num_labels,
        "table_bytes": manifest.table_bytes,
        "arrays": here and here["arrays"],
        "fidelity": manifest.fidelity,
    }


def _fields(store: StoreReader) -> list[str]:
    return list(store.encoding.fields(store.manifest.space))


def _on_disk(store: StoreReader) -> dict[str, Any]:
    """Files and bytes by array, what describes it included, and the blocks that lack a field's file."""
    arrays: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in store.path.rglob("*") if path.is_file()):
        parts = path.relative_to(store.path).parts
        name = parts[0] if len(parts) > 1 else "manifest"
        array = arrays.setdefault(name, {"holds": _kind(name, store), "files": 0, "bytes": 0})
        array["files"] += 1
        array["bytes"] += path.stat().st_size
    for array in arrays.values():
        array["bytes_per_label"] = array["bytes"] / store.manifest.num_labels
    missing = []
    for name, field in store.encoding.fields(store.manifest.space).items():
        for block in store.manifest.blocks():
            number = block.rows.start // store.manifest.block_samples
            place = [block.view_index, number, *(0 for _ in field.shape)]
            if not store.path.joinpath(name, "c", *map(str, place)).exists():
                missing.append(f"{name}: {block.name}")
    return {"arrays": arrays, "missing_blocks": missing}


def _kind(name: str, store: StoreReader) -> str:
    if name in _fields(store):
        return "labels"
    if name in store.tables:
        return "table"
    known = {"manifest": "about the store", "sample_id": "ids of samples", "block_digest": "digests of blocks"}
    if name.startswith("canary_"):
        return "checks of views"
    return "fidelity by block" if name.startswith("fidelity_") else known.get(name, "not part of the format")


def _text(facts: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    names = facts["class_names"]
    more = ", ..." if len(names) > _FEW else ""
    blocks, count = facts["num_blocks"], len(facts["fields"])
    if facts["missing_blocks"] is None:
        there = "at a URL, not fetched"
    elif facts["missing_blocks"]:
        there = f"{len(facts['missing_blocks'])} missing, the first: {facts['missing_blocks'][0]}"
    else:
        there = f"all {blocks * count:,} there, {facts['num_files']:,} files in all"
    labels = f"{facts['num_labels']:,} soft labels" if count else "no soft labels, views only"
    own = ", ".join(f"{key} {value}" for key, value in facts["encoding"].items() if key != "kind")
    lines = {
        "labels": f"{labels}: {facts['num_views']} views of {facts['num_samples']:,} samples",
        "teacher": _teacher(facts["teacher"]),
        "classes": f"{len(names):,}: {', '.join(names[:_FEW])}{more}",
        "encoding": facts["encoding"]["kind"] + (f": {own}" if own else ""),
        "temperatures": _temperatures(facts) if count else "",
        "views": f"{_numbers(facts['view_numbers'])}: {_views(facts['views'])}",
        "blocks": f"{blocks:,} of up to {facts['block_samples']:,} samples x {count} fields: {there}" if count else "",
        "size": f"{facts['total_bytes']:,} bytes, {facts['bytes_per_label']:.3f} per label with everything in it"
        + (" but what describes the arrays" if facts["arrays"] is None else ""),
        "fingerprint": facts["fingerprint"],
    }
    parts = ["\n".join([facts["store"], *(f"  {name:<14}{line}" for name, line in lines.items() if line)])]
    if facts["arrays"] is not None:
        order = sorted(facts["arrays"].items(), key=lambda item: -item[1]["bytes"])
        body = [
            [name, a["holds"], f"{a['files']:,}", f"{a['bytes']:,}", f"{a['bytes_per_label']:.3f}"] for name, a in order
        ]
        parts.append(_table(body, ["array", "holds", "files", "bytes", "bytes per label"], left=2))
    if facts["fidelity"]:
        fidelity = facts["fidelity"]
        body = [[t, *(f"{kl[kind]:.1e}" for kind in ("mean", "p999", "max"))] for t, kl in fidelity["kl_nats"].items()]
        title = (
            f"KL(teacher, label) in nats of {fidelity['num_labels']:,} labels when they were written; "
            f"same top-1 class: {fidelity['top1_agreement']:.3%}"
        )
        parts.append(f"{title}\n\n{_table(body, ['temperature', 'mean', 'p99.9', 'largest'])}")
    return "\n\n".join(parts)


def _teacher(teacher: Mapping[str, Any] | None) -> str:
    if teacher is None:
        return "none"
    if "mean_of" in teacher:
        return "mean of " + " and ".join(f"{p['weight']:.3g} x ({_teacher(p['teacher'])})" for p in teacher["mean_of"])
    accuracy = f", validation accuracy {teacher['val_accuracy']:.2%}" if "val_accuracy" in teacher else ""
    return f"{teacher.get('model', 'a network')}{accuracy}, fingerprint {teacher.get('fingerprint')}"


def _temperatures(facts: Mapping[str, Any]) -> str:
    declared, served = ([f"{t:g}" for t in facts[key]] for key in ("temperatures", "served_temperatures"))
    others = "any" if facts["serves_undeclared"] else f"{', '.join(served)} only"
    return f"stored at {facts['temperature']:g}; declared: {', '.join(declared)}; served: {others}"


def _views(views: Mapping[str, Any]) -> str:
    """The seed, and the operations with their settings."""
    rows = [", ".join(f"{k} {v}" for k, v in row.items() if k != "kind") for row in views["operations"]]
    operations = [f"{row['kind']} ({own})" for row, own in zip(views["operations"], rows, strict=True)]
    plain = ["view 0 plain"] if views["plain_first"] else []
    return ", ".join([f"seed {views['seed']}", *plain, *operations])


def _numbers(numbers: list[int]) -> str:
    if len(numbers) > _FEW and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _table(body: list[list[str]], header: list[str], left: int = 1) -> str:
    align = ["left"] * left + ["right"] * (len(header) - left)
    return str(tabulate(body, header, tablefmt="simple", disable_numparse=True, colalign=align))


@dataclass(frozen=True)
class Sample:
    """One sample of a store: the teacher's probabilities of every view and, where the data has it, what it saw."""

    store: str
    sample_id: int
    row: int
    temperature: float
    class_names: list[str]
    view_numbers: list[int]
    probabilities: np.ndarray  # [views, classes]
    hard_label: int | None
    images: torch.Tensor | None  # [views, channels, height, width]

    @classmethod
    def read(cls, store: StoreReader, asked: str, temperature: float, data: Path) -> "Sample":
        """Raises PipelineError where there is no such sample, label, temperature or data."""
        if not _fields(store):
            raise StoreError(store.location, "holds no soft labels", expected="a store of any other encoding")
        if not 0 < temperature < float("inf"):
            raise ConfigError("--temperature", f"{temperature:g}", expected="a number above 0")
        store.codec.require(temperature)
        row = _find(store, asked)
        sample_ids = store.sample_ids[row : row + 1]
        manifest = store.manifest
        labels = [store.read_view(index, range(row, row + 1)) for index in range(manifest.num_views)]
        log_probs = torch.cat([store.decode(label, temperature) for label in labels])
        split = ImageDataset(data).stream("train")
        place = int(find_samples(sample_ids, split.sample_ids)[0])
        images = None
        if place >= 0:
            check_canaries(store.canaries, split, store.views, store.location, store.row_order)
            one = np.array([place])
            plans = [
                plan_view(split, store.views, view, rows=one, row_order=store.row_order)
                for view in manifest.view_numbers
            ]
            images = torch.cat([plan.render(slice(None)) for plan in plans])
        return cls(
            store.location,
            int(sample_ids[0]),
            row,
            temperature,
            manifest.class_names,
            manifest.view_numbers,
            log_probs.exp().numpy(),
            int(split.hard_labels[place]) if place >= 0 and split.hard_labels[place] != UNLABELLED else None,
            images,
        )

    def facts(self) -> dict[str, Any]:
        """As plain JSON."""
        content = asdict(self) | {
            "sample_id": f"{self.sample_id:016x}",
            "probabilities": [[float(p) for p in row] for row in self.probabilities],
            "hard_label_name": None if self.hard_label is None else self.class_names[self.hard_label],
        }
        content.pop("images")
        return content

    @property
    def title(self) -> str:
        absent = "its hard label is not known here" if self.images is None else "it is unlabelled"
        hard = absent if self.hard_label is None else self.class_names[self.hard_label]
        return f"sample {self.sample_id:016x} (row {self.row}), hard label: {hard}"

    def text(self, top: int) -> str:
        """A table of views by the classes that are most likely on average."""
        chosen = np.argsort(-self.probabilities.mean(axis=0), kind="stable")[:top]
        names = [self.class_names[n] + (" *" if n == self.hard_label else "") for n in chosen]
        body = [
            [str(view), *(f"{row[n]:.2%}" for n in chosen), f"{max(0.0, 1 - row[chosen].sum()):.2%}"]
            for view, row in zip(self.view_numbers, self.probabilities, strict=True)
        ]
        header = ["view", *names, "all others"]
        note = "\n\n* = its hard label" if self.hard_label in chosen else ""
        return f"{self.title}; temperature {self.temperature:g}\n\n{_table(body, header)}{note}"

    def draw(self, top: int, path: Path) -> None:
        """The views beside the teacher's most likely classes."""
        try:
            from pipeline.report.label_figures import draw_sample  # with matplotlib, which a table can do without
        except ImportError as error:
            fix = "run `pip install -c constraints.txt '.[pipeline]'`"
            raise PipelineError(path, f"can't be drawn without the package {error.name}", fix=fix) from None
        assert self.images is not None, "there is something to draw"
        title = f"{self.title}\nthe teacher at temperature {self.temperature:g}, by {Path(self.store).name} (blue: the hard label)"
        views = [f"view {number}" for number in self.view_numbers]
        draw_sample(self.images.numpy(), self.probabilities, views, self.class_names, self.hard_label, top, title, path)


def _find(store: StoreReader, asked: str) -> int:
    """The row that is asked for."""
    count = store.manifest.num_samples
    if match := re.fullmatch(r"row:(\d+)", asked):
        if int(match[1]) >= count:
            raise StoreError(store.location, f"has no row {match[1]}", expected=f"row:0 to row:{count - 1}")
        return int(match[1])
    if not re.fullmatch(r"[0-9a-fA-F]{16}", asked):
        raise ConfigError("--sample", repr(asked), expected="an id of 16 hex digits, or row:<number>")
    row = int(find_samples(np.array([int(asked, 16)], dtype=np.uint64), store.sample_ids)[0])
    if row < 0:
        raise StoreError(store.location, f"has no sample {asked}", expected=f"one of its {count:,}, or row:<number>")
    return row


if __name__ == "__main__":
    run_stage(main)
