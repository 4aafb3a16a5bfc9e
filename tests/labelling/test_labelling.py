"""Labelling: a store holds what the teacher predicts for the rendered views, whoever dumps it and
whatever was there before.
"""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from stores import (
    ANCHORED,
    FLOAT16,
    NONE,
    SAMPLED,
    SPEC,
    SPLIT,
    TOP_ODDS,
    TOPK,
    UINT8,
    Row,
    content,
    flip,
    is_sound,
    manifest_of,
    same_labels,
    shards,
    tables_of,
    take,
)
from torch import nn

import pipeline.labelling.dump
from pipeline.core.errors import ModelError, StoreError
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.dump import dump_labels
from pipeline.labelling.first_views import MeanPrediction, make_anchors
from pipeline.labelling.pilot import ask_pilot
from pipeline.labelling.repair import broken_blocks, repair_block, repair_store
from pipeline.labelling.takeover import EarlierStore
from pipeline.labelling.target import Target
from pipeline.labelling.teacher import Teacher
from pipeline.labelling.verify import recompute_fidelity
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import LabelSpace
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.manifest import AnchorBlock, Block, Manifest
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples
from pipeline.models import ClassifierSpec
from pipeline.sharing.claims import Claims
from pipeline.views.operations.cutmix import CutMix
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.mixup import Mixup
from pipeline.views.plan import RowOrder, plan_view
from pipeline.views.spec import ViewSpec, render

CPU = torch.device("cpu")
ONE_TEMPERATURE = LabelSpace(6, 1.0, (1.0,))
TOP = Path(__file__).parents[2]
BLOCKS = manifest_of(UINT8).blocks()
EACH_KIND = pytest.mark.parametrize(
    "row", [UINT8, TOPK, ANCHORED, TOP_ODDS], ids=["uint8", "topk", "anchored", "top_odds"]
)


def network(seed: int = 1, batch_size: int = 64) -> Teacher:
    """Returns a real network, untrained."""
    settings = {"width": 4, "depth": 1}
    model = ClassifierSpec("convnet_small", settings, num_classes=6, channels=1, mean=[0.3], std=[0.2]).build(seed)
    model.train()(SPLIT.inputs)
    with torch.no_grad():
        model.network[-1].weight *= 100  # type: ignore[index, operator]
    return Teacher(model, CPU, batch_size)


class Oracle(nn.Module):
    """A teacher that counts the images that it sees; its logits of one are exact, so that it does
    not depend on its company.
    """

    def __init__(self, seed: int = 0, on_images: Callable[[torch.Tensor], object] = lambda images: None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = torch.randint(0, 1000, (12 * 12, 6), generator=generator)
        self.images, self.on_images = 0, on_images

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)
        self.on_images(images)
        return (images.flatten(1).long() @ self.weights % 1009) / 84


def oracle(batch_size: int = 7, **settings: Any) -> tuple[Teacher, Oracle]:
    model = Oracle(**settings)
    return Teacher(model, CPU, batch_size), model


def begin(
    path: Path,
    row: Row,
    split: SplitInMemory = SPLIT,
    view_numbers: Iterable[int] = range(2),
    source: StoreReader | None = None,
    **changes: Any,
) -> Target:
    """Begins a store that takes over what an earlier one has, as the stage begins it."""
    manifest = manifest_of(row, split, view_numbers, **changes)
    taken = EarlierStore(source, StoredSamples.of(split.sample_ids)) if source else None
    writer = StoreWriter(
        path,
        path.with_suffix(".records"),
        manifest,
        split.sample_ids,
        make_canaries(
            split, spec_of(manifest), manifest.view_numbers, 6, RowOrder(split.sample_ids, manifest.block_samples)
        ),
        source.tables if source else tables_of(manifest),
    )
    return Target(writer, taken)


def spec_of(manifest: Manifest) -> ViewSpec:
    return ViewSpec.from_dict(manifest.views, "test")


def run(teacher: Teacher, targets: list[Target], split: SplitInMemory = SPLIT, **more: Any) -> None:
    manifest = targets[0].writer.manifest
    dump_labels(teacher, split, manifest.blocks(), targets, more.pop("on_labels", lambda count: None), **more)


def finish(target: Target) -> StoreReader:
    target.finish()
    return StoreReader(target.writer.path)


def dump(path: Path, row: Row, teacher: Teacher, split: SplitInMemory = SPLIT, **more: Any) -> StoreReader:
    target = begin(path, row, split, **more)
    run(teacher, [target], split)
    return finish(target)


def says(teacher: Teacher, view: int) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = teacher.model.eval()(render(SPLIT.inputs, SPEC.draw(SPLIT.sample_ids, view), SPEC))
    return logits


# What a store holds.


@pytest.mark.parametrize(("row", "tolerance"), [(FLOAT16, 0.005), (UINT8, 0.05)])
def test_labels_are_what_the_teacher_says_of_the_rendered_views(tmp_path: Path, row: Row, tolerance: float) -> None:
    store = dump(tmp_path / "x.zarr", row, network(), view_numbers=[0, 3])
    said = {view: says(network(), view) for view in (0, 3)}
    assert (said[0] - said[3]).abs().max() > 0.5  # another view gets another label
    for index, view in enumerate(said):
        for temperature in (1.0, 4.0):
            decoded = store.decode(store.read_view(index), temperature)
            exact = torch.log_softmax(said[view] / temperature, dim=1)
            torch.testing.assert_close(decoded, exact, rtol=tolerance, atol=tolerance)


