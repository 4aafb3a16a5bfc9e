"""Names of rows: each becomes a folder, a stage of DVC and a word of a command in a shell."""

import re
from collections.abc import Iterable

from pipeline.core.errors import ConfigError, listed

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
RULE = "letters a-z, digits, _ and -, not - first, at most 64"


def check_names(names: Iterable[object], where: str) -> None:
    """Raises ConfigError with all names that can't be one."""
    wrong = [_shown(name) for name in names if not (isinstance(name, str) and _NAME.fullmatch(name))]
    if wrong:
        raise ConfigError(where, f"named {listed(wrong)}", expected=f"names of {RULE}", fix="rename it")


def _shown(name: object) -> str:
    """Returns a name as it was found; YAML reads 1 and true as a number and a truth value."""
    return repr(name) if isinstance(name, str) else f"{name!r} ({type(name).__name__}, no text: put it in quotes)"
