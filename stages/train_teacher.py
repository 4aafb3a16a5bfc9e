"""train_teacher: data/prepare -> data/train_teacher (weights, accuracy, calibration temperature).

`torchrun --nproc-per-node 4 -m stages.train_teacher` trains it on four GPUs, each with its share of
every batch."""

import os
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.scratch import Scratch
from pipeline.data.dataset import ImageDataset
from pipeline.models import is_fitted_at_once, load_weights, read_class_names
from pipeline.models.answers import SOME, write_checked
from pipeline.models.compilers import check_compiler
from pipeline.models.devices import choose_device
from pipeline.teacher.at_once import fit_at_once
from pipeline.teacher.calibration import calibrate
from pipeline.teacher.outputs import ImportedOutputs
from pipeline.teacher.settings import TrainTeacher
from pipeline.teacher.task import TeacherData, TeacherTask
from pipeline.training.fit import fit, write_reports
from pipeline.training.run import Workplace
from pipeline.training.start import Start, WeightClasses, origins
from pipeline.training.team import Team, one_voice
from pipeline.training.trainer import Trainer
from pipeline.training.validation import Validation
from pipeline.views.maps import need_maps


@one_voice()
def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    out: Path = Path("data/train_teacher"),
    reports: Path = Path("reports"),
    work: Path = Path("work"),
) -> None:
    settings = load_section(TrainTeacher, "train_teacher", params)
    where = f"{params}: train_teacher"
    settings.check(where)
    output_names = read_class_names(settings.teacher_classes, f"{where}.teacher_classes")
    team = Team.of(os.environ)
    device = choose_device(settings.device, team.local_rank)
    if settings.fit.compile:
        check_compiler(device, f"{where}.fit.compile")
    team.connect(device, settings.fit.batch_size, where)
    dataset = ImageDataset(data)
    manifest = dataset.manifest
    settings.views.check(manifest.image_shape, f"{where}.views", manifest.kind)
    need_maps(settings.views, manifest.signal, f"{where}.views")
    decides = {
        "settings": (recipe := asdict(settings)),
        "origins": origins(settings, where),
        "output_names": output_names,
        "data": manifest.fingerprints,
        "device": device.type,
    }
    scratch = Scratch(
        out,
        decides,
        work,
        [reports / "train_teacher.json", reports / "train_teacher.tsv"],
        code=Path(__file__),
    )
    with team.open(scratch) as unfinished:
        if not unfinished:
            return
        workplace = Workplace(scratch.folder, device, "train_teacher", team, where)
        splits = TeacherData.open(dataset, settings, workplace)
        classes = WeightClasses(output_names, settings.class_map)
        begin = team.ask_first(lambda: Start.of(settings, manifest, scratch.output, where, classes, data))
        begin = begin.with_recipe(recipe)
        seconds = 0.0
        if is_fitted_at_once(settings.model):
            rows, seed = (splits.train, splits.budget, scratch.output), settings.seed
            seconds = team.ask_first(lambda: fit_at_once(begin.meta, *rows, seed))
        model = begin.build(settings.seed)
        begin.check(model, some := splits.val.first(SOME))
        torch.manual_seed(settings.seed + team.rank)  # for dropout and the like
        task = TeacherTask(settings, splits, device, team)
        run = Trainer(model, task, settings.fit, workplace, begin.head_for(settings.fit))
        (result,) = fit([run])
        if not team.is_first:
            return
        result.state.seconds += seconds
        load_weights(model, result.last, scratch.folder)
        validation = Validation(splits.val, splits.budget, device, signal=splits.signal)
        where, groups = f"model {settings.model!r}", begin.meta.class_groups
        imported = ImportedOutputs(where, manifest.class_names, groups, splits.signal)
        figures = calibrate(model, validation, imported if begin.weights else None)
        meta = begin.meta.trained(result.state.precision, figures)
        write_checked(scratch.output, meta, model, some)
        write_reports(reports / "train_teacher", result, {"val": figures})
        scratch.publish()


if __name__ == "__main__":
    run_stage(main)
