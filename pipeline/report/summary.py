"""The report in words and tables: report.md, and what a terminal shows."""

from pipeline.report.content import Content
from pipeline.report.drawing import Chart
from pipeline.report.tables import (
    COSTS,
    EXPORTS,
    QUALITY,
    TERMINAL,
    TERMINAL_EXPORTS,
    Table,
    export_lines,
    export_notes,
    network_lines,
    robustness_table,
    stores_table,
)
from pipeline.report.verdicts import about_error, headline, verdicts


def terminal(content: Content) -> str:
    """Returns the figures that a terminal has room for, and the answer last, where the eye is."""
    exports = Table.of(TERMINAL_EXPORTS, export_lines(content.exports))
    parts = [
        Table.of(TERMINAL, network_lines(content.networks)).text("simple"),
        *([exports.text("simple"), *export_notes(content.exports)] if exports.lines else []),
        stores_table(content.evaluation.stores).text("simple"),
        "\n".join([*verdicts(content), headline(content)]),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(content: Content, charts: list[Chart]) -> str:
    """Returns the whole report without the samples; charts lie in `figures/`."""
    lines, exports = network_lines(content.networks), Table.of(EXPORTS, export_lines(content.exports))
    robustness = content.evaluation.robustness
    images = [f"![{chart.caption}](figures/{chart.name}.png)\n\n{chart.caption}" for chart in charts]
    parts = [
        f"# {headline(content)}",
        "\n".join(f"- {line}" for line in verdicts(content)),
        f"The gain is that of a student over its hard-label twin, plus and minus two standard errors. {about_error(content)}",
        "The page report.html has more: samples, confusions, settings.",
        "## Networks",
        Table.of(QUALITY, lines).text("github"),
        f'On {content.evaluation.num_test:,} test images. "Accuracy" is of the last epoch; "best epoch" is of the epoch that '
        "did best on the validation split.",
        _calibration(content),
        "## Costs",
        Table.of(COSTS, lines).text("github"),
        "Milliseconds are of one image, on one thread where nothing else is said; memory is the peak above what importing the "
        "library takes.",
        *(["## Exports", exports.text("github"), *export_notes(content.exports)] if exports.lines else []),
        "## Robustness",
        f"Accuracy on the first {robustness.num_images:,} test images, corrupted at severity {robustness.severity} of 5.",
        robustness_table(content.networks).text("github"),
        "## Soft-label stores",
        stores_table(content.evaluation.stores).text("github"),
        _verification(content),
        "## Figures",
        *images,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


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
