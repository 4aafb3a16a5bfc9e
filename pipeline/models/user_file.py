"""Networks that a function in a file of the user's builds: `path/my_model.py:build`.

The function is `build(num_classes, channels, **model_settings) -> nn.Module`; in place of channels
it is given the number of tokens where inputs are texts, and the codes of each column where they are
rows. The file stands by itself (it may import what is installed, not its neighbours), because it is
kept with the weights.
"""

import linecache
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from pipeline.core.errors import ModelError, suggest

_NAME = re.compile(r"(?P<file>.+\.py):(?P<function>\w+)")
MODULE = "potstill_user_network"


def is_user_file(name: str) -> bool:
    """Returns whether a network's name is meant to be of this kind."""
    return re.search(r"\.py(:|$)", name) is not None


def source_file(name: str) -> Path:
    """Returns the file that a name is about; raises ModelError where the name is not whole."""
    return Path(_parts(name)["file"])


def build(name: str, settings: Mapping[str, Any], num_outputs: int, size: int | Sequence[int], file: Path) -> nn.Module:
    """Returns the network that the function builds.

    Raises ModelError, with the line of the user's file, where there is no such function or it
    fails.

    Args:
        file: The file's copy, which stays as it was when training began.
    """
    network = call(name, file, num_outputs, size, **settings)
    if not isinstance(network, nn.Module):
        found = f"{_parts(name)['function']} returns a {type(network).__name__}"
        raise ModelError(f"model {name!r}", found, expected="an nn.Module")
    return network


def call(name: str, file: Path, *arguments: Any, **settings: Any) -> Any:
    """Returns what the function of a name makes of some arguments; `file` as for `build`.

    Raises ModelError, with the line of the user's file, where there is no such function or it
    fails.
    """
    function = _parts(name)["function"]
    module = execute(name, file)
    found = getattr(module, function, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == MODULE]
        raise ModelError(
            f"model {name!r}", f"no function {function!r} in it", expected=suggest(function, own or ["build"])
        )
    try:
        return found(*arguments, **settings)
    except Exception as error:  # a user's code may raise anything
        raise _explain(name, file, error, f"{function} fails") from error


def _parts(name: str) -> dict[str, str]:
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise ModelError(f"model {name!r}", "names no function", expected="a file and its function: my_model.py:build")
    return parts.groupdict()


def execute(name: str, file: Path) -> ModuleType:
    """Returns the file as a module; raises ModelError where it fails.

    The import system would leave its compiled form beside the weights.
    """
    module = ModuleType(MODULE)
    module.__file__ = str(file)
    linecache.checkcache(str(file))
    sys.modules[MODULE] = module  # dataclasses look for their module there
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except SyntaxError as error:
        place = f"{source_file(name)}:{error.lineno}"
        raise ModelError(place, f"not valid Python ({error.msg})", fix="fix that line") from None
    except Exception as error:  # a user's code may raise anything
        raise _explain(name, file, error, "can't be loaded") from error
    return module


def _explain(name: str, file: Path, error: Exception, what: str) -> ModelError:
    """Returns an error with the last line of the user's file that it came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    place = f"model {name!r}" + (f", line {lines[-1]}" if lines else "")
    return ModelError(place, f"{what} ({type(error).__name__}: {error})")
