"""train_student: data/prepare + one store -> data/train_student/<name>. Never loads the teacher.

`torchrun --nproc-per-node 4 -m stages.train_student --name small` trains it on four GPUs, each with
its share of every batch.
"""

import os
from pathlib import Path

import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS
from pipeline.core.progress import say
from pipeline.core.scratch import Scratch
from pipeline.data.auto_budget import settle
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.models.compilers import check_compiler
from pipeline.models.devices import choose_device
from pipeline.student.data import StudentData
from pipeline.student.features import open_features
from pipeline.student.groups import check_alike, check_team, read_group
from pipeline.student.run import Plan, Students, deciding_inputs
from pipeline.student.settings import TrainStudent
from pipeline.student.stores import open_stores
from pipeline.training.team import Team, one_voice

__all__ = ["TrainStudent", "main"]


@one_voice()
def main(
    name: str = typer.Option(help="The student's row in the table `students`."),
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    labels: str = typer.Option(
        "data/dump_labels", help="The folder of the stores; or one packed store (.zip). A path or URL."
    ),
    out: Path = Path("data/train_student"),
    reports: Path = Path("reports/train_student"),
    work: Path = Path("work"),
) -> None:
    table = f"{params}: students"
    # 1. The student's row, and those of its group.
    rows = read_group(name, params)
    own = rows[name]
    team = Team.of(os.environ)
    device = choose_device(own.device, team.local_rank)
    for each, row in rows.items():
        if row.fit.compile:
            check_compiler(device, f"{table}.{each}.fit.compile")
    check_team(team, rows, table)
    team.connect(device, own.fit.batch_size, f"{table}.{name}")
    # 2. The data, and the store of each.
    dataset = ImageDataset(data)
    manifest = dataset.manifest
    stores = open_stores(labels, rows, table)
    features = open_features(labels, rows, stores, table)
    check_alike(rows, stores, table, manifest.num_unlabelled)
    for each, row in rows.items():
        row.check_data(manifest.num_unlabelled, f"{table}.{each}")
    # 3. The scratch folder of each.
    plans = {}
    for each, row in rows.items():
        where = f"{table}.{each}"
        decides = deciding_inputs(row, stores[each], manifest, device, where, features.get(each))
        results = [reports / f"{each}.json", reports / f"{each}.tsv"]
        scratch = Scratch(out / each, decides, work, results, code=Path(__file__))
        plans[each] = Plan(each, row, stores[each], scratch, where, features.get(each))
    scratch = plans[name].scratch
    with team.open(scratch) as unfinished:
        if not unfinished:
            return
        # 4. One pass for those that have work to do.
        where = f"{table}.{name}.memory_budget_mb"
        megabytes = team.ask_first(lambda: settle(own.memory_budget_mb, where, scratch.folder))
        budget = MemoryBudget.of_megabytes(megabytes, own.fit.batch_size, where)
        soft = {row.labels: stores[each] for each, row in rows.items() if row.soft_weight}
        soft |= {store.location: store for store in features.values()}
        trained = Students(plans, StudentData.open(dataset, budget, device, soft.values()), team).train(name)
        if not team.is_first:
            return
        # 5. This student; the others wait, trained, for their own commands.
        trained.student.write(scratch.output, reports / name, trained.result)
        scratch.publish()
        if trained.others:
            how = "`dvc repro`, or this command with their names, puts them in place"
            say(f"train_student@{name}: trained in the same pass: {', '.join(trained.others)}; {how}")


if __name__ == "__main__":
    run_stage(main)
