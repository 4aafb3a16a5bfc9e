r"""The dump of labels against the teacher's bare forward pass.

The dump is all of it: views, teacher, all encodings, checksums, fidelity and disk.

    python -m benchmarks.dump_overhead    # the teacher and the data that `make repro` left
    python -m benchmarks.dump_overhead --device cuda --network resnet_small --px 32
    python -m benchmarks.dump_overhead --device cuda --network torchvision/resnet50 --px 224 \
        --classes 1000

With `--network`, weights and images are random: only the time is of interest. The forward pass is
of random images that lie on the device already, and its logits stay there. With `--anchored`, one
store of anchored labels stands in place of those of params.yaml; its anchors are made in the round
that does not count. `--precision float32` computes both sides in float32.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.measure import DeviceOption, in_turn, need_data, report, synchronize
from benchmarks.photo_labels import anchored as anchored_row
from pipeline.core.config import load_rows, load_section
from pipeline.core.errors import DataError, PipelineError, one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.dump import dump_labels
from pipeline.labelling.pilot import ask_pilot
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.target import Target
from pipeline.labelling.teacher import Teacher, label_rows
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import Encoding, build_encoding
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.manifest import Block, Manifest
from pipeline.labels.reader import StoreReader
from pipeline.models import ClassifierSpec
from pipeline.models.devices import choose_device, has_room
from pipeline.models.precision import Precision, computing_in, inference_precision

_NUM_CANARIES = 8
NETWORK_SETTINGS = {"resnet_small": {"width": 32, "depth": 2}}


@dataclass(frozen=True)
class Work:
    """A teacher, the samples that it labels, and the stores to fill.

    A block is one view of `block_samples` samples.
    """

    teacher: Teacher
    split: SplitInMemory
    settings: DumpLabels
    manifests: dict[str, Manifest]
    tables: dict[str, dict[str, np.ndarray]]
    block_samples: int

    def blocks(self) -> Iterator[Block]:
        """Yields every block, those of the same rows one after the other."""
        starts = range(0, len(self.split) - self.block_samples + 1, self.block_samples)
        for start in starts:
            for view in next(iter(self.manifests.values())).view_numbers:
                yield Block(view, view, range(start, start + self.block_samples))

    def targets(self, folder: Path) -> list[Target]:
        """Returns the stores, begun in a folder."""
        views, own = self.settings.views, self.split
        canaries = make_canaries(own, views, next(iter(self.manifests.values())).view_numbers, _NUM_CANARIES)
        return [
            Target(StoreWriter(folder / name, folder / f"{name}.records", manifest, own.sample_ids, canaries, tables))
            for (name, manifest), tables in zip(self.manifests.items(), self.tables.values(), strict=True)
        ]

    def dump(self, targets: list[Target], blocks: Iterator[Block], count: int) -> Callable[[], None]:
        """Returns a function that dumps the next `count` blocks.

        The images lie on the device if they fit.
        """
        device, split = self.teacher.device, self.split
        shown = split.to(device) if has_room(device, split.inputs.nbytes) else split
        return lambda: dump_labels(self.teacher, shown, list(islice(blocks, count)), targets, lambda _: None)

    def forward(self, count: int) -> Callable[[], None]:
        """Returns a function that shows the teacher as many images, and does no more."""
        teacher, shape = self.teacher, (self.block_samples, *self.split.inputs.shape[1:])
        images = torch.randint(0, 256, shape, dtype=torch.uint8, device=teacher.device)

        @torch.inference_mode()
        def run() -> None:
            for _ in range(count):
                for batch in images.split(teacher.batch_size):
                    with computing_in(teacher.precision, teacher.device):
                        teacher.model(batch)
            synchronize(teacher.device)

        return run


def trained(settings: DumpLabels, device: torch.device, labels: int) -> Work:
    """Returns the teacher, the data and the stores that `make repro` left."""
    need_data()
    split = ImageDataset(Path("data/prepare")).split("train")
    stores = {path.name: StoreReader(path) for path in sorted(Path("data/dump_labels").glob("*.zarr"))}
    manifests = {name: replace(store.manifest, block_samples=labels, complete=False) for name, store in stores.items()}
    tables = {name: store.tables for name, store in stores.items()}
    teacher = Teacher.read(Path("data/train_teacher"), device, settings.batch_size, settings.precision)
    return Work(teacher, split, settings, manifests, tables, labels)


@dataclass(frozen=True)
class Random:
    """A network of random weights, and random images for it.

    Attributes:
        rows: The encodings, as in params.yaml.
    """

    network: str
    px: int
    classes: int
    labels: int
    rows: Mapping[str, object]

    def work(self, settings: DumpLabels, device: torch.device, views: int) -> Work:
        """Returns them with stores of so many views, a block each."""
        shape, space = (3, self.px, self.px), settings.space(self.classes, "categorical")
        images = np.random.default_rng(0).integers(0, 256, (self.labels, *shape), dtype=np.uint8)
        hard_labels = torch.zeros(self.labels, dtype=torch.int64)
        split = SplitInMemory(torch.from_numpy(images), hard_labels, sample_ids(images))
        spec = ClassifierSpec(
            self.network,
            NETWORK_SETTINGS.get(self.network, {}),
            num_classes=self.classes,
            channels=3,
            mean=[0.5] * 3,
            std=[0.25] * 3,
        )
        precision = inference_precision(settings.precision, "", device)
        teacher = Teacher(spec.build().to(device).eval(), device, settings.batch_size, precision)
        settings.views.check(shape, "dump_labels.views")
        count = min(2 * self.classes, self.labels)
        pilot = ask_pilot(teacher, split, settings.views, [0], count, space).values
        manifests, tables = {}, {}
        for name, row in self.rows.items():
            encoding = build_encoding(row, f"encodings.{name}")
            manifests[name] = self._manifest(encoding, settings, views)
            tables[name] = encoding.learn(pilot, space)
        return Work(teacher, split, settings, manifests, tables, self.labels)

    def _manifest(self, encoding: Encoding, settings: DumpLabels, views: int) -> Manifest:
        has_labels = bool(encoding.fields(settings.space(self.classes, "categorical")))
        return Manifest(
            encoding=encoding.to_dict(),
            class_names=[str(number) for number in range(self.classes)],
            view_numbers=list(range(views)),
            num_samples=self.labels,
            block_samples=self.labels,
            temperature=settings.temperature,
            temperatures=settings.temperatures,
            views=settings.views.to_dict(),
            dataset_fingerprint="made up",
            teacher={"fingerprint": "made up"} if has_labels else None,
        )


def _divergence(work: Work) -> float:
    """Returns the mean KL of a block's labels to those in float32, in nats."""
    said = {}
    for precision in ("float32", work.teacher.precision):
        teacher, rows = work.teacher.in_precision(precision), range(work.block_samples)
        said[precision] = label_rows(teacher, work.split, work.settings.views, 0, rows).double().log_softmax(dim=1)
    exact, own = said.values()
    return float(Fidelity.of({1.0: exact}, {1.0: own}).summary()["kl_nats"]["1"]["mean"])