def test_a_teacher_in_train_mode_labels_as_in_eval_mode_and_keeps_its_statistics(tmp_path: Path) -> None:
    teacher = network()
    before = {name: tensor.clone() for name, tensor in teacher.model.train().state_dict().items()}
    store = dump(tmp_path / "x.zarr", FLOAT16, teacher)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.model.state_dict().items())
    exact = torch.log_softmax(says(network(), 0), dim=1)
    torch.testing.assert_close(store.decode(store.read_view(0), 1.0), exact, rtol=0.005, atol=0.005)


def test_the_batch_size_does_not_matter(tmp_path: Path) -> None:
    one, other = (dump(tmp_path / f"{n}.zarr", FLOAT16, network(batch_size=n)) for n in (3, 64))
    for index in range(2):
        labels = [store.decode(store.read_view(index), 1.0) for store in (one, other)]
        torch.testing.assert_close(*labels, rtol=2e-3, atol=1e-5)


def test_one_teacher_pass_serves_every_store_and_what_is_there_is_not_labelled_again(tmp_path: Path) -> None:
    teacher, model = oracle()
    told: list[int] = []
    targets = [begin(tmp_path / f"{n}.zarr", row) for n, row in enumerate((FLOAT16, TOPK, NONE))]
    dump_labels(teacher, SPLIT, BLOCKS[:2], targets[:1], lambda count: None)
    assert model.images == 16
    model.images = 0
    run(teacher, targets, on_labels=told.append)
    assert model.images == sum(told) == 40
    run(teacher, targets, on_labels=told.append)
    assert model.images == 40
    assert sum(told) == 80
    for number, row in enumerate((FLOAT16, TOPK, NONE)):
        fresh = dump(tmp_path / f"fresh{number}.zarr", row, teacher)
        assert content(fresh.path) == content(finish(targets[number]).path)


class Broken(nn.Module):
    """A teacher that gives a value that is not finite for one image."""

    def __init__(self, image: torch.Tensor, value: float) -> None:
        super().__init__()
        self.image, self.value = image, value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(images), 6)
        logits[(images == self.image).flatten(1).all(dim=1), 2] = self.value
        return logits


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_output_that_is_not_finite_names_its_sample_and_is_not_stored(tmp_path: Path, value: float) -> None:
    row = 13
    pixels = render(SPLIT.inputs[row : row + 1], SPEC.draw(SPLIT.sample_ids[row : row + 1], 1), SPEC)
    target = begin(tmp_path / "x.zarr", FLOAT16)
    named = f"1 of 8 outputs of view 1 are NaN or infinite, .* sample {int(SPLIT.sample_ids[row]):016x} .row 13 "
    with pytest.raises(ModelError, match=named):
        run(Teacher(Broken(pixels[0], value), CPU, 4), [target])
    assert [target.writer.has(block) for block in BLOCKS] == [True] * 4 + [False] * 2


def test_a_sample_whose_output_is_not_finite_is_named_among_those_that_were_new(tmp_path: Path) -> None:
    old = dump(tmp_path / "old.zarr", UINT8, oracle()[0], take([n for n in range(20) if n != 13]))
    draws = SPEC.draw(SPLIT.sample_ids[13:14], 1)
    broken = Teacher(Broken(render(SPLIT.inputs[13:14], draws, SPEC)[0], float("nan")), CPU, 4)
    with pytest.raises(ModelError, match=rf"1 of 1 outputs of view 1 .* {int(SPLIT.sample_ids[13]):016x} .row 13 "):
        run(broken, [begin(tmp_path / "new.zarr", UINT8, source=old)])


# Labels that an earlier store holds.

MORE = make_split(29)
MIXED = np.random.default_rng(3).permutation(29)


def test_the_larger_data_begin_with_the_smaller() -> None:
    np.testing.assert_array_equal(MORE.sample_ids[:20], SPLIT.sample_ids)


