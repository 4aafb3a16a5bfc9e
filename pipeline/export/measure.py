"""The report of an export: what the files predict for the whole test split, beside torch, and what
they cost.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Integer

from pipeline.core.progress import progress
from pipeline.data.splits import Split
from pipeline.export.executorch_file import run_executorch
from pipeline.export.onnx_file import Keep, run_onnx
from pipeline.export.parity import Parity, compare
from pipeline.export.settings import Export
from pipeline.export.write import AWARE, EXECUTORCH, FLOAT32, INT8, WEIGHTS, Forms
from pipeline.models import Classifier
from pipeline.models.predict import at_once, predict_each
from pipeline.profiling.latency import measure_cost
from pipeline.results.export import ExportedFile, ExportReport, StudentInTorch
from pipeline.signals.thinning import kept_labels, kept_outputs

_BATCH_SIZE = 100
_WARMUP = 10

Batches = Iterable[Integer[torch.Tensor, "_ ..."]]
Run = Callable[[Batches, Keep], Float[torch.Tensor, "samples classes *grid"]]


def measure_forms(
    folder: Path, name: str, model: Classifier, test: Split, settings: Export, forms: Forms
) -> ExportReport:
    """Returns the report of the files in a folder, over a whole split.

    Raises:
        ExportError: A file can't be run, or one that is not quantised differs from torch.
    """
    taken = model.portable().taken
    runs: dict[str, Run] = {FLOAT32: partial(run_onnx, folder / FLOAT32)}
    if forms.int8:
        runs[INT8] = partial(run_onnx, folder / INT8)
    if forms.aware:
        runs[AWARE] = partial(run_onnx, folder / AWARE)
    if settings.executorch and EXECUTORCH not in forms.left_out:
        runs[EXECUTORCH] = partial(run_executorch, folder / EXECUTORCH)
    size = at_once(_BATCH_SIZE, model.signal, test.input_shape)
    keep = partial(kept_outputs, num_samples=len(test))
    pieces = predict_each(model, test.in_order(size), torch.device("cpu"))
    torch_logits = torch.cat([keep(some) for some in pieces])
    labels = kept_labels(test.hard_labels, torch_logits.shape[1])
    files = {}
    with progress("export: parity and cost", len(runs), "file") as on_file:
        for file, run in runs.items():
            parity = compare(run(map(taken, test.in_order(size)), keep), torch_logits, labels, model.signal)
            if file not in (INT8, AWARE):
                parity.require(settings.logit_tolerance, file)
            files[file] = _row(folder / file, parity, settings)
            on_file(1)
    in_torch = compare(torch_logits, torch_logits, labels, model.signal)
    student = StudentInTorch(_size(folder / WEIGHTS), in_torch.accuracy, in_torch.headline)
    return ExportReport(
        name=name,
        num_test=len(test),
        files=files,
        torch=student,
        left_out=forms.left_out,
        int8=forms.int8,
        int8_drop_points=_drop_points(files, INT8),
        int8_size_ratio=files[INT8].bytes / files[FLOAT32].bytes if INT8 in files else None,
        aware=forms.aware,
        aware_drop_points=_drop_points(files, AWARE),
        headline_words=None if in_torch.headline is None else model.signal.headline_words,
    )


def _drop_points(files: Mapping[str, ExportedFile], file: str) -> float | None:
    """Returns the score of float32 minus that of a file, in percentage points; None where it is
    not there.
    """
    return 100 * (files[FLOAT32].score - files[file].score) if file in files else None


def _row(path: Path, parity: Parity, settings: Export) -> ExportedFile:
    """Returns the row of a file; times it, unless it is ExecuTorch's."""
    row = ExportedFile(bytes=_size(path), **asdict(parity))
    if path.name == EXECUTORCH:
        return row
    return replace(row, **asdict(measure_cost("onnx", path, settings.latency_repeats, _WARMUP)))


def summary(report: ExportReport, settings: Export) -> Iterator[str]:
    """Yields the result in words, what a user must know of the files, and a warning where int8
    loses more than allowed.
    """
    bits = {
        file: f" (weights of {facts.weight_bits} bits)"
        for file, facts in ((INT8, report.int8), (AWARE, report.aware))
        if facts
    }
    rows = (
        f"{file} {row.bytes:,} bytes{bits.get(file, '')}, {report.figure} {row.score:.2%}"
        for file, row in report.files.items()
    )
    yield f"export@{report.name}: {'; '.join(rows)}; torch {report.torch.score:.2%}"
    for note in report.notes():
        yield f"export@{report.name}: {note}"
    more = {
        "int8": "num_checked_images or num_calibration_images may help"
        + (", or reduce_range: null" if settings.reduce_range is False else ""),
        "aware int8": "aware.steps may help",
    }
    for kind, drop in (("int8", report.int8_drop_points), ("aware int8", report.aware_drop_points)):
        if drop is not None and drop > settings.max_int8_drop_points:
            loses = f"{kind} loses {drop:.2f} points of {report.figure}, more than {settings.max_int8_drop_points:g}"
            yield f"export@{report.name}: {loses}; more {more[kind]}"


def _size(path: Path) -> int:
    return path.stat().st_size
