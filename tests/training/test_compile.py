"""torch.compile: the same training up to rounding, and one line where there is no compiler."""

import os
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from runs import fit_one, make_task, recipe
from torch import nn

from pipeline.core.errors import ConfigError, one_line_errors
from pipeline.models.compilers import check_compiler


class Small(nn.Module):
    """A network with little to compile, and no dropout, whose random numbers a compiler draws
    otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(144, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(images.flatten(1).float() / 255 - 0.4)
        return logits


def net() -> Small:
    torch.manual_seed(0)
    return Small()


def test_a_compiled_network_learns_the_same(tmp_path: Path) -> None:
    # In a process of its own: a compiler can't look through the type checks that the tests put
    # around functions.
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def compare(scratch: Path) -> None:
    # As it is compiled, except for the C++, which takes 20 seconds and a compiler.
    nn.Module.compile = partialmethod(nn.Module.compile, backend="aot_eager")  # type: ignore[method-assign,assignment]
    plain = fit_one(net(), make_task(), recipe(optimizer="sgd"), scratch / "plain", name="plain")
    model = net()
    compiled = fit_one(model, make_task(), recipe(optimizer="sgd", compile=True), scratch / "compiled", name="compiled")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for name, values in plain.last.items():
        torch.testing.assert_close(compiled.last[name], values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("device", "named"), [("cpu", "CXX"), ("cuda", "CC")])
def test_a_machine_without_a_compiler_is_told_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, device: str, named: str
) -> None:
    monkeypatch.delenv(named, raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=rf"^run: no .* on this machine; expected .*\({named}\); compile: false"):
        check_compiler(torch.device(device), "run")
    monkeypatch.setenv(named, "/nowhere/compiler -O1")
    with pytest.raises(ConfigError, match="no /nowhere/compiler on this machine"):
        check_compiler(torch.device(device), "run")
    monkeypatch.setenv(named, f"{sys.executable} wrapped")
    check_compiler(torch.device(device), "run")


def test_a_network_that_can_not_be_compiled_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from torch._dynamo.exc import InternalTorchDynamoError

    with pytest.raises(SystemExit) as left, one_line_errors():
        raise InternalTorchDynamoError("can't\nfrom user code")
    assert left.value.code == 1
    assert capsys.readouterr().err == "error: torch.compile: can't; set compile: false in params.yaml\n"


if __name__ == "__main__":
    compare(Path(sys.argv[1]))
