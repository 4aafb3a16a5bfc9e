"""The doctor looks at texts, sounds and rows as it does at images: before they are prepared and
after, and it says in one line where settings are for another kind.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from kinds import KINDS, kind_params
from project import files_of, write_params
from raw_kinds import write_raw

import pipeline.core.scratch
from pipeline.data.input_kinds import INPUT_KINDS, InputKindName
from pipeline.doctor import labels, load, speed, steps, trials
from stages import doctor, prepare


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Times networks for a moment, measures few labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.core.scratch, "code_fingerprint", lambda script: "code")
        patch.setattr(speed, "_SECONDS", 0.01)
        patch.setattr(trials, "_SLOW_SECONDS", 0.0)
        patch.setattr(trials, "_WRITTEN_TIMES", 2)
        patch.setattr(labels, "MEASURED", 200)
        patch.setattr(load, "_SAMPLE_SECONDS", 0.0)
        patch.setattr(steps, "FEW_STEPS", 30)
        yield


class Project:
    """A project of a kind, in a folder of its own."""

    def __init__(self, folder: Path, kind: InputKindName) -> None:
        self.folder, self.kind, self.params = folder, kind, kind_params(kind)
        source = write_raw(folder, kind)
        self.params["prepare"] |= {"source": source, "val_fraction": 0.2, "test_fraction": 0.2}
        self.write()

    @property
    def _places(self) -> list[Path]:
        return [self.folder / "data" / name for name in ("raw", "prepare", "train_teacher", "dump_labels")]

    def write(self) -> Path:
        return write_params(self.folder, self.params)

    def prepare(self) -> None:
        raw, prepared, *_ = self._places
        prepare.main(self.write(), raw, prepared, self.folder / "work")

    def ask(self, capsys: pytest.CaptureFixture[str], *, quick: bool = False) -> list[str]:
        """Returns the lines of the doctor."""
        self.write()
        capsys.readouterr()
        with pytest.raises(typer.Exit):
            doctor.main(self.folder / "params.yaml", *self._places, quick, self.folder / "work")
        return capsys.readouterr().out.splitlines()


@pytest.fixture(params=KINDS)
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, request.param)


def errors(lines: list[str]) -> list[str]:
    return [line.removeprefix("error").strip() for line in lines if line.startswith("error")]


def test_before_and_after_prepare_everything_is_looked_at(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    things, before = INPUT_KINDS[project.kind].things, files_of(project.folder)
    lines = project.ask(capsys)
    assert errors(lines) == []
    assert files_of(project.folder) == before
    said = "\n".join(lines)
    assert f"{things}: {project.params['prepare']['source']['kind']}, not prepared yet: 3 classes" in said
    assert f"{things} a second" in said
    assert "image" not in said.lower()
    assert f"time: prepare (240 {things})" in said
    for network in ("train_teacher", "students.small", "students.small_hard"):
        assert sum(f"{network}: {project.params['train_teacher']['model']}" in line for line in lines) == 1, said
    assert "disk: store dense8: about" in said
    project.prepare()
    lines = project.ask(capsys)
    assert errors(lines) == []
    said = "\n".join(lines)
    assert f"{things}: {project.params['prepare']['source']['kind']}, prepared as the settings say: 3 classes" in said
    assert f"{things}: train: its first {INPUT_KINDS[project.kind].thing} is whole" in said
    assert "image" not in said.lower()


def test_settings_of_another_kind_are_named_in_a_line_each(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    things = INPUT_KINDS[project.kind].things
    rows = project.params
    project.params["train_teacher"]["views"] = {
        "seed": 1,
        "plain_first": False,
        "operations": [{"kind": "flip_horizontal", "probability": 0.5}],
    }
    other = "bag_small" if project.kind == "row" else "mlp_small"
    rows["students"]["small"] |= {"model": other, "model_settings": {"width": 8}}
    if other == "mlp_small":
        rows["students"]["small"]["model_settings"] |= {"depth": 1}
    rows["students"]["small_hard"]["input"] = {"size_px": 32}
    found = errors(project.ask(capsys))
    assert len(found) == 3
    assert "views.operations.0.kind" in found[0]
    assert "which is for images" in found[0]
    assert f"and the data is {things}" in found[1]
    assert f"students.small_hard.input.size_px: given, and the data is {things}" in found[2]


def test_keys_of_images_in_prepare_are_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.params["prepare"]["channels"] = 1
    (found,) = errors(project.ask(capsys, quick=True))
    assert f"prepare.channels: given, and the source has {INPUT_KINDS[project.kind].things}" in found
