"""The report in words and tables: report.md, and what a terminal shows."""

from pipeline.report.columns import Table
from pipeline.report.content import Content
from pipeline.report.drawing import Chart
from pipeline.report.tables import (
    COSTS,
    export_columns,
    export_lines,
    export_notes,
    network_lines,
    quality_columns,
    robustness_table,
    stores_table,
    terminal_columns,
    terminal_export_columns,
)
from pipeline.report.verdicts import about_error, headline, verdicts


def terminal(content: Content) -> str:
    """Returns the figures that a terminal has room for, and the answer last, where the eye is."""
    marks = content.marks
    exports = Table.of(terminal_export_columns(marks), export_lines(content.exports))
    parts = [
        Table.of(terminal_columns(marks), network_lines(content.networks)).text("simple"),
        *([exports.text("simple"), *export_notes(content.exports)] if exports.lines else []),
        stores_table(content.evaluation.stores, content.marks.same_answer).text("simple"),
        "\n".join([*verdicts(content), headline(content)]),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(content: Content, charts: list[Chart]) -> str:
    """Returns the whole report without the samples; charts lie in `figures/`."""
    lines, marks = network_lines(content.networks), content.marks
    exports, classes = (
        Table.of(export_columns(marks), export_lines(content.exports)),
        marks.class_table(content.evaluation),
    )
    things = content.worded("{things}")
    images = [f"![{chart.caption}](figures/{chart.name}.png)\n\n{chart.caption}" for chart in charts]
    parts = [
        f"# {headline(content)}",
        "\n".join(f"- {line}" for line in verdicts(content)),
        f"The gain is that of a student over its hard-label twin, plus and minus two standard errors. {about_error(content)}",
        "The page report.html has more: samples, confusions, settings.",
        "## Networks",
        Table.of(quality_columns(marks), lines).text("github"),
        f'On {content.evaluation.num_test:,} test {things}. "{marks.name}" is of the last epoch; "best epoch" is of the epoch that '
        "did best on the validation split.",
        _calibration(content),
        *(["## Classes", classes.text("github")] if classes else []),
        "## Costs",
        Table.of(COSTS, lines).text("github"),
        f"Milliseconds are of one {content.worded('{thing}')}, on one thread where nothing else is said; memory is the peak "
        "above what importing the library takes.",
        *(["## Exports", exports.text("github"), *export_notes(content.exports)] if exports.lines else []),
        *_robustness(content),
        "## Soft-label stores",
        stores_table(content.evaluation.stores, content.marks.same_answer).text("github"),
        _verification(content),
        "## Figures",
        *images,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _robustness(content: Content) -> list[str]:
    """Returns the section on corrupted samples, where there are any."""
    made_worse = content.evaluation.robustness
    if made_worse is None:
        return []
    return [
        "## Robustness",
        f"{content.marks.title} on the first {made_worse.num_images:,} test {content.worded('{things}')}, corrupted at "
        f"severity {made_worse.severity} of 5.",
        robustness_table(content.networks).text("github"),
    ]


def _calibration(content: Content) -> str:
    if "teacher" not in content.networks:
        return ""
    val = content.networks["teacher"].val
    assert val is not None, "the teacher is judged on the validation split"
    after = val["calibrated"]
    return (
        f"The teacher's calibration temperature, fitted on the validation split, is {val['calibration_temperature']:.3f}: it "
        f"takes the NLL there from {val['nll']:.4f} to {after['nll']:.4f} and the ECE from {val['ece']:.4f} to {after['ece']:.4f}."
    )


def _verification(content: Content) -> str:
    found = [
        f"{name} ({len(store['faults'])} faults{'' if 'recomputed' in store else ', teacher not asked'})"
        for name, store in content.verification["stores"].items()
    ]
    return f"Verified: {', '.join(found)}."
