"""Bytes per label and KL at 21,841 classes, by a simulated teacher.

    python -m benchmarks.many_classes
    python -m benchmarks.many_classes --fit    # needs the logits of benchmarks.photos_teacher

Ten kept classes with an even tail, which is all that fits so many classes without anchors, beside
anchored labels at 50 and at 16 views. Of 50 views every twelfth is among the four that anchors are
made of, and so it is of those that are measured. The views of an image vary as those of a real
teacher do: `--fit` prints the share of a label's variance over its classes that is between views,
for the real teacher and for simulated ones.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import torch
import typer
from jaxtyping import Float

from benchmarks.measure import report
from benchmarks.photo_labels import ANCHOR_VIEWS, FEW_VIEWS, VIEWS, anchored
from benchmarks.photos_teacher import photo_logits
from benchmarks.simulated_teacher import simulated_views
from pipeline.core.errors import one_line_errors
from pipeline.labelling.first_views import FirstViews, MeanPrediction
from pipeline.labelling.ladder import TrialLabels, measure_encoding
from pipeline.labels.encodings import Encoding, LabelSpace, build_encoding

_TRIED = ((32, 0.05), (64, 0.05), (64, 0.02), (128, 0.02), (128, 0.01), (250, 0.005))
_MEASURED_VIEWS = 12  # one of them an anchor's
_BLOCK_SAMPLES = 8192
_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
Logits = Float[torch.Tensor, "views images classes"]


def spread_of_views(logits: Logits) -> float:
    """Returns the variance of a class's log-probability over an image's views, as a share of its
    variance over the classes of a label.
    """
    log_probs = torch.log_softmax(logits.double(), dim=2)
    return float(log_probs.var(dim=0).mean() / log_probs.var(dim=2).mean())


def _fit() -> None:
    rows = [
        {"teacher": "EfficientNet-Lite0, photographs", "spread of views": spread_of_views(photo_logits(VIEWS)[::4])}
    ]
    for share in _SHARES:
        spread = spread_of_views(simulated_views(500, 12, shared=share))
        rows.append({"teacher": f"simulated, {share:g} shared", "spread of views": spread})
    report("many_classes_fit", "1,000 classes, 12 views", rows)


def _encodings(k: int = 10) -> Iterator[tuple[str, Encoding]]:
    topk = {"kind": "topk", "k": k, "levels": 64, "range_nats": 40.0, "tail": "uniform", "tail_classes": 256}
    yield f"top-{k} even tail", build_encoding(topk, "benchmark")
    for listed, gain in _TRIED:
        yield f"anchor of {listed}, {gain:g}", build_encoding(anchored(listed, gain), "benchmark")


def _trial(logits: Logits, views: Sequence[int]) -> TrialLabels:
    """Returns the labels of some views, with what their anchors are made of."""
    mean = MeanPrediction(1.0)
    for view in range(ANCHOR_VIEWS):
        mean.add(logits[view])
    labels = torch.log_softmax(logits[views].flatten(0, 1), dim=1)
    first_views = FirstViews({ANCHOR_VIEWS: mean.log_probs()}, torch.arange(logits.shape[1]).repeat(len(views)))
    space = LabelSpace(logits.shape[2], 1.0, (1.0, 2.0, 4.0))
    return TrialLabels(labels, labels, space, VIEWS * logits.shape[1], _BLOCK_SAMPLES, VIEWS, first_views)


def main(
    images: Annotated[int, typer.Option(min=1)] = 170,
    classes: int = 21_841,
    seed: int = 0,
    fit: Annotated[bool, typer.Option("--fit", help="Print how views vary.")] = False,
) -> None:
    if fit:
        _fit()
        return
    logits = simulated_views(images, ANCHOR_VIEWS + _MEASURED_VIEWS - 1, classes, seed)
    trial = _trial(logits, [0, *range(ANCHOR_VIEWS, len(logits))])
    rows: list[dict[str, Any]] = []
    for name, encoding in _encodings():
        rung = measure_encoding(trial, encoding)
        row: dict[str, Any] = {"label": name, "anchor": rung.anchor_bytes}
        row |= {f"{views} views": rung.field_bytes + rung.anchor_bytes / views for views in (VIEWS, FEW_VIEWS)}
        for t, kl in rung.fidelity["kl_nats"].items():
            row |= {f"KL at {t}": kl["mean"], f"p99.9 at {t}": kl["p999"]}
        rows.append(row)
    claim = f"a simulated teacher; {len(trial.measured):,} labels of {classes:,} classes; bytes of a label, KL in nats"
    report("many_classes" if classes == 21_841 else f"many_classes_{classes}", claim, rows)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
