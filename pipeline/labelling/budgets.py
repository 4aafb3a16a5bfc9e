"""Budgets in the table `encodings`: the encodings that they become, chosen once for all workers of
a dump.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pipeline.core.errors import DataError, StoreError
from pipeline.core.progress import say
from pipeline.core.sealed import read_sealed, write_sealed
from pipeline.labelling.choosing import as_yaml, choose, on_so_many, size_and_kl
from pipeline.labelling.ladder import Rung, TrialLabels
from pipeline.labelling.pilot import Pilot
from pipeline.labelling.site import Site
from pipeline.labelling.stores import DumpPlan, StorePlan
from pipeline.labels.encodings import Budget, Encoding, build_encoding
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader

Plan = TypeVar("Plan", bound=StorePlan)


def settle(plan: Plan, file: Path, earlier: Mapping[str, Encoding], pilot: Callable[[], Pilot], stage: str) -> Plan:
    """Returns the plan with an encoding for each of its budgets.

    The first worker chooses and writes the rows into a file, from which all others, and a dump that
    goes on, take them. Nobody else may be here at the same time.

    Args:
        earlier: Encodings of stores whose labels are taken over: they stay.
        pilot: Returns the pilot; called only where there is a choice to make.
    """
    if not plan.budgets:
        return plan
    rows = _read(file)
    if rows is None:
        open_budgets = {name: budget for name, budget in plan.budgets.items() if name not in earlier}
        chosen = _choose(open_budgets, plan.manifests, pilot, stage) if open_budgets else {}
        for name, encoding in earlier.items():
            say(
                f"{stage}: {name}: for at most {plan.budgets[name]}: {as_yaml(encoding.to_dict())}, as its labels so far have it"
            )
        rows = {**earlier, **chosen}
        write_sealed(file, {name: encoding.to_dict() for name, encoding in rows.items()})
    return plan.settled(rows)


def _read(file: Path) -> dict[str, Encoding] | None:
    """Returns the encodings that an earlier worker wrote; None where it did not, or not whole."""
    try:
        return {name: build_encoding(row, str(file)) for name, row in read_sealed(file, made_by="").items()}
    except DataError:
        return None


def _choose(
    budgets: Mapping[str, Budget], manifests: Mapping[str, Manifest], pilot: Callable[[], Pilot], stage: str
) -> dict[str, Encoding]:
    about = manifests[next(iter(budgets))]
    labels = TrialLabels.of_pilot(pilot(), about.space, about.num_samples, about.block_samples, about.num_views)
    rungs = labels.rungs(stage)
    chosen = {}
    for name, budget in budgets.items():
        rung, line = rung_for(name, budget, rungs)
        say(f"{stage}: {line}")
        chosen[name] = rung.encoding
    return chosen


def rung_for(name: str, budget: Budget, rungs: Mapping[str, Rung]) -> tuple[Rung, str]:
    """Returns the rung that a row becomes, and the line about it, for the dump and the check-up.

    Raises StoreError where none fits."""
    rung = rungs[choose(rungs, budget, f"encodings.{name}")]
    figures = f"{size_and_kl(rung)}, {on_so_many(rung)}"
    return rung, f"{name}: for at most {budget}: {as_yaml(rung.encoding.to_dict())}, {figures}"


def beyond(budget: Budget | None, manifest: Manifest) -> str:
    """Returns what to say of a finished store that is further from the teacher than its budget
    allows, and otherwise nothing: a pilot is a sample of its labels.
    """
    if budget is None or manifest.fidelity is None:
        return ""
    worst = max(kl[budget.figure] for kl in manifest.fidelity["kl_nats"].values())
    if worst <= budget.nats:
        return ""
    return f"; {worst:.1e} nats are more than its budget, {budget}, which its pilot met: raise dump_labels.pilot_labels, or lower the budget"


def earlier_encodings(site: Site, plan: DumpPlan) -> dict[str, Encoding]:
    """Returns the encodings that budgets became in earlier stores whose labels are taken over.

    The last dump's count where the row is the same as it was then, those of the folder that `grow`
    names in any case. Raises StoreError where one of the latter is damaged.
    """
    folder, before = site.earlier, site.encodings_before
    found = {}
    for name, budget in plan.budgets.items():
        path = (folder or Path()) / f"{name}.zarr"
        if folder is None or not path.exists() or not (site.grow or before.get(name) == budget.to_dict()):
            continue
        try:
            manifest = StoreReader(path).manifest
        except StoreError:
            if site.grow:
                raise
            continue
        if manifest.may_share_labels(replace(plan.manifests[name], encoding=manifest.encoding)):
            found[name] = build_encoding(manifest.encoding, str(path))
    return found
