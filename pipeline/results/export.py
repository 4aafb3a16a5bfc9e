"""The content of reports/export/<name>.json: the files of a student beside the student in torch."""

from collections.abc import Iterator
from dataclasses import dataclass, field

_ALIKE = 0.99  # of the images have the class of the trained network
_NAMED = 4  # layers in a sentence


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """A file over the test split, and its cost, which is absent where its runtime is not timed.

    Attributes:
        bytes: The size of the file.
        accuracy: A share of samples, 0 to 1, as is `top1_agreement` with torch.
        largest_difference: Between a logit and that of torch.
        relative_difference: It as a share of the logits' spread.
        kl_to_torch: Mean KL(torch || file) in nats.
        headline: The figure by which networks of the data's signal are compared, 0 to 1; None: it
            is accuracy.
        threads: As in `Cost`, like all that follows.
    """

    bytes: int
    accuracy: float
    largest_difference: float
    relative_difference: float
    top1_agreement: float
    kl_to_torch: float
    threads: int | None = None
    latency_ms: dict[str, dict[str, float]] | None = None
    peak_memory_bytes: int | None = None
    import_memory_bytes: int | None = None
    headline: float | None = None

    @property
    def score(self) -> float:
        """The figure by which networks are compared."""
        return self.accuracy if self.headline is None else self.headline


@dataclass(frozen=True)
class StudentInTorch:
    """The student that was exported: the bytes of its weights, and its figures on the test
    split.
    """

    bytes: int
    accuracy: float
    headline: float | None = None

    @property
    def score(self) -> float:
        """The figure by which networks are compared."""
        return self.accuracy if self.headline is None else self.headline


@dataclass(frozen=True, kw_only=True)
class Int8Layers:
    """The parts of a student's int8 file that are in int8, and their loss.

    Attributes:
        weight_bits: 8, or 7 for processors that add products of 8 bits up in 16.
        weights_alone: Whether only layers with weights are in int8, and all else is in float32.
        num_layers: The layers with weights.
        float32_layers: Those that stay in float32, because int8 loses too much with them.
        float32_bytes: The size of their weights.
        num_checked: The validation images that decided.
        drop_points: What the file loses on them of the figure by which networks are compared, in
            percentage points.
        whole_drop_points: What the network loses wholly in int8; None: it can't be so.
        others: What else stays in float32, in words; None where samples are images.
    """

    weight_bits: int
    weights_alone: bool
    num_layers: int
    float32_layers: list[str]
    float32_bytes: int
    num_checked: int
    drop_points: float
    whole_drop_points: float | None
    others: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class AwareInt8:
    """The int8 file of a network that was trained for it.

    Attributes:
        weight_bits: As in `Int8Layers`.
        num_steps: The steps of its training.
        num_checked: The validation images of the last figure.
        agreement: Share of the decisions on them that the file and the trained network come to
            alike.
    """

    weight_bits: int
    num_steps: int
    num_checked: int
    agreement: float


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The content of a student's report of export; files are by name.

    Attributes:
        left_out: Why a file that the settings ask for could not be made.
        int8: None where there is no int8 file, as in the two that follow.
        int8_drop_points: The score of float32 minus that of int8, in percentage points.
        int8_size_ratio: The bytes of int8 over those of float32.
        aware: None where no network was trained for int8, as in the one that follows.
        aware_drop_points: As `int8_drop_points`, of that network's file.
        headline_words: The figure by which networks are compared, in words; None: it is accuracy.
    """

    name: str
    num_test: int
    files: dict[str, ExportedFile]
    torch: StudentInTorch
    left_out: dict[str, str] = field(default_factory=dict)
    int8: Int8Layers | None = None
    int8_drop_points: float | None = None
    int8_size_ratio: float | None = None
    aware: AwareInt8 | None = None
    aware_drop_points: float | None = None
    headline_words: str | None = None

    @property
    def figure(self) -> str:
        """The figure by which networks are compared, in words."""
        return self.headline_words or "accuracy"

    def notes(self) -> Iterator[str]:
        """Yields what a user must know of the files, a sentence each."""
        for file, reason in self.left_out.items():
            yield f"{file} is left out: {reason}"
        if self.int8 and (kept := _in_float32(self.int8)):
            yield f"int8: {kept} {_why(self.int8)}"
        if self.int8 and self.int8.others:
            others = self.int8.others
            yield f"int8: {' and '.join(others)} {'stay' if len(others) > 1 else 'stays'} in float32"
        if self.aware and self.aware.agreement < _ALIKE:
            share, count = f"{self.aware.agreement:.2%}", f"{self.aware.num_checked:,} validation images"
            decides = "predicts the class of" if self.headline_words is None else "decides on the entries as"
            yield f"aware int8: the file {decides} the network that was trained on {share} of {count} alone"


def _in_float32(facts: Int8Layers) -> str:
    """Returns what stays in float32, in words; nothing where all is in int8."""
    layers = facts.float32_layers
    if not layers:
        return "all but layers with weights stays in float32" if facts.weights_alone else ""
    named = ", ".join(layers[:_NAMED]) + (f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else "")
    rest = " and all without weights" if facts.weights_alone else ""
    stay = "stays" if len(layers) == 1 and not rest else "stay"
    count = f"{len(layers)} of {facts.num_layers} layers"
    return f"{count}{rest} {stay} in float32 ({named}; {facts.float32_bytes:,} bytes of weights)"


def _why(facts: Int8Layers) -> str:
    lost = facts.whole_drop_points
    whole = "can't be run" if lost is None else f"loses {lost:.2f} points"
    return f"(wholly in int8 it {whole}; so, {facts.drop_points:.2f}, on {facts.num_checked:,} validation images)"