@pytest.mark.parametrize(
    ("row", "old_rows", "old_views", "new_rows", "new_views"),
    [
        (TOPK, range(20), [0, 1], range(20), [0, 1, 2, 3]),
        (UINT8, range(20), [0, 1, 2], range(20), [2, 0]),
        (UINT8, range(20), [4], range(20), [1, 4]),
        (UINT8, range(20), [0, 1], range(29), [0, 1]),
        (TOPK, range(20), [0, 1], MIXED, [0, 1]),
        (UINT8, range(20), [0, 1], range(19, -1, -1), [0, 1]),
        (TOPK, range(20), [0, 1], [3, 5, 17, 4], [0, 1]),
        (TOPK, MIXED[:20], [0, 1], range(29), [2, 1]),
        (UINT8, range(20), [0, 1], range(20), [2, 3]),
        (UINT8, range(10), [0, 1], range(10, 29), [0, 1]),
        (SAMPLED, MIXED[:20], [0, 1], range(29), [2, 1]),
        (ANCHORED, range(20), [0, 1], range(20), [0, 1, 2]),
        (ANCHORED, range(20), [0, 1], range(20), [2, 3]),
        (ANCHORED, range(20), [0, 1], MIXED, [0, 1]),
    ],
    ids=[
        *("more views", "fewer views", "a view before", "more samples", "more samples in between", "reordered"),
        *("fewer samples", "all at once", "other views", "other samples", "sampled"),
        *("anchored, more views", "anchored, other views", "anchored, more samples"),
    ],
)
def test_labels_of_an_earlier_store_are_taken_over_and_the_teacher_is_asked_for_the_others(
    tmp_path: Path, row: Row, old_rows: Any, old_views: list[int], new_rows: Any, new_views: list[int]
) -> None:
    new_split, told = take(new_rows, MORE), []
    fresh = dump(tmp_path / "fresh.zarr", row, oracle()[0], new_split, view_numbers=new_views)
    old = dump(tmp_path / "old.zarr", row, oracle()[0], take(old_rows, MORE), view_numbers=old_views)
    teacher, model = oracle()
    target = begin(tmp_path / "new.zarr", row, new_split, new_views, old)
    run(teacher, [target], new_split, on_labels=told.append)
    grown = finish(target)

    known = len({*map(int, old_rows)} & {*map(int, new_rows)}) * len({*old_views} & {*new_views})
    assert model.images == len(new_rows) * len(new_views) - known
    assert sum(told) == len(new_rows) * len(new_views)
    assert same_labels(grown, fresh)
    assert is_sound(grown)
    assert grown.samples.same(StoredSamples.of(new_split.sample_ids))
    if list(old_rows) == list(new_rows):  # block by block, as if it had been dumped in one go
        assert content(grown.path) == content(fresh.path)
    # Inherited: the measured labels of the views in question, whether or not their samples are
    # still here.
    shared = [
        part for part, block in zip(old.fidelity_parts, old.manifest.blocks(), strict=True) if block.view in new_views
    ]
    inherited: Any = Fidelity.merge(shared).summary() if shared else {"num_labels": 0}
    stated: Any = grown.manifest.fidelity
    assert stated["num_labels"] == inherited["num_labels"] + model.images
    if {*map(int, old_rows)} <= {*map(int, new_rows)}:  # then it is of the very labels that are here
        wanted: Any = fresh.manifest.fidelity
        assert stated["num_labels"] == wanted["num_labels"]
        assert stated["top1_agreement"] == wanted["top1_agreement"]
        for temperature, kl in wanted["kl_nats"].items():
            # How float32 is rounded may depend on how many rows are decoded at once.
            assert stated["kl_nats"][temperature] == pytest.approx(kl, rel=1e-4)
    elif model.images == 0:
        assert stated == inherited


def test_a_grown_store_can_be_grown_again(tmp_path: Path) -> None:
    teacher, model = oracle()
    one = dump(tmp_path / "1.zarr", TOPK, teacher, take(range(11)), view_numbers=[0])
    two = dump(tmp_path / "2.zarr", TOPK, teacher, view_numbers=[0, 1], source=one)
    three = dump(tmp_path / "3.zarr", TOPK, teacher, MORE, view_numbers=[0, 1, 2], source=two)
    assert model.images == 29 * 3
    fresh = dump(tmp_path / "fresh.zarr", TOPK, teacher, MORE, view_numbers=[0, 1, 2])
    assert same_labels(three, fresh)
    assert is_sound(three)
    stated, wanted = three.manifest.fidelity, fresh.manifest.fidelity
    assert stated is not None
    assert wanted is not None
    assert stated["num_labels"] == wanted["num_labels"]
    assert stated["kl_nats"]["2"] == pytest.approx(wanted["kl_nats"]["2"], rel=1e-5)


@pytest.mark.parametrize("block_samples", [1, 3, 8])
def test_fidelity_of_blocks_that_grow_is_counted_once(tmp_path: Path, block_samples: int) -> None:
    """Also where a block is a single sample."""
    rows = [0, 1, 2, 6, 7, 8]
    old = dump(tmp_path / "old.zarr", UINT8, oracle()[0], take(rows), block_samples=block_samples)
    fresh = dump(tmp_path / "fresh.zarr", UINT8, oracle()[0], take(range(9)), block_samples=block_samples)
    new = dump(tmp_path / "new.zarr", UINT8, oracle()[0], take(range(9)), source=old, block_samples=block_samples)
    assert same_labels(new, fresh)
    assert is_sound(new)
    stated, wanted = new.manifest.fidelity, fresh.manifest.fidelity
    assert stated is not None
    assert wanted is not None
    assert stated["num_labels"] == wanted["num_labels"] == 18
    assert stated["kl_nats"]["1"] == pytest.approx(wanted["kl_nats"]["1"], rel=1e-12)


