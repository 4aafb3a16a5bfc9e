"""The lines that a check-up prints about samples, time and disk."""

from collections.abc import Mapping

from pipeline.data.input_kinds import IMAGE, ROW, WAVEFORM
from pipeline.data.manifest import DatasetManifest
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import Look
from pipeline.doctor.space import DiskSpace
from pipeline.preparation.statistics import count_levels, values_line

FEW = 20  # images of a class
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_UNITS = ((1, "s", 100), (60, "min", 100), (3600, "h", 72), (86400, "days", float("inf")))


def report_images(look: Look, findings: Findings) -> None:
    """Reports the images, by split and class."""
    data, done = look.data, look.seconds is None
    counts = ", ".join(f"{'' if done else 'about '}{count:,} {split}" for split, count in data.num_samples.items())
    state = "prepared as the settings say" if done else "not prepared yet"
    classes = f"{len(data.class_names)} {'independent ' if data.signal == 'binary' else ''}classes"
    findings.ok(f"{look.things}: {data.source}, {state}: {classes}, {counts}, {_form(data)}")
    for split, (state, is_broken) in look.firsts.items():
        (findings.warning if is_broken else findings.ok)(f"{look.things}: {split}: its first {data.kind.thing} {state}")
    if look.untimed:
        findings.warning(f"{look.untimed}; what needs it is left out here")
    for line in look.understood.lines():
        findings.ok(line)
    if data.kind is IMAGE:
        values = values_line(count_levels(look.some.inputs.numpy()))
        (findings.warning if "check" in values else findings.ok)(values)
    _report_classes(look, findings)
    _report_oddities(data, findings)


def _form(data: DatasetManifest) -> str:
    """Returns the form of samples, in words."""
    shape = " x ".join(map(str, data.image_shape))
    if data.kind is IMAGE:
        return f"{shape} (channels x height x width), storage: {data.storage}"
    if data.kind is ROW:
        return f"{shape} columns"
    if data.kind is WAVEFORM:
        rate = (data.input or {})["rate_hz"]
        return f"{data.image_shape[0] / rate:.3g} s ({shape} samples at {rate:,} Hz)"
    return f"{shape} words at most, of {(data.input or {})['num_words']:,}"


def _report_classes(look: Look, findings: Findings) -> None:
    counts = look.class_counts
    if counts is None:
        findings.ok("classes: how many images each has takes long to count here; prepare counts them")
        return
    name = min(counts, key=lambda each: counts[each])
    few = sum(count < FEW for count in counts.values())
    if few:
        found = f"{few} of {len(counts)} have less than {FEW} training {look.things} ({name!r}: {counts[name]})"
        findings.warning(f"classes: {found}; add {look.things}, or expect little of them")
    else:
        span = " to ".join(f"{count:,}" for count in sorted({min(counts.values()), max(counts.values())}))
        findings.ok(f"classes: {span} training {look.things} each")


def _report_oddities(data: DatasetManifest, findings: Findings) -> None:
    """Reports what prepare has counted: repeated, unlabelled and broken samples."""
    things = data.kind.things
    if data.num_unlabelled:
        findings.ok(f"{things}: {data.num_unlabelled:,} training {things} are unlabelled: they serve soft labels alone")
    shared = {
        f"training {things} repeat another one": data.num_repeated_in_train,
        f"val {things} are in the training set, too": data.num_shared_with_val,
        f"test {things} are in the training set, too": data.num_shared_with_test,
    }
    for line, count in shared.items():
        if count:
            findings.warning(f"{things}: {count:,} {line}; duplicates.tsv lists them")
    if data.num_skipped:
        findings.warning(f"{things}: {data.num_skipped:,} broken ones were skipped; broken.tsv lists them")


def report_times(seconds: Mapping[str, float], findings: Findings) -> None:
    """Reports how long each stage will take on this machine, one after the other."""
    for name, each in seconds.items():
        findings.ok(f"time: {name}: {duration(each)}")
    if len(seconds) > 1:
        findings.ok(f"time: all of these: {duration(sum(seconds.values()))}")


def duration(seconds: float) -> str:
    """Returns a time in words, with two figures at most: it is an estimate."""
    if seconds < 1:
        return "about 1 s"
    size, unit = next((size, unit) for size, unit, most in _UNITS if seconds < most * size)
    count = seconds / size
    return f"about {count:.0f} {unit}" if count >= 10 or unit == "s" else f"about {count:.1f} {unit}"


def report_space(space: DiskSpace, findings: Findings) -> None:
    """Reports the disk space that is needed, and whether it is there."""
    state = "there" if space.is_prepared else f"to come, and {_size(space.pool)} beside it while it is made"
    findings.ok(f"disk: data/prepare: about {_size(space.prepare)}, {state}")
    for name, size in space.stores.items():
        label = space.label_bytes[name]
        each = f"{label.size:.2f} bytes a label ({label.source})"
        findings.ok(f"disk: store {name}: about {_size(size)}, {each}")
    linked = "DVC's cache and work/ link them: no copies"
    copy = linked if space.copies == 1 else f"{space.copies} copies: DVC's cache or work/ do not link them"
    line = f"disk: about {_size(space.needed)} to come at the peak ({copy}), {_size(space.free)} free"
    if space.needed > space.free:
        findings.error(f"{line}; free space, choose smaller `encodings` or fewer views, or storage: encoded")
    else:
        findings.ok(line)


def _size(count: float) -> str:
    size, unit = next((size, unit) for size, unit in _SIZES if count >= size or size == 1e3)
    return f"{count / size:,.1f} {unit}"
