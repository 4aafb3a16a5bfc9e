"""verify_labels: stores + teacher -> reports/verify_labels.json; fails where stored labels are not the teacher's.

Without the teacher (`--no-teacher`) everything else is checked: checksums, coverage, digests, manifest, ids, views.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows, load_section
from pipeline.core.errors import PipelineError, StoreError, VerificationError
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import Split, SplitOnDisk
from pipeline.labelling.teacher import Teacher
from pipeline.labelling.verify import recompute_fidelity
from pipeline.labelling.verify_settings import VerifyLabels
from pipeline.labels.canaries import check_canaries
from pipeline.labels.join import match_rows
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import model_fingerprint
from pipeline.signals.metrics import accuracy

# What code stumbles over where the declared shape or type of an array is damaged.
_DAMAGE = (ArithmeticError, LookupError, TypeError, ValueError)


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    labels: Path = Path("data/dump_labels"),
    report: Path = Path("reports/verify_labels.json"),
    with_teacher: Annotated[bool, typer.Option("--teacher/--no-teacher", help="Whether to ask the teacher.")] = True,
) -> None:
    settings = load_section(VerifyLabels, "verify_labels", params)
    names = list(load_rows("encodings", params))
    device = choose_device(settings.device)
    dataset = ImageDataset(data)
    train = dataset.stream("train")
    asked = _Asked.of(teacher, dataset.stream("val"), device, settings.batch_size) if with_teacher else None
    results = {name: _verify(labels / f"{name}.zarr", asked, train, settings) for name in names}
    write_json(report, {"teacher": asked and asked.about, "stores": results})
    well = "as the teacher says, whole and undamaged" if asked else "whole and undamaged (the teacher was not asked)"
    for name, result in results.items():
        say(f"verify_labels: {name}: {'; '.join(result['faults']) or well}")
    faults = [fault for result in results.values() for fault in result["faults"]]
    if faults:
        raise VerificationError(labels, f"{len(faults)} faults, see {report}; the first: {faults[0]}")


@dataclass(frozen=True)
class _Asked:
    """The teacher, and what is true of it now."""

    teacher: Teacher
    about: dict[str, Any]

    @classmethod
    def of(cls, folder: Path, val: SplitOnDisk, device: torch.device, batch_size: int) -> "_Asked":
        teacher = Teacher.read(folder, device, batch_size)
        val_logits = predict_logits(teacher.model, val.in_order(batch_size), device)
        val_accuracy = accuracy(val_logits, val.hard_labels)
        return cls(teacher, {"fingerprint": model_fingerprint(folder), "val_accuracy": val_accuracy})


def _verify(path: Path, asked: _Asked | None, train: Split, settings: VerifyLabels) -> dict[str, Any]:
    """What was checked of one store, and every fault in a line."""
    result: dict[str, Any] = {"faults": []}
    faults: list[str] = result["faults"]
    try:
        store = StoreReader(path)
        damaged = [error for _, error in store.check() if error is not None]
        faults.extend(str(error) for error in damaged)
        result["num_blocks"] = len(store.manifest.blocks())
        store.check_whole()
        result["num_canaries"] = check_canaries(store.canaries, train, store.views, path, store.row_order)
        if result["num_canaries"] == 0:
            raise StoreError(path, "none of its canaries is in the training split", expected="a store for this data")
        match_rows(train, store)
        if store.manifest.teacher is None or asked is None:
            return result
        _compare_teacher(store, asked.about, settings, faults)
        if not damaged:
            _compare_labels(store, asked.teacher, train, settings, result)
    except PipelineError as error:
        faults.append(str(error))
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        faults.append(f"{path}: damaged: its parts do not fit each other ({type(error).__name__}: {reason})")
    return result


def _compare_teacher(
    store: StoreReader, teacher_now: dict[str, Any], settings: VerifyLabels, faults: list[str]
) -> None:
    stored = store.manifest.teacher or {}
    if stored["fingerprint"] != teacher_now["fingerprint"]:
        faults.append(f"{store.path}: written by teacher {stored['fingerprint']}, now {teacher_now['fingerprint']}")
    drift = abs(stored.get("val_accuracy", teacher_now["val_accuracy"]) - teacher_now["val_accuracy"])
    if drift > settings.accuracy_tolerance:
        now = teacher_now["val_accuracy"]
        faults.append(
            f"{store.path}: teacher's validation accuracy {stored['val_accuracy']:.4f} when written, now {now:.4f}"
        )


def _compare_labels(
    store: StoreReader, teacher: Teacher, train: Split, settings: VerifyLabels, result: dict[str, Any]
) -> None:
    stored = store.manifest.fidelity or {}
    result["recomputed"] = recompute_fidelity(teacher, train, store, settings.num_labels, settings.seed)
    for temperature, now in result["recomputed"]["kl_nats"].items():
        limit = stored["kl_nats"][temperature]["max"] + settings.kl_tolerance_nats
        if now["max"] > limit:
            result["faults"].append(
                f"{store.path}: a label is {now['max']:.2e} nats from the teacher at temperature {temperature}, "
                f"expected at most {limit:.2e}"
            )


if __name__ == "__main__":
    run_stage(main)
