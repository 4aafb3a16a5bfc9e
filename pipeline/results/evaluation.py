"""The content of reports/evaluate.json: networks, students against twins, stores.

Networks are compared by the headline of the data's signal, which is accuracy for one class of
several. Where it is another figure, it has fields of its own, `headline` and the like, and
accuracies stay accuracies.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.results.costs import Cost
from pipeline.results.independent_classes import IndependentScores

Role = Literal["teacher", "student", "twin"]
Verdict = Literal["yes", "no", "unclear"]
Headline = Literal["balanced"]


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """The facts of a network that hold before it is run: its recipe, its size, its arithmetic.

    Attributes:
        labels: The store that it learned from; None for the teacher.
        twin_of: The student that it is the hard-label twin of.
        multiply_adds: For one sample; None where it can't be counted.
        settings: The row of params.yaml that it was trained by.
        train_seconds: None where it was not trained here.
    """

    role: Role
    model: str
    model_settings: dict[str, Any]
    labels: str | None
    twin_of: str | None
    parameters: int
    multiply_adds: int | None
    file_bytes: int
    settings: dict[str, Any]
    train_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The quality of a network's predictions on the test split.

    Attributes:
        accuracy: A share of samples, 0 to 1, as are `top5_accuracy`, `class_accuracy` and
            `agreement`; of independent classes, a share of known entries, and of classes at
            positions, of known positions.
        nll: Mean negative log-likelihood in nats; it, `ece` and `brier` are those of the signal.
        brier: Absent where a sample has not one class, as is `class_accuracy` of independent ones.
        top5_accuracy: Absent where there are few classes.
        class_accuracy: By class; None for a class without samples.
        agreement: The share of samples, or positions, with the teacher's class, or of entries on
            the same side of one half; absent where there is no teacher.
        kl_to_teacher: Mean KL(teacher || network) in nats at temperature 1.
        headline: Absent where it is accuracy.
        independent: The figures that only independent classes have.
        class_iou: The intersection over union of each class at positions; None for a class that is
            nowhere and was predicted nowhere.
        macro_f1: Present where the headline is balanced accuracy.
    """

    accuracy: float
    nll: float
    ece: float
    brier: float | None = None
    top5_accuracy: float | None = None
    class_accuracy: list[float | None] | None = None
    agreement: float | None = None
    kl_to_teacher: float | None = None
    headline: float | None = None
    independent: IndependentScores | None = None
    class_iou: list[float | None] | None = None
    macro_f1: float | None = None

    @property
    def score(self) -> float:
        """The figure by which networks are compared, 0 to 1."""
        return self.accuracy if self.headline is None else self.headline


# In the file, the fields of the base class that is named last come first.
@dataclass(frozen=True, kw_only=True)
class ExaminedNetwork(Scores, NetworkFacts):
    """A network that has been run on the test split, whose cost is not known yet.

    Attributes:
        corruptions: The headline by corruption, on the same samples as they are (`clean`), and the
            `mean`; nothing where there are no corruptions of samples of this kind.
        val: The teacher's metrics on the validation split.
        accuracy_best: The accuracy of a student's best epoch; `accuracy` is that of its last.
        headline_best: Likewise; absent where the headline is accuracy.
        twin: The first network that names this student in its `twin_of`.
        gain_points: The student's headline minus the twin's, in percentage points.
    """

    corruptions: dict[str, float]
    val: dict[str, Any] | None = None
    accuracy_best: float | None = None
    headline_best: float | None = None
    twin: str | None = None
    gain_points: float | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkRow(ExaminedNetwork):
    """The figures of a network in evaluate.json."""

    cost: Cost


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, and the standard deviation from seed to seed; None for a single one."""

    mean: float
    sd: float | None


@dataclass(frozen=True)
class Gain(Spread):
    """A difference of headlines in percentage points, with the standard error of its mean.

    The error covers the choice of test samples and the spread from seed to seed. The latter is
    wider for a few seeds, whose own spread is hardly known (Student's t); for one seed there is
    none."""

    standard_error: float


@dataclass(frozen=True)
class Comparison:
    """A student, or several that differ in their seed alone, and their twins in the same order.

    Attributes:
        paid: Whether the gain is more than two standard errors above 0, or below it.
        twin_differs: Settings in which a twin is another network or trained otherwise, besides
            those that make it a twin.
        headline: Absent where it is accuracy, as is `twin_headline`.
    """

    student: str
    students: list[str]
    twins: list[str]
    seeds: list[int]
    accuracy: Spread
    twin_accuracy: Spread
    gain_points: Gain
    paid: Verdict
    twin_differs: list[str]
    headline: Spread | None = None
    twin_headline: Spread | None = None

    @property
    def scores(self) -> tuple[Spread, Spread]:
        """The figure by which networks are compared, of students and twins."""
        return self.headline or self.accuracy, self.twin_headline or self.twin_accuracy


@dataclass(frozen=True)
class CorruptedSamples:
    """The test samples that were made worse: how much, 1 to 5, and how many."""

    severity: int
    num_images: int


@dataclass(frozen=True)
class StoreRow:
    """A store of soft labels: its size, and how far its labels are from the teacher.

    Attributes:
        label_bytes: Bytes on disk per label.
        fidelity: The manifest's; None where the store holds no labels.
    """

    encoding: dict[str, Any]
    temperature: float
    num_views: int
    num_samples: int
    num_labels: int
    size_bytes: int
    label_bytes: float | None
    fidelity: dict[str, Any] | None


@dataclass(frozen=True)
class Evaluation:
    """The content of reports/evaluate.json; networks and stores are by name.

    Attributes:
        class_counts: The test samples of each class.
        signal: The data's, as its manifest names it.
        class_known: The test samples of which it is known whether they are of each class; absent
            where classes exclude each other.
        class_positions: The known positions of each class; absent where samples have none.
        headline: Absent where the headline is the signal's own, as in most runs.
        robustness: None where there are no corruptions of samples of this kind.
        thing: The name of a sample; absent where it is an image.
    """

    num_test: int
    class_names: list[str]
    class_counts: list[int]
    models: dict[str, NetworkRow]
    comparisons: list[Comparison]
    robustness: CorruptedSamples | None
    stores: dict[str, StoreRow]
    signal: str = "categorical"
    class_known: list[int] | None = None
    class_positions: list[int] | None = None
    headline: Headline | None = None
    thing: str | None = None

    def worded(self, text: str) -> str:
        """Returns a text with this data's words in place of `{thing}` and `{things}`: an image and
        images, or what else samples are.
        """
        thing = self.thing or "image"
        return text.replace("{thing}", thing).replace("{things}", f"{thing}s")
