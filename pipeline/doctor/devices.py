"""Whether this machine has the devices that stages compute with."""

from contextlib import suppress

import torch

from pipeline.core.config import load_section
from pipeline.core.errors import PipelineError, placed
from pipeline.doctor.findings import Findings
from pipeline.doctor.params import Launcher, Params
from pipeline.models.devices import choose_device


def check_devices(params: Params, findings: Findings) -> set[str]:
    """Reports each device that is not here, and returns the sections and students that name one.

    A stage with a launcher of its own may run on another machine, and is passed over.
    """
    launched: set[str] = set()
    with suppress(PipelineError):
        launched = load_section(Launcher, "launcher", params.path).elsewhere()
    named = {name: row for name, row in params.sections.items() if name not in launched and hasattr(row, "device")}
    if "train_student" not in launched:
        named |= {f"students.{name}": row for name, row in params.students.items()}
    return {
        name
        for name, row in named.items()
        if findings.attempt(find_device, row.device, f"{params.path}: {name}") is None
    }


def find_device(name: str, where: str) -> torch.device:
    """Returns the device; raises ConfigError, with its place in params.yaml, where it is not
    here.
    """
    with placed(where):
        return choose_device(name)