def test_stores_with_different_pasts_are_written_in_one_pass(tmp_path: Path) -> None:
    rows = (UINT8, SAMPLED, FLOAT16, NONE)
    first = dump(tmp_path / "first.zarr", UINT8, oracle()[0], take(range(12)))
    last = dump(tmp_path / "last.zarr", SAMPLED, oracle()[0], take(range(6, 20)))
    sources = (first, last, None, None)
    for number in (3, 2):  # with a store that knows nothing, and without
        teacher, model = oracle()
        targets = [begin(tmp_path / f"{number}{n}.zarr", rows[n], source=sources[n]) for n in range(4) if n != number]
        run(teacher, targets)
        assert model.images == (2 * 20 if number == 3 else 2 * (6 + 8))
        for target in targets:
            row = target.writer.manifest.encoding
            store = finish(target)
            assert is_sound(store)
            assert same_labels(store, dump(tmp_path / f"fresh{number}{row['kind']}.zarr", row, oracle()[0]))


@pytest.mark.parametrize("row", [TOPK, ANCHORED], ids=["topk", "anchored"])
def test_a_killed_growth_goes_on_to_the_same_bytes(tmp_path: Path, row: Row) -> None:
    old = dump(tmp_path / "old.zarr", row, oracle()[0], view_numbers=[0, 1])

    def grow(name: str, kill_after: int) -> StoreReader:
        told: list[int] = []

        def on_labels(count: int) -> None:
            told.append(count)
            if sum(told) > kill_after:
                raise KeyboardInterrupt

        target = begin(tmp_path / name, row, MORE, [0, 1, 2], old)
        try:
            run(oracle()[0], [target], MORE, on_labels=on_labels)
        except KeyboardInterrupt:
            run(oracle()[0], [begin(tmp_path / name, row, MORE, [0, 1, 2], old)], MORE)
        return finish(begin(tmp_path / name, row, MORE, [0, 1, 2], old))

    whole = content(grow("whole.zarr", 999).path)
    for kill_after in (5, 60):
        assert content(grow(f"{kill_after}.zarr", kill_after).path) == whole


def test_damaged_labels_are_not_taken_over(tmp_path: Path) -> None:
    old = dump(tmp_path / "old.zarr", UINT8, oracle()[0])
    flip(shards(old.path, "log_prob_codes")[4])
    with pytest.raises(StoreError, match=r"old\.zarr/log_prob_codes.*damaged"):
        dump(tmp_path / "new.zarr", UINT8, oracle()[0], view_numbers=[0, 1, 2], source=old)


# Anchors, made of the first views.


def test_anchors_are_made_of_the_first_views_whatever_views_a_store_holds(tmp_path: Path) -> None:
    row = ANCHORED | {"anchor_views": 3}
    mean = MeanPrediction(1.0)
    for view in range(3):
        mean.add(says(oracle()[0], view))
    for number, views in enumerate(([0, 1, 2], [0, 1], [5, 4, 1])):
        teacher, model = oracle()
        store = dump(tmp_path / f"{number}.zarr", row, teacher, view_numbers=views)
        made = make_anchors(store.codec, mean.log_probs())
        assert {name: values.tolist() for name, values in store.read_anchors(range(20)).items()} == {
            name: values.tolist() for name, values in made.items()
        }
        assert model.images == 20 * len({0, 1, 2, *views})  # none twice


def test_one_pass_serves_stores_with_and_without_anchors(tmp_path: Path) -> None:
    rows = [TOPK, ANCHORED, ANCHORED | {"anchor_views": 1, "k": 1}]
    teacher, model = oracle()
    targets = [begin(tmp_path / f"{n}.zarr", row, view_numbers=range(3)) for n, row in enumerate(rows)]
    run(teacher, targets)
    assert model.images == 60
    for number, row in enumerate(rows):
        fresh = dump(tmp_path / f"fresh{number}.zarr", row, oracle()[0], view_numbers=range(3))
        assert content(finish(targets[number]).path) == content(fresh.path)


def test_logits_that_are_not_kept_are_computed_again_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = content(dump(tmp_path / "kept.zarr", ANCHORED, oracle()[0]).path)
    monkeypatch.setattr(pipeline.labelling.dump, "_KEPT_BYTES", 8 * 6 * 4)  # one view of a block
    teacher, model = oracle()
    assert content(dump(tmp_path / "x.zarr", ANCHORED, teacher).path) == kept
    assert model.images == 40 + 20 - 4  # the last block is half as large


@pytest.mark.parametrize("kill_after", [5, 21, 45])
def test_a_killed_dump_loses_the_anchors_of_one_block_at_most(tmp_path: Path, kill_after: int) -> None:
    def interrupt(images: torch.Tensor) -> None:
        if model.images > kill_after:
            raise KeyboardInterrupt

    whole = content(dump(tmp_path / "whole.zarr", ANCHORED, oracle()[0], view_numbers=range(3)).path)
    model, path = Oracle(on_images=interrupt), tmp_path / "x.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(Teacher(model, CPU, 4), [begin(path, ANCHORED, view_numbers=range(3))])
    teacher, again = oracle()
    target = begin(path, ANCHORED, view_numbers=range(3))
    run(teacher, [target])
    assert content(finish(target).path) == whole
    assert again.images <= 60 - kill_after + 2 * 8


