"""Budgets in place of encodings: chosen once from the pilot, kept by whoever goes on, told in a
line.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_split
from stores import FLOAT16, SPEC, TEMPERATURES, UINT8, content, manifest_of
from test_labelling import Oracle, oracle

from pipeline.core.closure import TOP
from pipeline.core.config import validate_kind
from pipeline.core.errors import ConfigError, StoreError
from pipeline.core.scratch import SharedScratch
from pipeline.labelling import ladder as rungs
from pipeline.labelling import run
from pipeline.labelling.budgets import settle
from pipeline.labelling.pilot import Pilot
from pipeline.labelling.run import work_on_dump
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.site import DumpSite
from pipeline.labelling.stores import DumpPlan, TeacherFacts
from pipeline.labels.encodings import Budget, EncodingRow, build_encoding, build_row
from pipeline.labels.encodings.unlabelled import Unlabelled
from pipeline.labels.reader import StoreReader
from pipeline.sharing.claims import Claims
from pipeline.sharing.workers import Worker

SPLIT, PILOT = make_split(300), 400
FACTS = TeacherFacts("0000", "oracle", {}, 0.9, 1.0, "float32")
FULL, KEPT = rungs.ladder, ("dense_float16", "dense_uint8/64", "topk 1/64 uniform")
SOFT, WIDE, ALONE = Budget(bytes=6.0), Budget(bytes=100.0), Worker()


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Leaves a few rungs of the ladder."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, KEPT)
        yield


def shorten(patch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    patch.setattr(rungs, "ladder", lambda space, counts: {name: FULL(space, counts)[name] for name in names})


@pytest.fixture
def no_choice(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Returns a function after which nothing can be chosen any more."""

    def fail(*_: object) -> Any:
        raise AssertionError("it is chosen already")

    return lambda: monkeypatch.setattr(rungs, "ladder", fail)


def plan_of(rows: dict[str, EncodingRow], num_views: int = 2) -> DumpPlan:
    settings = DumpLabels(
        temperature=1.0,
        temperatures=TEMPERATURES,
        pilot_labels=PILOT,
        block_samples=128,
        num_canaries=6,
        num_views=num_views,
        batch_size=64,
        device="cpu",
        precision="float32",
        compile=False,
        memory_budget_mb=100,
        views=SPEC,
    )
    views = range(num_views)
    manifests = {name: manifest_of(row.to_dict(), SPLIT, views, block_samples=128) for name, row in rows.items()}
    return DumpPlan(settings, rows, manifests, FACTS)


def dump(
    folder: Path,
    budget: Budget = SOFT,
    num_views: int = 2,
    grow: Path | None = None,
    model: Oracle | None = None,
    worker: Worker = ALONE,
) -> StoreReader:
    """Returns the store that a worker makes for a budget, beside one without labels."""
    plan, work = plan_of({"soft": budget, "none": Unlabelled()}, num_views), folder / "work"
    teacher, _ = oracle(batch_size=64)
    if model is not None:
        teacher.model.forward = model.forward  # type: ignore[method-assign]
    with SharedScratch(folder / "out", plan.decides | {"device": "cpu"}, work, code=TOP / "stages/clean.py") as scratch:
        if not scratch.done:
            site = DumpSite(scratch, Claims(work / "claims", lambda: scratch.done), worker, grow)
            work_on_dump(site, plan, SPLIT, teacher)
    return StoreReader(folder / "out/soft.zarr")


def bytes_per_label(store: StoreReader) -> float:
    """Returns the bytes of fields, anchors and tables on disk."""
    names = [*store.encoding.row_arrays(store.manifest.space), *store.encoding.tables(store.manifest.space)]
    files = [file for name in names for file in (store.path / name / "c").rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / store.manifest.num_labels


@pytest.mark.parametrize(
    ("budget", "names", "kind"),
    [
        (Budget(bytes=4.0), KEPT, "topk"),
        (Budget(kl_nats=1e-6), KEPT, "dense_float16"),
        (Budget(kl_p999_nats=1e-4), KEPT, "dense_float16"),
        (Budget(bytes=50.0), ("topk 1/64",), "topk"),  # which learns from the pilot, too
        (Budget(bytes=50.0), ("anchored 16/0.1/2",), "anchored"),  # whose anchors the views share
    ],
    ids=["bytes", "KL", "p99.9", "with tables", "with anchors"],
)
def test_the_store_has_the_row_that_its_budget_became_and_keeps_to_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    budget: Budget,
    names: tuple[str, ...],
    kind: str,
) -> None:
    shorten(monkeypatch, names)
    model = oracle(batch_size=64)[1]
    store = dump(tmp_path, budget, model=model)
    row = store.manifest.encoding
    assert row["kind"] == kind
    assert build_encoding(row, "manifest") == store.encoding
    assert store.manifest.fidelity is not None
    worst = max(kl["mean"] for kl in store.manifest.fidelity["kl_nats"].values())
    assert bytes_per_label(store) <= 1.1 * (budget.bytes or 100)
    assert worst <= 1.5 * (budget.nats or 100)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "for at most" in line]
    assert line.startswith(f"dump_labels: soft: for at most {budget}: {{kind: {kind}")
    assert "bytes per label, mean KL up to" in line
    assert "measured on 280 labels (p99.9: the worst 1)" in line
    told = re.search(r"([\d.]+) bytes per label, mean", line)
    assert told
    assert bytes_per_label(store) == pytest.approx(float(told[1]), rel=0.2)
    first_views = model.images - PILOT - store.manifest.num_labels
    assert 0 < first_views <= 2 * 280, "the pilot is labelled once, and two views of each sample that is measured"


