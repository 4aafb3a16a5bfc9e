"""probe: what the embedding of a network knows of classes, where its head says nothing of it."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from pipeline.core.command import run_stage
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.progress import progress, say
from pipeline.core.seeding import permutation
from pipeline.data.dataset import ImageDataset
from pipeline.data.hard_labels import is_labelled
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.evaluation.probes import probe
from pipeline.models.devices import choose_device
from pipeline.models.embedding import Columns
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_meta, read_model
from pipeline.results.files import write_result
from pipeline.results.networks import TEACHER


def main(
    name: Annotated[str, typer.Option(help="A student's row, or `teacher`.")],
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    students: Path = Path("data/train_student"),
    reports: Path = Path("reports/probe"),
    samples: Annotated[int, typer.Option(min=2, help="Labelled samples of each split at most.")] = 20_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples that the network sees at once.")] = 500,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    # 1. The data: probes are of classes that exclude each other.
    dataset = ImageDataset(data)
    kind = dataset.manifest.kind
    if dataset.manifest.signal != "categorical":
        found = f"labels of the signal {dataset.manifest.signal}"
        raise ConfigError(data, found, expected=f"one class of several for each {kind.thing}")
    # 2. The network, with its embedding.
    folder, made_by = (teacher, "train_teacher") if name == TEACHER else (students / name, "train_student")
    meta = read_meta(folder, made_by=made_by)
    meta.check_data(dataset.manifest, folder, made_by)
    model = Columns(meta.embedded(read_model(folder, made_by=made_by), folder)).eval()
    where, logits = choose_device(device), len(meta.class_names)

    def embed(split: SplitOnDisk, most: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(is_labelled(split.hard_labels.numpy()))
        rows = np.sort(rows[permutation(0, len(rows), 0)[:most]])
        if len(rows) < 2:
            raise DataError(data, f"{len(rows)} labelled {kind.things} in a split", expected="two or more")
        part = split.take(rows)
        with progress(f"probe: {name}", len(part), kind.thing) as on_images:
            outputs = predict_logits(model.to(where), part.in_order(batch_size), where, on_batch=on_images)
        return outputs[:, logits:].numpy(), part.hard_labels.numpy().astype(np.int64)

    # 3. The figures.
    with torch.no_grad():
        result = probe(embed(dataset.stream("train"), samples), embed(dataset.stream("test"), samples))
    write_result(reports / f"{name}.json", result)
    say(
        f"probe: {name}: {result.num_dimensions} dimensions, {result.num_train:,} training {kind.things}: k-NN "
        f"{result.knn_accuracy:.2%}, linear probe {result.linear_accuracy:.2%}, recall@1 {result.recall_at_1:.2%}, "
        f"@10 {result.recall_at_10:.2%} on {result.num_test:,} test {kind.things}"
    )


if __name__ == "__main__":
    run_stage(main)
