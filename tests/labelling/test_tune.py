"""The ladder of encodings: sizes are those of real stores, figures those of the codecs, and budgets
are kept.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core.errors import ConfigError, StoreError
from pipeline.labelling.choosing import by_size, choose, pareto_front, size_and_kl
from pipeline.labelling.first_views import FirstViews
from pipeline.labelling.ladder import Rung, TrialLabels, ladder, measure_encoding
from pipeline.labelling.tune import budget_of, check_source
from pipeline.labelling.tune_source import LabelSource
from pipeline.labels.encodings import FIGURES, Budget, Figure, LabelSpace, build_encoding
from pipeline.labels.encodings.sampled import Sampled
from pipeline.labels.encodings.topk import TopK
from pipeline.labels.fidelity import Fidelity
from pipeline.views.spec import ViewSpec

SPACE = LabelSpace(12, 2.0, (1.0, 2.0, 4.0))


def log_probs(count: int, seed: int, classes: int = 12) -> torch.Tensor:
    """Returns those of a teacher that is mostly sure, and confuses neighbours."""
    rng = np.random.default_rng(seed)
    top = rng.integers(0, classes, count)
    distance = np.abs(np.arange(classes)[None] - top[:, None])
    logits = rng.normal(0, 1, (count, classes)) - 1.5 * distance
    return torch.log_softmax(torch.from_numpy(logits.astype(np.float32)), dim=1)


MEASURED, PILOT = log_probs(600, seed=0), log_probs(600, seed=1)
MEANS = torch.log_softmax(MEASURED + 0.3 * torch.randn(600, 12, generator=torch.Generator().manual_seed(0)), dim=1)
FIRST_VIEWS = FirstViews({3: MEANS}, torch.arange(600))


def measure(name: str, space: LabelSpace = SPACE, num_labels: int = 10_000, block_samples: int = 256) -> Rung:
    labels = TrialLabels(MEASURED, PILOT, space, num_labels, block_samples, num_views=4, first_views=FIRST_VIEWS)
    return measure_encoding(labels, ladder(space, [3])[name])


@pytest.fixture(scope="module")
def rungs() -> dict[str, Rung]:
    return {name: measure(name) for name in ladder(SPACE, [3])}


def test_every_rung_is_a_row_for_params_that_fits_the_labels() -> None:
    for classes in (2, 4, 12, 1000, 20_000):
        space = LabelSpace(classes, 1.0, (1.0, 4.0))
        rungs = ladder(space)
        assert {"dense_float16", "dense_uint8/64"} <= set(rungs)
        assert len({str(encoding.to_dict()) for encoding in rungs.values()}) == len(rungs)
        for encoding in rungs.values():
            encoding.check(space, "here")
            assert build_encoding(encoding.to_dict(), "here") == encoding
        kept = {encoding.k for encoding in rungs.values() if isinstance(encoding, TopK)}
        assert kept == {k for k in (1, 2, 3, 5, 10) if k < classes}


def test_a_prior_is_left_out_where_there_are_too_many_classes_for_one() -> None:
    tails = {e.tail for e in ladder(LabelSpace(20_000, 1.0, (1.0,))).values() if isinstance(e, TopK)}
    assert tails == {"uniform"}


def test_figures_are_those_of_labels_that_the_pilot_knows_nothing_of(rungs: dict[str, Rung]) -> None:
    encoding = ladder(SPACE)["topk 2/64"]
    codec = encoding.codec(SPACE, encoding.learn(PILOT, SPACE))
    labels = codec.encode(MEASURED, np.arange(1, 601, dtype=np.uint64), 0)
    exact = {t: torch.log_softmax(MEASURED.double() * 2 / t, dim=1) for t in SPACE.temperatures}
    expected = Fidelity.of(exact, {t: codec.decode(labels, t) for t in exact}).summary()
    found = rungs["topk 2/64"].fidelity
    assert found["num_labels"] == 600
    assert found["top1_agreement"] == expected["top1_agreement"]
    for t, kl in expected["kl_nats"].items():
        assert found["kl_nats"][t]["mean"] == pytest.approx(kl["mean"], rel=1e-4)
    assert rungs["topk 2/64"].worst_kl == max(kl["mean"] for kl in found["kl_nats"].values())


def test_bytes_are_those_of_the_label_fields_alone_and_tables_are_spread(rungs: dict[str, Rung]) -> None:
    # 16 bits for each class can't be compressed to less than these labels' entropy, nor take much
    # more than 24 bytes.
    assert 15 < rungs["dense_float16"].field_bytes < 25
    assert rungs["dense_float16"].table_bytes == 0
    assert rungs["dense_float16"].label_bytes == rungs["dense_float16"].field_bytes
    prior = rungs["topk 3/64"]
    assert prior.table_bytes > 100
    assert prior.label_bytes == prior.field_bytes + prior.table_bytes / 10_000
    assert measure("topk 3/64", num_labels=100).label_bytes == prior.field_bytes + prior.table_bytes / 100
    assert rungs["topk 3/64 uniform"].table_bytes == 0
    # Nothing that a store keeps beside labels is counted, and small blocks cost what they cost on
    # disk.
    assert rungs["topk 1/32"].field_bytes < 3
    assert measure("topk 1/32", block_samples=10).field_bytes > 2 * rungs["topk 1/32"].field_bytes


def test_anchors_are_shared_by_the_views_of_a_sample(rungs: dict[str, Rung]) -> None:
    rung = rungs["anchored 32/0.05/3"]
    assert 5 < rung.anchor_bytes < 30
    assert rung.label_bytes == rung.field_bytes + rung.anchor_bytes / 4
    assert not any(name.startswith("anchored") for name in ladder(SPACE)), "nothing to make anchors of"


@pytest.mark.parametrize("numbers", [None, [2, 0, 1, 3]])
def test_anchors_are_made_of_the_first_views_of_the_very_labels_that_are_measured(numbers: list[int] | None) -> None:
    said = torch.stack([log_probs(40, seed=view) for view in range(4)])
    places = [*range(4)] if numbers is None else numbers
    asked = lambda place, rows: said[places[place]][torch.from_numpy(rows)]  # noqa: E731
    spec = ViewSpec(seed=1, plain_first=False, operations=())
    source = LabelSource("made up", SPACE, 4, 40, 8, spec, asked, asked, view_numbers=numbers)
    labels = source.draw(40)
    assert source.anchor_views == list(labels.first_views.means) == [2, 4]
    known = {tuple(row.tolist()): n for view in said for n, row in enumerate(view)}
    samples = torch.tensor([known[tuple(row.tolist())] for row in labels.measured])
    for count in labels.first_views.means:
        expected = torch.log_softmax(said[:count].mean(dim=0), dim=1)[samples]
        torch.testing.assert_close(labels.first_views.of_labels(count), expected)
    lacking = replace(source, view_numbers=[1, 2, 3, 4])
    assert lacking.draw(40).first_views.means == {}


def test_a_sample_has_its_anchor_once_though_several_of_its_views_are_measured(rungs: dict[str, Rung]) -> None:
    """Otherwise equal anchors of one block would be compressed to almost nothing."""
    name = "anchored 32/0.05/3"
    several = FirstViews({3: MEANS[:120]}, torch.arange(600) % 120)
    labels = TrialLabels(MEASURED, PILOT, SPACE, 10_000, 256, num_views=4, first_views=several)
    once = FirstViews({3: MEANS[:120]}, torch.arange(120))
    alone = TrialLabels(MEASURED[:120], PILOT, SPACE, 10_000, 256, num_views=4, first_views=once)
    encoding = ladder(SPACE, [3])[name]
    assert measure_encoding(labels, encoding).anchor_bytes == measure_encoding(alone, encoding).anchor_bytes
    assert measure_encoding(alone, encoding).anchor_bytes > 0.8 * rungs[name].anchor_bytes


def test_some_labels_have_the_first_views_of_their_own_samples() -> None:
    several = FirstViews({2: MEANS[:6], 3: MEANS[6:12]}, torch.tensor([5, 0, 3, 0, 1]))
    some = several.take(np.array([4, 1, 3]), [3])
    assert list(some.means) == [3]
    assert len(some.means[3]) == 2, "each sample once"
    torch.testing.assert_close(some.of_labels(3), MEANS[6:12][[1, 0, 0]])


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    measure("topk 2/32")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_serve_every_declared_temperature_has_no_worst_kl(rungs: dict[str, Rung]) -> None:
    assert list(rungs["sampled 12"].fidelity["kl_nats"]) == ["2"]
    assert rungs["sampled 12"].worst_kl is None
    assert "sampled 12" not in pareto_front(rungs)
    alone = LabelSpace(12, 2.0, (2.0,))
    assert measure("sampled 12", alone).worst_kl is not None


def test_the_front_is_what_nothing_beats(rungs: dict[str, Rung]) -> None:
    front = pareto_front(rungs)
    served = {name: (t.label_bytes, t.worst_kl) for name, t in rungs.items() if t.worst_kl is not None}
    for name, (size, kl) in served.items():
        beaten = any(s <= size and k <= kl and (s, k) != (size, kl) for s, k in served.values())
        assert (name in front) is not beaten, name
    sizes = [rungs[name].label_bytes for name in front]
    assert sizes == sorted(sizes)
    assert [t.label_bytes for t in by_size(rungs).values()] == sorted(t.label_bytes for t in rungs.values())


@pytest.mark.parametrize("budget", [1.0, 2.0, 3.0, 5.0, 8.0, 15.0, 100.0])
def test_the_closest_that_is_small_enough_is_chosen(rungs: dict[str, Rung], budget: float) -> None:
    fitting = {n: t.worst_kl for n, t in rungs.items() if t.worst_kl is not None and t.label_bytes <= budget}
    if not fitting:
        smallest = pareto_front(rungs)[0]
        with pytest.raises(StoreError, match=f"fits {budget:g} bytes per label; the nearest is {smallest}: "):
            choose(rungs, Budget(bytes=budget), "here")
    else:
        assert rungs[choose(rungs, Budget(bytes=budget), "here")].worst_kl == min(fitting.values())


@pytest.mark.parametrize("limit", [1e-12, 1e-7, 1e-4, 1e-2, 0.1, 0.3, 10.0])
@pytest.mark.parametrize("figure", FIGURES)
def test_the_smallest_that_is_close_enough_is_chosen(rungs: dict[str, Rung], figure: Figure, limit: float) -> None:
    budget = Budget(kl_nats=limit) if figure == "mean" else Budget(kl_p999_nats=limit)
    worst = {n: max(kl[figure] for kl in rungs[n].fidelity["kl_nats"].values()) for n in rungs if "sampled" not in n}
    fitting = {n: rungs[n].label_bytes for n, nats in worst.items() if nats <= limit}
    if not fitting:
        with pytest.raises(StoreError, match=f"{budget}; the nearest is dense_float16: "):
            choose(rungs, budget, "here")
    else:
        assert rungs[choose(rungs, budget, "here")].label_bytes == min(fitting.values())


def test_what_is_close_on_the_whole_may_be_far_for_one_label_in_a_thousand(rungs: dict[str, Rung]) -> None:
    """One label is far from the teacher: by the mean its encoding is taken, by p99.9 another."""
    figures = lambda mean, p999: {"kl_nats": {str(t): {"mean": mean, "p999": p999} for t in (1, 2, 4)}}  # noqa: E731
    any_rung = next(iter(rungs.values()))
    made_up = {
        "small": replace(any_rung, field_bytes=2.0, table_bytes=0, fidelity=figures(0.01, 3.0)),
        "even": replace(any_rung, field_bytes=3.0, table_bytes=0, fidelity=figures(0.02, 0.5)),
    }
    assert choose(made_up, Budget(kl_nats=0.05), "here") == "small"
    assert choose(made_up, Budget(kl_p999_nats=1.0), "here") == "even"
    assert "mean KL up to 2.0e-02 nats, p99.9 up to 5.0e-01" in size_and_kl(made_up["even"])


def test_one_limit_is_given_and_a_store_further_from_the_teacher_is_refused() -> None:
    given = dict.fromkeys(("bytes", "kl_nats", "kl_p999_nats"))
    for limit in given:
        assert budget_of({**given, limit: 0.5}, None) == Budget(**{limit: 0.5})
    assert budget_of(given, "3GB") is None
    with pytest.raises(ConfigError, match="both --kl and --kl-p999"):
        budget_of({**given, "kl_nats": 1.0, "kl_p999_nats": 1.0}, None)
    with pytest.raises(ConfigError, match="--kl-p999: 0; expected a number above 0"):
        budget_of({**given, "kl_p999_nats": 0.0}, None)
    spec = ViewSpec(seed=1, plain_first=False, operations=())
    nothing = lambda *_: torch.empty(0, 12)  # noqa: E731
    source = LabelSource("store x", SPACE, 4, 40, 8, spec, nothing, nothing, own_kl={"mean": 0.01, "p999": 0.2})
    check_source(source, Budget(kl_p999_nats=0.3))
    with pytest.raises(StoreError, match=r"2.0e-01 nats from the teacher, more than the 0\.1"):
        check_source(source, Budget(kl_p999_nats=0.1))


def test_a_limit_that_is_met_exactly_is_met(rungs: Mapping[str, Rung]) -> None:
    middle = pareto_front(rungs)[3]
    assert choose(rungs, Budget(bytes=rungs[middle].label_bytes), "here") == middle
    assert choose(rungs, Budget(kl_nats=rungs[middle].worst_kl), "here") == middle


def test_labels_are_drawn_anew_for_each_sample() -> None:
    """All labels alike: sampled ones differ nevertheless, as those of a store would."""
    same = MEASURED[:1].expand(200, -1)
    sampled = Sampled(draws=50, seed=0)
    rung = measure_encoding(TrialLabels(same, PILOT, SPACE, 200, 200), sampled)
    kl = rung.fidelity["kl_nats"]["2"]
    assert kl["max"] > 2 * kl["mean"]