def test_whoever_goes_on_takes_what_the_first_worker_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_choice: Callable[[], None]
) -> None:
    def killed(*_: object) -> Any:
        raise KeyboardInterrupt

    learn = run.learn_tables
    monkeypatch.setattr(run, "learn_tables", killed)
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path)
    monkeypatch.setattr(run, "learn_tables", learn)
    no_choice()
    assert dump(tmp_path).manifest.complete


def test_a_kill_while_the_pilot_is_labelled_changes_neither_the_row_nor_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(images: torch.Tensor) -> None:
        if killed.images > PILOT + 10:
            raise KeyboardInterrupt

    shorten(monkeypatch, ("anchored 16/0.1/2", "topk 1/64 uniform"))
    budget, killed = Budget(kl_nats=0.2), oracle(batch_size=64, on_images=die)[1]
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "killed", budget, model=killed)
    again = dump(tmp_path / "killed", budget, worker=Worker(1, 2))
    assert content(again.path) == content(dump(tmp_path / "whole", budget).path)
    assert again.manifest.encoding["kind"] == "anchored"


def test_what_the_first_worker_wrote_counts_only_if_it_is_whole(tmp_path: Path) -> None:
    plan, file = plan_of({"soft": SOFT}), tmp_path / "encodings.json"
    pilot = torch.log_softmax(3 * torch.randn(PILOT, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    first = settle(plan, file, {}, lambda: Pilot(pilot), "here")
    assert not first.budgets
    assert first.manifests["soft"].encoding == first.encodings["soft"].to_dict()
    file.write_bytes(file.read_bytes()[:-9])
    assert settle(plan, file, {}, lambda: Pilot(pilot), "here") == first


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a dump for 100 bytes a label."""
    folder = tmp_path_factory.mktemp("made")
    assert dump(folder, WIDE).manifest.encoding == FLOAT16
    return folder


def test_a_store_that_grows_keeps_its_row_as_long_as_the_budget_is_the_same(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_choice: Callable[[], None]
) -> None:
    folder, model = Path(shutil.copytree(made, tmp_path / made.name)), oracle(batch_size=64)[1]
    assert dump(folder, SOFT).manifest.encoding != FLOAT16, "another budget"
    shutil.rmtree(folder)
    shutil.copytree(made, folder)
    no_choice()
    capsys.readouterr()
    assert dump(folder, WIDE, num_views=3, model=model).manifest.encoding == FLOAT16
    assert model.images == len(SPLIT), "no pilot, and the new view alone"
    assert "soft: for at most 100 bytes per label: {kind: dense_float16}, as its" in capsys.readouterr().err


def test_labels_of_a_named_folder_keep_their_row_whatever_the_budget(
    made: Path, tmp_path: Path, no_choice: Callable[[], None]
) -> None:
    no_choice()
    grown = dump(tmp_path, SOFT, num_views=3, grow=made / "out")
    assert grown.manifest.encoding == FLOAT16


def test_a_worker_that_grows_takes_the_row_by_which_another_one_has_begun(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would copy labels of one encoding into a store of another."""
    monkeypatch.setattr(run, "settle", lambda plan, *_: plan.settled({"soft": build_encoding(UINT8, "x")}))
    model = oracle(batch_size=64)[1]
    store = dump(tmp_path, grow=made / "out", model=model)
    assert store.manifest.encoding == UINT8
    assert model.images == store.manifest.num_labels, "none was taken over"


@pytest.mark.parametrize(("budget", "is_kept"), [(Budget(kl_p999_nats=1e-9), False), (Budget(kl_nats=1e-2), True)])
def test_a_store_that_turns_out_further_from_the_teacher_than_its_pilot_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], budget: Budget, is_kept: bool
) -> None:
    monkeypatch.setattr(run, "settle", lambda plan, *_: plan.settled({"soft": build_encoding(UINT8, "x")}))
    dump(tmp_path, budget)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "dump_labels: soft: 600 labels" in line]
    assert ("nats are more than its budget, a p99.9 KL of 1e-09 nats, which its pilot met" in line) is not is_kept


def test_a_budget_that_nothing_fits_is_refused_with_the_nearest_and_nothing_is_begun(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"encodings\.soft: no encoding .* fits 0.1 bytes per label; the nearest is "):
        dump(tmp_path, Budget(bytes=0.1))
    assert not list(tmp_path.rglob("*.zarr"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, "one of `bytes`, `kl_nats` and `kl_p999_nats`"),
        ({"bytes": 6, "kl_nats": 0.1}, "one of `bytes`, `kl_nats` and `kl_p999_nats`"),
        ({"kl_nats": 0.1, "kl_p999_nats": 0.1}, "one of `bytes`, `kl_nats` and `kl_p999_nats`"),
        ({"kl_p999_nats": 10**7}, "less than or equal to 1000000"),
        ({"bytes": 0}, "greater than 0"),
        ({"kl": 0.1}, "unknown key; expected one of: bytes, kl_nats, kl_p999_nats"),
    ],
)
def test_a_budget_has_one_limit(row: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        build_row({"kind": "auto", **row}, "encodings.soft")


def test_no_manifest_may_name_a_budget() -> None:
    with pytest.raises(ConfigError, match="'auto'"):
        build_encoding(SOFT.to_dict(), "a store")
    assert validate_kind({"auto": Budget}, SOFT.to_dict(), "a row") == SOFT
