"""Students of CIFAR-10 in float32, in static int8, and in int8 after training for it.

    CIFAR10_ARCHIVE=cifar10-jpeg.tar.xz python -m benchmarks.aware_int8
    CIFAR10_ARCHIVE=... python -m benchmarks.aware_int8 --images 50000 --epochs 30 --seeds 3
    CIFAR10_ARCHIVE=... python -m benchmarks.aware_int8 --steps 60 tiny mobilenet

The archive is that of `cifar_teacher`. The teacher is a small network, because a student is
compared with nothing but itself. The pipeline's own stages run in work/aware_int8, so that
the command can be killed and started again. Nothing stays in float32 (`max_int8_drop_points`): both
int8 files have the same parts in 8 bits. Accuracies are of the 10,000 test images.
"""

import tarfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cifar_teacher import archive_by_environment, need_archive
from benchmarks.measure import report
from benchmarks.project import Project, write_params
from pipeline.core.config import load_params
from pipeline.core.errors import one_line_errors
from pipeline.results.export import ExportReport
from pipeline.results.files import read_result
from stages import export

FOLDER = Path("work/aware_int8")
STUDENTS: dict[str, dict[str, Any]] = {
    "tiny": {"model": "convnet_small", "model_settings": {"width": 8, "depth": 1}},
    "small": {"model": "convnet_small", "model_settings": {"width": 16, "depth": 1}},
    "medium": {"model": "convnet_small", "model_settings": {"width": 24, "depth": 1}},
    "mobilenet": {"model": "torchvision/mobilenet_v3_small", "model_settings": {}},
}


def main(
    students: Annotated[list[str] | None, typer.Argument()] = None,
    images: int = 4000,
    epochs: int = 10,
    steps: int = 300,
    learning_rate: float = 0.001,
    seeds: int = 1,
) -> None:
    place = FOLDER / f"{images}"
    unpack(need_archive(archive_by_environment()), place / "images", images)
    rows = {f"{name}_{seed}": STUDENTS[name] | {"seed": seed} for seed in range(seeds) for name in students or STUDENTS}
    project = Project(place)
    aware = {"steps": steps, "learning_rate": learning_rate}
    params = write_params(params_of(place, epochs, aware, rows), project.params)
    project.make_teacher(place)
    project.make_labels()
    exported, work = (place / "data/export", place / "reports/export"), place / "work"
    table = []
    for name in rows:
        project.make_student(name)
        export.main(name, params, project.prepared, project.student(name).parent, *exported, work, str(project.stores))
        table.append(_row(read_result(ExportReport, exported[1] / f"{name}.json", made_by="export")))
        print(table[-1], flush=True)
    report("aware_int8", f"{images:,} training images, {epochs} epochs, {steps} steps for int8", table)


def unpack(archive: Path, folder: Path, images: int) -> None:
    """Writes the first training images of each class, so many in all, and all test images."""
    if (folder / "whole").exists():
        return
    counts: Counter[str] = Counter()
    with tarfile.open(archive) as tar:
        for member in tar:
            part, label, name = ("", "", "", *Path(member.name).parts)[-3:]
            content = tar.extractfile(member)
            if content and (part == "test" or counts[label] < images // 10):
                counts[label] += part == "train"
                path = folder / part / label / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    (folder / "whole").touch()


def params_of(place: Path, epochs: int, aware: dict[str, Any], rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns the settings as they are here, for these images and students."""
    params = load_params()
    params["prepare"]["source"] = {"kind": "folder", "path": str(place / "images")}
    params["train_teacher"] |= {"model": "convnet_small", "model_settings": {"width": 32, "depth": 1}}
    params["train_teacher"]["fit"]["epochs"] = 2 * epochs
    params["encodings"] = {"dense8": params["encodings"]["dense8"]}
    params["students_defaults"]["fit"]["epochs"] = epochs
    params["students"] = {name: row | {"labels": "dense8", "temperature": 2.0} for name, row in rows.items()}
    params["exports"] = list(rows)
    params["export"] |= {"int8": "aware", "aware": aware, "max_int8_drop_points": 100.0}
    return params


def _row(found: ExportReport) -> dict[str, Any]:
    files = found.files
    float32, static, aware = (files.get(f"model{kind}.onnx") for kind in ("", "_int8", "_int8_aware"))
    return {
        "student": found.name,
        "float32": None if float32 is None else float32.accuracy,
        "static int8": None if static is None else static.accuracy,
        "aware int8": None if aware is None else aware.accuracy,
        "static loses (points)": found.int8_drop_points,
        "aware loses (points)": found.aware_drop_points,
        "as trained": None if found.aware is None else found.aware.agreement,
        "left out": str(found.left_out or ""),
    }


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
