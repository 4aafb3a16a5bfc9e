"""The checks of plain arguments, which a caller's own code gives: each ends in one line."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from pipeline.core.errors import ConfigError


def need_number(where: str, given: object, *, above: float = -math.inf, least: float = -math.inf) -> float:
    """Returns a finite number of any type; raises ConfigError where it is none, or too small.

    >>> need_number("temperature", 2, above=0)
    2.0
    """
    if isinstance(given, Real) and not isinstance(given, bool):
        number = float(given)
        if math.isfinite(number) and number > above and number >= least:
            return number
    bound = f" above {above:g}" if above > -math.inf else f" from {least:g} on" if least > -math.inf else ""
    raise ConfigError(where, f"{given!r}", expected=f"a number{bound}")


def need_whole(where: str, given: object, least: int = 0) -> int:
    """Returns a whole number of any type; raises ConfigError where it is none, or too small.

    >>> need_whole("batch_size", 32, 1)
    32
    """
    if not isinstance(given, Integral) or isinstance(given, bool) or given < least:
        raise ConfigError(where, f"{given!r}", expected=f"a whole number from {least} on")
    return int(given)


def need_sequence(where: str, given: object, of: str) -> list[Any]:
    """Returns a list of any sequence; raises ConfigError where it is none, or a text.

    >>> need_sequence("temperatures", (1.0, 2.0), "numbers")
    [1.0, 2.0]
    """
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise ConfigError(where, f"{given!r}", expected=f"a list of {of}")
    return list(given)


def need_row(where: str, given: object) -> dict[str, Any]:
    """Returns a row of settings as a dict; raises ConfigError where it is no map with a kind.

    >>> need_row("encoding", {"kind": "dense_float16"})
    {'kind': 'dense_float16'}
    """
    if not isinstance(given, Mapping):
        raise ConfigError(where, f"{given!r}", expected="a row of settings: {'kind': ..., ...}")
    return dict(given)