def test_workers_share_anchors_and_label_every_view_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.labelling.dump, "_WAIT_SECONDS", 0.01)
    whole = content(dump(tmp_path / "whole.zarr", ANCHORED, oracle()[0], view_numbers=range(3)).path)
    blocks = manifest_of(ANCHORED, view_numbers=range(3)).blocks()
    models = [Oracle(on_images=lambda images: time.sleep(0.02)) for _ in range(3)]
    ready, done = threading.Barrier(3, timeout=60), list[Target]()

    def one(number: int) -> None:
        target, claims = begin(tmp_path / "x.zarr", ANCHORED, view_numbers=range(3)), Claims(tmp_path / "claims")
        turn = [*blocks[number:3], *blocks[:number], *blocks[3:]]
        ready.wait()
        dump_labels(Teacher(models[number], CPU, 8), SPLIT, turn, [target], lambda count: None, claims)
        done.append(target)

    begin(tmp_path / "x.zarr", ANCHORED, view_numbers=range(3))
    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 3
    assert sum(model.images for model in models) == 60
    assert content(finish(done[0]).path) == whole


def test_anchors_that_were_lost_are_repaired_bit_for_bit(tmp_path: Path) -> None:
    store = dump(tmp_path / "x.zarr", ANCHORED, oracle()[0])
    whole, now = content(store.path), str((store.manifest.teacher or {})["fingerprint"])
    flip(shards(store.path, "anchor_steps")[1])
    broken = broken_blocks(store.path)
    assert broken == [AnchorBlock(range(8, 16))]
    teacher, model = oracle()
    assert list(repair_store(StoreReader(store.path), broken, teacher, SPLIT, now)) == [(broken[0], True)]
    assert model.images == 16
    assert content(store.path) == whole


def test_anchors_that_are_repaired_on_another_machine_take_their_labels_with_them(tmp_path: Path) -> None:
    store = dump(tmp_path / "x.zarr", ANCHORED, oracle()[0])
    now = str((store.manifest.teacher or {})["fingerprint"])
    broken = [AnchorBlock(range(8, 16))]
    repaired = dict(repair_store(store, broken, oracle(seed=1)[0], SPLIT, now))
    assert repaired == dict.fromkeys([*broken, BLOCKS[1], BLOCKS[4]], False)
    assert is_sound(StoreReader(store.path))
    other = dump(tmp_path / "other.zarr", ANCHORED, oracle(seed=1)[0])
    for index in range(2):
        now_there, wanted = (s.read_view(index, range(8, 16)) for s in (StoreReader(store.path), other))
        assert all(torch.equal(now_there[name], wanted[name]) for name in wanted)


# The pilot.


def test_the_pilot_is_what_the_teacher_says_of_views_drawn_at_random(tmp_path: Path) -> None:
    teacher, model = oracle()
    pilot = ask_pilot(teacher, SPLIT, SPEC, [4, 2, 7], 30, LabelSpace(6, 2.0, (2.0,))).values
    assert (len(pilot), model.images) == (30, 30)
    for number, view in enumerate([4, 2, 7]):
        known = {tuple(row) for row in torch.log_softmax(says(teacher, view) / 2.0, dim=1).tolist()}
        part = [tuple(row) for row in pilot[10 * number : 10 * number + 10].tolist()]
        assert {*part} <= known
        assert len({*part}) > 4


@pytest.mark.parametrize(("num_labels", "made"), [(1, 3), (10, 12), (30, 30), (60, 60), (10_000, 60)])
def test_the_pilot_has_about_as_many_labels_as_were_asked_for(num_labels: int, made: int) -> None:
    assert len(ask_pilot(oracle()[0], SPLIT, SPEC, [0, 1, 2], num_labels, ONE_TEMPERATURE).values) == made


def test_the_pilot_is_the_same_again_whatever_the_batches_and_another_for_another_seed() -> None:
    pilot = ask_pilot(oracle()[0], SPLIT, SPEC, range(2), 20, ONE_TEMPERATURE).values
    assert torch.equal(pilot, ask_pilot(oracle(batch_size=64)[0], SPLIT, SPEC, range(2), 20, ONE_TEMPERATURE).values)
    still = [ViewSpec(seed=seed, plain_first=False, operations=()) for seed in (5, 6)]  # the same pixels, other rows
    pilots = [ask_pilot(oracle()[0], SPLIT, spec, range(2), 20, ONE_TEMPERATURE).values for spec in still]
    assert not torch.equal(*pilots)


# Several processes.


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, bytes]:
    """Returns what one process makes."""
    return content(dump(tmp_path / "alone.zarr", TOPK, oracle()[0]).path)


