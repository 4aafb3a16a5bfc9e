"""torch.compile: the same training and the same logits but for rounding, and one line where there is no compiler."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_split
from runs import CPU, make_task, recipe

from pipeline.devices import check_compiler
from pipeline.errors import ConfigError, one_line_errors
from pipeline.inference import predict_logits
from pipeline.models import Classifier, build_model
from pipeline.training import fit

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile calls g++")


def net() -> Classifier:
    """Without dropout, whose random numbers a compiler draws otherwise."""
    return build_model("convnet_small", {"width": 4, "depth": 1}, num_classes=4, channels=1, mean=[0.3], std=[0.2])


@NEEDS_COMPILER
def test_a_compiled_network_learns_and_says_the_same(tmp_path: Path) -> None:
    # In a process of its own: a compiler can't look through the type checks that the tests put around functions.
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def compare(scratch: Path) -> None:
    plain = fit(net(), make_task(), recipe(optimizer="sgd"), scratch / "plain", CPU, "plain")
    model = net()
    compiled = fit(model, make_task(), recipe(optimizer="sgd", compile=True), scratch / "compiled", CPU, "compiled")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for name, values in plain.last.items():
        torch.testing.assert_close(compiled.last[name], values, rtol=1e-3, atol=1e-4)
    images, other = make_split(20).images, net()
    for each in (model, other):
        each.load_state_dict(compiled.last)
    said = predict_logits(model, images.split(8), CPU)  # the last batch is smaller
    torch.testing.assert_close(said, predict_logits(other, images.split(8), CPU), rtol=1e-4, atol=1e-5)


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
