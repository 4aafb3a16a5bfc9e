"""The code that decides a result: the import closure of a file, and a fingerprint that changes only
with what the code does.
"""

from pathlib import Path

import pytest

from pipeline.core import closure
from pipeline.core.closure import TOP, code_fingerprint, import_closure

FILES = {
    "stage.py": "from room import table\nfrom room.a import first\n\ndef main():\n    return first() + table.second()\n",
    "room/__init__.py": '"""The room."""\n',
    "room/a.py": '"""A file."""\nimport math\n\ndef first():\n    """Returns one."""\n    return math.floor(1.5)\n',
    "room/table.py": "def second():\n    from room import late\n    return late.VALUE\n",
    "room/late.py": "VALUE = 3\n",
    "room/apart.py": "def first():\n    return 5\n",
}


def project(top: Path, **changed: str) -> Path:
    for name, text in (FILES | {name.replace("__", "/") + ".py": text for name, text in changed.items()}).items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


def digest(top: Path, script: str = "stage.py") -> str:
    return code_fingerprint(Path(script), top)


def test_the_closure_has_late_imports_and_packages_but_not_what_nobody_imports(tmp_path: Path) -> None:
    found = import_closure(Path("stage.py"), project(tmp_path))
    assert list(map(str, found)) == ["room/__init__.py", "room/a.py", "room/late.py", "room/table.py", "stage.py"]


@pytest.mark.parametrize("name", sorted(set(FILES) - {"room/__init__.py", "room/apart.py"}))
def test_changed_code_in_any_file_of_the_closure_changes_the_fingerprint(tmp_path: Path, name: str) -> None:
    before = digest(project(tmp_path / "before"))
    after = project(tmp_path / "after")
    (after / name).write_text(FILES[name] + "\nVALUE = 4\n")
    assert digest(after) != before


def test_code_that_a_package_runs_changes_the_fingerprint(tmp_path: Path) -> None:
    after = project(tmp_path / "after")
    (after / "room/__init__.py").write_text("print()\n")
    assert digest(after) != digest(project(tmp_path / "before"))


def test_code_outside_the_closure_and_prose_change_nothing(tmp_path: Path) -> None:
    before = digest(project(tmp_path / "before"))
    said = FILES["room/a.py"].replace("Returns one", "Returns the largest whole number").replace("\n\n", "\n\n# Why.\n")
    after = project(tmp_path / "after", room__a=said, room__apart="def first():\n    return 6\n")
    (after / "room/__init__.py").write_text('"""Another map."""\n')
    assert digest(after) == before


def test_a_moved_file_changes_nothing(tmp_path: Path) -> None:
    before = digest(project(tmp_path / "before"))
    after = project(
        tmp_path / "after",
        other__deep__first="from room.a import first\n",  # where nobody looks
        stage="from hall.a import first\nfrom room import table\n\ndef main():\n    return first() + table.second()\n",
    )
    (after / "hall").mkdir()
    (after / "room/a.py").rename(after / "hall/a.py")
    assert digest(after) == before


def test_the_same_name_from_another_file_changes_the_fingerprint(tmp_path: Path) -> None:
    both = "import room.a, room.apart\n"
    before = project(tmp_path / "before", stage=both + FILES["stage.py"])
    after = project(tmp_path / "after", stage=both + FILES["stage.py"].replace("room.a import", "room.apart import"))
    assert digest(after) != digest(before)


def in_a_new_process(top: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """Returns the fingerprint as a new process finds it, and how many files that one compiles."""
    compiled: list[bytes] = []
    for remembered in (closure._found, closure._read, closure._files_of):
        remembered.cache_clear()
    compile_one = closure._compiled
    with monkeypatch.context() as patch:
        patch.setattr(closure, "_compiled", lambda content, top: compiled.append(content) or compile_one(content, top))
        return digest(top), len(compiled)


def test_what_a_file_does_is_found_out_once_and_again_where_it_or_the_list_of_files_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    top = project(tmp_path)
    first, compiled = in_a_new_process(top, monkeypatch)
    assert compiled == 5
    assert in_a_new_process(top, monkeypatch) == (first, 0)
    (kept,) = (top / "pipeline/core/__pycache__").iterdir()
    whole = kept.read_bytes()

    (top / "room/late.py").write_text("VALUE = 4\n")
    other, compiled = in_a_new_process(top, monkeypatch)
    assert (other != first, compiled) == (True, 1)
    (top / "room/late.py").write_text(FILES["room/late.py"])
    assert in_a_new_process(top, monkeypatch) == (first, 1)

    (top / "math.py").write_text("floor = round\n")  # `import math` in a file that stays names another file now
    assert in_a_new_process(top, monkeypatch)[0] != first
    (top / "math.py").unlink()
    for damaged in (whole[:100], whole.replace(b"VALUE", b"VALUF").replace(b'"room/a.py"', b'"room/b.py"'), b"[]"):
        kept.write_bytes(damaged)
        assert in_a_new_process(top, monkeypatch) == (first, 5)


def test_the_fingerprint_needs_no_place_to_keep_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = project(tmp_path)
    (top / "pipeline").write_text("a file where a folder would be")
    first, compiled = in_a_new_process(top, monkeypatch)
    assert in_a_new_process(top, monkeypatch) == (first, compiled) == (first, 5)


@pytest.mark.parametrize("name", ["prepare", "train_teacher", "dump_labels", "train_student"])
def test_the_long_stages_have_their_code_in_the_closure(name: str) -> None:
    found = import_closure(Path(f"stages/{name}.py"))
    assert Path(f"stages/{name}.py") in found
    assert len(found) > 20
    assert all((TOP / path).is_file() for path in found)


def test_what_others_have_installed_beside_it_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closure, "TOP", tmp_path)
    for name, text in {
        "pipeline/__init__.py": "",
        "pipeline/here.py": "import torch\nimport pipeline.data\n",
        "pipeline/data.py": "x = 1\n",
        "torch/__init__.py": "from . import relative\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = import_closure(Path("pipeline/here.py"), tmp_path)
    assert found == [Path("pipeline/data.py"), Path("pipeline/here.py")]
