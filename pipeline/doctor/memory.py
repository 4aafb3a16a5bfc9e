"""Memory for images: whether the budget of each stage holds all of them, or is enough for
streaming.
"""

from collections.abc import Callable
from typing import Literal

from pipeline.core.arrays import rows_in_chunk
from pipeline.data.auto_budget import megabytes_here
from pipeline.data.budget import MemoryBudget
from pipeline.data.images import IMAGE_CHUNK_BYTES
from pipeline.data.manifest import DatasetManifest
from pipeline.doctor.findings import Findings
from pipeline.doctor.params import Params
from pipeline.labelling.at_once import lowered_blocks, samples_of_block
from pipeline.labelling.settings import DumpLabels
from pipeline.student.settings import TrainStudent
from pipeline.teacher.settings import TrainTeacher


def check_memory(params: Params, data: DatasetManifest, findings: Findings) -> None:
    """Checks `memory_budget_mb` of every stage that has one, and reports which read images from
    disk. `auto` is taken as it would be chosen now.

    The labels that students hold beside the images are not counted.
    """
    trained: dict[str, TrainTeacher | TrainStudent] = {f"students.{name}": row for name, row in params.students.items()}
    if teacher := params.get(TrainTeacher):
        trained["train_teacher"] = teacher
    dump = params.get(DumpLabels)
    chunk_rows = rows_in_chunk(data.num_samples["train"], data.bytes_each, IMAGE_CHUNK_BYTES)
    dumped = samples_of_block(dump.space_of(data), dump.block_samples) if dump else 0
    if dump and (note := lowered_blocks(dump.space_of(data), dump.block_samples, data.num_samples["train"])):
        findings.ok(note)
    block_rows = min(dumped, data.num_samples["train"]) if dump and dump.views.mixes else chunk_rows
    for name, row in trained.items():
        rows = chunk_rows if name == "train_teacher" else block_rows
        budget = _budget(params, name, row.memory_budget_mb, row.fit.batch_size)
        if not budget.holds(data, "train", "val"):
            _report(name, data, budget, findings, lambda b=budget, n=rows: b.check_window(data.bytes_each, n))  # type: ignore[misc]
    if dump:
        budget = _budget(params, "dump_labels", dump.memory_budget_mb, dump.batch_size)
        if not budget.holds(data, "train"):
            _report("dump_labels", data, budget, findings, lambda: budget.check_blocks(data, dumped))


def _budget(params: Params, name: str, megabytes: int | Literal["auto"], batch_size: int) -> MemoryBudget:
    megabytes = megabytes_here() if megabytes == "auto" else megabytes
    return MemoryBudget.of_megabytes(megabytes, batch_size, f"{params.path}: {name}.memory_budget_mb")


def _report(
    name: str, data: DatasetManifest, budget: MemoryBudget, findings: Findings, check: Callable[[], None]
) -> None:
    def report() -> None:
        check()
        findings.ok(f"memory: {name} reads {data.kind.things} from disk as they are needed, within {budget}")

    findings.attempt(report)
