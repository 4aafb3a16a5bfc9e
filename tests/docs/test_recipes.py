"""docs/recipes and docs/machines.md: scripts run as they stand, commands exist, launchers work."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from made import Made
from project import (
    environment,
    files_of,
    forget,
    make_project,
    repro,
    run_warm,
    small_params,
    stages_run,
    warm_environment,
    write_params,
)
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipeline.core.closure import TOP
from pipeline.doctor.findings import Findings
from pipeline.doctor.params import read_params
from stages import list_files, ray_workers
from stages.__main__ import build_app
from stages.ray_workers import Team

RECIPES = TOP / "docs/recipes"
SCRIPTS = ("dump.sbatch", "train.sbatch")
PAGES = (TOP / "docs/machines.md", TOP / "docs/scale.md")
FILES_OF_A_BLOCK = 5  # one of either dense store, three of top2
# SLURM's part is played by these: one node, which is this machine.
COMMANDS = {"srun": 'exec "$@"', "scontrol": "echo 127.0.0.1"}


def small() -> dict[str, Any]:
    """Returns the params of a small project with enough blocks to kill a worker between them."""
    params = small_params()
    params["students"] = {"small": params["students"]["small"]}
    params["dump_labels"] |= {"num_views": 3, "block_samples": 64}
    return params


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Returns a project with data, a teacher, and the labels of one process."""
    folder = made.copy(small(), "dump_labels", make_project(tmp_path_factory.mktemp("labelled"), small()))
    list_files.main(folder / "params.yaml", folder / "reports/list_files.json")
    shutil.rmtree(folder / "work")  # also the labels that a dump could take over
    return folder


@pytest.fixture
def project(labelled: Path, tmp_path: Path) -> Path:
    """Returns a copy of the project, to change."""
    return Path(shutil.copytree(labelled, tmp_path / "project", symlinks=True))


def read_recipe(name: str = "dump-job.yaml") -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load((RECIPES / name).read_text())
    return content


# The content of recipes and pages.


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_one_to_bash_and_its_directives_come_before_its_commands(name: str) -> None:
    assert subprocess.run(["bash", "-n", RECIPES / name]).returncode == 0
    first, *lines = (RECIPES / name).read_text().splitlines()
    assert first == "#!/bin/bash"
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    commands = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert directives
    assert directives[-1] < commands[0], "SLURM reads none behind the first command"
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", lines[number]) for number in directives)


def test_the_job_is_an_indexed_one_of_a_stage_that_there_is() -> None:
    job = read_recipe()
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] <= spec["completions"]
    assert pod["restartPolicy"] == "Never", "backoffLimitPerIndex asks for it"
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "stages.dump_labels"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["workingDir"] in {mount["mountPath"] for mount in container["volumeMounts"]}
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests["memory"] == limits["memory"]


