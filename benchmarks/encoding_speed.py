"""Every encoding's cost on one thread: encoded, and joined and decoded to soft targets.

    python -m benchmarks.encoding_speed

Labels are in memory as a training has them: gathered in windows by row, decoded, cut into batches.
Beside it the plainest alternative: a numpy array of float32 targets of all classes, indexed batch
by batch. Encoding is with the labels' anchors where there are any.
"""

from typing import Any

import numpy as np
import torch
import typer

from benchmarks.measure import in_turn, report
from benchmarks.photo_labels import anchored
from benchmarks.simulated_teacher import simulated_logits
from pipeline.core.errors import one_line_errors
from pipeline.labels.encodings import LabelSpace, build_encoding
from pipeline.labels.fields import encode_logits, gather

BATCH, WINDOW, ROUNDS = 128, 8192, 7
_LABELS = {10: 65_536, 1000: 8_192}


def _rows(num_classes: int) -> dict[str, dict[str, Any]]:
    topk = {"kind": "topk", "levels": 64, "range_nats": 40.0, "tail_classes": 256}
    few, some = (2, 5) if num_classes < 100 else (5, 10)
    return {
        "dense16": {"kind": "dense_float16"},
        "dense8": {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255},
        f"top{few}": topk | {"k": few, "tail": "prior"},
        f"top{some}, even tail": topk | {"k": some, "tail": "uniform"},
        "sampled, 50 draws": {"kind": "sampled", "draws": 50, "seed": 0},
        "anchored": anchored(min(64, num_classes - 1), 0.04),
    }


def _measure(name: str, row: dict[str, Any], logits: torch.Tensor) -> dict[str, Any]:
    count, num_classes = logits.shape
    space = LabelSpace(num_classes, 1.0, (1.0,))
    encoding = build_encoding(row, "benchmark")
    log_probs = torch.log_softmax(logits, dim=1)
    codec = encoding.codec(space, encoding.learn(log_probs, space))
    ids = np.arange(1, count + 1, dtype=np.uint64)
    anchors = codec.make_anchors(torch.log_softmax(log_probs + 0.5 * torch.randn_like(log_probs), dim=1))
    labels = {**encode_logits(codec, logits, ids, 0, anchors), **anchors}
    encode, _, _ = in_turn(lambda: encode_logits(codec, logits, ids, 0, anchors), lambda: None, 3)
    order = torch.randperm(count)
    plain, shuffled = log_probs.exp().numpy(), order.numpy()

    def joined() -> None:
        for rows in order.split(WINDOW):
            targets = codec.targets(gather(labels, rows), 1.0)
            for start in range(0, len(rows), BATCH):
                _ = targets[start : start + BATCH]

    def indexed() -> None:
        for start in range(0, count, BATCH):
            torch.from_numpy(plain[shuffled[start : start + BATCH]])

    ours, numpy, ratio = in_turn(joined, indexed, ROUNDS)
    each = 1e6 / count
    return {
        "classes": num_classes,
        "encoding": name,
        "encode us": encode * each,
        "join + decode us": ours * each,
        "numpy us": numpy * each,
        "ratio": ratio,
        "M labels/s": count / ours / 1e6,
    }


def main(threads: int = 1) -> None:
    torch.set_num_threads(threads)
    rows = []
    for num_classes, count in _LABELS.items():
        logits = simulated_logits(count, num_classes)
        rows += [_measure(name, row, logits) for name, row in _rows(num_classes).items()]
    claim = f"us a label, {threads} thread, a simulated teacher; medians of {ROUNDS} rounds in turn"
    report("encoding_speed", claim, rows)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
