"""evaluate: teacher, students and twins on the test split -> data/evaluate, reports/evaluate.json,
metrics.json, plots.

`data/evaluate/predictions.safetensors` has a network N's answer on each test image, in the split's
order: `N.predicted` (a class), `N.confidence` and `N.hard_prob` (the probabilities of that class
and of the hard label), and `N.kl_to_teacher` (nats)."""

from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows, load_section
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.core.tensors import write_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.evaluation.breakdown import class_counts
from pipeline.evaluation.exam import Exam
from pipeline.evaluation.networks import examine, with_costs
from pipeline.evaluation.plots import confusion_lines, metrics, reliability_lines, size_line, write_table
from pipeline.evaluation.settings import Evaluate
from pipeline.evaluation.stores import read_manifests, runs_elsewhere, store_row
from pipeline.evaluation.twins import compare
from pipeline.models.devices import choose_device
from pipeline.results.evaluation import CorruptedSamples, Evaluation
from pipeline.results.files import write_result
from pipeline.results.networks import TEACHER


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    students: Path = Path("data/train_student"),
    labels: Path = Path("data/dump_labels"),
    reports: Path = Path("reports"),
    out: Path = Path("data/evaluate"),
) -> None:
    settings = load_section(Evaluate, "evaluate", params)
    manifests = read_manifests(labels)
    folders = {name: students / name for name in load_rows("students", params)}
    if not runs_elsewhere(teacher, manifests):
        folders = {TEACHER: teacher, **folders}
    dataset = ImageDataset(data)
    test, class_names = dataset.stream("test"), dataset.manifest.class_names
    exam = Exam(test, settings.robustness, settings.batch_size, choose_device(settings.device))
    examined = examine(exam, folders, reports, dataset.manifest)
    rows = with_costs(examined.networks, folders, settings.latency_repeats)
    correct = {name: own.predicted == test.hard_labels for name, own in examined.answers.items()}
    evaluation = Evaluation(
        len(test),
        class_names,
        class_counts(test.hard_labels, len(class_names)),
        rows,
        compare(rows, correct),
        CorruptedSamples(settings.robustness.severity, exam.num_corrupted),
        {path.stem: store_row(path, manifest) for path, manifest in manifests.items()},
    )
    tensors = {key: values for name, own in examined.answers.items() for key, values in own.tensors(name).items()}
    write_tensors(out / "predictions.safetensors", tensors)
    write_result(reports / "evaluate.json", evaluation)
    (reports / "export").mkdir(exist_ok=True)  # which `report` depends on, for DVC, even where nothing is exported
    write_json(reports / "metrics.json", metrics(rows))
    write_table(reports / "plots/reliability.tsv", [*reliability_lines(examined.bins)])
    write_table(reports / "plots/accuracy_against_size.tsv", [size_line(name, row) for name, row in rows.items()])
    confused = [*confusion_lines(examined.answers, test.hard_labels, class_names)]
    write_table(reports / "plots/confusion.tsv", confused)
    best = max(rows, key=lambda name: (rows[name].role == "student", rows[name].accuracy))
    say(f"evaluate: {len(rows)} networks on {len(test):,} test images, {best} {rows[best].accuracy:.2%}")


if __name__ == "__main__":
    run_stage(main)