def test_the_ray_job_starts_as_many_workers_as_its_pods_have_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    job = read_recipe("dump-rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert f'"ray=={cluster["rayVersion"]}"' in (TOP / "pyproject.toml").read_text()
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    for pod in (cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]):
        (container,), (volume,) = pod["containers"], pod["volumes"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/project"}]
        assert container["resources"]["requests"].items() <= container["resources"]["limits"].items()
    limits = container["resources"]["limits"]
    *place, program, words = job["spec"]["entrypoint"].split(maxsplit=4)
    assert place == ["env", "-C", "/project"]
    seen: list[Any] = []
    monkeypatch.setattr(ray_workers, "connect", lambda address: seen.append(address) or MagicMock())
    monkeypatch.setattr(ray_workers, "Cluster", lambda ray, words, team: seen.append((words, team)))
    monkeypatch.setattr(ray_workers, "follow", lambda *_: 0)
    assert program == "potstill"
    assert CliRunner().invoke(build_app(), words, env={"RAY_ADDRESS": "127.0.0.1:6379"}).exit_code == 0
    team = Team(group["replicas"], limits["nvidia.com/gpu"], int(limits["cpu"]))
    assert seen == ["127.0.0.1:6379", (["-m", "stages.dump_labels"], team)]


def test_the_ray_job_is_submitted_whole(tmp_path: Path) -> None:
    project, commands = tmp_path / "project", tmp_path / "bin"
    for folder in (project, commands):
        folder.mkdir()
    job = 'while [ "$1" != -- ]; do shift; done; shift; IN_JOB=yes sh -c "$*"'  # as `ray job submit` ends up
    for name, line in {"ray": job, "potstill": 'echo "$IN_JOB $PWD $*"'}.items():
        (commands / name).write_text(f"#!/bin/bash\n{line}\n")
        (commands / name).chmod(0o755)
    entrypoint = read_recipe("dump-rayjob.yaml")["spec"]["entrypoint"].replace("/project", str(project))
    line = f"if true ; then ray job submit --no-wait -- {entrypoint} ; fi"  # as KubeRay writes it for bash
    around = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    said = subprocess.run(["bash", "-c", line], env=around, capture_output=True, text=True, check=True).stdout
    assert said == f"yes {project} {entrypoint.partition('potstill ')[2]}\n"


def test_pages_and_recipes_name_launchers_that_exist() -> None:
    launched = YAML(typ="safe", pure=True).load((TOP / "params.yaml").read_text())["launcher"]
    assert set(launched) <= {path.stem for path in (TOP / "stages").glob("[!_]*.py")}
    for page in (*PAGES, *filter(Path.is_file, RECIPES.iterdir())):
        assert set(re.findall(r"launcher\.(\w+)", page.read_text())) <= set(launched), page


# The recipes at work.


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """Returns the environment of a node."""
    return with_commands(tmp_path, environment())


def with_commands(folder: Path, around: dict[str, str]) -> dict[str, str]:
    """Returns an environment in which SLURM's commands are found."""
    commands = folder / "slurm"
    commands.mkdir(exist_ok=True)
    for name, line in COMMANDS.items():
        (commands / name).write_text(f"#!/bin/bash\n{line}\n")
        (commands / name).chmod(0o755)
    return around | {"PATH": f"{commands}{os.pathsep}{around['PATH']}"}


def sbatch(
    project: Path, name: str, node: dict[str, str], slurm: dict[str, str], *words: str
) -> "subprocess.Popen[str]":
    """Starts a copy of a recipe's script, in another folder and with SLURM's environment."""
    activate = project / ".venv/bin/activate"
    activate.parent.mkdir(parents=True, exist_ok=True)
    activate.touch()
    spool = project.parent / "spool"
    spool.mkdir(exist_ok=True)
    script = shutil.copy(RECIPES / name, spool / "slurm_script")
    slurm = {"SLURM_SUBMIT_DIR": str(project), "SLURM_CPUS_PER_TASK": "1", **slurm}
    return start(["bash", str(script), *words], spool, node | slurm)


def start(command: list[str], folder: Path, around: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, cwd=folder, env=around, stderr=subprocess.PIPE, text=True, start_new_session=True)


def slurm_task(project: Path, node: dict[str, str], number: int) -> "subprocess.Popen[str]":
    array = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "2"}
    return sbatch(project, "dump.sbatch", node, array | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"})


def pod(project: Path, node: dict[str, str], number: int) -> "subprocess.Popen[str]":
    (container,) = read_recipe()["spec"]["template"]["spec"]["containers"]
    return start(container["command"], project, node | {"JOB_COMPLETION_INDEX": str(number)})


def wait_until_at_work(project: Path, blocks: int) -> None:
    end = time.monotonic() + 120
    while len(list((project / "work").glob("*/records/*/*-*.json"))) < blocks:
        assert time.monotonic() < end
        time.sleep(0.002)


def written_at(folder: Path) -> dict[str, int]:
    """Returns the time at which each file of labels was written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.glob("*/*/c/*/*/*")}


def test_of_two_workers_one_is_killed_and_started_again_and_nothing_is_lost(
    labelled: Path, project: Path, node: dict[str, str]
) -> None:
    """Runs one worker as a task of a SLURM array, the other as a pod."""
    forget(project, "dump_labels")
    killed = slurm_task(project, node, 1)
    wait_until_at_work(project, 3)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (project / "data/dump_labels").exists()
    (output,) = (project / "work").glob("*/output")
    left = written_at(output)
    workers = [slurm_task(project, node, 1), pod(project, node, 0)]
    messages = [each.communicate(timeout=300)[1] for each in workers]
    assert [each.returncode for each in workers] == [0, 0], messages
    assert all("going on with unfinished work" in each for each in messages)
    kept = written_at(project / "data/dump_labels")
    assert left
    assert sum(kept.get(name) != when for name, when in left.items()) <= FILES_OF_A_BLOCK
    assert files_of(project / "data/dump_labels") == files_of(labelled / "data/dump_labels")


def test_a_training_job_goes_by_torchrun(project: Path, tmp_path: Path) -> None:
    node = with_commands(tmp_path, warm_environment())
    job = {
        "SLURM_JOB_ID": str(free_port() - 20_000),
        "SLURM_JOB_NODELIST": "this",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_CPUS_PER_TASK": "2",
    }
    training = sbatch(project, "train.sbatch", node, job, "-m", "stages.train_student", "--name", "small")
    messages = training.communicate(timeout=300)[1]
    assert training.returncode == 0, messages
    assert (project / "data/train_student/small/weights.safetensors").exists()


def free_port() -> int:
    """Returns a port that train.sbatch can arrive at."""
    for port in range(20_000, 40_000):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("none is free")


def machine(project: Path, around: dict[str, str], number: int, stores: Path) -> "subprocess.Popen[str]":
    """Starts the command of SkyPilot's task, as on one of two machines that share no disk."""
    task = read_recipe("dump-sky.yaml")
    assert set(task["envs"]) == {"INPUTS", "STORES"}
    (project / ".venv/bin").mkdir(parents=True, exist_ok=True)
    (project / ".venv/bin/activate").touch()
    of_task = {"INPUTS": str(project / "data"), "STORES": str(stores)}
    of_sky = {"SKYPILOT_NODE_RANK": str(number), "SKYPILOT_NUM_NODES": "2"}
    return start(["bash", "-c", task["run"]], project, around | of_task | of_sky)


def test_machines_of_skypilot_write_the_stores_without_a_shared_disk(
    labelled: Path, project: Path, node: dict[str, str], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(project, tmp_path / "other", symlinks=True))
    machines = [machine(folder, node, n, tmp_path / "stores") for n, folder in enumerate((project, other))]
    messages = [each.communicate(timeout=300)[1] for each in machines]
    assert [each.returncode for each in machines] == [0, 0], messages
    for store in (labelled / "data/dump_labels").iterdir():
        assert files_of(tmp_path / "stores" / store.name) == files_of(store)


# Launchers within the DAG.


def test_another_launcher_runs_its_stage_again_to_the_same_labels_unless_the_user_says_that_nothing_changed(
    labelled: Path, project: Path
) -> None:
    params = small()
    run_warm(project, "dvc", "commit", "--force", "list_files", "prepare", "train_teacher", "dump_labels")
    params["launcher"]["dump_labels"] = "torchrun --nproc-per-node 2"
    write_params(project, params)
    assert repro(project, "dump_labels") == ["dump_labels"]
    assert files_of(project / "data/dump_labels") == files_of(labelled / "data/dump_labels")
    params["launcher"]["train_teacher"] = "torchrun --nproc-per-node 2"
    write_params(project, params)
    run_warm(project, "dvc", "commit", "--force", "train_teacher")
    assert repro(project, "dump_labels") == []


@pytest.mark.parametrize(
    ("launcher", "fault"),
    [
        ({"dump_labels": "torchrum --nproc-per-node 2"}, "launcher.dump_labels: no program 'torchrum'"),
        ({"dump_labels": ""}, "launcher.dump_labels: no program ''"),
        ({"dump_labels": 2}, "launcher.dump_labels: 2"),
        ({"dump_label": "python"}, "launcher.dump_label: unknown key"),
    ],
)
def test_the_doctor_reports_a_launcher_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: dict[str, Any], fault: str
) -> None:
    params = small()
    params["launcher"] |= launcher
    read_params(write_params(tmp_path, params), findings := Findings())
    assert findings.counts["error"] == 1
    assert fault in capsys.readouterr().out


