"""The content of reports/export/<name>.json: the files of a student beside the student in torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """A file over the test split, and its cost, which is absent where its runtime is not timed.

    Attributes:
        bytes: The size of the file.
        accuracy: A share of samples, 0 to 1, as is `top1_agreement` with torch.
        largest_difference: Between a logit and that of torch.
        relative_difference: It as a share of the logits' spread.
        kl_to_torch: Mean KL(torch || file) in nats.
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


@dataclass(frozen=True)
class StudentInTorch:
    """The student that was exported: the bytes of its weights, and its test accuracy."""

    bytes: int
    accuracy: float


@dataclass(frozen=True)
class ExportReport:
    """The content of a student's report of export; files are by name.

    Attributes:
        int8_drop_points: The accuracy of float32 minus that of int8, in percentage points.
        int8_size_ratio: The bytes of int8 over those of float32.
        int8_weight_bits: 8, or 7 for processors that add products of 8 bits up in 16.
    """

    name: str
    num_test: int
    files: dict[str, ExportedFile]
    torch: StudentInTorch
    int8_drop_points: float
    int8_size_ratio: float
    int8_weight_bits: int = 8
