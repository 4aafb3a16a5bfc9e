"""Latency and memory of a network."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """The cost of a network that takes one sample at a time, in float32, on the CPU.

    Attributes:
        threads: The number that "all" means: as many as torch takes in the process that asks.
        latency_ms: The percentiles `p50` and `p95` of calls, with `one` thread and with `all`.
        peak_memory_bytes: The most that a process with one thread held, libraries and all.
        import_memory_bytes: The part of it that was held before the network was read.
    """

    threads: int
    latency_ms: dict[str, dict[str, float]]
    peak_memory_bytes: int
    import_memory_bytes: int
