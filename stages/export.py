"""export: data/train_student/<name> + images -> data/export/<name>: the student in the forms that
others run.
"""

from dataclasses import asdict
from pathlib import Path

import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section, read_exports
from pipeline.core.errors import ConfigError, suggest
from pipeline.core.progress import say
from pipeline.core.scratch import Scratch
from pipeline.data.dataset import ImageDataset
from pipeline.export.libraries import library_versions
from pipeline.export.measure import measure_forms, summary
from pipeline.export.settings import Export
from pipeline.export.write import samples_for, write_forms
from pipeline.models.saved import model_fingerprint, read_meta, read_model
from pipeline.results.files import write_result


def main(
    name: str = typer.Option(help="A student of the list `exports`."),
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    students: Path = Path("data/train_student"),
    out: Path = Path("data/export"),
    reports: Path = Path("reports/export"),
    work: Path = Path("work"),
) -> None:
    settings = load_section(Export, "export", params)
    if name not in (listed := read_exports(params)):
        raise ConfigError(f"{params}: exports", f"no {name!r}", expected=suggest(name, listed))
    libraries = library_versions(executorch=settings.executorch)
    dataset, made_by = ImageDataset(data), f"train_student@{name}"
    meta = read_meta(students / name, made_by=made_by)
    meta.check_data(dataset.manifest, students / name, made_by)
    model = read_model(students / name, made_by=made_by)
    decides = {
        "settings": asdict(settings),
        "model": model_fingerprint(students / name),
        "meta": asdict(meta),
        "data": dataset.manifest.fingerprints,
        "libraries": libraries,
    }
    with Scratch(out / name, decides, work, [reports / f"{name}.json"], code=Path(__file__)) as scratch:
        if scratch.done:
            return
        forms = write_forms(scratch.output, model, meta, samples_for(dataset, settings), settings)
        report = measure_forms(scratch.output, name, model, dataset.stream("test"), settings, forms)
        write_result(reports / f"{name}.json", report)
        scratch.publish()
    for line in summary(report, settings):
        say(line)


if __name__ == "__main__":
    run_stage(main)
