"""Checks of arrays at run time: element types and sizes, where a function's annotations name them.

jaxtyping's hook puts `jaxtyping.jaxtyped` around every function of a module. `check_arrays` takes
its place: it leaves functions without arrays as they are (mypy checks their types), and calls the
checker once for each call, not twice.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

# As for a static checker, an int will do where a float is asked for.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped


def check_arrays(decorated: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """Puts checks around a function, or around a dataclass's `__init__`, that names arrays."""
    if decorated is None:
        return functools.partial(check_arrays, typechecker=typechecker)
    if inspect.isclass(decorated):
        if "__init__" in vars(decorated) and hasattr(decorated, "__dataclass_fields__"):
            decorated.__init__ = check_arrays(decorated.__init__, typechecker=typechecker)
        return decorated
    if "<locals>" in decorated.__qualname__:
        return decorated  # made with each call of the function around it, which is checked
    arrays = [array for annotation in decorated.__annotations__.values() for array in _arrays_in(annotation)]
    if not arrays:
        return decorated
    if inspect.isgeneratorfunction(decorated) or any("{" in array.dim_str for array in arrays):
        return _jaxtyped(decorated, typechecker=typechecker)  # knows what was yielded, and arguments' values
    checked = typechecker(decorated)

    @functools.wraps(decorated)
    def in_context(*args: Any, **kwargs: Any) -> Any:
        with _jaxtyped("context"):
            return checked(*args, **kwargs)

    return in_context


def _arrays_in(annotation: object) -> Iterator[type[jaxtyping.AbstractArray]]:
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        yield annotation
    for part in annotation if isinstance(annotation, list) else get_args(annotation):
        yield from _arrays_in(part)
