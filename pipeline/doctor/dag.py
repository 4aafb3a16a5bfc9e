"""dvc.yaml and params.yaml together, as DVC reads them."""

from pathlib import Path

from pipeline.core.config import load_rows
from pipeline.core.errors import ConfigError

_DAG, _PARAMS = Path("dvc.yaml"), Path("params.yaml")


def check_dag(params: Path) -> None:
    """Raises ConfigError where DVC can't make stages of the two files.

    There is nothing to check where DVC would not read these params, or is not in use.
    """
    if not (_DAG.exists() and Path(".dvc").is_dir() and params.absolute() == _PARAMS.absolute()):
        return
    for name, row in load_rows("students", params).items():
        if "labels" not in row:
            found = f"this key is missing in the row; {_DAG} reads it there, so `students_defaults` can't give it"
            raise ConfigError(f"{params}: students.{name}.labels", found, fix="add it")
    from dvc.exceptions import DvcException  # half a second, for this check alone
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            repo.check_graph(repo.index.stages)
    except DvcException as error:
        raise ConfigError(_DAG, f"DVC can't read it with {params} ({error})", fix="correct what it names") from None
