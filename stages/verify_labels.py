"""verify_labels: stores + teacher -> reports/verify_labels.json; fails where stored labels are not
the teacher's.

Without the teacher (`--no-teacher`) everything else is checked: checksums, coverage, digests,
manifest, ids, views."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.errors import VerificationError
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.labelling.settings import ImportLabels, VerifyLabels
from pipeline.labelling.stores import unfit_encodings
from pipeline.labelling.verify import Witness, verify_store
from pipeline.labels.encodings import read_encodings
from pipeline.models.devices import choose_device


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    labels: Annotated[str, typer.Option(help="The folder of the stores, by path or URL.")] = "data/dump_labels",
    report: Path = Path("reports/verify_labels.json"),
    with_teacher: Annotated[bool, typer.Option("--teacher/--no-teacher", help="Whether to ask the teacher.")] = True,
) -> None:
    settings = load_section(VerifyLabels, "verify_labels", params)
    device = choose_device(settings.device)
    dataset = ImageDataset(data)
    encodings = read_encodings(params)
    space = load_section(ImportLabels, "dump_labels", params).space_of(dataset.manifest)
    unfit = unfit_encodings(encodings, space, f"{params}: encodings")  # the stores that were not written
    names = [name for name in encodings if name not in unfit]
    train = dataset.stream("train")
    witness = Witness.read(teacher, dataset.stream("val"), device, settings.batch_size) if with_teacher else None
    places = {name: f"{labels}/{name}.zarr" for name in names}
    results = {name: verify_store(place, witness, train, settings) for name, place in places.items()}
    stores = {name: result.to_dict() for name, result in results.items()}
    write_json(report, {"teacher": witness and asdict(witness.now), "stores": stores})
    for name, result in results.items():
        well = "whole and undamaged"
        well = (
            f"{well} (the teacher was not asked)" if result.recomputed is None else f"as the teacher predicts, {well}"
        )
        say(f"verify_labels: {name}: {'; '.join(result.faults) or well}")
    faults = [fault for result in results.values() for fault in result.faults]
    if faults:
        raise VerificationError(labels, f"{len(faults)} faults, see {report}; the first: {faults[0]}")


if __name__ == "__main__":
    run_stage(main)
