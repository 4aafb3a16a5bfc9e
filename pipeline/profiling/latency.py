"""The cost of running a trained network: latency of one sample, and memory.

Each is measured in a fresh process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline.core.errors import ModelError
from pipeline.profiling import probe
from pipeline.results.costs import Cost

_TOP = Path(__file__).parents[2]


def measure_cost(kind: Literal["torch", "onnx"], path: Path, repeats: int, warmup: int) -> Cost:
    """Returns the cost of a trained network's folder, or of an ONNX file that takes uint8 images.

    Raises:
        ModelError: With what the measuring process said, where it did not come to an end.
    """
    threads = torch.get_num_threads()
    one = _probe(kind, path, 1, repeats, warmup)
    every = one if threads == 1 else _probe(kind, path, threads, repeats, warmup)
    latency = {name: {key: found[key] for key in ("p50", "p95")} for name, found in (("one", one), ("all", every))}
    return Cost(threads, latency, one["peak_memory_bytes"], one["import_memory_bytes"])


def _probe(kind: str, path: Path, threads: int, repeats: int, warmup: int) -> dict[str, Any]:
    sizes = {"threads": threads, "repeats": repeats, "warmup": warmup}
    command = [sys.executable, "-m", probe.__name__, kind, str(path.absolute())]
    command += [f"--{name}={size}" for name, size in sizes.items()]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}  # or numpy starts one for each processor
    done = subprocess.run(command, cwd=_TOP, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"]
        raise ModelError(f"cost of {path}", said[-1].removeprefix("error: "))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
