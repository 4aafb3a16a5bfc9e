"""Budgets in the table `encodings`, before a dump has chosen encodings for them."""

from collections.abc import Mapping

from pipeline.doctor.findings import Findings
from pipeline.labelling.budgets import rung_for
from pipeline.labelling.ladder import TrialLabels, ladder
from pipeline.labelling.pilot import Pilot
from pipeline.labelling.settings import DumpLabels
from pipeline.labels.encodings import Budget, Encoding, LabelSpace


def choose_now(
    budgets: Mapping[str, Budget],
    pilot: Pilot,
    space: LabelSpace,
    dump: DumpLabels,
    num_train: int,
    findings: Findings,
) -> dict[str, Encoding]:
    """Returns the encodings that fit budgets by some of the teacher's labels, and reports them, or
    that none fits.
    """
    if not budgets:
        return {}
    labels = TrialLabels.of_pilot(pilot, space, num_train, dump.block_samples, dump.num_views)
    rungs = findings.attempt(labels.rungs, "doctor") or {}
    chosen = {}
    for name, budget in budgets.items() if rungs else ():
        if found := findings.attempt(rung_for, name, budget, rungs):
            chosen[name] = found[0].encoding
            findings.ok(f"encodings: {found[1]}; the dump chooses by its own pilot")
    return chosen


def stand_in(budget: Budget, space: LabelSpace) -> Encoding:
    """Returns an encoding for students to be checked with, like the one that a budget may become.

    A byte for each class holds all of them; with less, labels keep a few.
    """
    rungs = ladder(space).values()
    whole = budget.bytes is not None and budget.bytes >= space.num_classes
    wanted = "every class" if whole else "filled tail"
    return next((encoding for encoding in rungs if encoding.detail == wanted), next(iter(rungs)))