def work(
    folder: Path,
    first: int,
    model: Oracle,
    told: list[int],
    ready: Callable[[], object] = lambda: None,
    over: Callable[[], bool] = lambda: False,
) -> Target:
    """Works as one of several who dump `folder/x.zarr`."""
    claims = Claims(folder / "claims", over)
    with claims.hold("begin"):
        target = begin(folder / "x.zarr", TOPK)
    ready()
    turn = [*BLOCKS[first:], *BLOCKS[:first]]
    dump_labels(Teacher(model, CPU, 8), SPLIT, turn, [target], told.append, claims)
    return target


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("starts", [(0, 0, 0), (0, 2, 4), (5, 0, 3)], ids=str)
def test_workers_who_share_a_store_label_every_block_once_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: dict[str, bytes], starts: tuple[int, ...]
) -> None:
    monkeypatch.setattr(pipeline.labelling.dump, "_WAIT_SECONDS", 0.01)
    models = [Oracle(on_images=lambda images: time.sleep(0.05)) for _ in starts]
    ready = threading.Barrier(len(starts), timeout=60)
    told: list[list[int]] = [[] for _ in starts]
    done: list[Target] = []

    def one(number: int) -> None:
        done.append(work(tmp_path, starts[number], models[number], told[number], ready.wait))

    threads = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(len(starts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == len(starts)
    assert sum(model.images for model in models) == 40
    assert sum(model.images > 0 for model in models) > 1
    assert [sum(counts) for counts in told] == [40] * len(starts)
    assert content(finish(done[0]).path) == alone


def test_a_block_that_another_holds_is_waited_for_and_not_labelled_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: dict[str, bytes]
) -> None:
    monkeypatch.setattr(pipeline.labelling.dump, "_WAIT_SECONDS", 0.01)
    model, told, held = Oracle(), [], BLOCKS[4]
    with Claims(tmp_path / "claims").hold("1-8"):
        thread = threading.Thread(target=work, args=(tmp_path, 0, model, told), daemon=True)
        thread.start()
        wait_for(lambda: sum(told) == 32)
        thread.join(0.2)
        assert thread.is_alive()
        target = begin(tmp_path / "x.zarr", TOPK)
        dump_labels(oracle()[0], SPLIT, [held], [target], lambda count: None)  # the holder does its part
    thread.join(30)
    assert not thread.is_alive()
    assert (model.images, sum(told)) == (32, 40)
    assert content(finish(target).path) == alone


def test_a_worker_stops_where_another_has_published(tmp_path: Path) -> None:
    model, told = Oracle(), []
    target = work(tmp_path, 0, model, told, over=lambda: True)
    assert (model.images, told) == (0, [])
    assert not any(target.writer.has(block) for block in BLOCKS)


def test_a_worker_stops_where_another_publishes_while_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.labelling.dump, "_WAIT_SECONDS", 0.01)
    model, told, published = Oracle(), [], threading.Event()
    with Claims(tmp_path / "claims").hold("0-0"):
        over = {"over": published.is_set}
        thread = threading.Thread(target=work, args=(tmp_path, 0, model, told), kwargs=over, daemon=True)
        thread.start()
        wait_for(lambda: sum(told) == 32)
        assert thread.is_alive()
        published.set()
    thread.join(30)
    assert not thread.is_alive()
    assert model.images == 32


def work_until_killed(folder: Path) -> None:
    """Works in a process of its own: labels some blocks, says so, and gets stuck in the next."""
    model = Oracle()

    def stuck(images: torch.Tensor) -> None:
        if model.images > 16:
            print("at work", flush=True)
            time.sleep(600)

    model.on_images = stuck
    work(folder, 3, model, [])


