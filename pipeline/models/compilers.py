"""The compilers that torch calls, and whether this machine has one."""

import os
import shlex
import shutil
import sys

import torch

from pipeline.core.errors import ConfigError

_COMPILERS = {  # that torch calls: the variable that names one, and what is tried without it
    "cpu": ("CXX", ["clang++"] if sys.platform == "darwin" else ["g++"]),
    "cuda": ("CC", ["gcc", "clang"]),
}


def check_compiler(device: torch.device, where: str) -> None:
    """Raises ConfigError where torch can't compile networks for a device, for want of a compiler.

    A network that is to be compiled is so at its first call, and again for each mode and shape,
    5 to 20 seconds each; its last bits are rounded otherwise. On two cores of an AMD EPYC this
    made networks 0.7 to 1.3 times as fast (docs/log.md), so it is off unless asked for.
    """
    variable, names = _COMPILERS.get(device.type, _COMPILERS["cuda"])
    names = shlex.split(os.environ.get(variable, ""))[:1] or names
    if not any(map(shutil.which, names)):
        found = f"no {' or '.join(names)} on this machine"
        raise ConfigError(where, found, expected=f"a compiler that torch can call ({variable})", fix="compile: false")
