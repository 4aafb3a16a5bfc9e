"""The answer: per student, whether distillation paid."""

from collections import Counter
from typing import Any

from pipeline.report.content import Content, Rows

_SAID = {
    "yes": "distillation paid",
    "no": "distillation did not pay",
    "unclear": "it is not clear whether distillation paid",
}


def verdict(comparison: dict[str, Any], rows: Rows) -> str:
    """A sentence: whether distillation paid for this student, the gain in points and two standard errors of it."""
    name, gain = comparison["student"], comparison["gain_points"]
    seeds = len(comparison["seeds"])
    over = f", mean of {seeds} seeds" if seeds > 1 else ""
    return (
        f"{name} ({rows[name]['parameters']:,} parameters{over}): {_SAID[comparison['paid']]}: "
        f"{comparison['accuracy']['mean']:.2%} against {comparison['twin_accuracy']['mean']:.2%} of its hard-label twin, "
        f"{gain['mean']:+.2f} ± {2 * gain['standard_error']:.2f} points"
    )


def verdicts(content: Content) -> list[str]:
    """A sentence per comparison, in the order of the table `students`."""
    return [verdict(comparison, content.networks) for comparison in content.evaluation["comparisons"]]


def headline(content: Content) -> str:
    """The whole answer in a sentence."""
    comparisons = content.evaluation["comparisons"]
    if not comparisons:
        return "No student has a hard-label twin, so this run can't say whether distillation paid."
    counts = Counter(comparison["paid"] for comparison in comparisons)
    total = len(comparisons)
    if total == 1:
        name = comparisons[0]["student"]
        said = {
            "yes": "Distillation paid",
            "no": "Distillation did not pay",
            "unclear": "It is not clear whether distillation paid",
        }
        return f"{said[comparisons[0]['paid']]} for {name}."
    if counts["yes"] == total:
        return f"Distillation paid for all {total} students."
    rest = [f"not for {counts['no']}"] * bool(counts["no"]) + [f"unclear for {counts['unclear']}"] * bool(
        counts["unclear"]
    )
    return f"Distillation paid for {counts['yes']} of {total} students, {', '.join(rest)}."
