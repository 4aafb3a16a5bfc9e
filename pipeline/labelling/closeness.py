"""The distance of labels from the teacher, as a store's manifest has it, for people."""

from collections.abc import Mapping
from typing import Any

from pipeline.signals import STORED, StoredKind
from pipeline.signals.vector import DISTANCES

Figures = Mapping[str, Any]


def closeness_line(fidelity: Figures, kind: StoredKind) -> str:
    """Returns the entry `fidelity` of a manifest in one line."""
    if "kl_nats" not in fidelity:
        error, distance = (fidelity[name] for name in DISTANCES)
        worst = f"{error['mean']:.1e} (p99.9 {error['p999']:.1e})"
        return f"mean relative squared error to the teacher {worst}, mean cosine {1 - distance['mean']:.6f}"
    kl = ", ".join(f"{t}: {v['mean']:.1e}" for t, v in fidelity["kl_nats"].items())
    agreement = f"same {STORED[kind].answer} {fidelity['top1_agreement']:.3%}"
    return f"mean KL to the teacher in nats by temperature {{{kl}}}, {agreement}"


def closeness_rows(fidelity: Figures) -> tuple[str, dict[str, Figures]]:
    """Returns what the rows of its table are named by, and mean, p99.9 and max of each."""
    if "kl_nats" in fidelity:
        return "temperature", dict(fidelity["kl_nats"])
    return "distance", {name.replace("_", " "): fidelity[name] for name in DISTANCES}


def closeness_title(fidelity: Figures, kind: StoredKind) -> tuple[str, str]:
    """Returns what the table is of, and the share of labels of the same answer as the teacher."""
    if "kl_nats" in fidelity:
        return "KL(teacher, label) in nats", f"same {STORED[kind].answer}: {fidelity['top1_agreement']:.3%}"
    share = f"cosine of 0.99 or more: {fidelity['same_direction']:.3%}"
    return "|teacher - label|^2 / |teacher|^2, and 1 - cosine,", share
