"""A process that forks workers of a dump: obstore does not survive a fork, so that they can't come
from a process that may have used it; and a fresh interpreter takes seconds to import torch.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

TOP = Path(__file__).parents[1]
#: How the variables begin by which object stores are found.
CLOUDS = ("AWS_", "GOOGLE_", "GCE_", "AZURE_", "AZURITE_", "IDENTITY_")


class DumpHost:
    """A host of workers that dump what `made` has.

    Attributes:
        said: The file that has what all of them said.
    """

    def __init__(self, made: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.made, self.said, self._computed = made, folder / "said.txt", folder / "computed.txt"
        places = {"PYTHONPATH": str(TOP), "TMPDIR": str(folder), "HOME": str(folder)}
        environment = {**os.environ, **places, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, str(made), str(self.said), str(self._computed)]
        self._host = subprocess.Popen(
            command, cwd=TOP, env=environment, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def start(self, environment: dict[str, str], *, slow_s: float = 0.0, **options: str) -> int:
        """Starts a worker with options of the stage; returns its process id.

        Args:
            slow_s: What a block takes at least.
        """
        return int(self._ask("start", environment, slow_s, options))

    def status(self, process: int) -> int | None:
        """Returns a worker's exit status, or minus the signal that ended it; None: it works."""
        answer = self._ask("status", process)
        return None if answer == "None" else int(answer)

    def run(self, environment: dict[str, str], **options: str) -> int:
        """Starts a worker and returns its exit status."""
        return self.wait(self.start(environment, **options))

    def wait(self, process: int) -> int:
        """Waits for a worker and returns its status."""
        return int(self._ask("wait", process))

    def computed(self) -> list[str]:
        """Returns the blocks that a teacher began with, in that order."""
        return self._computed.read_text().splitlines() if self._computed.exists() else []

    def lines(self) -> list[str]:
        """Returns what was said since this was last asked; the figures of finished stores apart."""
        lines = self.said.read_text().splitlines() if self.said.exists() else []
        self.said.unlink(missing_ok=True)
        return [line for line in lines if "mean KL" not in line]

    def _ask(self, *call: Any) -> str:
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        self._host.stdin.write(json.dumps(call) + "\n")
        return self._host.stdout.readline().strip()

    def __enter__(self) -> "DumpHost":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._host:
            self._host.kill()


def serve(made: Path, said: Path, computed: Path) -> None:
    """Does what the lines on standard input ask for, until there are no more."""
    import torch

    from pipeline.core import closure, scratch
    from pipeline.labels import uploads
    from stages import dump_labels  # noqa: F401

    torch.set_num_threads(1)
    scratch.code_fingerprint = closure.code_fingerprint = lambda script: "this code"
    uploads.FIRST_WAIT_S = 0.01
    os.fsync = lambda handle: None
    for line in sys.stdin:
        what, *given = json.loads(line)
        if what == "start":
            process = os.fork()
            if process == 0:
                _work(made, said, computed, *given)
            print(process, flush=True)
        else:
            ended, status = os.waitpid(given[0], 0 if what == "wait" else os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if ended else None, flush=True)


def _work(made: Path, said: Path, computed: Path, environment: dict[str, str], slow_s: float, options: Any) -> None:
    """Runs the stage; does not return."""
    import time

    from pipeline.core.errors import one_line_errors
    from pipeline.labelling import dump
    from stages import dump_labels

    status, real = 1, dump.plan_view

    def plan_view(split: Any, spec: Any, view: int, **where: Any) -> Any:
        with computed.open("a") as file:
            file.write(f"{view}-{where['rows'][0]}\n")
        time.sleep(slow_s)
        return real(split, spec, view, **where)

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in [name for name in os.environ if name.startswith(CLOUDS)]:
            del os.environ[name]
        os.environ.update(environment)
        sys.stdout = sys.stderr = said.open("a", buffering=1)
        dump.plan_view = plan_view
        paths = {name: Path(options.pop(name)) for name in ("out", "work", "grow") if name in options}
        with one_line_errors():
            data = made / "data"
            dump_labels.main(made / "params.yaml", data / "prepare", data / "train_teacher", **paths, **options)
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(*map(Path, sys.argv[1:4]))