def test_the_blocks_of_a_killed_process_are_labelled_by_another_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: dict[str, bytes]
) -> None:
    monkeypatch.setattr(pipeline.labelling.dump, "_WAIT_SECONDS", 0.01)
    script = "import sys, pathlib, test_labelling; test_labelling.work_until_killed(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": f"{TOP}:{TOP / 'tests'}:{Path(__file__).parent}"}
    with subprocess.Popen(command, cwd=TOP, env=environment, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "at work\n"
            model, told = Oracle(), []
            thread = threading.Thread(target=work, args=(tmp_path, 0, model, told), daemon=True)
            thread.start()
            wait_for(lambda: sum(told) == 36)
            thread.join(0.2)
            assert thread.is_alive()  # block 5 is held by the other process
        finally:
            other.kill()  # SIGKILL
    thread.join(30)
    assert not thread.is_alive()
    assert model.images == 40 - 16
    assert sum(told) == 40
    assert content(finish(begin(tmp_path / "x.zarr", TOPK)).path) == alone


# Written behind the teacher's back, as on a GPU.


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.labelling.write_behind._BLOCKS_BEHIND", {"cpu": 2})


def slow_writes(monkeypatch: pytest.MonkeyPatch, on_write: Callable[[int], object]) -> list[int]:
    """Has something done before each block is written; the blocks that were, in their order."""
    real, written = StoreWriter.write_labels, []

    def write_labels(self: StoreWriter, block: Block, *others: Any) -> None:
        on_write(len(written))
        real(self, block, *others)
        written.append(BLOCKS.index(block))

    monkeypatch.setattr(StoreWriter, "write_labels", write_labels)
    return written


@pytest.mark.usefixtures("behind")
def test_the_teacher_goes_on_while_blocks_are_written_and_is_two_ahead_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Oracle()
    seen: list[int] = []

    def on_write(number: int) -> None:
        wait_for(lambda: model.images >= min(8 * (number + 2), 36))  # else it would never end
        time.sleep(0.1)
        seen.append(model.images)

    written = slow_writes(monkeypatch, on_write)
    target = begin(tmp_path / "x.zarr", TOPK)
    run(Teacher(model, CPU, 8), [target])
    assert written == list(range(6))
    borders = [8, 16, 20, 28, 36, 40, 40, 40, 40]
    assert all(seen[number] <= borders[number + 3] for number in range(6))


@EACH_KIND
@pytest.mark.usefixtures("behind")
def test_what_is_written_behind_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    old = dump(tmp_path / "old.zarr", row, oracle()[0], take(range(11)), view_numbers=[0])
    stores = [dump(tmp_path / "late.zarr", row, oracle()[0], source=old)]
    monkeypatch.setattr("pipeline.labelling.write_behind._BLOCKS_BEHIND", {})
    stores.append(dump(tmp_path / "at_once.zarr", row, oracle()[0], source=old))
    assert content(stores[0].path) == content(stores[1].path)


@pytest.mark.usefixtures("behind")
def test_a_dump_that_is_interrupted_keeps_what_was_handed_over_and_goes_on_to_the_same_bytes(
    tmp_path: Path, alone: dict[str, bytes]
) -> None:
    def interrupt(images: torch.Tensor) -> None:
        if model.images > 26:
            raise KeyboardInterrupt

    model = Oracle(on_images=interrupt)
    target = begin(tmp_path / "x.zarr", TOPK)
    with pytest.raises(KeyboardInterrupt):
        run(Teacher(model, CPU, 4), [target])
    assert [target.writer.has(block) for block in BLOCKS] == [True] * 3 + [False] * 3
    run(oracle()[0], [target])
    assert content(finish(target).path) == alone


@pytest.mark.usefixtures("behind")
def test_an_output_that_is_not_finite_stops_what_is_written_behind(tmp_path: Path) -> None:
    pixels = render(SPLIT.inputs[13:14], SPEC.draw(SPLIT.sample_ids[13:14], 1), SPEC)
    target = begin(tmp_path / "x.zarr", FLOAT16)
    with pytest.raises(ModelError, match=r"1 of 8 outputs of view 1 are NaN or infinite, .* .row 13 "):
        run(Teacher(Broken(pixels[0], float("nan")), CPU, 4), [target])
    assert [target.writer.has(block) for block in BLOCKS] == [True] * 4 + [False] * 2


@pytest.mark.usefixtures("behind")
def test_a_full_disk_stops_the_teacher_and_nothing_is_written_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        if number == 1:
            time.sleep(0.05)  # so that others wait
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model, claims = Oracle(), Claims(tmp_path / "claims")
    written = slow_writes(monkeypatch, full)
    target = begin(tmp_path / "x.zarr", TOPK)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        run(Teacher(model, CPU, 8), [target], claims=claims)
    assert written == [0]
    assert model.images < 40
    for block in BLOCKS:
        with claims.attempt(f"{block.view}-{block.rows.start}") as free:
            assert free


@pytest.mark.usefixtures("behind")
@pytest.mark.parametrize("starts", [(0, 0, 0), (5, 0, 3)], ids=str)
def test_workers_who_write_behind_label_every_block_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: dict[str, bytes], starts: tuple[int, ...]
) -> None:
    test_workers_who_share_a_store_label_every_block_once_to_the_same_bytes(tmp_path, monkeypatch, alone, starts)


# Checks and repairs.


@pytest.mark.parametrize("row", [FLOAT16, UINT8, ANCHORED, SAMPLED], ids=["float16", "uint8", "anchored", "sampled"])
def test_the_same_teacher_is_near_the_stated_fidelity_and_another_is_far(tmp_path: Path, row: Row) -> None:
    store = dump(tmp_path / "x.zarr", row, network(), view_numbers=[5, 1])
    stated: Any = store.manifest.fidelity
    same = recompute_fidelity(network(), SPLIT, store, 200, seed=3)
    other = recompute_fidelity(network(seed=2), SPLIT, store, 200, seed=3)
    assert list(same["kl_nats"]) == list(stated["kl_nats"])
    for temperature in same["kl_nats"]:
        now, then = same["kl_nats"][temperature], stated["kl_nats"][temperature]
        assert now["max"] <= 1.05 * then["max"] + 1e-6
        assert now["mean"] == pytest.approx(then["mean"], rel=0.2, abs=1e-6)
        assert other["kl_nats"][temperature]["mean"] > (100 if row in (FLOAT16, UINT8) else 5) * then["mean"]
    assert same["top1_agreement"] == pytest.approx(stated["top1_agreement"], abs=0.05)
    assert other["top1_agreement"] < same["top1_agreement"]


def test_labels_are_checked_and_repaired_in_the_number_format_that_they_were_made_in(tmp_path: Path) -> None:
    about = {"fingerprint": "0001", "precision": "bfloat16"}
    target = begin(tmp_path / "x.zarr", FLOAT16, teacher=about)
    run(network().in_precision("bfloat16"), [target])
    store = finish(target)
    exact = dump(tmp_path / "y.zarr", FLOAT16, network())
    assert not same_labels(store, exact)
    assert recompute_fidelity(network(), SPLIT, store, 200, seed=3)["kl_nats"]["1"]["max"] < 1e-5
    whole = content(store.path)
    flip(shards(store.path, "log_probs")[0])
    (broken,) = (block for block, fault in StoreReader(store.path).check() if fault)
    assert repair_block(network(), SPLIT, StoreReader(store.path), broken)
    assert content(store.path) == whole


