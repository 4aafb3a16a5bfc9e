"""The recipes that `few_views` compares, and its cases: which student learns from what."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.foreign_teachers import KINDS
from benchmarks.scheduled import Epoch


@dataclass(frozen=True)
class Recipe:
    """A way to learn from stored labels.

    Args:
        beyond: What happens where there are more epochs than stored views. `again`: these are shown
            again. `hard`: every second epoch shows a view that is not stored, with hard labels
            alone; the last one is of stored labels. `stale`: every epoch shows a view of its own,
            with the labels of a stored one.
        start: The temperature of the first epoch, which falls to `temperature` by the last; None:
            it is the same throughout.
        calibrated: Labels are read at the temperature times the teacher's calibration temperature.
    """

    hard_weight: float
    soft_weight: float
    temperature: float = 1.0
    label_factor: float = 1.0
    calibrated: bool = False
    start: float | None = None
    beyond: Literal["again", "hard", "stale"] = "again"


HARD = Recipe(1.0, 0.0, beyond="stale")
_HALF = Recipe(0.5, 0.5, 2.0)
_FALLING = replace(_HALF, temperature=1.0, start=4.0)

#: By number of stored views.
FEW_VIEWS = {
    "hard labels, the stored views": replace(HARD, beyond="again"),
    "stored views again": _HALF,
    "hard labels between": replace(_HALF, beyond="hard"),
    "new views, stored labels": replace(_HALF, beyond="stale"),
    "falling temperature": _FALLING,
    "hard labels between, falling": replace(_FALLING, beyond="hard"),
    "soft alone, T 1": Recipe(0.0, 1.0),
    "soft alone, T 1, hard labels between": Recipe(0.0, 1.0, beyond="hard"),
    "soft alone, T 1, new views": Recipe(0.0, 1.0, beyond="stale"),
}
_WEIGHTS = {"0.8/0.2": (0.8, 0.2), "0.5/0.5": (0.5, 0.5), "0/1": (0.0, 1.0)}
_SAME = {f"T {t:g}": Recipe(0.0, 0.0, t) for t in (1.0, 2.0, 4.0)}
_CALIBRATED = {f"{name}, calibrated": replace(each, calibrated=True) for name, each in _SAME.items() if name != "T 4"}
_WIDER = {"T 1, labels at 4": Recipe(0.0, 0.0, 1.0, 4.0)}
#: By teacher: what `auto` might choose among.
FOREIGN = {
    f"{name}, {words}": replace(each, hard_weight=weights[0], soft_weight=weights[1])
    for name, weights in _WEIGHTS.items()
    for words, each in (_SAME | _CALIBRATED | _WIDER).items()
}
RECIPES = {"hard labels": HARD} | FEW_VIEWS | FOREIGN
_OTHERS = [name for name in FOREIGN if not name.startswith("0.8") and "labels at" not in name]
_LONG = ["0.5/0.5, T 2", "0.5/0.5, T 4", "0/1, T 1", "0/1, T 2", "0.5/0.5, T 2, calibrated", "0/1, T 1, calibrated"]


@dataclass(frozen=True)
class Case:
    """A student: what it learns from, and how.

    Args:
        part: The part of the benchmark that it is of; parts come one after the other.
        student: A row of the table `students`, for its network and schedule.
        views: The stored views.
        steps: Of a pilot; None: all epochs are trained.
    """

    part: str
    data: str
    teacher: str
    student: str
    images: int
    epochs: int
    views: int
    recipe: str
    seed: int
    steps: int | None = None


def epochs_of(case: Case, first_labels: int, calibration: float) -> list[Epoch]:
    """Returns the settings of each epoch of a case.

    Args:
        first_labels: The number of the label set of its teacher's first view.
        calibration: The teacher's calibration temperature.
    """
    recipe, count = RECIPES[case.recipe], case.epochs
    factor = recipe.label_factor * (calibration if recipe.calibrated else 1.0)
    taken, epochs = 0, []
    for number in range(count):
        # 1. The temperature.
        start = recipe.temperature if recipe.start is None else recipe.start
        temperature = start + (recipe.temperature - start) * number / max(1, count - 1)
        # 2. An epoch of hard labels between.
        if recipe.beyond == "hard" and count > case.views and (count - 1 - number) % 2:
            epochs.append(Epoch(case.views + number // 2 % (count - case.views), first_labels, 1.0, 0.0, 1.0, 1.0))
            continue
        # 3. An epoch of soft targets.
        stored = taken % case.views
        view = number if recipe.beyond == "stale" else stored
        weights = recipe.hard_weight, recipe.soft_weight
        epochs.append(Epoch(view, first_labels + stored, *weights, temperature, factor * temperature))
        taken += 1
    return epochs


def cases(seeds: int, *, small: bool = False) -> Iterator[Case]:
    """Yields all cases, those of most worth first; within a part, seed by seed."""
    for part in _parts():
        some = [replace(case, seed=seed) for seed in range(1 if small else seeds) for case in part]
        yield from ([_shrunk(case) for case in some[:6]] if small else some)


def _shrunk(case: Case) -> Case:
    return replace(case, images=512, epochs=min(case.epochs, 5), steps=case.steps and 3)


def _parts() -> Iterator[list[Case]]:
    base = Case("few", "fashion_mnist", "ours", "small", 18_000, 20, 1, "hard labels", 0)
    # 1. Fashion-MNIST: few views of few images, in many epochs.
    yield _few(base, (1, 2, 4))
    # 2. CIFAR-10: foreign teachers, and a pilot of every recipe; as many epochs as by default.
    foreign = replace(base, part="foreign", data="cifar10", images=45_000, epochs=4, views=2)
    yield _foreign(foreign, list(FOREIGN), pilots=True)
    # 3. CIFAR-10: few views.
    yield _few(replace(base, part="few, coloured", data="cifar10", teacher="calibrated", epochs=12), (1, 2, 4))
    # 4. Other students of the foreign teachers: `tiny`.
    yield _other("tiny", foreign)
    # 5. The recipes on our own teacher, with the pilots that would choose them.
    own = replace(base, part="own", images=54_000, epochs=4, views=4)
    yield _foreign(own, _OTHERS, pilots=True, teachers=("ours",))
    # 6. Fashion-MNIST: the default schedule, with fewer views than epochs.
    yield _few(replace(base, part="few, default", images=54_000, epochs=4), (1, 2))
    # 7. `medium`, and a longer schedule.
    yield _other("medium", foreign)
    yield _foreign(replace(foreign, part="foreign, long", epochs=12), _LONG, pilots=False)


def _few(base: Case, views: tuple[int, ...]) -> list[Case]:
    own = [replace(base, views=count, recipe=name) for name in FEW_VIEWS for count in views]
    online = [replace(base, views=base.epochs, recipe="stored views again")] if base.data == "fashion_mnist" else []
    return [base, *online, *own]


def _other(student: str, foreign: Case) -> list[Case]:
    return _foreign(replace(foreign, part=f"foreign, {student}", student=student), _OTHERS, pilots=True)


def _foreign(base: Case, recipes: list[str], *, pilots: bool, teachers: tuple[str, ...] = tuple(KINDS)) -> list[Case]:
    of_teachers = [replace(base, teacher=name) for name in teachers]
    whole = [replace(case, recipe=name) for case in of_teachers for name in ("hard labels", *recipes)]
    short = [replace(case, part=f"{case.part}, pilot", steps=300) for case in whole] if pilots else []
    return [*whole, *short]
