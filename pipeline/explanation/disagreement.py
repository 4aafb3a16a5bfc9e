"""Students against the teacher: those that were distilled, and the test samples on which they
disagree most.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pipeline.core.errors import DataError
from pipeline.models.saved import read_meta
from pipeline.results.networks import TEACHER, stage_of


def distilled_students(folders: Mapping[str, Path]) -> list[str]:
    """Returns the students without hard-label twins, which did not learn from the teacher; all
    where there are only twins.
    """
    twins = {n for n, folder in folders.items() if read_meta(folder, made_by=stage_of(n)).settings.get("twin_of")}
    return [name for name in folders if name not in twins] or list(folders)


def has_teacher(predictions: Mapping[str, torch.Tensor]) -> bool:
    """Returns whether a network of the teacher was evaluated: it may run elsewhere."""
    return any(name.startswith(f"{TEACHER}.") for name in predictions)


def answers_of(
    predictions: Mapping[str, torch.Tensor], names: Sequence[str], key: str, num_test: int, where: Path
) -> dict[str, torch.Tensor]:
    """Returns one of the answers of some networks on each test sample.

    Args:
        predictions: The tensors that `evaluate` wrote into the folder `where`.

    Raises:
        DataError: Where these are of other networks or another test split.
    """
    found = {name: predictions[f"{name}.{key}"] for name in names if f"{name}.{key}" in predictions}
    if len(found) < len(names) or any(len(each) != num_test for each in found.values()):
        expected = f"{key} of {', '.join(names)} on {num_test} test samples"
        raise DataError(where, "not of these students and this data", expected=expected, fix="run `dvc repro evaluate`")
    return found


def most_disagreed(
    predictions: Mapping[str, torch.Tensor], names: Sequence[str], num_test: int, count: int, where: Path
) -> list[int]:
    """Returns rows of the test split by the mean KL(teacher || student), the largest first.

    Args:
        predictions: The tensors that `evaluate` wrote into the folder `where`.

    Raises:
        DataError: Where these are of other students or another test split.
    """
    known = answers_of(predictions, names, "kl_to_teacher", num_test, where)
    mean = torch.stack([*known.values()]).double().mean(dim=0)
    rows: list[int] = mean.argsort(descending=True, stable=True)[:count].tolist()
    return rows
