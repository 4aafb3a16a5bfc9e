"""The checks of what a loss is called with: the logits of a student and a batch's labels."""

from torch import Tensor

from pipeline.core.errors import ConfigError, DataError
from pipeline.labels.targets import SparseTargets
from pipeline.signals import Signal

_FIX = "take KD, DIST or CentredMSE"


def need_same_classes(logits: Tensor, targets: Tensor | SparseTargets | None, hard_labels: Tensor, kind: str) -> None:
    """Raises DataError where logits are not of the views and classes of their labels."""
    found = f"logits of shape {list(logits.shape)}"
    if isinstance(targets, Tensor) and logits.shape != targets.shape:
        expected = f"{list(targets.shape)}, as the soft targets have it"
        raise DataError(kind, found, expected=expected, fix="give the student one output for each class")
    count = len(hard_labels) if targets is None or isinstance(targets, Tensor) else len(targets.classes)
    if not len(logits) == count == len(hard_labels):
        raise DataError(kind, found, expected=f"one row for each of {len(hard_labels)} hard labels")


def need_classes(hard_labels: Tensor, num_classes: int, least: int, kind: str) -> None:
    """Raises DataError where a hard label is no class; on a GPU, which would be waited for, it
    looks at none.

    Args:
        least: The least that a label may be: -1 where it need not be known.
    """
    if hard_labels.device.type != "cpu":
        return
    odd = hard_labels[(hard_labels < least) | (hard_labels >= num_classes)]
    if len(odd):
        fix = "" if least < 0 else _FIX
        expected = f"a class of 0 to {num_classes - 1}" + (", or -1" if least < 0 else "")
        raise DataError(kind, f"hard label {int(odd[0])}", expected=expected, fix=fix)


def need_plain_views(partner_labels: Tensor | None, kind: str) -> None:
    """Raises ConfigError where views are mixed of two samples, by a loss that needs the one class
    of each.
    """
    if partner_labels is not None:
        raise ConfigError(kind, "its views are mixed of two samples", expected="views of one class", fix=_FIX)


def need_labels_of(signal: Signal, hard_labels: Tensor, num_classes: int, kind: str) -> None:
    """Raises DataError where hard labels are of another signal than a loss learns from."""
    wanted = [num_classes] if signal.is_independent else []
    if list(hard_labels.shape[1:]) != wanted:
        found = f"hard labels of shape {list(hard_labels.shape)}"
        expected = (
            f"[{len(hard_labels)}, {num_classes}], an entry for each class" if wanted else "one class for each view"
        )
        raise DataError(kind, found, expected=expected, fix="take KD" if wanted else "take BinaryKD")
