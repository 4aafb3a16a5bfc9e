"""ViewSpec: the settings of all views of a store; draws whole numbers for a view and renders it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, Integer, UInt64
from pydantic import Field, PlainValidator, field_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.core.config import STRICT, validate
from pipeline.core.errors import ConfigError
from pipeline.core.files import fingerprint
from pipeline.core.sample_draws import sample_draws
from pipeline.data.input_kinds import IMAGE, INPUT_KINDS, InputKind
from pipeline.views.operations import OPERATIONS, parse_operation
from pipeline.views.operations.base import Operation, SampleOperation
from pipeline.views.operations.mixing import Mixing, next_in_ring

_MOST_OPERATIONS = 100
_SLOTS = 2  # of four random words, for each operation
_CACHED_BYTES = 1 << 19  # of samples that a thread renders together


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ViewSpec:
    """The settings of views: a seed, and operations that are applied one after the other.

    At most one operation mixes two images. It is the last one, and both images go through all
    others before.

    Args:
        plain_first: View number 0 is the image as it is.
    """

    seed: Annotated[int, Field(ge=0, lt=2**64)]
    plain_first: bool
    operations: Annotated[
        tuple[Annotated[Operation, PlainValidator(parse_operation)], ...], Field(max_length=_MOST_OPERATIONS)
    ]

    @field_validator("operations")
    @classmethod
    def _mixing_is_last(cls, operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
        if any(isinstance(operation, Mixing) for operation in operations[:-1]):
            raise PydanticCustomError("order", "at most one of mixup and cutmix or their like, and nothing after it")
        return operations

    @property
    def mixing(self) -> Mixing | None:
        """The operation that mixes two images."""
        last = self.operations[-1] if self.operations else None
        return last if isinstance(last, Mixing) else None

    @property
    def mixes(self) -> bool:
        """Whether a view may show two images; its pixels then depend on the others in its block."""
        return self.mixing is not None

    @property
    def mixes_labels(self) -> bool:
        """Whether a view may have the hard labels of two samples."""
        return self.mixing is not None and self.mixing.mixes_labels

    def check(self, input_shape: Sequence[int], where: str, kind: InputKind = IMAGE) -> None:
        """Raises ConfigError where an operation can't be applied to samples of this kind and shape.

        The shape of images is channels, height, width.
        """
        for number, operation in enumerate(self.operations):
            place = f"{where}.operations.{number}"
            if operation.input_kind != kind.name:
                things, expected = INPUT_KINDS[operation.input_kind].things, f"operations on {kind.things}"
                fitting = [name for name, one in OPERATIONS.items() if one.input_kind == kind.name]
                raise ConfigError(
                    f"{place}.kind",
                    f"{operation.kind}, which is for {things}",
                    expected=f"{expected}: {', '.join(fitting)}",
                )
            operation.check(input_shape, place)

    def draw(self, sample_ids: UInt64[np.ndarray, " samples"], view: int) -> Int64[torch.Tensor, "samples columns"]:
        """Returns the whole numbers that decide a view of each sample, operation after operation.

        That is cheap for a whole split at once (about 0.1 microseconds a sample and operation), so
        batches slice it.
        """
        if self.plain_first and view == 0:
            still = [number for operation in self.operations for number in operation.still]
            return torch.tensor(still, dtype=torch.int64).expand(len(sample_ids), -1)
        columns = [torch.empty((len(sample_ids), 0), dtype=torch.int64)]
        for position, operation in enumerate(self.operations):
            slots = range(_SLOTS * position, _SLOTS * position + -(-operation.num_words // 4))
            words = torch.cat([sample_draws(self.seed, sample_ids, view, slot) for slot in slots])
            columns.append(operation.draw(words))
        return torch.cat(columns, dim=1)

    def partners(
        self,
        sample_ids: UInt64[np.ndarray, " samples"],
        view: int,
        block_samples: int,
        rows: Int64[np.ndarray, " rows"] | None = None,
    ) -> Int64[np.ndarray, " rows"]:
        """Returns the row of each row's partner, of all rows or of `rows`.

        A partner is in the same block of `block_samples` consecutive rows, and is another image
        unless the block has only one. The choice depends on the images of the block alone, not on
        their order.
        """
        assert self.mixes, "views of one image have no partners"
        rows = np.arange(len(sample_ids)) if rows is None else rows
        # The mixing operation draws from its first slot, its partners from its second: so partners
        # do not depend on the shares.
        slot = _SLOTS * len(self.operations) - 1
        partners = np.empty_like(rows)
        for block in np.unique(rows // block_samples):
            start, asked = block * block_samples, rows // block_samples == block
            ids = sample_ids[start : start + block_samples]
            words = sample_draws(self.seed, ids, view, slot)[0].numpy()
            partners[asked] = start + next_in_ring(ids, words)[rows[asked] - start]
        return partners

    def split_draws(self, draws: Int64[torch.Tensor, "samples columns"]) -> list[Int64[torch.Tensor, "samples _"]]:
        """Returns the columns of each operation."""
        return list(draws.split([len(operation.still) for operation in self.operations], dim=1))

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec as plain JSON, with lists for tuples, as it comes back from a file."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @classmethod
    def from_dict(cls, content: object, where: str) -> "ViewSpec":
        """Raises ConfigError where `content` is not what `to_dict` gave."""
        spec: ViewSpec = validate(cls, content, where)
        return spec

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all settings."""
        return fingerprint(self.to_dict())


