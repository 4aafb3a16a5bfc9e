"""explain: labels that are probably wrong, samples on which students disagree with the teacher, and what each network looks at
-> data/explain (samples.json and sheets of tiles), reports/suspects.tsv, reports/explain.json."""

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows, load_section
from pipeline.core.errors import DataError, StoreError
from pipeline.core.files import read_tensors, write_bytes, write_json
from pipeline.core.progress import progress, say
from pipeline.data.dataset import ImageDataset
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.explanation.attribution import attribute, map_agreement
from pipeline.explanation.samples import COLUMNS, Samples, TileSheet, choose, draw_map, rank_classes
from pipeline.explanation.settings import Explain
from pipeline.explanation.suspects import Suspicions, choose_store, judge, stored_opinions
from pipeline.labels.canaries import check_canaries
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_meta, read_model
from pipeline.results.networks import TEACHER, stage_of
from pipeline.signals.losses import kl_divergence_with_log_targets

_MOST_PAIRS = 10


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    students: Path = Path("data/train_student"),
    labels: Path = Path("data/dump_labels"),
    evaluated: Path = Path("data/evaluate"),
    out: Path = Path("data/explain"),
    reports: Path = Path("reports"),
) -> None:
    settings = load_section(Explain, "explain", params)
    folders = {name: students / name for name in load_rows("students", params)}
    distilled = _distilled(folders)
    predictions = read_tensors(evaluated / "predictions.safetensors", made_by="evaluate")
    dataset = ImageDataset(data)
    train, test = dataset.stream("train"), dataset.stream("test")
    disagreed = []
    if f"{TEACHER}.predicted" in predictions:  # else it runs elsewhere
        folders = {TEACHER: teacher, **folders}
        disagreed = _most_disagreed(predictions, distilled, len(test), settings.num_disagreed, evaluated)
    found = Found.of(labels, train, dataset.manifest.class_names)
    suspects = found.suspects.places[: settings.num_suspects].tolist()
    chosen = choose(suspects, disagreed, settings.num_attributed, len(test))
    samples, tiles = Samples.read(chosen, train, test), TileSheet(*dataset.manifest.image_shape[1:])
    rows = samples.describe(tiles)
    for row, suspicion in zip(rows, found.suspects.suspicion[: len(suspects)].tolist(), strict=False):
        row["suspicion"] = round(suspicion, 6)
    if found.store:
        samples.add_views(rows, tiles, train, found.store, settings.num_views)
    asked = Asked.of(folders, samples, settings, dataset.manifest.mean)
    maps = _add_answers(rows, samples, asked, distilled)
    write_bytes(out / "tiles.png", tiles.png())
    (out / "maps.png").unlink(missing_ok=True)
    if maps:
        write_bytes(out / "maps.png", maps.png())
    about = {
        "class_names": dataset.manifest.class_names,
        "networks": list(folders),
        "tile_px": list(tiles.tile_px),
        "columns": COLUMNS,
        "tiles_sheet": "tiles.png",
        "maps_sheet": "maps.png" if maps else None,
        "map_px": list(tiles.tile_px),
        "store": found.store.path.name if found.store else None,
    }
    write_json(out / "samples.json", {**about, "samples": rows})
    _write_suspects(reports / "suspects.tsv", found.suspects, train, data, dataset.manifest.class_names)
    write_json(reports / "explain.json", {**found.figures(dataset.manifest.class_names), **asked.figures()})
    say(f"explain: {found.told}; {len(rows)} samples shown, {len(asked.rows)} of them with maps")


