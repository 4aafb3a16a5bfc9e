"""verify_labels: stores + teacher -> reports/verify_labels.json; fails where stored labels are not the teacher's."""

from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.artifacts import say, write_json
from pipeline.batches import plain_batches
from pipeline.canaries import check_canaries
from pipeline.config import PARAMS, STRICT, load_rows, load_section
from pipeline.datasets import ImageDataset, Split
from pipeline.devices import DeviceName, choose_device
from pipeline.distillation import match_rows
from pipeline.errors import PipelineError, StoreError, VerificationError
from pipeline.inference import predict_logits
from pipeline.labelling import Teacher, recompute_fidelity
from pipeline.metrics import accuracy
from pipeline.model_files import model_fingerprint, read_model
from pipeline.store import StoreReader
from stages import run_stage


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VerifyLabels:
    """The section `verify_labels`."""

    num_labels: PositiveInt
    seed: NonNegativeInt
    kl_tolerance_nats: NonNegativeFloat
    accuracy_tolerance: NonNegativeFloat
    batch_size: PositiveInt
    device: DeviceName


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    labels: Path = Path("data/dump_labels"),
    report: Path = Path("reports/verify_labels.json"),
) -> None:
    settings = load_section(VerifyLabels, "verify_labels", params)
    names = list(load_rows("encodings", params))
    device = choose_device(settings.device)
    dataset = ImageDataset(data)
    train, val = dataset.split("train"), dataset.split("val")
    at_work = Teacher(read_model(teacher, made_by="train_teacher").to(device), device, settings.batch_size)
    val_logits = predict_logits(at_work.model, plain_batches(val, settings.batch_size), device)
    teacher_now = {"fingerprint": model_fingerprint(teacher), "val_accuracy": accuracy(val_logits, val.hard_labels)}
    results = {name: _verify(labels / f"{name}.zarr", at_work, teacher_now, train, settings) for name in names}
    write_json(report, {"teacher": teacher_now, "stores": results})
    for name, result in results.items():
        say(f"verify_labels: {name}: {'; '.join(result['faults']) or 'as the teacher says, whole and undamaged'}")
    faults = [fault for result in results.values() for fault in result["faults"]]
    if faults:
        raise VerificationError(labels, f"{len(faults)} faults, see {report}; the first: {faults[0]}")


def _verify(
    path: Path, teacher: Teacher, teacher_now: dict[str, Any], train: Split, settings: VerifyLabels
) -> dict[str, Any]:
    """What was checked of one store, and every fault in a line."""
    result: dict[str, Any] = {"faults": []}
    faults: list[str] = result["faults"]
    try:
        store = StoreReader(path)
        damaged = [error for _, error in store.check() if error is not None]
        faults.extend(str(error) for error in damaged)
        result["num_blocks"] = len(store.manifest.blocks())
        result["num_canaries"] = check_canaries(store.canaries, train, store.views, path)
        if result["num_canaries"] == 0:
            raise StoreError(path, "none of its canaries is in the training split", expected="a store for this data")
        match_rows(train, store)
        if store.manifest.teacher is None:
            return result
        _compare_teacher(store, teacher_now, settings, faults)
        if not damaged:
            _compare_labels(store, teacher, train, settings, result)
    except PipelineError as error:
        faults.append(str(error))
    return result


def _compare_teacher(
    store: StoreReader, teacher_now: dict[str, Any], settings: VerifyLabels, faults: list[str]
) -> None:
    stored = store.manifest.teacher or {}
    if stored["fingerprint"] != teacher_now["fingerprint"]:
        faults.append(f"{store.path}: written by teacher {stored['fingerprint']}, now {teacher_now['fingerprint']}")
    drift = abs(stored["val_accuracy"] - teacher_now["val_accuracy"])
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
