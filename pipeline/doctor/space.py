"""Bytes on disk: of what is there, and of label stores that are yet to be written."""

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float

from pipeline.labelling.tune import measure_encoding
from pipeline.labels.encodings import Encoding, LabelSpace

_MOST_PILOT = 0.5  # of the labels


def tree_bytes(folder: Path) -> int:
    """Of all files at and below a folder."""
    return sum(Path(here, name).lstat().st_size for here, _, names in os.walk(folder) for name in names)


def label_bytes(
    encodings: Mapping[str, Encoding],
    log_probs: Float[torch.Tensor, "labels classes"],
    space: LabelSpace,
    *,
    num_labels: int,
    block_samples: int,
    pilot_labels: int,
) -> dict[str, float]:
    """Bytes on disk of a label in a store of `num_labels`, for each encoding: some labels are written, and measured.

    Args:
        log_probs: At the stored temperature; the first ones, half of them at most, serve as the pilot.
    """
    pilot = log_probs[: max(1, min(pilot_labels, int(_MOST_PILOT * len(log_probs))))]
    sizes = {}
    for name, encoding in encodings.items():
        sizes[name] = 0.0
        if encoding.fields(space):
            trial = measure_encoding(
                log_probs, encoding, space, pilot=pilot, num_labels=num_labels, block_samples=block_samples
            )
            sizes[name] = trial.label_bytes
    return sizes


def keeps_second_copy(top: Path) -> bool:
    """Whether the copy of an output that DVC's cache holds takes room of its own, by the project's DVC settings.

    Where files are linked, an output and its copy are one. Few file systems have reflinks, which DVC tries first.
    """
    settings = configparser.ConfigParser()
    settings.read([top / ".dvc/config", top / ".dvc/config.local"])
    kinds = settings.get("cache", "type", fallback="reflink,copy").strip("'\" ").replace(" ", "").split(",")
    return not {"hardlink", "symlink"} & set(kinds)
