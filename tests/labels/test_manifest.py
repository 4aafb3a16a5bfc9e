"""The manifest: blocks cover every label once, what was signed is found again, and nothing else
passes for it.
"""

from collections.abc import Callable
from typing import Any

import pytest
from stores import FLOAT16, NONE, SPEC, SPLIT, TOPK, UINT8, manifest_of

from pipeline.core.errors import StoreError
from pipeline.labels.encodings import LabelSpace
from pipeline.labels.manifest import FORMAT, VERSION, Block, Manifest, manifest_fingerprint, parse_manifest

FIDELITY = {"num_labels": 40, "top1_agreement": 1.0, "kl_nats": {"1": {"mean": 0.0, "p999": 0.0, "max": 0.0}}}
OTHER_VIEWS = SPEC.to_dict() | {"seed": 6}
MIXED_VIEWS = SPEC.to_dict() | {"operations": [{"kind": "mixup", "alpha": 1.0, "probability": 1.0}]}


def finished(**changes: Any) -> dict[str, Any]:
    return manifest_of(UINT8, view_numbers=[3, 1], complete=True, fidelity=FIDELITY, **changes).signed()


@pytest.mark.parametrize(("num_samples", "block_samples"), [(20, 8), (16, 8), (7, 7), (5, 1), (3, 8)])
def test_blocks_hold_every_label_once_view_by_view(num_samples: int, block_samples: int) -> None:
    manifest = manifest_of(UINT8, view_numbers=[7, 2, 4], num_samples=num_samples, block_samples=block_samples)
    blocks = manifest.blocks()
    labels = [(block.view_index, block.view, row) for block in blocks for row in block.rows]
    assert labels == [(index, view, row) for index, view in enumerate([7, 2, 4]) for row in range(num_samples)]
    assert len(blocks) == 3 * manifest.blocks_per_view
    assert all(len(block.rows) <= block_samples and block.rows.start % block_samples == 0 for block in blocks)
    assert manifest.num_labels == 3 * num_samples


def test_a_block_is_named_by_the_views_number_and_not_by_its_place() -> None:
    assert Block(0, 7, range(8, 16)).name == "view 7, samples 8 to 15"


def test_a_manifest_speaks_of_the_labels_that_it_has() -> None:
    manifest = manifest_of(UINT8, view_numbers=[3, 1], temperature=2.0)
    assert (manifest.num_views, manifest.num_classes) == (2, 6)
    assert manifest.space == LabelSpace(6, 2.0, (1.0, 2.0, 4.0))


def test_what_was_signed_is_found_again() -> None:
    content = finished()
    manifest = parse_manifest(content, "x.zarr")
    assert manifest == Manifest(**content)
    assert (manifest.format, manifest.version, manifest.view_numbers) == (FORMAT, VERSION, [3, 1])
    assert manifest.signed() == content
    assert parse_manifest(dict(reversed(content.items())), "x.zarr") == manifest  # whatever the order of its keys


CHANGED = {
    "encoding": UINT8 | {"range_nats": 41.0},
    "class_names": ["a", "b", "c", "d", "f", "e"],
    "view_numbers": [1, 3],
    "num_samples": 21,
    "block_samples": 9,
    "temperature": 1.5,
    "temperatures": [1.0, 2.0],
    "views": OTHER_VIEWS,
    "dataset_fingerprint": "00fe",
    "teacher": None,
    "signal": "binary",
    "fidelity": FIDELITY | {"num_labels": 41},
    "label_bytes": 7.5,
    "table_bytes": 7,
    "anchor_bytes": 7,
    "arrays_digest": "0" * 32,
    "fingerprint": "0" * 32,
}


def test_no_key_is_left_out_of_these_tests() -> None:
    assert {*CHANGED, "format", "version", "complete"} == set(finished())


@pytest.mark.parametrize("key", CHANGED)
def test_no_key_can_be_changed_without_notice(key: str) -> None:
    content = finished() | {key: CHANGED[key]}
    with pytest.raises(StoreError, match=r"^x\.zarr: its manifest is not as it was written .*labels repair"):
        parse_manifest(content, "x.zarr")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.clear(), f"not a soft-label store; expected format '{FORMAT}'"),
        (lambda m: m.update(format="other"), f"not a soft-label store; expected format '{FORMAT}'"),
        (
            lambda m: m.update(version=VERSION + 1),
            f"format version {VERSION + 1}, newer than this program.*update Potstill",
        ),
        (lambda m: m.update(version=VERSION + 1, colour="red"), "newer than this program"),
        (lambda m: m.update(version=0), "format version 0; expected one of"),
        (lambda m: m.update(version="1"), "format version '1'; expected one of"),
        (lambda m: m.pop("version"), "format version None; expected one of"),
        (lambda m: m.pop("temperature"), r"manifest can't be read \(manifest\.temperature: this key is missing"),
        (lambda m: m.update(colour="red"), r"manifest can't be read \(manifest\.colour: unknown key"),
        (lambda m: m.update(complete=False), "is unfinished.*dvc repro dump_labels"),
        (lambda m: m.pop("complete"), "is unfinished"),
    ],
)
def test_what_is_not_a_finished_store_of_this_format_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    content = finished()
    change(content)
    content["fingerprint"] = manifest_fingerprint(content)
    with pytest.raises(StoreError, match=rf"^x\.zarr: .*{message}") as caught:
        parse_manifest(content, "x.zarr")
    assert "\n" not in str(caught.value)
    assert ("newer" in str(caught.value)) == ("newer" in message)


def test_labels_may_be_shared_whatever_the_views_samples_and_blocks() -> None:
    one = manifest_of(TOPK)
    other = manifest_of(
        TOPK,
        view_numbers=[5, 1, 9],
        num_samples=7,
        block_samples=3,
        dataset_fingerprint="1",
        fidelity={},
        complete=True,
    )
    assert one.may_share_labels(other)
    assert other.may_share_labels(one)


@pytest.mark.parametrize(
    "other",
    [
        manifest_of(TOPK | {"k": 3}),
        manifest_of(FLOAT16),
        manifest_of(NONE),
        manifest_of(TOPK, seed=1),
        manifest_of(TOPK, class_names=["b", "a", "c", "d", "e", "f"]),
        manifest_of(TOPK, temperature=2.0),
        manifest_of(TOPK, temperatures=[1.0]),
        manifest_of(TOPK, views=OTHER_VIEWS),
    ],
    ids=["settings", "encoding", "unlabelled", "teacher", "classes", "temperature", "temperatures", "views"],
)
def test_labels_are_not_shared_with_a_store_of_anything_else(other: Manifest) -> None:
    assert not manifest_of(TOPK, SPLIT).may_share_labels(other)


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"view_numbers": [5, 1]}, True),
        ({"num_samples": 19}, False),
        ({"block_samples": 7}, False),
        ({"dataset_fingerprint": "1"}, False),
    ],
)
def test_labels_of_mixed_views_are_shared_where_the_blocks_hold_the_same_images(
    changes: dict[str, Any], shared: bool
) -> None:
    one, other = manifest_of(TOPK, views=MIXED_VIEWS), manifest_of(TOPK, **({"views": MIXED_VIEWS} | changes))
    assert one.mixes
    assert not manifest_of(TOPK).mixes
    assert one.may_share_labels(other) is shared
    assert manifest_of(TOPK).may_share_labels(manifest_of(TOPK, **changes))
