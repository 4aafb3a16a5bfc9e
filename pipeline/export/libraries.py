"""The libraries that write and run exported files: whether they are there, without what they say to developers."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from pipeline.core.errors import PipelineError

_NEEDED = ("onnx", "onnxruntime", "onnxscript")


class ExportError(PipelineError):
    """A network can't be written in some form, or says something else in it."""


def library_versions(*, executorch: bool) -> dict[str, str]:
    """The versions of what decides the bytes of exported files; raises ExportError where one is not installed."""
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
    """onnx and onnxruntime, which are imported where they are needed alone."""
    import onnx
    import onnxruntime

    return onnx, onnxruntime


def first_line(error: Exception) -> str:
    """What an error of a library says, shortly."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Without the warnings of libraries, which advise whoever called them."""
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
