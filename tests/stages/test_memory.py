"""A device's memory: too little of it halves batches, enough of it holds the images, and copies
travel ahead of the work.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_split
from stores import CLASSES, SPEC, SPLIT, TOPK, make, take
from test_labelling import EACH_MIXED, Row
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.copies import copied_ahead, in_own_queue
from pipeline.labelling.teacher import rendered_there
from pipeline.models.devices import has_room
from pipeline.models.predict import predict_logits
from pipeline.student.labelled_views import LabelledViews, Placement
from pipeline.training.epochs import Epoch
from pipeline.views.plan import plan_view, view_batches
from pipeline.views.spec import ViewSpec

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
IMAGES = make_split(41).inputs
ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)."),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    "windows": RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory"),
    "python": MemoryError(),
}


class Short(nn.Module):
    """A network that takes `limit` images at once; its output for one is exact, so that it does not
    depend on its company."""

    def __init__(self, limit: int, error: Exception = ERRORS["cuda"]) -> None:
        super().__init__()
        self.limit, self.error = limit, error
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        if len(images) > self.limit:
            raise self.error
        return images.flatten(1).double()[:, 30:34]


WHOLE = predict_logits(Short(99), IMAGES.split(16), CPU)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8, 15])
def test_batches_that_are_too_large_are_halved_to_the_same_logits(limit: int, error: Exception) -> None:
    told: list[int] = []
    model = Short(limit, error)
    assert torch.equal(predict_logits(model, IMAGES.split(16), CPU, on_batch=told.append), WHOLE)
    assert told == [16, 16, 9]
    assert sum(size for size in model.sizes if size <= limit) == 41


def test_the_new_size_is_said_once_and_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    model = Short(5)
    predict_logits(model, IMAGES.split(16), CPU)
    assert capsys.readouterr().err == "out of memory on cpu with 16 images at once: going on with 4\n"
    assert model.sizes == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 1]
    model.sizes.clear()
    predict_logits(model, IMAGES.split(16), CPU)
    assert capsys.readouterr().err == ""
    assert max(model.sizes) == 4
    model.limit = 2  # somebody else has taken more
    assert torch.equal(predict_logits(model, IMAGES.split(16), CPU), WHOLE)
    assert capsys.readouterr().err.count("\n") == 1


def test_one_image_that_does_not_fit_is_an_error_of_one_line() -> None:
    wanted = r"memory of cpu: too little for a forward pass of one image; expected room for one; free some, .*network$"
    with pytest.raises(ModelError, match=wanted):
        predict_logits(Short(0), IMAGES.split(16), CPU)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    model = Short(3, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(ModelError, match="shapes cannot"):
        predict_logits(model, IMAGES.split(16), CPU)
    assert model.sizes == [16]


class Greedy(nn.Module):
    """A network that wants a petabyte, from a few images on, on top of something that it holds
    already.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: list[weakref.ref[torch.Tensor]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert all(reference() is None for reference in self.held), "a failed pass still holds memory"
        mine = torch.zeros(4)
        self.held.append(weakref.ref(mine))
        torch.empty(1 << 50 if len(images) > 3 else 1, dtype=torch.uint8)
        return images.flatten(1)[:, :4] + mine


def test_a_real_lack_of_memory_is_seen_and_the_failed_pass_lets_go_of_its_own() -> None:
    model = Greedy()
    assert torch.equal(predict_logits(model, IMAGES.split(16), CPU), IMAGES.flatten(1)[:, :4].float())
    assert len(model.held) > 2


def test_of_no_images_a_network_still_tells_its_classes() -> None:
    assert predict_logits(Short(3), [IMAGES[:0]], CPU).shape == (0, 4)


# Images that lie on the device.


@pytest.mark.parametrize(("num_bytes", "fits"), [(500, True), (501, False)])
def test_images_lie_on_a_gpu_that_keeps_half_of_its_free_memory(
    monkeypatch: pytest.MonkeyPatch, num_bytes: int, fits: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    assert has_room(GPU, num_bytes) is fits
    assert not has_room(CPU, num_bytes)
    assert not has_room(torch.device("mps"), num_bytes)


def test_a_split_that_is_there_is_not_moved() -> None:
    assert SPLIT.to(CPU) is SPLIT


def meta(split: SplitInMemory) -> SplitInMemory:
    """Returns inputs on a device that has shapes alone."""
    return split.to(torch.device("meta"))


@EACH_MIXED
def test_of_a_split_on_a_device_all_of_a_teachers_batch_is_there(views: Row) -> None:
    spec = ViewSpec.from_dict(views, "test")
    for batch in Epoch(meta(SPLIT), spec, view=1, number=0, batch_size=8, seed=0).batches():
        assert batch.partner_labels is not None
        for values in (batch.inputs, batch.hard_labels, batch.partner_labels):
            assert (values.device.type, len(values)) == ("meta", 8)


@EACH_MIXED
def test_a_students_images_are_taken_from_where_they_lie(tmp_path: Path, views: Row) -> None:
    store = make(tmp_path / "x.zarr", TOPK, views=views)
    dark = SplitInMemory(SPLIT.inputs // 2, SPLIT.hard_labels, SPLIT.sample_ids)
    settings: dict[str, Any] = {"epoch": 1, "start_step": 0, "batch_size": 8, "seed": 0}
    pairs = zip(
        LabelledViews(SPLIT, store, CLASSES, 1.0, Placement(resident=dark)).batches(**settings),
        LabelledViews(SPLIT, store, CLASSES, 1.0).batches(**settings),
        strict=True,
    )
    for ours, theirs in pairs:
        assert 0 < ours.inputs.max() <= 127 < theirs.inputs.max()
        assert torch.equal(ours.hard_labels, theirs.hard_labels)
    for batch in LabelledViews(SPLIT, store, CLASSES, 1.0, Placement(resident=meta(SPLIT))).batches(**settings):
        assert batch.inputs.device.type == "meta"


# Images that travel there.


@pytest.mark.parametrize("batch_size", [1, 7, 20, 64])
def test_views_of_images_that_travel_are_those_that_are_rendered_here(batch_size: int) -> None:
    rows = range(3, 17)
    travelled = rendered_there(plan_view(SPLIT, SPEC, 2, rows=take(rows).sample_ids.argsort() + 3), batch_size, CPU)
    here = view_batches(SPLIT, SPEC, 2, take(rows).sample_ids.argsort() + 3, batch_size)
    for ours, theirs in zip(travelled, here, strict=True):
        assert torch.equal(ours, theirs)


@EACH_MIXED
def test_so_are_views_of_two_images(views: Row) -> None:
    spec = ViewSpec.from_dict(views, "test")
    travelled = rendered_there(plan_view(SPLIT, spec, 1), 7, CPU)
    for ours, theirs in zip(travelled, view_batches(SPLIT, spec, 1, range(20), 7), strict=True):
        assert torch.equal(ours, theirs)


class Machine:
    """A record of what a CUDA device would be asked for, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.main, self.now = Queue(self, "work"), "work"
        monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority=0: Queue(self, "copies"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.main)
        monkeypatch.setattr(torch.cuda, "stream", self.switch)

    @contextmanager
    def switch(self, queue: "Queue") -> Iterator[None]:
        before, self.now = self.now, queue.name
        yield
        self.now = before


class Queue:
    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name

    def record_event(self) -> "Mark":
        return Mark(self.machine, f"{self.name} {sum(line.startswith('mark') for line in self.machine.log)}")

    def wait_event(self, mark: "Mark") -> None:
        self.machine.log.append(f"{self.name} waits for {mark.name}")

    def synchronize(self) -> None:
        self.machine.log.append(f"host waits for {self.name}")


class Mark:
    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name
        machine.log.append(f"mark {name}")

    def synchronize(self) -> None:
        self.machine.log.append(f"host waits for {self.name}")


class Pixels(torch.Tensor):
    """A tensor that is only said to travel."""

    machine: Machine
    number: int

    @classmethod
    def of(cls, machine: Machine, number: int) -> "Pixels":
        pixels = torch.zeros(1).as_subclass(cls)
        pixels.machine, pixels.number = machine, number
        return pixels

    def pin_memory(self) -> "Pixels":  # type: ignore[override]
        return self

    def to(self, device: torch.device, non_blocking: bool) -> "Pixels":  # type: ignore[override]
        assert (device, non_blocking, self.machine.now) == (GPU, True, "copies")
        self.machine.log.append(f"copy {self.number}")
        return self

    def record_stream(self, queue: Queue) -> None:  # type: ignore[override]
        assert queue is self.machine.main


def test_on_a_gpu_a_batch_travels_while_the_one_before_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    groups = ([Pixels.of(machine, number)] for number in range(4))
    copied: Iterator[Sequence[Any]] = copied_ahead(groups, GPU)
    for group in copied:
        machine.log.append(f"work on {group[0].number}")
    assert machine.log == [
        *("copy 0", "mark copies 0", "copy 1", "mark copies 1", "work waits for copies 0", "work on 0"),
        *("mark work 2", "copy 2", "mark copies 3", "work waits for copies 1", "work on 1"),
        *("mark work 4", "host waits for work 2"),  # while the device works on 1
        *("copy 3", "mark copies 5", "work waits for copies 3", "work on 2"),
        *("mark work 6", "host waits for work 4", "work waits for copies 5", "work on 3"),
    ]


def test_on_a_gpu_work_of_another_thread_waits_for_what_was_asked_before_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    begin = in_own_queue(GPU)(lambda: machine.log.append(f"write in {machine.now}"))
    machine.log.append("next block")
    begin()
    assert machine.log == [
        "mark work 0",
        "next block",
        "copies waits for work 0",
        "write in copies",
        "host waits for copies",
    ]


def test_on_a_cpu_work_is_done_as_it_is() -> None:
    done: list[int] = []
    in_own_queue(CPU)(lambda: done.append(1))()
    assert done == [1]
