"""A `python` that has imported torch and DVC already, for what a test starts by the dozen.

Importing them takes seconds of each process. A server imports them once and forks itself for each
call: the child has the arguments, the folder, the environment and the open files of its caller, and
imports `pipeline` and `stages` from its own folder. Anything but `python -m stages.<name>`,
`python -m dvc` and `torchrun` runs as ever. Tests that kill a stage must not use it: they would
kill the caller alone.
"""

import atexit
import gc
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_CLIENT = """#!{python} -SE
import array, json, os, socket, sys
if sys.argv[1:2] == ["-u"]:  # as torchrun starts its workers
    del sys.argv[1]
modules = ("stages.", "pipeline.", "dvc", "torch.distributed.run")
if sys.argv[1:2] != ["-m"] or not "".join(sys.argv[2:3]).startswith(modules):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()
server.sendmsg([len(call).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
server.sendall(call)
sys.exit(int(server.recv(1)[0]))
"""
_IMPORTED = (
    "torch",
    "zarr",
    "numpy",
    "filelock",
    "typer",
    "pydantic.dataclasses",
    "jaxtyping",
    "safetensors.torch",
    "ruamel.yaml",
    "dvc.cli.parser",
    "dvc.compare",
    "dvc.data_cloud",
    "dvc.repo.artifacts",
    "dvc.repo.commit",
    "dvc.repo.experiments",
    "dvc.repo.fetch",
    "dvc.repo.graph",
    "dvc.repo.index",
    "dvc.repo.plots",
    "dvc.repo.push",
    "dvc.repo.reproduce",
    "dvc_data.hashfile.checkout",
    "dvc_data.hashfile.db.local",
    "configobj",
    "networkx",
    "captum.attr",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "onnxruntime.quantization",
    "onnxscript",
    "PIL.PngImagePlugin",
    "scipy.stats",
    "sklearn.datasets",
    "tabulate",
    "torch._functorch.aot_autograd",
    "torch.distributed.run",
    "torch.export",
    "torch.onnx._internal.exporter._core",
    "torch.utils.flop_counter",
    "torchvision",
)


class WarmPython:
    """A server, and the folder that goes in front of PATH for its `python`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="warm"))
        address = str(self.folder / "socket")
        client = self.folder / "python"
        client.write_text(_CLIENT.format(python=sys.executable, address=address))
        torchrun = self.folder / "torchrun"
        torchrun.write_text(f'#!/bin/sh\nexec "{client}" -m torch.distributed.run "$@"\n')
        for program in (client, torchrun):
            program.chmod(0o755)
        command = [sys.executable, __file__, address]
        self._server = subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"
        atexit.register(self.close)

    def close(self) -> None:
        """Ends the server."""
        self._server.kill()
        self._server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def serve(address: str) -> None:
    """Forks a child for each call, for ever."""
    for name in _IMPORTED:
        __import__(name)
    gc.collect()
    gc.freeze()  # or each child would go through a million objects, and copy their pages, to find no garbage
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    print("ready", flush=True)
    while True:
        caller, _ = listening.accept()
        head, files, _, _ = socket.recv_fds(caller, 4, 3)
        if os.fork() == 0:
            listening.close()
            _answer(caller, int.from_bytes(head, "big"), files)
        caller.close()
        for file in files:
            os.close(file)
        _bury()


def _bury() -> None:
    """Waits for the children that have ended, so that their time counts as this process's."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _answer(caller: socket.socket, size: int, files: list[int]) -> None:
    """Runs a call in a child and sends the caller its exit status; does not return."""
    child = os.fork()
    if child == 0:
        _run(caller, size, files)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    caller.sendall(bytes([status % 256]))
    os._exit(0)


def _run(caller: socket.socket, size: int, files: list[int]) -> None:
    """Becomes the caller's process; does not return."""
    call = b""
    while len(call) < size:
        call += caller.recv(size - len(call))
    caller.close()
    arguments, folder, environment = json.loads(call)
    for place, file in enumerate(files):
        os.dup2(file, place)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.fsync = lambda handle: None  # as in the other tests
    sys.argv, sys.path[0] = arguments, folder
    sys.executable = str(shutil.which("python"))  # for processes that a stage starts
    status = 0
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
