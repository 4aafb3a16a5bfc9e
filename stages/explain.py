"""explain: labels that are probably wrong, samples on which students disagree with the teacher, and
maps of what each network looks at -> data/explain (samples.json and sheets of tiles),
reports/suspects.tsv, reports/explain.json.
"""

from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows, load_section
from pipeline.core.progress import say
from pipeline.core.tensors import read_tensors
from pipeline.data.manifest import DatasetManifest
from pipeline.explanation.disagreement import distilled_students, has_teacher
from pipeline.explanation.explain_classes import explain_classes
from pipeline.explanation.explain_maps import explain_maps
from pipeline.explanation.places import Places
from pipeline.explanation.settings import Explain
from pipeline.results.networks import TEACHER


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    students: Path = Path("data/train_student"),
    labels: Path = Path("data/dump_labels"),
    evaluated: Path = Path("data/evaluate"),
    out: Path = Path("data/explain"),
    reports: Path = Path("reports"),
) -> None:
    settings = load_section(Explain, "explain", params)
    folders = {name: students / name for name in load_rows("students", params)}
    distilled = distilled_students(folders)
    evaluation = read_tensors(evaluated / "predictions.safetensors", made_by="evaluate")
    if has_teacher(evaluation):
        folders = {TEACHER: teacher, **folders}
    is_grid = DatasetManifest.read(data / "manifest.json").signal == "grid"
    explain = explain_maps if is_grid else explain_classes
    found = explain(folders, distilled, evaluation, settings, Places(data, labels, evaluated, out, reports))
    say(f"explain: {found}")


if __name__ == "__main__":
    run_stage(main)
