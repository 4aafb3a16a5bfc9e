"""A student that follows a table: it becomes what the pipeline's own parts make of it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from project import student

from benchmarks.few_views_cases import FEW_VIEWS, FOREIGN, RECIPES, Case, Epoch, cases, epochs_of
from benchmarks.few_views_tables import with_auto
from benchmarks.scheduled import Bank, Schedule, Student, train_all
from pipeline.models import Classifier, ClassifierSpec
from pipeline.training.moving_average import MovingAverage
from pipeline.training.recipe import FitSettings, build_optimizer, learning_rate_factor

IMAGES, BATCH_SIZE, VIEWS = 48, 16, 4
FIT = FitSettings(**student()["fit"] | {"batch_size": BATCH_SIZE})
CASE = Case("few", "digits", "ours", "small", IMAGES, 3, 2, "", 0)


def network(seed: int = 0) -> Classifier:
    settings: dict[str, Any] = {"width": 4, "depth": 1}
    return ClassifierSpec("convnet_small", settings, num_classes=5, channels=1, mean=[0.5], std=[0.3]).build(seed)


@pytest.fixture(scope="module")
def bank() -> Bank:
    drawn = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, (VIEWS * IMAGES, 1, 8, 8), generator=drawn, dtype=torch.uint8)
    hard_labels = torch.randint(0, 5, (IMAGES,), generator=drawn)
    logits = 3 * torch.randn(VIEWS * IMAGES, 5, generator=drawn)
    return Bank(views, logits, hard_labels, {"val": (views[:IMAGES], hard_labels)})


def plainly_trained(bank: Bank, epochs: list[Epoch], orders: list[torch.Tensor]) -> Classifier:
    """Returns the same student, trained as the pipeline trains."""
    model, step, total = network().train(), 0, sum(map(len, orders))
    optimizer, average = build_optimizer(model, FIT), MovingAverage(model, FIT.ema_decay)
    for epoch, order in zip(epochs, orders, strict=True):
        for rows in order:
            for group in optimizer.param_groups:
                group["lr"] = FIT.learning_rate * learning_rate_factor(step, total, FIT)
            optimizer.zero_grad()
            logits = model(bank.views[epoch.view * IMAGES + rows])
            targets = F.log_softmax(bank.logits[epoch.labels * IMAGES + rows] / epoch.label_temperature, dim=1)
            soft = F.kl_div(
                F.log_softmax(logits / epoch.temperature, 1), targets, reduction="batchmean", log_target=True
            )
            hard = F.cross_entropy(logits, bank.hard_labels[rows])
            (epoch.hard_weight * hard + epoch.soft_weight * epoch.temperature**2 * soft).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), FIT.clip_norm)
            optimizer.step()
            average.update()
            step += 1
    return average.model.eval()


@pytest.mark.parametrize("recipe", ["hard labels between, falling", "0.5/0.5, T 2, calibrated"])
def test_a_student_that_follows_a_table_is_the_one_that_the_pipeline_trains(bank: Bank, recipe: str) -> None:
    case = Case(**vars(CASE) | {"recipe": recipe})
    epochs = epochs_of(case, 0, 1.5)
    orders = [torch.randperm(IMAGES, generator=torch.Generator().manual_seed(e)).view(-1, BATCH_SIZE) for e in range(3)]
    schedule, figures = Schedule.of(epochs, orders, FIT), dict[str, float]()
    worker = Student(network(5), bank, FIT, schedule)

    def begin(one: Student) -> Any:
        one.begin(network(), schedule)
        return figures.update

    train_all([worker], iter([begin, begin]))  # the second one starts as the first one did
    expected = plainly_trained(bank, epochs, orders)
    with torch.no_grad():
        logits = expected(bank.views[:IMAGES])
    assert figures["val nll"] == pytest.approx(F.cross_entropy(logits, bank.hard_labels).item(), abs=1e-4)


def places(recipe: str) -> list[tuple[int, int, float]]:
    """Returns the view, the label set and the soft weight of each of three epochs."""
    epochs = epochs_of(Case(**vars(CASE) | {"recipe": recipe}), 10, 1.5)
    return [(epoch.view, epoch.labels, epoch.soft_weight) for epoch in epochs]


def test_recipes_differ_in_what_they_show_beyond_the_stored_views() -> None:
    assert places("stored views again") == [(0, 10, 0.5), (1, 11, 0.5), (0, 10, 0.5)]
    assert places("hard labels between") == [(0, 10, 0.5), (2, 10, 0.0), (1, 11, 0.5)]
    assert places("new views, stored labels") == [(0, 10, 0.5), (1, 11, 0.5), (2, 10, 0.5)]
    falling = epochs_of(Case(**vars(CASE) | {"recipe": "falling temperature"}), 0, 1.5)
    assert [epoch.temperature for epoch in falling] == [4.0, 2.5, 1.0]


def test_auto_is_the_recipe_that_the_rule_of_the_stages_chooses_by_pilots() -> None:
    pilots = {"0.5/0.5, T 1": 50.0, "0.5/0.5, T 2": 50.5, "0.5/0.5, T 4": 45.0, "0/1, T 1": 47.0, "0/1, T 2": 60.0}
    shared = vars(CASE) | {"val nll": 1.0}
    rows = [shared | {"part": "few, pilot", "steps": 3, "recipe": name, "val %": each} for name, each in pilots.items()]
    rows += [shared | {"recipe": name, "val %": 2 * each} for name, each in pilots.items()]
    *same, chosen = with_auto(rows, {"digits": 5000})  # one standard error: 0.71 points
    assert same == rows
    assert chosen == shared | {"recipe": "auto", "val %": 100.0}
    assert with_auto(rows[1:], {"digits": 5000}) == rows[1:], "a pilot is missing"


def test_cases_are_told_apart_and_have_recipes() -> None:
    every = list(cases(3))
    assert len(set(every)) == len(every)
    assert {case.recipe for case in every} == {*RECIPES} == {"hard labels", *FEW_VIEWS, *FOREIGN}