def test_the_check_follows_images_that_were_reordered_or_left_out(tmp_path: Path) -> None:
    store = dump(tmp_path / "x.zarr", FLOAT16, network())
    some = take(range(19, 5, -1))
    assert recompute_fidelity(network(), some, store, 200, seed=3)["kl_nats"]["1"]["max"] < 1e-5


def test_the_check_of_wrong_labels_does_not_pass(tmp_path: Path) -> None:
    store = dump(tmp_path / "x.zarr", FLOAT16, network())
    moved = SplitInMemory(
        SPLIT.inputs.roll(1, 0), SPLIT.hard_labels, SPLIT.sample_ids
    )  # ids that do not fit the images
    assert recompute_fidelity(network(), moved, store, 200, seed=3)["kl_nats"]["1"]["mean"] > 0.01


@EACH_KIND
def test_a_damaged_block_is_repaired_bit_for_bit_wherever_its_images_are_now(tmp_path: Path, row: Row) -> None:
    store = dump(tmp_path / "x.zarr", row, oracle()[0])
    whole = content(store.path)
    for file in shards(store.path, next(iter(store.read_view(0))))[4:]:
        flip(file)
    for split in (SPLIT, take(MIXED, MORE)):
        broken = [block for block, fault in StoreReader(store.path).check() if fault]
        for block in broken:
            teacher, model = oracle()
            assert repair_block(teacher, split, StoreReader(store.path), block)
            assert model.images == len(block.rows)
        assert content(store.path) == whole
        flip(shards(store.path, next(iter(store.read_view(0))))[0])


def test_a_block_that_is_repaired_on_another_machine_is_sound_though_not_the_same(tmp_path: Path) -> None:
    store = dump(tmp_path / "x.zarr", TOPK, oracle()[0])
    whole = content(store.path)
    assert not repair_block(oracle(seed=1)[0], SPLIT, store, BLOCKS[2])
    again = StoreReader(store.path)
    assert is_sound(again)
    assert content(store.path) != whole
    assert again.manifest.fidelity == Fidelity.merge(again.fidelity_parts).summary()


# Views of two images.

MIXED_VIEWS = {
    name: ViewSpec(seed=5, plain_first=True, operations=(FlipHorizontal(probability=0.5), mixing)).to_dict()
    for name, mixing in {
        "mixup": Mixup(alpha=1.0, probability=0.9),
        "cutmix": CutMix(alpha=1.0, probability=0.9),
    }.items()
}
EACH_MIXED = pytest.mark.parametrize("views", MIXED_VIEWS.values(), ids=MIXED_VIEWS)


@EACH_MIXED
def test_labels_of_mixed_views_are_what_the_teacher_says_of_the_mixed_pixels(tmp_path: Path, views: Row) -> None:
    seen: list[torch.Tensor] = []
    store = dump(tmp_path / "x.zarr", UINT8, oracle(on_images=seen.append)[0], views=views)
    shown = torch.cat(
        [plan_view(SPLIT, store.views, v, row_order=store.row_order(SPLIT)).render(slice(None)) for v in (0, 1)]
    )
    assert torch.equal(torch.cat(seen), shown)
    assert torch.equal(shown[:20], SPLIT.inputs)
    assert is_sound(store)


@EACH_MIXED
def test_a_killed_dump_of_mixed_views_goes_on_to_the_same_bytes_and_a_broken_block_is_repaired(
    tmp_path: Path, views: Row
) -> None:
    whole = content(dump(tmp_path / "whole.zarr", UINT8, oracle()[0], views=views).path)
    target = begin(tmp_path / "x.zarr", UINT8, views=views)
    for block in target.writer.manifest.blocks()[::-2]:
        dump_labels(oracle(batch_size=3)[0], SPLIT, [block], [target], lambda count: None)
    run(oracle()[0], [target])
    store = finish(target)
    assert content(store.path) == whole
    turned = take(range(19, -1, -1))
    flip(shards(store.path, "log_prob_codes")[4])
    (broken,) = [block for block, fault in StoreReader(store.path).check() if fault]
    assert repair_block(oracle()[0], turned, StoreReader(store.path), broken)
    assert content(store.path) == whole
    stated: Any = store.manifest.fidelity
    now = recompute_fidelity(oracle()[0], turned, store, 200, seed=3)
    assert now["kl_nats"]["1"]["max"] <= stated["kl_nats"]["1"]["max"]
    with pytest.raises(StoreError, match="mixed of two images"):
        recompute_fidelity(oracle()[0], take(range(19)), store, 200, seed=3)


@EACH_MIXED
def test_more_mixed_views_ask_the_teacher_for_the_new_ones_alone(tmp_path: Path, views: Row) -> None:
    earlier = dump(tmp_path / "earlier.zarr", UINT8, oracle()[0], views=views)
    teacher, model = oracle()
    grown = dump(tmp_path / "x.zarr", UINT8, teacher, view_numbers=range(3), source=earlier, views=views)
    assert model.images == len(SPLIT)
    assert same_labels(grown, dump(tmp_path / "fresh.zarr", UINT8, oracle()[0], view_numbers=range(3), views=views))
