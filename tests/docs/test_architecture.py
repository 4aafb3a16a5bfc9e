"""The map is true: layers, the DAG's dependencies, the sections of params.yaml, the README's file
map.
"""

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core.closure import TOP, import_closure
from pipeline.preparation.settings import KEYS

STAGES = (
    "list_files",
    "prepare",
    "train_teacher",
    "dump_labels",
    "verify_labels",
    "find_features",
    "train_student",
    "evaluate",
    "explain",
    "export",
    "report",
)
LAUNCHED = ("prepare", "train_teacher", "dump_labels", "train_student")  # as params.yaml says
COMMANDS = (
    "repair_labels",
    "tune_labels",
    "inspect_labels",
    "probe",
    "derive_labels",
    "pack_labels",
    "import_labels",
    "clean",
    "repair",
    "doctor",
    "new_project",
    "ray_workers",
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


def rooms_of(name: str) -> set[str]:
    """Returns the folders of `pipeline/` that a stage's script imports from."""
    closure = import_closure(Path(f"stages/{name}.py"))
    return {"/".join(path.parts[:2]) for path in closure if path.parts[0] == "pipeline"}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_its_script_and_on_the_rooms_that_it_imports_from(name: str) -> None:
    listed = {path for path in stage_of(name)["deps"] if path.startswith(("pipeline/", "stages/"))}
    assert listed == {f"stages/{name}.py", *rooms_of(name)}


@pytest.mark.parametrize("name", ["train_teacher", "train_student"])
def test_no_file_of_its_rooms_retrains_a_network_that_does_not_load_it(name: str) -> None:
    closure = set(import_closure(Path(f"stages/{name}.py")))
    files = {path.relative_to(TOP) for room in rooms_of(name) for path in (TOP / room).rglob("*") if path.is_file()}
    idle = {path for path in files - closure if (TOP / path).stat().st_size and "__pycache__" not in path.parts}
    assert not idle


@pytest.mark.parametrize("room", sorted(path.parent.name for path in (TOP / "pipeline").glob("*/__init__.py")))
def test_a_rooms_map_names_its_files(room: str) -> None:
    folder = TOP / "pipeline" / room
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()), clean=False) or ""
    named = re.findall(r"^ *(\w+\.py|\w+/)(?=\s)", text, re.MULTILINE)
    files = [path.name for path in folder.iterdir() if path.is_file() and path.suffix == ".py"]
    folders = [f"{path.name}/" for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert sorted(named) == sorted({*files, *folders} - {"__init__.py"})


def test_no_two_files_of_tests_have_one_name() -> None:
    counts = Counter(path.name for path in Path("tests").rglob("test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == [], "pytest takes them for one module"


def test_every_stage_of_the_dag_is_a_script() -> None:
    assert tuple(read_yaml("dvc.yaml")["stages"]) == STAGES
    assert {path.stem for path in (TOP / "stages").glob("[!_]*.py")} == {*STAGES, *COMMANDS}
    for name in STAGES:
        launcher = f"${{launcher.{name}}}" if name in LAUNCHED else "python"
        assert stage_of(name)["cmd"].startswith(f"{launcher} -m stages.{name}")


def test_the_launcher_is_python_unless_the_user_says_otherwise() -> None:
    assert read_yaml("params.yaml")["launcher"] == dict.fromkeys(LAUNCHED, "python")


#: The keys that need not stand in params.yaml: those of `prepare` for samples other than images,
#: and one for classes of very different sizes.
LEFT_OUT = {key for kind, keys in KEYS.items() if kind != "image" for key in keys} | {"headline"}


@pytest.mark.parametrize("name", [name for name in STAGES if name not in ("list_files", "find_features", "report")])
def test_a_section_of_params_is_a_dataclass_of_its_stage(name: str) -> None:
    params = read_yaml("params.yaml")
    kind = getattr(importlib.import_module(f"stages.{name}"), "".join(word.capitalize() for word in name.split("_")))
    defaults = params["students_defaults"]
    sections = [defaults | row for row in params["students"].values()] if name == "train_student" else [params[name]]
    for section in sections:
        assert set(section) - LEFT_OUT == {field.name for field in fields(kind)} - LEFT_OUT
    tracked = stage_of(name)["params"]
    assert tracked[0] == ("students.${key}" if name == "train_student" else name)


def test_the_process_modules_and_the_teacher_do_not_know_encodings() -> None:
    closure = [str(path) for path in import_closure(Path("stages/train_teacher.py"))]
    assert not [path for path in closure if "encodings" in path or "store" in path]


def test_the_package_itself_does_nothing() -> None:
    assert (TOP / "pipeline/__init__.py").read_text() == ""


def test_what_runs_at_almost_every_dvc_repro_starts_without_torch() -> None:
    script = "import sys; import stages.list_files, stages.find_features; sys.exit(str({'torch', 'zarr'} & set(sys.modules) or 0))"
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True)
    assert done.stderr.strip() == "0"


def test_a_student_needs_neither_torchvision_nor_dvc_nor_the_teacher() -> None:
    script = (
        "import sys; import stages.train_student; "
        "bad = {'torchvision', 'dvc', 'matplotlib', 'sklearn', 'timm', 'onnx', 'onnxruntime', 'pyarrow', 'h5py', 'captum', 'jinja2', 'soundfile', 'scipy', 'tokenizers'}; "
        "bad &= set(sys.modules); "
        "bad |= {m for m in sys.modules if m in {'pipeline.labelling.dump', 'stages.train_teacher', 'stages.dump_labels'}}; "
        "sys.exit(str(sorted(bad)) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("library", "only"),
    [
        ("zarr", {"pipeline/core/arrays.py", "pipeline/core/zstd.py"}),
        ("obstore", {"pipeline/labels/buckets.py"}),
        ("urllib3", {"pipeline/labels/servers.py"}),
        ("h5py", {"pipeline/labelling/foreign/hdf5.py"}),
        ("captum", {"pipeline/explanation/attribution.py"}),
        ("jinja2", {"pipeline/report/page.py"}),
        ("matplotlib", {"pipeline/report/"}),
        (
            "scipy",
            {
                "pipeline/evaluation/twins.py",
                "pipeline/explanation/attribution.py",
                "pipeline/export/predict_sound.py",
                "pipeline/preparation/sound_files.py",
                "pipeline/teacher/outputs.py",
            },
        ),
        (
            "tokenizers",
            {
                "pipeline/data/tokenizer_file.py",
                "pipeline/export/predict_text.py",
                "pipeline/models/text_classifier.py",
                "pipeline/models/word_tokens.py",
                "pipeline/preparation/tokenizer_training.py",
            },
        ),
        ("transformers", {"pipeline/models/hf.py"}),
        ("soundfile", {"pipeline/export/predict_sound.py", "pipeline/preparation/sound_files.py"}),
        ("ruamel", {"pipeline/core/config.py"}),
        ("torchvision", {"pipeline/models/torchvision.py"}),
        ("timm", {"pipeline/models/timm.py"}),
        ("onnx", {"pipeline/models/onnx.py", "pipeline/export/libraries.py"}),
        (
            "onnxruntime",
            {
                "pipeline/models/onnx.py",
                "pipeline/export/libraries.py",
                "pipeline/export/predict.py",
                "pipeline/export/predict_row.py",
                "pipeline/export/predict_sound.py",
                "pipeline/export/predict_text.py",
                "pipeline/export/quantization.py",
                "pipeline/profiling/probe.py",
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
