"""A section of params.yaml is right, or one line says which key is wrong and what it should be."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT, load_section, load_table, validate
from pipeline.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fit:
    epochs: PositiveInt
    learning_rate: Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Student:
    model: str
    fit: Fit
    ema: bool = False
    sizes: tuple[int, ...] = ()


GOOD = "students:\n  small:\n    model: resnet\n    fit: {epochs: 2, learning_rate: 0.1}\n"


def load(tmp_path: Path, text: str, section: str = "students.small", kind: Any = Student) -> Any:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return load_section(kind, section, path)


def test_a_section_is_found_by_its_dotted_name(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == Student(model="resnet", fit=Fit(epochs=2, learning_rate=0.1))


def test_lists_become_tuples_and_whole_numbers_serve_as_real_ones(tmp_path: Path) -> None:
    student = load(tmp_path, GOOD.replace("0.1}", "1}\n    sizes: [3, 4]"))
    assert student.sizes == (3, 4)
    assert student.fit.learning_rate == 1.0


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "1.0e-3", "0.001"])
def test_a_number_may_be_written_with_an_exponent(tmp_path: Path, number: str) -> None:
    assert load(tmp_path, GOOD.replace("0.1", number)).fit.learning_rate == 0.001


@pytest.mark.parametrize("word", ["no", "off", "y"])
def test_only_true_and_false_are_booleans_as_in_yaml_1_2(tmp_path: Path, word: str) -> None:
    assert load(tmp_path, GOOD.replace("resnet", word)).model == word


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("model: resnet", "modle: resnet", ["small.modle", "unknown key", "did you mean 'model'"]),
        ("learning_rate", "learning_rat", ["fit.learning_rat", "unknown key", "did you mean 'learning_rate'"]),
        ("model: resnet\n    ", "", ["small.model", "missing"]),
        ("epochs: 2, ", "", ["small.fit.epochs", "missing"]),
        ("epochs: 2", "epochs: '2'", ["small.fit.epochs", "'2' (str)", "integer"]),
        ("epochs: 2", "epochs: two", ["small.fit.epochs", "'two' (str)", "integer"]),
        ("epochs: 2", "epochs: true", ["small.fit.epochs", "True (bool)", "integer"]),
        ("epochs: 2", "epochs: 2.5", ["small.fit.epochs", "2.5 (float)", "integer"]),
        ("epochs: 2", "epochs: null", ["small.fit.epochs", "None", "integer"]),
        ("epochs: 2", "epochs: 0", ["small.fit.epochs", "0 (int)", "greater than 0"]),
        ("0.1", "-0.1", ["small.fit.learning_rate", "-0.1 (float)", "greater than 0"]),
        ("0.1", "true", ["small.fit.learning_rate", "True (bool)", "number"]),
        ("0.1", ".nan", ["small.fit.learning_rate", "nan"]),
        ("model: resnet", "model: 3", ["small.model", "3 (int)", "string"]),
        ("model: resnet", "model: resnet\n    ema: 1", ["small.ema", "1 (int)", "boolean"]),
        ("model: resnet", "model: resnet\n    sizes: [1, x]", ["small.sizes.1", "'x' (str)", "integer"]),
        ("{epochs: 2, learning_rate: 0.1}", "3", ["small.fit", "3 (int)"]),
        ("model: resnet", "model: 2024-01-01", ["students.small", "not plain settings"]),
    ],
)
def test_a_wrong_key_is_named_with_what_was_found_and_expected(
    tmp_path: Path, old: str, new: str, told: list[str]
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace(old, new))
    line = str(error.value)
    assert line.startswith(str(tmp_path / "params.yaml"))
    assert "\n" not in line
    for part in told:
        assert part in line


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("student.small", ["'student'", "did you mean 'students'"]),
        ("students.smal", ["'students.smal'", "did you mean 'small'"]),
        ("students.small.model.width", ["'students.small.model.width'"]),
    ],
)
def test_a_section_that_does_not_exist_is_named_with_those_that_do(
    tmp_path: Path, section: str, told: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD, section)
    for part in told:
        assert part in str(error.value)


def test_an_empty_file_has_no_entries(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no entry 'students'"):
        load(tmp_path, "")


def test_a_key_that_stands_twice_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml:\d+: .*duplicate key \"model\"") as error:
        load(tmp_path, GOOD + "    model: mobilenet\n")
    assert "params.yaml:5" in str(error.value)
    assert "\n" not in str(error.value)


def test_yaml_that_does_not_parse_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml:3: not valid YAML") as error:
        load(tmp_path, "a: 1\nb: 2\nc: ]\nd: 4\n")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"params\.yaml: not valid YAML"):
        load_section(Fit, "a", path)


def test_a_missing_file_is_named_with_the_way_to_give_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml: no such file.*--params"):
        load_section(Student, "students.small", tmp_path / "params.yaml")


def test_a_table_gives_its_rows_by_name_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("t:\n  z: {epochs: 1, learning_rate: 1}\n  a: {epochs: 2, learning_rate: 1}\n")
    table = load_table(Fit, "t", path)
    assert [(name, row.epochs) for name, row in table.items()] == [("z", 1), ("a", 2)]


def test_a_wrong_row_of_a_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("t:\n  z: {epochs: 1, learning_rate: 1}\n  a: {epochs: -2, learning_rate: 1}\n")
    with pytest.raises(ConfigError, match=r"t\.a\.epochs: -2 \(int\)"):
        load_table(Fit, "t", path)


def test_settings_that_were_stored_are_checked_like_those_of_a_file() -> None:
    assert validate(Fit, {"epochs": 3, "learning_rate": 0.5}, "store") == Fit(epochs=3, learning_rate=0.5)
    with pytest.raises(ConfigError, match=r"^store\.epochs: this key is missing"):
        validate(Fit, {"learning_rate": 0.5}, "store")
