"""evaluate: teacher, students and twins on the test split -> data/evaluate, reports/evaluate.json,
metrics.json, plots.

`data/evaluate/predictions.safetensors` has a network N's answer on each test sample, in the split's
order: `N.predicted` (a class), `N.confidence` and `N.hard_prob` (the probabilities of that class
and of the hard label), and `N.kl_to_teacher` (nats). Of independent classes, `N.predicted` (1 or 0)
and `N.log_odds` have a column for each class. Of classes at positions, `N.predicted` is a map of
them and `N.iou` the image's mean IoU."""

from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows, load_section
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.core.tensors import write_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import IMAGE
from pipeline.evaluation.exam import Exam
from pipeline.evaluation.marks import marks_of
from pipeline.evaluation.networks import examine, with_costs
from pipeline.evaluation.plots import (
    CONFUSIONS,
    confusion_lines,
    metrics,
    reliability_lines,
    size_line,
    write_table,
)
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
    marks, class_names = marks_of(dataset.manifest.signal, settings.headline), dataset.manifest.class_names
    kind = dataset.manifest.kind
    test, val = dataset.stream("test"), dataset.stream("val") if marks.needs_validation else None
    exam = Exam(test, settings.robustness, settings.batch_size, choose_device(settings.device), marks, val, out)
    examined = examine(exam, folders, reports, dataset.manifest)
    rows, marked = with_costs(examined.networks, folders, settings.latency_repeats), examined.marked
    evaluation = Evaluation(
        len(test),
        class_names,
        marks.class_counts(test.hard_labels, len(class_names)),
        rows,
        compare(rows, {name: own.evidence for name, own in marked.items()}),
        CorruptedSamples(settings.robustness.severity, exam.num_corrupted) if exam.num_corrupted else None,
        {path.stem: store_row(path, manifest) for path, manifest in manifests.items()},
        dataset.manifest.signal,
        marks.known_counts(test.hard_labels),
        marks.position_counts(test.hard_labels, len(class_names)),
        settings.headline if marks.headline else None,
        None if kind is IMAGE else kind.thing,
    )
    tensors = {f"{name}.{key}": values for name, own in marked.items() for key, values in own.answers.items()}
    write_tensors(out / "predictions.safetensors", tensors)
    write_result(reports / "evaluate.json", evaluation)
    (reports / "export").mkdir(exist_ok=True)  # which `report` depends on, for DVC, even where nothing is exported
    write_json(reports / "metrics.json", metrics(rows, marks.headline_name))
    write_table(reports / "plots/reliability.tsv", [*reliability_lines(marked)])
    write_table(reports / "plots/accuracy_against_size.tsv", [size_line(name, row) for name, row in rows.items()])
    write_table(reports / "plots/confusion.tsv", [*confusion_lines(marked, class_names)], CONFUSIONS)
    best = max(rows, key=lambda name: (rows[name].role == "student", rows[name].score))
    say(f"evaluate: {len(rows)} networks on {len(test):,} test {kind.things}, {best} {rows[best].score:.2%}")


if __name__ == "__main__":
    run_stage(main)
