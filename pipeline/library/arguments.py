"""The checks of plain arguments, which a caller's own code gives: each ends in one line."""

import math
from numbers import Integral, Real

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