def main(
    device: DeviceOption = None,
    network: str | None = None,
    px: int = 32,
    classes: int = 10,
    labels: int = 8192,  # the default block
    rounds: int = 5,
    batch_size: int | None = None,
    precision: Precision | None = None,
    anchored: Annotated[bool, typer.Option("--anchored", help="One store, of anchored labels.")] = False,
) -> None:
    settings = load_section(DumpLabels, "dump_labels")
    settings = replace(
        settings, batch_size=batch_size or settings.batch_size, precision=precision or settings.precision
    )
    where = choose_device(device or settings.device)
    count = 4 if where.type == "cuda" else 1  # blocks a round: writing one hides behind computing the next
    needed = (rounds + 2) * count
    if anchored and network is None:
        raise PipelineError("--anchored", "no --network", fix="name a network, for instance resnet_small")
    if network is None:
        work = trained(settings, where, labels)
        if len(list(islice(work.blocks(), needed))) < needed:
            found = f"{len(work.split)} training images"
            raise DataError("data/prepare", found, expected=f"more, for {needed} blocks of {labels}")
    else:
        rows = {"anchored": anchored_row(min(64, classes - 1), 0.04)} if anchored else load_rows("encodings")
        work = Random(network, px, classes, labels, rows).work(settings, where, needed)
    with TemporaryDirectory() as folder:
        targets = work.targets(Path(folder))
        dumped, bare, ratio = in_turn(work.dump(targets, work.blocks(), count), work.forward(count), rounds)
    row = {
        "network": network or "the teacher",
        "images": " x ".join(map(str, work.split.inputs.shape[1:])),
        "stores": len(targets),
        "dump labels/s": labels * count / dumped,
        "forward images/s": labels * count / bare,
        "share of the bare speed": 1 / ratio,
    }
    if network is None:
        num_labels = settings.num_views * len(work.split)
        row["with the pilot"] = num_labels / (num_labels * ratio + min(settings.pilot_labels, num_labels))
    if work.teacher.precision != "float32":
        row["KL to float32 (nats)"] = _divergence(work)
    name = (
        "dump_overhead" if network is None else f"dump_overhead_{network.split('/')[-1]}_{px}{'_anchored' * anchored}"
    )
    claim = (
        f"all stores in one pass against the forward pass alone, median of {rounds} pairs of {labels * count} labels"
    )
    report(name, claim, [row], where)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
