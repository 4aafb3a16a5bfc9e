"""The libraries that write and run exported files: are they installed, and without their advice to
developers.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from pipeline.core.errors import PipelineError

_NEEDED = ("onnx", "onnxruntime", "onnxscript")


class ExportError(PipelineError):
    """The error of a network that can't be written in some form, or differs from torch in it."""


def library_versions(*, executorch: bool) -> dict[str, str]:
    """Returns the versions of the libraries that decide the bytes of exported files.

    Raises ExportError where one is not installed.
    """
    found = {}
    for name in (*_NEEDED, *(["executorch"] if executorch else [])):
        try:
            module = import_module(name)  # not its package's version: onnxruntime comes in several packages
        except ImportError as error:
            extra = "export" if name in _NEEDED else name
            fix = f"install the extra `{extra}` (`pip install -c constraints.txt .[{extra}]`)"
            raise ExportError("export", f"{name} can't be imported ({error})", fix=fix) from None
        found[name] = str(getattr(module, "__version__", ""))
    return found


def onnx_libraries() -> tuple[ModuleType, ModuleType]:
    """Returns onnx and onnxruntime, imported only when they are needed."""
    import onnx
    import onnxruntime

    return onnx, onnxruntime


def first_line(error: Exception) -> str:
    """Returns the first line of a library's error, shortened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silences the warnings of libraries, which are advice to the code that calls them."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
