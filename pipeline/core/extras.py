"""Libraries that an install of a part of Potstill lacks, and the extra that brings each."""

import sys
from collections.abc import Mapping
from types import TracebackType

#: By the name under which it is imported the extra of pyproject.toml that a library is in.
EXTRA_OF: Mapping[str, str] = {
    **dict.fromkeys(("captum", "dvc", "jinja2", "matplotlib", "pooch", "scipy", "sklearn", "torchvision"), "pipeline"),
    **dict.fromkeys(("h5py", "pyarrow"), "data"),
    "tokenizers": "text",
    "soundfile": "sound",
    **dict.fromkeys(("onnx", "onnxruntime", "timm"), "teachers"),
    "skops": "tables",
    "onnxscript": "export",
    "executorch": "executorch",
    "obstore": "remote",
    "urllib3": "student",
    "ray": "ray",
}


def missing_line(error: ImportError) -> str | None:
    """Returns which library is not installed and what brings it; None where it is none of an
    extra's.
    """
    library = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or library not in EXTRA_OF:
        return None
    extra = EXTRA_OF[library]
    return f"{library}: not installed; install the extra `{extra}`: pip install -c constraints.txt '.[{extra}]'"


def tell_missing_libraries() -> None:
    """Has this process end with one line where a library of an extra can't be imported, also
    before its work begins.
    """
    usual = sys.excepthook

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, ImportError) and (line := missing_line(error)):
            from pipeline.core.progress import say  # with tqdm, which those without a fault need later

            say(f"error: {line}")
        else:
            usual(kind, error, trace)

    sys.excepthook = told
