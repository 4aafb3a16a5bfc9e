"""A teacher fine-tuned for another task, and its students against students without a teacher.

    CIFAR10_ARCHIVE=cifar10-jpeg.tar.xz python -m benchmarks.transfer

The source task is CIFAR-10's six animals, the target its four vehicles, with few training images.
The command runs the stages themselves, on folders of JPEG files, in work/transfer; work that is
there already is continued.
"""

import statistics
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import typer

from benchmarks.cifar_teacher import archive_by_environment, need_archive
from benchmarks.measure import report
from pipeline.core.config import load_section, section_names
from pipeline.core.errors import one_line_errors
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.signals.metrics import accuracy

FOLDER = Path("work/transfer")
TASKS = {
    "animals": ("bird", "cat", "deer", "dog", "frog", "horse"),
    "vehicles": ("airplane", "automobile", "ship", "truck"),
}
TEACHER = {"model": "resnet_small", "model_settings": {"width": 16, "depth": 2}}
STUDENT = {"model": "convnet_small", "model_settings": {"width": 16, "depth": 1}}
CROPS = [{"kind": "pad_crop", "pad_px": 2}, {"kind": "flip_horizontal", "probability": 0.5}]


def main(
    target_images: int = typer.Option(500, help="Training images of each class of the target task."),
    source_epochs: int = 6,
    target_epochs: int = 20,
    student_epochs: int = 40,
    seeds: int = 3,
) -> None:
    archive = need_archive(archive_by_environment())
    _unpack(archive, target_images)
    source = Run("animals", {"train_teacher": _teacher(source_epochs)})
    source.stage("prepare")
    source.stage("train_teacher")
    weights = {"weights": str(source.folder / "data/train_teacher/weights.safetensors"), "new_head": True}
    tuned = _teacher(target_epochs) | weights
    tuned["fit"] = tuned["fit"] | {"freeze_epochs": 1, "layer_decay": 0.8, "learning_rate": 0.002}
    rows: list[dict[str, Any]] = []
    for name, teacher in {"fine-tuned": tuned, "from nothing": _teacher(target_epochs)}.items():
        run = Run("vehicles", _target(teacher, student_epochs, seeds), name.replace(" ", "_"))
        for stage in ("prepare", "train_teacher", "dump_labels"):
            run.stage(stage)
        rows.append({"network": f"teacher, {name}", **run.accuracies(["train_teacher"])})
        students = {"student of it": "student", "its twin, hard labels": "twin"}
        for label, kind in students.items():
            if kind == "twin" and name == "from nothing":
                continue  # the same networks again
            trained = [f"{kind}{seed}" for seed in range(seeds)]
            for each in trained:
                run.stage("train_student", "--name", each)
            rows.append({"network": label, **run.accuracies([f"train_student/{each}" for each in trained])})
    what = f"animals to vehicles, {target_images} training images a class, {seeds} seeds"
    report("transfer", f"test accuracy in %: {what}", rows)


class Run:
    """The stages on one task, in a folder of their own."""

    def __init__(self, task: str, changes: dict[str, Any], name: str = "") -> None:
        self.folder = (FOLDER / (name or task)).resolve()
        params = {name: load_section(dict, name) for name in section_names() if name != "exports"} | changes
        data = {"source": {"kind": "folder", "path": str((FOLDER / "images" / task).resolve())}}
        write_json(self.folder / "params.yaml", params | {"prepare": params["prepare"] | data})  # JSON is YAML

    def stage(self, stage: str, *arguments: str) -> None:
        """Runs a stage; returns at once if it was run before."""
        options = {"params": "params.yaml", "work": "work"}
        options |= {
            "prepare": {"out": "data/prepare"},
            "train_teacher": {"data": "data/prepare", "out": "data/train_teacher", "reports": "reports"},
            "dump_labels": {"data": "data/prepare", "teacher": "data/train_teacher", "out": "data/dump_labels"},
            "train_student": {
                "data": "data/prepare",
                "labels": "data/dump_labels",
                "out": "data/train_student",
                "reports": "reports/train_student",
            },
        }[stage]
        named = [f"--{key}={self.folder / value}" for key, value in options.items()]
        done = subprocess.run([sys.executable, "-m", f"stages.{stage}", *arguments, *named], check=False)
        if done.returncode:
            raise typer.Exit(done.returncode)  # the stage has printed why

    def accuracies(self, networks: list[str]) -> dict[str, Any]:
        """Returns mean and spread over networks of one kind, on the test split."""
        test, device = ImageDataset(self.folder / "data/prepare").split("test"), choose_device("auto")
        found = []
        for network in networks:
            model = read_model(self.folder / "data" / network, made_by=network.partition("/")[0]).to(device)
            logits = predict_logits(model, test.in_order(500), device)
            found.append(100 * accuracy(logits, test.hard_labels))
        spread = statistics.stdev(found) if len(found) > 1 else None
        return {"accuracy %": statistics.mean(found), "standard deviation": spread}


def _teacher(epochs: int) -> dict[str, Any]:
    section: dict[str, Any] = load_section(dict, "train_teacher")
    views = section["views"] | {"operations": CROPS}
    return section | TEACHER | {"views": views, "fit": section["fit"] | {"epochs": epochs}}


def _target(teacher: dict[str, Any], epochs: int, seeds: int) -> dict[str, Any]:
    dump: dict[str, Any] = load_section(dict, "dump_labels")
    dump |= {"num_views": 16, "views": dump["views"] | {"operations": CROPS}}
    row = STUDENT | {"labels": "dense8", "temperature": 2.0, "fit": {"epochs": epochs}}
    hard = row | {"labels": "none", "hard_weight": 1.0, "soft_weight": 0.0}
    students = {f"student{seed}": row | {"seed": seed} for seed in range(seeds)}
    students |= {f"twin{seed}": hard | {"seed": seed} for seed in range(seeds)}
    return {"train_teacher": teacher, "dump_labels": dump, "students": students}


def _unpack(archive: Path, target_images: int) -> None:
    """Writes a folder of class folders for each task."""
    done = FOLDER / "images" / f"unpacked-{target_images}"
    if done.exists():
        return
    say(f"unpacking {archive.name}")
    tasks = {name: task for task, names in TASKS.items() for name in names}
    taken: dict[str, int] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            split, name, file = Path(member.name).parts[-3:] if member.isfile() else ("", "", "")
            if name not in tasks or (content := tar.extractfile(member)) is None:
                continue
            if split == "train" and tasks[name] == "vehicles":
                taken[name] = taken.get(name, 0) + 1
                if taken[name] > target_images:
                    continue
            path = FOLDER / "images" / tasks[name] / split / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
    done.touch()


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