@dataclass(frozen=True)
class Found:
    """The training samples that are probably mislabelled, worst first, and by which store; `why_none` says why no sample was
    checked."""

    store: StoreReader | None
    suspects: Suspicions
    num_checked: int
    why_none: str | None

    @classmethod
    def of(cls, labels: Path, train: SplitOnDisk, class_names: list[str]) -> "Found":
        """Raises StoreError where the store is not for this data."""
        store = choose_store(labels)
        if store is None:
            return cls(None, Suspicions.none(), 0, f"{labels} has no store with soft labels at temperature 1")
        if store.manifest.class_names != class_names:
            fix = "run `dvc repro dump_labels` for this data"
            raise StoreError(store.location, "its classes are not those of data/prepare", fix=fix)
        check_canaries(store.canaries, train, store.views, store.location, store.row_order)
        everything, count = judge(stored_opinions(store, train), train.hard_labels.numpy(), len(class_names))
        why = None
        if not len(everything):
            mixed = (
                "all its views are mixed of two images"
                if store.views.mixes
                else "it has no labelled image of this data"
            )
            why = f"{store.location}: {mixed}"
        return cls(store, everything.worst(count), len(everything), why)

    @property
    def told(self) -> str:
        if self.why_none:
            return f"no labels were checked: {self.why_none}"
        return f"{len(self.suspects):,} of {self.num_checked:,} hard labels are probably wrong"

    def figures(self, names: list[str]) -> dict[str, Any]:
        """For the report; `pairs` are the commonest ones of a hard label and what the teacher says."""
        pairs = Counter(zip(self.suspects.hard_labels.tolist(), self.suspects.teacher_says.tolist(), strict=True))
        listed = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_PAIRS]
        return {
            "num_suspects": len(self.suspects),
            "num_checked": self.num_checked,
            "why_none": self.why_none,
            "pairs": [{"hard_label": names[a], "teacher_says": names[b], "count": n} for (a, b), n in listed],
        }


@dataclass(frozen=True)
class Asked:
    """What networks say of the chosen samples, and of the attributed ones (`rows` of them) where they look."""

    logits: dict[str, Float[torch.Tensor, "chosen classes"]]
    rows: Int64[np.ndarray, " attributed"]
    maps: dict[str, Float[np.ndarray, "attributed height width"]]
    method: str

    @classmethod
    def of(cls, folders: dict[str, Path], samples: Samples, settings: Explain, mean: list[float]) -> "Asked":
        """All of them are asked for the class that the first one says, so that their maps can be compared; that is the teacher
        where there is a network of it."""
        device, rows = choose_device(settings.device), samples.attributed
        height, width = samples.images.shape[2:]
        window, strides = settings.window(height, width), settings.strides(height, width)
        colour = (torch.tensor(mean) * 255).round().to(torch.uint8)
        logits, maps, first = {}, {}, next(iter(folders))
        with progress("explain", len(folders) * len(rows), "map") as on_maps:
            for name, folder in folders.items():
                model = read_model(folder, made_by=stage_of(name)).to(device)
                logits[name] = predict_logits(model, samples.images.split(settings.batch_size), device)
                maps[name] = attribute(
                    model,
                    samples.images[rows],
                    logits[first].argmax(dim=1)[rows],
                    device,
                    window=window,
                    strides=strides,
                    colour=colour.expand(samples.images.shape[1]),
                    batch_size=settings.batch_size,
                )
                on_maps(len(rows))
        patch, steps = (f"{high} x {wide}" for high, wide in (window, strides))
        method = f"occlusion by a patch of {patch} pixels in steps of {steps}: what the class that {first} says loses"
        return cls(logits, rows, maps, method)

    def agreements(self, shift: int = 0) -> dict[str, Float[np.ndarray, " attributed"]]:
        """Of each student's map with the teacher's, or with the teacher's of another sample, so many places on."""
        if TEACHER not in self.maps:
            return {}
        others = {name: each for name, each in self.maps.items() if name != TEACHER}
        return {name: map_agreement(each, np.roll(self.maps[TEACHER], shift, axis=0)) for name, each in others.items()}

    def figures(self) -> dict[str, Any]:
        """For the report: mean agreement of maps, and what it is by chance, with the teacher's map of another sample."""
        if not len(self.rows):
            return {"method": None, "num_maps": 0, "map_agreement": {}, "map_agreement_by_chance": {}}
        own, others = (
            {name: round(float(values.mean()), 4) for name, values in self.agreements(shift).items()}
            for shift in (0, 1)
        )
        if len(self.rows) == 1:  # whose map has no other to be compared with
            others = {}
        return {
            "method": self.method,
            "num_maps": len(self.rows),
            "map_agreement": own,
            "map_agreement_by_chance": others,
        }


