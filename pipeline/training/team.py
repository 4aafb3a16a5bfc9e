"""Several processes that train one network, each with its share of every batch, by `torchrun`.

A process by itself is a team of one: it asks and waits for nobody, and sets nothing up.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.core.errors import ConfigError, ModelError, PipelineError
from pipeline.core.scratch import Scratch
from pipeline.training.batch_norm import SyncedBatchNorm
from pipeline.training.batches import Share

T = TypeVar("T")

# What the first does alone while the others wait lies within: waiting for a lock, trials of a
# temperature.
_TIMEOUT = timedelta(hours=2)
_GRACE_SECONDS = 5.0  # torchrun, which looks ten times a second, has ended the others by then
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")  # gloo's words


@dataclass(frozen=True)
class Team:
    """The processes that train one network together, and the place of this one among them.

    All call the same methods in the same order, those apart that say otherwise: most of them wait
    for the others.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Team":
        """Returns the team that torchrun describes in the environment; without it, a team of
        one.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        if not all(name in environment for name in names):
            return cls()
        return cls(*(int(environment[name]) for name in names[:4]))

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and speaks for all. Waits for nobody."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """The part of every batch that is this process's. Waits for nobody."""
        return Share(self.rank, self.world)

    def connect(self, device: torch.device, batch_size: int, where: str) -> None:
        """Connects the processes, before the first method that waits.

        Args:
            device: What this process computes on.
            batch_size: Of all processes together.
            where: The section of `params.yaml` that it is from.

        Raises:
            ConfigError: There is not a GPU, or not an image of a batch, for each process.
        """
        if self.world == 1:
            return
        if batch_size < self.world:
            raise ConfigError(f"{where}.fit.batch_size", f"{batch_size} for {self.world} processes", expected="more")
        if device.type == "cuda":
            gpus = torch.cuda.device_count()
            if self.local_world > gpus:
                raise ConfigError("--nproc-per-node", f"{self.local_world}", expected=f"at most {gpus}, one for a GPU")
            torch.cuda.set_device(device)
        elif device.type != "cpu":
            raise ConfigError(f"{where}.device", f"{device.type} for {self.world} processes", expected="cuda or cpu")
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_TIMEOUT)

    def ask_first(self, question: Callable[[], T]) -> T:
        """Returns the answer of the first process; the others are not asked."""
        if self.world == 1:
            return question()
        answer = [question() if self.is_first else None]
        distributed.broadcast_object_list(answer, src=0)
        return cast(T, answer[0])

    def gather(self, value: T) -> list[T]:
        """Returns each process's value, by rank."""
        if self.world == 1:
            return [value]
        values: list[T | None] = [None] * self.world
        distributed.all_gather_object(values, value)
        return cast(list[T], values)

    def join_rows(
        self, rows: Float[torch.Tensor, "own columns *grid"], count: int
    ) -> Float[torch.Tensor, "all columns *grid"]:
        """Returns the rows of all processes, on the CPU; each has its share of `count`."""
        if self.world == 1:
            return rows
        padded = rows.new_zeros(-(-count // self.world), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        distributed.all_gather(parts, padded)
        return torch.cat([part[: Share(rank, self.world).size(count)] for rank, part in enumerate(parts)])

    def mean(self, value: Float[torch.Tensor, ""]) -> Float[torch.Tensor, ""]:
        """Returns the mean over the processes."""
        if self.world == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.world

    def replicate(self, model: nn.Module) -> nn.Module:
        """Returns the network with gradients that are means over the processes.

        Its weights become those of the first process.

        What is frozen afterwards, or let go, needs a new one.
        """
        return model if self.world == 1 else DistributedDataParallel(model)

    @contextmanager
    def step(self, replica: nn.Module, *, last: bool) -> Iterator[None]:
        """Wraps the forward and backward pass of a batch.

        Batch norm sees the rows of all; gradients are exchanged with the last batch of several
        that accumulate.

        Raises ModelError where a parameter gets no gradient: torch would exchange none at all.
        """
        if self.world == 1:
            yield
            return
        assert isinstance(replica, DistributedDataParallel), "what `replicate` gave"
        with SyncedBatchNorm(), nullcontext() if last else replica.no_sync():
            yield
        unused = [name for name, p in replica.module.named_parameters() if p.requires_grad and p.grad is None]
        if last and unused:
            found = f"{unused[0]} has no part in the loss" + (
                f", nor have {len(unused) - 1} more" if unused[1:] else ""
            )
            fix = "freeze it (requires_grad_(False)) in the network's file, or train without torchrun"
            raise ModelError(type(replica.module).__name__, found, fix=fix)

    @contextmanager
    def open(self, scratch: Scratch) -> Iterator[bool]:
        """Holds the scratch folder in the first process; yields whether there is work to do.

        The others may read in it.
        """
        with scratch if self.is_first else nullcontext():
            yield self.ask_first(lambda: not scratch.done)


ALONE = Team()


@contextmanager
def one_voice() -> Iterator[None]:
    """Wraps all that a process does: of a team only the first speaks, and an error is reported
    once.

    A mistake of the user's is found by all of them, and when one fails the others lose the
    connection. So those who are not the first, or have lost it, wait before they say so: torchrun
    ends them meanwhile if another one is at fault.
    """
    team = Team.of(os.environ)
    if team.world == 1:
        yield
        return
    try:
        with ExitStack() as stack:
            if not team.is_first:
                stack.enter_context(redirect_stderr(stack.enter_context(Path(os.devnull).open("w"))))
            yield
    except (Exception, KeyboardInterrupt) as error:
        lost = isinstance(error, distributed.DistError) or any(text in str(error) for text in _LOST)
        if lost or not team.is_first:
            time.sleep(_GRACE_SECONDS)
        if lost:
            where, found = f"process {team.rank} of {team.world}", f"lost the others ({str(error).splitlines()[0]})"
            raise PipelineError(where, found, fix="run the same command to go on") from error
        raise
    if distributed.is_initialized():
        distributed.destroy_process_group()
