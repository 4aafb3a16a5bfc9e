"""The cost of one network, measured in a process that does nothing else.

`python -m pipeline.profiling.probe torch|onnx PATH`

Prints one line of JSON. An ONNX file is run by onnxruntime with numpy alone, as where there is no
torch; what a kind does not need is not imported.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError, ModelError, one_line_errors

_STARTED = time.perf_counter()
_PERCENTS = (50, 95)
#: The inputs of exported networks of texts (as long as they may be), of sounds and of rows.
_OF_OTHERS = [(f"tensor({kind})", [int]) for kind in ("int64", "int16", "int32")]
#: What networks of a kind are built by, by the first part of their name: it counts as imported, not
#: as the network's.
_LIBRARIES = {"torchvision": ["torchvision"], "timm": ["timm"], "onnx": ["onnx", "onnxruntime"]} | {
    library: ["sklearn.ensemble", "skops.io"] for library in ("sklearn", "lightgbm", "xgboost")
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.profiling.probe", description="What one network costs.")
    parser.add_argument("kind", choices=["torch", "onnx"])
    parser.add_argument(
        "path",
        type=Path,
        help="the folder of a trained network, or an ONNX file that takes uint8 images, or was exported here",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=100, help="calls that are timed, with one image each")
    parser.add_argument("--warmup", type=int, default=10, help="calls before these")
    asked = parser.parse_args()
    for name, least in (("threads", 1), ("repeats", 1), ("warmup", 0)):
        if getattr(asked, name) < least:
            raise ConfigError(f"--{name}", str(getattr(asked, name)), expected=f"at least {least}")
    print(json.dumps(measure(asked.kind, asked.path, asked.threads, asked.repeats, asked.warmup)), flush=True)


def measure(kind: str, path: Path, threads: int, repeats: int, warmup: int) -> dict[str, Any]:
    """Returns latency of single samples in ms, memory in bytes, and the seconds of each part.

    The seconds count from the start of this module.

    Of memory, the peak of the whole process, and what of it was there before the network was read.
    It belongs to the process: call it in a fresh one.

    Raises:
        PipelineError: Where there is no network at `path`, or not one that can be run.
    """
    load = {"torch": _import_torch, "onnx": _import_onnxruntime}[kind](path, threads)
    imported, import_memory = time.perf_counter(), peak_memory_bytes()
    call = load()
    loaded = time.perf_counter()
    for _ in range(warmup):
        call()
    milliseconds = [_time_ms(call) for _ in range(repeats)]
    called = time.perf_counter()
    return {
        **{f"p{percent}": _percentile(milliseconds, percent) for percent in _PERCENTS},
        "peak_memory_bytes": peak_memory_bytes(),
        "import_memory_bytes": import_memory,
        "seconds": {"import": imported - _STARTED, "load": loaded - imported, "calls": called - loaded},
    }


def peak_memory_bytes() -> int:
    """Returns the most memory that this process has held at a time.

    Of Linux, `VmHWM`: `ru_maxrss` counts what the parent held when it forked this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    import resource  # which Windows has not

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _import_torch(folder: Path, threads: int) -> Callable[[], Callable[[], object]]:
    import torch

    from pipeline.models.saved import read_meta, read_model

    torch.set_num_threads(threads)
    for library in _LIBRARIES.get(read_meta(folder, made_by="evaluate").model.partition("/")[0], []):
        with suppress(ImportError):  # which reading the network reports better
            import_module(library)

    def load() -> Callable[[], object]:
        model = read_model(folder, made_by="evaluate")
        sample = read_meta(folder, made_by="evaluate").random()
        return torch.inference_mode()(lambda: model(sample))

    return load


def _import_onnxruntime(path: Path, threads: int) -> Callable[[], Callable[[], object]]:
    import numpy as np

    try:
        import onnxruntime
    except ImportError as error:
        fix = "install the extra `export` (`pip install -c constraints.txt .[export]`)"
        raise ModelError(path, f"onnxruntime can't be imported ({error})", fix=fix) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors, which are raised as well

    def load() -> Callable[[], object]:
        if not path.is_file():
            raise ModelError(path, "no such file")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no class in common
            raise ModelError(path, f"can't be run by onnxruntime ({' '.join(str(error).split())[:200]})") from None
        inputs = session.get_inputs()
        told = ", ".join(f"{each.name} {each.type} {list(each.shape)}" for each in inputs)
        about = json.loads(session.get_modelmeta().custom_metadata_map.get("input", "{}"))
        sizes = [size if type(size) is int else about.get("max_tokens", size) for size in inputs[0].shape[1:]]
        asked = inputs[0].type, [type(size) for size in sizes]
        if len(inputs) != 1 or asked not in [*_OF_OTHERS, ("tensor(uint8)", [int] * 3)]:
            expected = "one of uint8, [batch, channels, height, width], or an exported one of texts, sounds or rows"
            raise ModelError(path, f"its inputs are: {told}", expected=expected)
        if asked in _OF_OTHERS:
            sample = np.ones((1, *sizes), inputs[0].type[len("tensor(") : -1])
        else:
            sample = np.random.default_rng(0).integers(0, 256, (1, *sizes), dtype=np.uint8)
        return lambda: session.run(None, {inputs[0].name: sample})

    return load


def _time_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def _percentile(values: list[float], percent: int) -> float:
    """Returns the smallest value that so many percent of the values do not exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


if __name__ == "__main__":
    with one_line_errors():
        main()
    # At once: a torch with CUDA touches 120 MB more while its libraries are unloaded, which is
    # nobody's need.
    os._exit(0)
