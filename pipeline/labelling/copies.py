"""Copies between a device and this machine's memory, beside the device's other work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

_COPIED_AHEAD = 2  # batches


def copied_ahead(groups: Iterable[Sequence[torch.Tensor]], device: torch.device) -> Iterator[Sequence[torch.Tensor]]:
    """Yields groups of tensors of this machine's memory on a device.

    Each travels while the one before is worked on.

    On CUDA they go through pinned memory and a queue of their own, and the last but one must have
    been worked on before another one leaves, so that no more than a few are anywhere.
    """
    if device.type != "cuda":
        yield from ([tensor.to(device) for tensor in group] for group in groups)
        return
    copies, work = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    travelling: deque[tuple[list[torch.Tensor], torch.cuda.Event]] = deque()
    worked_on: deque[torch.cuda.Event] = deque()

    def arrived() -> Sequence[torch.Tensor]:
        group, event = travelling.popleft()
        work.wait_event(event)
        for tensor in group:
            tensor.record_stream(work)
        return group

    for group in groups:
        with torch.cuda.stream(copies):
            travelling.append(
                ([tensor.pin_memory().to(device, non_blocking=True) for tensor in group], copies.record_event())
            )
        if len(travelling) == _COPIED_AHEAD:
            yield arrived()
            worked_on.append(work.record_event())
            if len(worked_on) == _COPIED_AHEAD:
                worked_on.popleft().synchronize()
    while travelling:
        yield arrived()


def in_own_queue(device: torch.device) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Returns a wrapper that runs work on a side CUDA stream once all work queued so far is done.

    The work is meant for another thread; it does not wait for what is queued later. On other
    devices the wrapper leaves work as it is: only CUDA has such queues.
    """
    if device.type != "cuda":
        return lambda work: work
    queue = torch.cuda.Stream(device, priority=-1)  # before the other work: it is little, and memory waits for it

    def ready(work: Callable[[], None]) -> Callable[[], None]:
        asked_for = torch.cuda.current_stream(device).record_event()

        def begin() -> None:
            with torch.cuda.stream(queue):
                queue.wait_event(asked_for)
                work()
                queue.synchronize()  # before what it has read is given away

        return begin

    return ready
