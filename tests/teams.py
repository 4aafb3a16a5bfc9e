"""Teams of forked processes, as torchrun would start and end them (fresh interpreters take seconds
to import torch).
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from faults import fork

from pipeline.core.errors import one_line_errors


class Members:
    """A team of processes that do the same work; the output of each goes to `said-<rank>.txt` in
    the folder.
    """

    def __init__(self, folder: Path, world: int, work: Callable[[], object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._said = [folder / f"said-{rank}.txt" for rank in range(world)]
        for said in self._said:
            said.write_text("")
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        shared = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

        def join(rank: int) -> None:
            os.environ |= {name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
            with one_line_errors():
                work()

        self.processes = [fork(lambda rank=rank: join(rank), said) for rank, said in enumerate(self._said)]

    def said(self) -> str:
        """Returns what all of them printed."""
        return "".join(path.read_text() for path in self._said)

    def ended(self, *, terminate: bool = True) -> list[int]:
        """Waits for all; returns their exit statuses, or minus the signals that ended them.

        When one fails, the others are ended, as torchrun does.
        """
        statuses: dict[int, int] = {}
        while running := [process for process in self.processes if process not in statuses]:
            for process in running:
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    statuses[process] = os.waitstatus_to_exitcode(status)
            if terminate and any(statuses.values()):
                for process in running:
                    if process not in statuses:
                        os.kill(process, signal.SIGTERM)
                terminate = False
            time.sleep(0.005)
        return [statuses[process] for process in self.processes]
