"""The answer: whether distillation paid, per student and in all."""

from collections import Counter

from pipeline.report.content import Content
from pipeline.results.evaluation import Comparison

_SAID = {
    "yes": "distillation paid",
    "no": "distillation did not pay",
    "unclear": "unclear whether distillation paid",
}


def verdict(comparison: Comparison, content: Content) -> str:
    """Returns a sentence: whether distillation paid for this student, and by how many points.

    The gain stands with two standard errors.
    """
    (own, twin), parameters = comparison.scores, content.networks[comparison.student].parameters
    name, gain = comparison.student, comparison.gain_points
    seeds = len(comparison.seeds)
    over = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    differs = f" (the twin has another {' and '.join(comparison.twin_differs)})" if comparison.twin_differs else ""
    return (
        f"{name} ({parameters:,} parameters, {over}): {_SAID[comparison.paid]}: "
        f"{content.marks.verdict}{own.mean:.2%} against {twin.mean:.2%} of its hard-label twin{differs}, "
        f"{gain.mean:+.2f} ± {2 * gain.standard_error:.2f} points"
    )


def verdicts(content: Content) -> list[str]:
    """Returns a sentence per comparison, in the order of the table `students`."""
    return [verdict(comparison, content) for comparison in content.evaluation.comparisons]


def headline(content: Content) -> str:
    """Returns the whole answer in a sentence."""
    comparisons = content.evaluation.comparisons
    if not comparisons:
        return "No student has a hard-label twin, so this run can't say whether distillation paid."
    counts = Counter(comparison.paid for comparison in comparisons)
    total = len(comparisons)
    here = " in this run" if any(len(comparison.seeds) == 1 for comparison in comparisons) else ""
    if total == 1:
        name = comparisons[0].student
        said = {
            "yes": "Distillation paid",
            "no": "Distillation did not pay",
            "unclear": "It is not clear whether distillation paid",
        }
        return f"{said[comparisons[0].paid]} for {name}{here}."
    if counts["yes"] == total:
        return f"Distillation paid for all {total} students{here}."
    rest = [f"not for {counts['no']}"] * bool(counts["no"]) + [f"unclear for {counts['unclear']}"] * bool(
        counts["unclear"]
    )
    return f"Distillation paid for {counts['yes']} of {total} students{here}, {', '.join(rest)}."


def about_error(content: Content) -> str:
    """Returns a sentence on what the errors of the gains cover; empty without gains."""
    seeds = [len(comparison.seeds) for comparison in content.evaluation.comparisons]
    if not seeds:
        return ""
    covered = content.worded("The error is that of the choice of test {things}")
    if min(seeds) > 1:
        return f"{covered}, and of the spread from seed to seed."
    return (
        f"{covered}; of a student with one seed it leaves out how much another seed would differ, often as much again."
    )
