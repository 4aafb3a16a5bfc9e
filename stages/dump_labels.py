"""dump_labels: teacher + data/prepare -> data/dump_labels/<encoding>.zarr, every encoding in one teacher pass."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.artifacts import Scratch, say
from pipeline.canaries import make_canaries
from pipeline.config import PARAMS, STRICT, load_rows, load_section
from pipeline.datasets import ImageDataset
from pipeline.devices import DeviceName, choose_device
from pipeline.encodings import Encoding, build_encoding
from pipeline.errors import DataError
from pipeline.labelling import Teacher, dump_labels
from pipeline.model_files import model_fingerprint, read_meta, read_model
from pipeline.progress import progress
from pipeline.store import Manifest, StoreWriter
from pipeline.views import ViewSpec
from stages import run_stage


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DumpLabels:
    """The section `dump_labels`."""

    num_views: PositiveInt
    temperature: PositiveFloat
    temperatures: Annotated[list[PositiveFloat], Field(min_length=1)]
    batch_size: PositiveInt
    block_samples: PositiveInt
    num_canaries: PositiveInt
    device: DeviceName
    views: ViewSpec


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    out: Path = Path("data/dump_labels"),
    work: Path = Path("work"),
) -> None:
    settings = load_section(DumpLabels, "dump_labels", params)
    rows = load_rows("encodings", params)
    encodings = {name: build_encoding(row, f"{params}: encodings.{name}") for name, row in rows.items()}
    device = choose_device(settings.device)
    dataset = ImageDataset(data)
    meta = read_meta(teacher, made_by="train_teacher")
    if meta.class_names != dataset.manifest.class_names:
        raise DataError(teacher, "was trained for other classes", expected=str(dataset.manifest.class_names))
    about_teacher = {
        "fingerprint": model_fingerprint(teacher),
        "model": meta.model,
        "model_settings": meta.model_settings,
        "val_accuracy": meta.val["accuracy"],
        "calibration_temperature": meta.val["calibration_temperature"],
    }
    decides = {
        "settings": asdict(settings),
        "encodings": {name: encoding.to_dict() for name, encoding in encodings.items()},
        "teacher": about_teacher,
        "data": dataset.manifest.fingerprints["train"],
        "device": device.type,
    }
    with Scratch(out, decides, work) as scratch:
        if scratch.done:
            return
        split = dataset.split("train")
        canaries = make_canaries(split, settings.views, settings.num_views, settings.num_canaries)

        def manifest_of(encoding: Encoding) -> Manifest:
            holds_labels = bool(encoding.fields(len(meta.class_names)))
            return Manifest(
                encoding=encoding.to_dict(),
                class_names=meta.class_names,
                num_views=settings.num_views,
                num_samples=len(split),
                block_samples=min(settings.block_samples, len(split)),
                temperature=settings.temperature,
                temperatures=settings.temperatures,
                views=settings.views.to_dict(),
                dataset_fingerprint=dataset.manifest.fingerprints["train"],
                teacher=about_teacher if holds_labels else None,
            )

        writers = {
            name: StoreWriter(
                scratch.output / f"{name}.zarr",
                scratch.folder / "records" / name,
                manifest_of(encoding),
                split.sample_ids,
                canaries,
            )
            for name, encoding in encodings.items()
        }
        blocks = manifest_of(next(iter(encodings.values()))).blocks()
        at_work = Teacher(read_model(teacher, made_by="train_teacher").to(device), device, settings.batch_size)
        with progress("dump_labels", len(split) * settings.num_views, "label") as on_labels:
            dump_labels(at_work, split, settings.views, blocks, list(writers.values()), on_labels)
        for name, writer in writers.items():
            _tell(name, writer.finish())
        scratch.publish()


def _tell(name: str, manifest: Manifest) -> None:
    if manifest.fidelity is None:
        say(f"dump_labels: {name}: views only, no labels")
        return
    kl = ", ".join(f"{t}: {v['mean']:.1e}" for t, v in manifest.fidelity["kl_nats"].items())
    count = manifest.num_views * manifest.num_samples
    say(
        f"dump_labels: {name}: {count:,} labels, {manifest.label_bytes:.2f} bytes each, "
        f"mean KL to the teacher in nats by temperature {{{kl}}}, same top-1 class {manifest.fidelity['top1_agreement']:.3%}"
    )


if __name__ == "__main__":
    run_stage(main)
