"""The map is true: layers, the DAG's dependencies, the sections of params.yaml, the README's file map."""

import importlib
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.closure import TOP, import_closure

STAGES = (
    "prepare",
    "train_teacher",
    "dump_labels",
    "verify_labels",
    "train_student",
    "evaluate",
    "explain",
    "export",
    "report",
)
LAUNCHED = ("train_teacher", "dump_labels", "train_student")  # as params.yaml says
COMMANDS = (
    "repair_labels",
    "tune_labels",
    "inspect_labels",
    "derive_labels",
    "import_labels",
    "doctor",
    "new_project",
)  # scripts beside the DAG


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load((TOP / name).read_text())
    return content


def stage_of(name: str) -> dict[str, Any]:
    stage: dict[str, Any] = read_yaml("dvc.yaml")["stages"][name]
    return stage.get("do", stage)  # type: ignore[no-any-return]


def test_imports_keep_to_the_layers() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_that_it_imports(name: str) -> None:
    listed = [path for path in stage_of(name)["deps"] if path.endswith(".py")]
    closure = [str(path) for path in import_closure(Path(f"stages/{name}.py"))]
    assert listed == closure, f"dvc.yaml, stage {name}: list these:\n" + "\n".join(f"- {path}" for path in closure)


def test_every_stage_of_the_dag_is_a_script() -> None:
    assert tuple(read_yaml("dvc.yaml")["stages"]) == STAGES
    assert {path.stem for path in (TOP / "stages").glob("[!_]*.py")} == {*STAGES, *COMMANDS}
    for name in STAGES:
        launcher = f"${{launcher.{name}}}" if name in LAUNCHED else "python"
        assert stage_of(name)["cmd"].startswith(f"{launcher} -m stages.{name}")


def test_the_launcher_is_python_unless_the_user_says_otherwise() -> None:
    assert read_yaml("params.yaml")["launcher"] == dict.fromkeys(LAUNCHED, "python")


@pytest.mark.parametrize("name", [name for name in STAGES if name != "report"])
def test_a_section_of_params_is_a_dataclass_of_its_stage(name: str) -> None:
    params = read_yaml("params.yaml")
    kind = getattr(importlib.import_module(f"stages.{name}"), "".join(word.capitalize() for word in name.split("_")))
    defaults = params["students_defaults"]
    sections = [defaults | row for row in params["students"].values()] if name == "train_student" else [params[name]]
    for section in sections:
        assert set(section) == {field.name for field in fields(kind)}
    tracked = stage_of(name)["params"]
    assert tracked[0] == ("students.${key}" if name == "train_student" else name)


def test_the_process_modules_and_the_teacher_do_not_know_encodings() -> None:
    closure = [str(path) for path in import_closure(Path("stages/train_teacher.py"))]
    assert not [path for path in closure if "encodings" in path or "store" in path]


def test_the_package_itself_does_nothing() -> None:
    assert (TOP / "pipeline/__init__.py").read_text() == ""


def test_a_student_needs_neither_torchvision_nor_dvc_nor_the_teacher() -> None:
    script = (
        "import sys; import stages.train_student; "
        "bad = {'torchvision', 'dvc', 'matplotlib', 'sklearn', 'timm', 'onnx', 'onnxruntime', 'pyarrow', 'captum', 'jinja2'}; "
        "bad &= set(sys.modules); "
        "bad |= {m for m in sys.modules if m in {'pipeline.labelling', 'stages.train_teacher', 'stages.dump_labels'}}; "
        "sys.exit(str(sorted(bad)) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("library", "only"),
    [
        ("zarr", {"pipeline/arrays.py"}),
        ("obstore", {"pipeline/remote.py"}),
        ("captum", {"pipeline/attribution.py"}),
        ("jinja2", {"pipeline/report/page.py"}),
        ("matplotlib", {"pipeline/report/"}),
        ("scipy", {"pipeline/attribution.py", "pipeline/comparison.py"}),
        ("ruamel", {"pipeline/config.py"}),
        ("torchvision", {"pipeline/models/torchvision.py"}),
        ("timm", {"pipeline/models/timm.py"}),
        ("onnx", {"pipeline/models/onnx.py", "pipeline/export/libraries.py"}),
        (
            "onnxruntime",
            {
                "pipeline/models/onnx.py",
                "pipeline/export/libraries.py",
                "pipeline/export/predict.py",
                "pipeline/export/quantization.py",
                "pipeline/probe.py",
            },
        ),
    ],
)
def test_a_library_has_its_place(library: str, only: set[str]) -> None:
    pattern = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    users = {
        str(p.relative_to(TOP))
        for d in ("pipeline", "stages")
        for p in (TOP / d).rglob("*.py")
        if pattern.search(p.read_text())
    }
    assert {next((place for place in only if user.startswith(place)), user) for user in users} == only


def test_the_map_in_the_readme_names_what_is_there() -> None:
    readme = (TOP / "README.md").read_text()
    block = readme.split("<!-- map -->")[1].split("```")[1]
    named: set[str] = set()
    folder = ""
    for line in block.strip().splitlines():
        if not line.strip():
            continue
        indent, words = len(line) - len(line.lstrip()), re.split(r"\s{2,}", line.strip())[0].split()
        if indent == 0:
            folder = words[0] if words[0].endswith("/") else ""
            named.update(words)
        else:
            named.update(f"{folder}{word}" for word in words)
    missing = {name for name in named if not (TOP / name).exists()}
    assert not missing, f"the README's map names what is not there: {sorted(missing)}"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=TOP, capture_output=True, text=True
    ).stdout
    there = {path for path in listed.split() if (TOP / path).is_file() and (TOP / path).stat().st_size}
    for path in there:
        if path.split("/")[0] in {"pipeline", "stages", "benchmarks", "docs"}:
            covered = path in named or any(
                path.startswith(name) for name in named if name.count("/") == 2 and name.endswith("/")
            )
            assert covered or path.endswith("__init__.py"), f"the README's map lacks {path}"