def _distilled(folders: dict[str, Path]) -> list[str]:
    """The students without hard-label twins, which nobody told what the teacher says."""
    twins = {n for n, folder in folders.items() if read_meta(folder, made_by=stage_of(n)).settings.get("twin_of")}
    return [name for name in folders if name not in twins] or list(folders)


def _most_disagreed(
    predictions: dict[str, torch.Tensor], names: list[str], num_test: int, count: int, where: Path
) -> list[int]:
    """Rows of the test split by the mean KL(teacher || student), the largest first."""
    found = [predictions.get(f"{name}.kl_to_teacher") for name in names]
    known = [each for each in found if each is not None and len(each) == num_test]
    if len(known) < len(names):
        expected = f"kl_to_teacher of {', '.join(names)} on {num_test} test images"
        raise DataError(where, "not of these students and this data", expected=expected, fix="run `dvc repro evaluate`")
    mean = torch.stack(known).double().mean(dim=0)
    rows: list[int] = mean.argsort(descending=True, stable=True)[:count].tolist()
    return rows


def _add_answers(rows: list[dict[str, Any]], samples: Samples, asked: Asked, distilled: list[str]) -> TileSheet | None:
    """What each network says, how far students are from the teacher, and maps; gives these, where there are any."""
    says = {name: rank_classes(logits.double().softmax(dim=1)) for name, logits in asked.logits.items()}
    for number, row in enumerate(rows):
        row["says"] = {name: ranked[number] for name, ranked in says.items()}
    if TEACHER in asked.logits:
        log_targets = asked.logits[TEACHER].double().log_softmax(dim=1)
        kl = [kl_divergence_with_log_targets(log_targets, asked.logits[name].double()) for name in distilled]
        for row, nats in zip(rows, torch.stack(kl).mean(dim=0).clamp(min=0).tolist(), strict=True):
            row["disagreement"] = round(nats, 6)
    if not len(asked.rows):
        return None
    sheet, agreements = TileSheet(*samples.images.shape[2:]), asked.agreements()
    for number, place in enumerate(asked.rows):
        image = samples.images[place].numpy()
        rows[place]["maps"] = {name: sheet.add(draw_map(image, maps[number])) for name, maps in asked.maps.items()}
        rows[place]["map_agreement"] = {name: round(float(a[number]), 4) for name, a in agreements.items()}
    return sheet


def _write_suspects(path: Path, suspects: Suspicions, train: SplitOnDisk, data: Path, names: list[str]) -> None:
    """The whole list, worst first; the last column is what the source calls the image."""
    keys = _keys(data / "samples.tsv", suspects.places)
    lines = ["sample_id\tindex\thard_label\tteacher_says\thard_prob\tteacher_prob\tsuspicion\tkey"]
    columns = (suspects.hard_labels, suspects.teacher_says, suspects.hard_probs, suspects.teacher_probs)
    for place, label, says, own, other, suspicion in zip(suspects.places, *columns, suspects.suspicion, strict=True):
        sample_id = f"{int(train.sample_ids[place]):016x}"
        figures = f"{own:.6f}\t{other:.6f}\t{suspicion:.6f}"
        lines.append(f"{sample_id}\t{place}\t{names[label]}\t{names[says]}\t{figures}\t{keys[int(place)]}")
    write_bytes(path, ("\n".join(lines) + "\n").encode(errors="surrogateescape"))  # as keys may be


def _keys(path: Path, places: Int64[np.ndarray, " some"]) -> dict[int, str]:
    """Of some training samples; the list begins with them, in their order."""
    wanted = set(places.tolist())
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            lines = islice(file, 1, None)
            return {at: line.rstrip("\n").split("\t")[3] for at, line in enumerate(lines) if at in wanted}
    except FileNotFoundError:
        raise DataError(path, "no such file", fix="run `dvc repro prepare`") from None


if __name__ == "__main__":
    run_stage(main)
