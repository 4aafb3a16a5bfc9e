"""One training run: its surroundings, its progress, its result."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipeline.training.team import ALONE, Team


@dataclass(frozen=True)
class Workplace:
    """The surroundings of a training run: its folder, its device, its name in messages, its team.

    Args:
        scratch: The folder of the checkpoint, which all processes of the team see.
        device: What this process computes on.
        where: The network's place in `params.yaml`, for messages about its code.
    """

    scratch: Path
    device: torch.device
    name: str
    team: Team = ALONE
    where: str = ""


@dataclass
class RunState:
    """The progress of a run; all of it is in the checkpoint.

    `seconds` are those of its own steps and checkpoints, and its share of the time that batches
    took.
    """

    epoch: int = 0
    step: int = 0  # within the epoch, in batches
    seconds: float = 0.0
    precision: str = ""
    best_value: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class FitResult:
    """The weights (the moving average) after the last and the best epoch, and figures per epoch.

    The figures are in the history of the state, a row per epoch.
    """

    last: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    state: RunState
