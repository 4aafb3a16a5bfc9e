"""The report of an export: what the files predict for the whole test split, beside torch, and what
they cost.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, UInt8

from pipeline.core.progress import progress
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.export.executorch_file import run_executorch
from pipeline.export.onnx_file import run_onnx
from pipeline.export.parity import Parity, compare
from pipeline.export.settings import Export
from pipeline.export.write import EXECUTORCH, FLOAT32, INT8, WEIGHTS, Forms
from pipeline.models import Classifier
from pipeline.models.predict import predict_logits
from pipeline.profiling.latency import measure_cost
from pipeline.results.export import ExportedFile, ExportReport, StudentInTorch
from pipeline.signals.metrics import accuracy

_BATCH_SIZE = 100
_WARMUP = 10

Batches = Iterable[UInt8[torch.Tensor, "_ channels height width"]]
Run = Callable[[Batches], Float[torch.Tensor, "samples classes"]]


def measure_forms(
    folder: Path, name: str, model: Classifier, test: SplitOnDisk, settings: Export, forms: Forms
) -> ExportReport:
    """Returns the report of the files in a folder, over a whole split.

    Raises:
        ExportError: A file can't be run, or one that is not quantised differs from torch.
    """
    runs: dict[str, Run] = {FLOAT32: partial(run_onnx, folder / FLOAT32)}
    if forms.int8:
        runs[INT8] = partial(run_onnx, folder / INT8)
    if settings.executorch and EXECUTORCH not in forms.left_out:
        runs[EXECUTORCH] = partial(run_executorch, folder / EXECUTORCH)
    torch_logits = predict_logits(model, test.in_order(_BATCH_SIZE), torch.device("cpu"))
    files = {}
    with progress("export: parity and cost", len(runs), "file") as on_file:
        for file, run in runs.items():
            parity = compare(run(test.in_order(_BATCH_SIZE)), torch_logits, test.hard_labels)
            if file != INT8:
                parity.require(settings.logit_tolerance, file)
            files[file] = _row(folder / file, parity, settings)
            on_file(1)
    student = StudentInTorch(_size(folder / WEIGHTS), accuracy(torch_logits, test.hard_labels))
    report = ExportReport(
        name=name, num_test=len(test), files=files, torch=student, left_out=forms.left_out, int8=forms.int8
    )
    return _with_int8(report) if forms.int8 else report


def _with_int8(report: ExportReport) -> ExportReport:
    """Returns the report with int8 beside float32."""
    float32, int8 = report.files[FLOAT32], report.files[INT8]
    drop_points = 100 * (float32.accuracy - int8.accuracy)
    return replace(report, int8_drop_points=drop_points, int8_size_ratio=int8.bytes / float32.bytes)


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
    bits = {INT8: f" (weights of {report.int8.weight_bits} bits)"} if report.int8 else {}
    rows = (
        f"{file} {row.bytes:,} bytes{bits.get(file, '')}, accuracy {row.accuracy:.2%}"
        for file, row in report.files.items()
    )
    yield f"export@{report.name}: {'; '.join(rows)}; torch {report.torch.accuracy:.2%}"
    for note in report.notes():
        yield f"export@{report.name}: {note}"
    drop = report.int8_drop_points
    if drop is not None and drop > settings.max_int8_drop_points:
        loses = f"int8 loses {drop:.2f} points of accuracy, more than {settings.max_int8_drop_points:g}"
        fix = "more num_checked_images or num_calibration_images may help" + (
            ", or reduce_range: null" if settings.reduce_range is False else ""
        )
        yield f"export@{report.name}: {loses}; {fix}"


def _size(path: Path) -> int:
    return path.stat().st_size
