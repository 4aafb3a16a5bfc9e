"""`memory_budget_mb: auto`: the machine's limits are found, and a resume keeps what was chosen."""

from pathlib import Path

import pytest

from pipeline.core import memory
from pipeline.data import auto_budget
from pipeline.data.auto_budget import megabytes_here, settle

MEGABYTE = 1_000_000


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes up a machine with 8 GB available, whose files lie in a folder."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 7812500 kB\n")
    (tmp_path / "cgroup").write_text("")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_ROOT", tmp_path / "groups")
    monkeypatch.setattr(memory, "machine_bytes", lambda: 16_000 * MEGABYTE)
    return tmp_path


def limit(machine: Path, version: int, path: str, limit: object, used: int) -> None:
    """Puts the process into a control group of a limit and a usage in MB, 30 of them file pages."""
    folder = machine / "groups" / ("" if version == 2 else "memory") / path
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value * MEGABYTE if isinstance(value, int) else value}\n")
    stat = {"inactive_file": 20 * MEGABYTE, "active_file": 10 * MEGABYTE}
    (folder / "memory.stat").write_text("".join(f"{key} {value}\n" for key, value in stat.items()))


def test_without_groups_it_is_what_the_kernel_can_give(machine: Path) -> None:
    assert memory.free_bytes() == 8_000 * MEGABYTE
    (machine / "meminfo").unlink()
    assert memory.free_bytes() == 16_000 * MEGABYTE


@pytest.mark.parametrize(("version", "line"), [(1, "4:memory:/a/b"), (2, "0::/a/b")])
def test_a_groups_limit_counts_with_what_others_in_it_hold_and_file_pages_do_not(
    machine: Path, version: int, line: str
) -> None:
    (machine / "cgroup").write_text(f"9:name=systemd:/x\n{line}\n")
    limit(machine, version, "a/b", "max", 100)
    assert memory.free_bytes() == 8_000 * MEGABYTE, "no limit"
    limit(machine, version, "a", 500, 180)
    assert memory.free_bytes() == 350 * MEGABYTE, "the limit of the group around it"
    limit(machine, version, "a/b", 256, 200)
    assert memory.free_bytes() == 86 * MEGABYTE
    limit(machine, version, "", 60, 200)  # a container that sees its own group at the top
    assert memory.free_bytes() == 0


@pytest.mark.parametrize(("free", "chosen"), [(0, 8), (86, 16), (112, 32), (4144, 2048), (4140, 1024), (64_000, 16384)])
def test_it_is_a_power_of_two_within_half_of_what_is_free(
    free: int, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_budget, "free_bytes", lambda: free * MEGABYTE)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert megabytes_here() == chosen
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert megabytes_here() == max(8, chosen // 2), "two processes share it"


def test_work_that_goes_on_has_the_budget_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(auto_budget, "free_bytes", lambda: 4144 * MEGABYTE)
    assert settle(20, "here", tmp_path) == 20
    assert settle("auto", "here", tmp_path) == 2048
    assert "here: auto, 2048 MB of 4,144 MB that are free" in capsys.readouterr().err
    monkeypatch.setattr(auto_budget, "free_bytes", lambda: 100 * MEGABYTE)
    assert settle("auto", "here", tmp_path) == 2048
    assert "2048 MB as when this work began" in capsys.readouterr().err
    assert settle("auto", "here") == 16, "a dump's labels do not depend on it"