def render(
    images: Integer[torch.Tensor, "batch ..."],
    draws: Int64[torch.Tensor, "batch columns"],
    spec: ViewSpec,
    partner_images: Integer[torch.Tensor, "batch ..."] | None = None,
    partner_draws: Int64[torch.Tensor, "batch columns"] | None = None,
) -> Integer[torch.Tensor, "batch ..."]:
    """Returns the views of a batch, from `spec.draw(...)` of its samples.

    Where the spec mixes, it takes the partners and their draws, too.
    """
    draws = draws.to(images.device)
    if partner_draws is not None:
        partner_draws = partner_draws.to(images.device)
    if (count := _together(images)) >= len(images):
        return _render(images, draws, spec, partner_images, partner_draws)
    views = torch.empty_like(images)
    for start in range(0, len(images), count):
        some = slice(start, start + count)
        partners = (None if each is None else each[some] for each in (partner_images, partner_draws))
        views.numpy()[some] = _render(images[some], draws[some], spec, *partners).numpy()
    return views


def _together(images: torch.Tensor) -> int:
    """Returns how many samples are rendered together: on a processor as many as its caches hold.

    Of 128 images of 224 x 224 one takes 0.04 ms by 6 and 0.09 all at once where they are shifted
    and mirrored, 0.8 and 2.3 ms where they are cropped and resized, 0.2 and 1.3 ms where they are
    mixed.
    """
    if images.device.type != "cpu":
        return len(images)
    return max(1, _CACHED_BYTES * max(2, torch.get_num_threads()) // (images[:1].nbytes or 1))


def _render(
    images: torch.Tensor,
    draws: torch.Tensor,
    spec: ViewSpec,
    partner_images: torch.Tensor | None,
    partner_draws: torch.Tensor | None,
) -> torch.Tensor:
    view = _augment(images, draws, spec)
    if spec.mixing is None:
        return view
    assert partner_images is not None, "views are mixed of two images"
    assert partner_draws is not None, "each with its own draws"
    partners = _augment(partner_images, partner_draws, spec)
    return spec.mixing.mix(view, partners, spec.split_draws(draws)[-1])


def own_shares(
    draws: Int64[torch.Tensor, "samples columns"], input_shape: Sequence[int], spec: ViewSpec
) -> Float32[torch.Tensor, " samples"]:
    """Returns the share of each view that is of its own image, not of its partner: 0.5 to 1.

    It is exactly the share that `render` gives it.
    """
    if spec.mixing is None:
        return torch.ones(len(draws))
    return spec.mixing.own_shares(spec.split_draws(draws)[-1], input_shape)


def _augment(images: torch.Tensor, draws: torch.Tensor, spec: ViewSpec) -> torch.Tensor:
    """Returns samples after every operation on one sample."""
    for operation, own in zip(spec.operations, spec.split_draws(draws), strict=True):
        if isinstance(operation, SampleOperation):
            images = operation.apply(images, own)
    return images