@pytest.mark.parametrize("launcher", ["python", "torchrun --nproc-per-node 4"])
def test_the_doctor_knows_launchers(tmp_path: Path, launcher: str) -> None:
    params = small()
    params["launcher"]["train_student"] = launcher
    read_params(write_params(tmp_path, params), findings := Findings())
    assert findings.counts["error"] == findings.counts["warning"] == 0


# A DVC remote.


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Yields the address of a bucket on an S3 server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    request = urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT")
    urllib.request.urlopen(request).close()
    yield f"http://{host}:{port}/bucket"
    server.stop()


def add_remote(project: Path, bucket: str) -> None:
    """Adds a DVC remote over plain HTTP, which DVC speaks without dvc-s3.

    The server asks for a signature and checks none.
    """
    run_warm(project, "dvc", "remote", "add", "--default", "cellar", f"{bucket}/pets")
    signature = "AWS4-HMAC-SHA256 Credential=anna/20261121/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    settings = {"method": "PUT", "auth": "custom", "custom_auth_header": "Authorization", "password": signature}
    config, url = project / ".dvc/config", f"    url = {bucket}/pets\n"
    assert url in config.read_text()
    settled = "".join(f'    {name} = "{value}"\n' for name, value in settings.items())
    config.write_text(config.read_text().replace(url, url + settled))  # a second less for each `dvc remote modify`


def test_what_was_pushed_is_pulled_on_a_small_machine_which_trains_and_runs_no_teacher(
    labelled: Path, project: Path, tmp_path: Path, bucket: str
) -> None:
    run_warm(project, "dvc", "commit", "--force", "list_files", "prepare", "train_teacher", "dump_labels")
    run_warm(project, "dvc", "repro", "find_features")
    add_remote(project, bucket)
    run_warm(project, "dvc", "push")
    behind = shutil.ignore_patterns("cache", "work", "reports", "__pycache__")
    away = Path(shutil.copytree(project, tmp_path / "away", ignore=behind))
    shutil.rmtree(away / "data")  # not by a pattern: a room of the code is called so too
    done = run_warm(away, "dvc", "repro", "--pull", "--allow-missing", "train_student@small").stdout
    assert stages_run(done) == ["train_student@small"]
    assert (away / "data/train_student/small/weights.safetensors").exists()
    assert files_of(away / "data/dump_labels/dense8.zarr") == files_of(labelled / "data/dump_labels/dense8.zarr")
    assert not (away / "data/train_teacher").exists()
