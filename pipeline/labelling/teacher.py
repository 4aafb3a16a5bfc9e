"""A teacher at work: its logits for views, on any device and in any number format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, UInt64
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.core.seeding import integers_below, philox
from pipeline.data.splits import Split
from pipeline.labelling.copies import copied_ahead
from pipeline.models import Classifier
from pipeline.models.answers import SOME, check_answers
from pipeline.models.embedding import Columns
from pipeline.models.precision import Precision, inference_precision
from pipeline.models.predict import at_once, predict_logits
from pipeline.models.saved import read_meta, read_model
from pipeline.signals import StoredKind, signal_named
from pipeline.views.plan import RowOrder, ViewPlan, plan_view
from pipeline.views.spec import ViewSpec

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Teacher:
    """A teacher at work: the network, where it runs, how many inputs at once, and in which number
    format (`float32` or `bfloat16`).

    Attributes:
        folder: Where it was read from, for its embedding; None: it gives logits alone.
        num_logits: The columns of its outputs that are logits, where those after them are the
            embedding; None: all are logits.
    """

    model: nn.Module
    device: torch.device
    batch_size: int
    precision: str = "float32"
    folder: Path | None = None
    num_logits: int | None = None

    @classmethod
    def read(cls, folder: Path, device: torch.device, batch_size: int, precision: Precision = "auto") -> "Teacher":
        """Reads the teacher of a folder, as `train_teacher` wrote it; raises what `read_model`
        raises.

        One that gives a class for each pixel predicts fewer images at once where they are large.
        """
        model, meta = read_model(folder, made_by="train_teacher").to(device), read_meta(folder, made_by="train_teacher")
        size = at_once(batch_size, signal_named(meta.signal), meta.image_shape)
        return cls(model, device, size, teacher_precision(folder, device, precision), folder)

    def giving(self, *kinds: StoredKind) -> "Teacher":
        """Returns the same teacher, which gives the embedding, too, where that is among what is
        wanted.

        Raises ModelError where it has none.
        """
        if "vector" not in kinds or self.num_logits is not None:
            return self
        if self.folder is None or not isinstance(self.model, Classifier):
            raise ModelError("teacher", "gives logits alone", expected="a saved network, whose embedding is known")
        meta = read_meta(self.folder, made_by="train_teacher")
        columns = Columns(meta.embedded(self.model, self.folder)).eval()
        return replace(self, model=columns, num_logits=len(meta.class_names))

    def columns(self, kind: StoredKind) -> slice:
        """Returns the columns of its outputs that are of a signal."""
        assert kind != "vector" or self.num_logits is not None, "it was asked for its embedding"
        return slice(self.num_logits, None) if kind == "vector" else slice(self.num_logits)

    def in_precision(self, precision: str) -> "Teacher":
        """Returns the same teacher, computing in another number format."""
        return replace(self, precision=precision)

    @property
    def encodes_on(self) -> torch.device:
        """The device on which logits become labels and are measured, in float64 too, which MPS
        lacks.
        """
        return self.device if self.device.type == "cuda" else _CPU


def teacher_precision(folder: Path, device: torch.device, precision: Precision) -> str:
    """Returns the number format that the teacher of a folder computes its labels in."""
    return inference_precision(precision, read_meta(folder, made_by="train_teacher").precision, device)


def check_teacher(teacher: Teacher, folder: Path, split: Split) -> None:
    """Raises ModelError where the teacher of a folder gives no logits to make labels of."""
    assert isinstance(teacher.model, Classifier), "it was read"
    check_answers(teacher.model, read_meta(folder, made_by="train_teacher"), split.first(SOME))


def embedding_size(folder: Path) -> int:
    """Returns the number of dimensions of the embedding of the teacher in a folder; raises
    ModelError where it has none.
    """
    meta = read_meta(folder, made_by="train_teacher")
    return meta.embedded(read_model(folder, made_by="train_teacher"), folder).size(meta.blank())


def label_rows(
    teacher: Teacher,
    split: Split,
    spec: ViewSpec,
    view: int,
    rows: range | Int64[np.ndarray, " rows"],
    row_order: RowOrder | None = None,
) -> Float[torch.Tensor, "rows classes *grid"]:
    """Returns the teacher's logits for one view of some rows, on the CPU.

    Args:
        row_order: That of the store whose views these are; without one, mixed views are mixed
            within the whole split.

    Raises:
        ModelError: With the first sample whose logits are not finite.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    logits = compute_logits(teacher, plan_view(split, spec, view, rows=chosen, row_order=row_order))
    check_finite(logits, split.sample_ids, view, chosen)
    return logits


def compute_logits(
    teacher: Teacher,
    plan: ViewPlan,
    on_batch: Callable[[int], object] = lambda count: None,
    left_on: torch.device = _CPU,
) -> Float[torch.Tensor, "rows classes *grid"]:
    """Returns the teacher's logits for planned views, left on a device.

    On a GPU they may not be computed yet, and nobody has looked at them: `check_finite` does, and
    waits for them."""
    split, size = plan.split, teacher.batch_size
    if teacher.device.type == "cuda" and split.device != teacher.device:
        batches = rendered_there(plan, size, teacher.device)
    else:
        batches = (plan.render(slice(start, start + size)) for start in range(0, len(plan.rows), size))
    return predict_logits(
        teacher.model, batches, teacher.device, on_batch=on_batch, left_on=left_on, precision=teacher.precision
    )


def rendered_there(plan: ViewPlan, batch_size: int, device: torch.device) -> Iterator[Integer[torch.Tensor, "_ ..."]]:
    """Yields the views of a plan, rendered on a device from inputs in this machine's memory or on
    disk.
    """
    places = [slice(start, start + batch_size) for start in range(0, len(plan.rows), batch_size)]
    groups = (plan.inputs(some) for some in places)
    for some, group in zip(places, copied_ahead(groups, device), strict=True):
        yield plan.render_inputs(some, *group)


def check_finite(
    logits: Float[torch.Tensor, "rows classes *grid"],
    sample_ids: UInt64[np.ndarray, " samples"],
    view: int | str,
    rows: Int64[np.ndarray, " rows"],
) -> None:
    """Raises ModelError with the first of some rows whose logits are not finite."""
    broken = torch.nonzero(~torch.isfinite(logits).flatten(1).all(dim=1))[:, 0]
    if len(broken):
        row = int(rows[int(broken[0])])
        raise ModelError(
            "teacher",
            f"{len(broken)} of {len(logits)} outputs of view {view} are NaN or infinite, "
            f"the first for sample {int(sample_ids[row]):016x} (row {row} of the training split)",
            expected="finite logits",
            fix="train or import the teacher again (a lower learning rate, or precision: float32)",
        )


def random_rows(seed: int, view: int, count: int, below: int) -> Int64[np.ndarray, " count"]:
    """Draws numbers below another for a view; some may be the same."""
    position = np.arange(count, dtype=np.int64)
    draws = philox(seed, (position, np.full_like(position, view), position * 0, position * 0))
    return integers_below(draws[0], below)
