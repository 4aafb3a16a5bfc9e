"""A schedule as choices: the size of images, the steps, the depth of students and the views."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.config import Setting
from pipeline.doctor.choice import Choice, differing, value_at
from pipeline.doctor.facts import LARGE_PX, Facts
from pipeline.doctor.reporting import duration
from pipeline.doctor.schedule import MOST_VIEWS, SIZES, Schedule
from pipeline.training.batches import num_steps

FEW_IMAGES = 20_000  # that a teacher would know by heart
_CROP_SHARE = 16  # the shorter side is so many times the pixels by which views are shifted
_ENCODED_SHARE = 0.5  # of the free disk: what pixels may take
_SHRUNK = 2  # times the images' size, of the files that are kept instead


def schedule_choices(schedule: Schedule, facts: Facts, params: Mapping[str, Any], minutes: float) -> list[Choice]:
    """Returns a schedule as choices, with the settings that differ from those in params.yaml.

    The size, the epochs and the views are always among them, since a reason stands beside each.
    """
    short_px = min(schedule.size_px)
    return [
        _size(schedule, facts, minutes),
        _steps(schedule, facts, params),
        *differing([*_storage(schedule, facts), *_depth(short_px, params)], params),
        _views(schedule, facts, params),
    ]


def deeper(params: Mapping[str, Any]) -> list[Setting]:
    """Returns the settings of students for large images."""
    why = f"depth 2, because images are larger than {LARGE_PX} pixels: a deeper network sees larger parts of them"
    return [
        Setting(f"students.{name}.model_settings", {**row["model_settings"], "depth": 2}, why)
        for name, row in value_at(params, "students").items()
        if row["model"] == "convnet_small" and row["model_settings"]["depth"] == 1
    ]


def _size(schedule: Schedule, facts: Facts, minutes: float) -> Choice:
    height, width = schedule.size_px
    is_as_is = schedule.size_px == (facts.height, facts.width) and facts.one_size
    entry, original = "prepare.image_px", f"{facts.height} x {facts.width}" + ("" if facts.one_size else " or so")
    time = f"a whole run takes {duration(schedule.seconds)} on this machine; {minutes:g} min were asked for"
    if is_as_is:
        return Choice(f"images: {original} pixels, as they are", [Setting(entry, None, f"all are {original}; {time}")])
    reason = {SIZES[0]: "as many as small networks can use", SIZES[-1]: "the smallest size that is taken"}
    why = reason.get(min(schedule.size_px), "the largest size that the time allows")
    line = f"images: scaled to {height} x {width} pixels, {why}"
    return Choice(line, [Setting(entry, [height, width], f"yours are {original}; {time}")])


def _storage(schedule: Schedule, facts: Facts) -> Iterator[Choice]:
    height, width = schedule.size_px
    needed = sum((facts.num_train, facts.num_val)) * facts.channels * height * width
    if needed > _ENCODED_SHARE * facts.free_bytes:
        why = f"as pixels they take {needed / 1e9:,.0f} GB, too much of this disk"
        settings = [
            Setting("prepare.storage", "encoded", why),
            Setting("prepare.longest_px", _SHRUNK * max(height, width), "larger files are shrunk to this"),
        ]
        yield Choice(f"storage: images are kept as files, because {why}", settings)


def _steps(schedule: Schedule, facts: Facts, params: Mapping[str, Any]) -> Choice:
    epochs = {"train_teacher": schedule.teacher_epochs, "students_defaults": schedule.student_epochs}
    steps = {
        section: count * num_steps(facts.num_seen(section), value_at(params, f"{section}.fit.batch_size"))
        for section, count in epochs.items()
    }
    settings = [Setting(f"{section}.fit.epochs", epochs[section], f"{steps[section]:,} steps") for section in epochs]
    whose = {"train_teacher": "the teacher", "students_defaults": "each student"}
    counts = ", ".join(f"{steps[section]:,} for {who} ({epochs[section]} epochs)" for section, who in whose.items())
    return Choice(f"steps: {counts}; fewer would not train them well", settings)


def _depth(short_px: int, params: Mapping[str, Any]) -> Iterator[Choice]:
    if short_px > LARGE_PX:
        why = f"because images are larger than {LARGE_PX} pixels"
        yield Choice(f"students: deeper (depth 2), {why}", deeper(params))


def _views(schedule: Schedule, facts: Facts, params: Mapping[str, Any]) -> Choice:
    """Returns views that are shifted by a share of the images' size.

    A teacher of few images gets such views, too, or it would know them by heart.
    """
    views, short_px = schedule.num_views, min(schedule.size_px)
    is_each = views == schedule.student_epochs
    why = "one for each of a student's epochs" if is_each else f"more than {MOST_VIEWS} bring little"
    crop = {"kind": "pad_crop", "pad_px": max(1, short_px // _CROP_SHARE)}
    settings = [Setting("dump_labels.num_views", views, why)]
    for section in ("dump_labels", "train_teacher"):
        entry = f"{section}.views.operations"
        operations = value_at(params, entry)
        shifted = [crop if one["kind"] == "pad_crop" else one for one in operations]
        reason = f"pad_px: a {_CROP_SHARE}th of the images' side"
        if section == "train_teacher" and facts.num_train < FEW_IMAGES and crop not in shifted:
            shifted, reason = [crop, *shifted], f"{facts.num_train:,} images are few: they are shifted, too"
        if shifted != operations:
            settings.append(Setting(entry, shifted, reason))
    line = f"views: {views} of each image ({why}), shifted by up to {crop['pad_px']} pixels and flipped"
    return Choice(f"{line}; delete flip_horizontal where left and right differ", settings)
