"""tune_labels: tries a ladder of encodings on the teacher's labels and names the one that fits a
budget, or views and encoding for a total size.

A command, not a stage of the DAG: it writes reports/tune_labels/ladder.{tsv,json,png} and changes
no store."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS
from pipeline.core.progress import say, show
from pipeline.doctor.total import Outcome, TotalTrial
from pipeline.labelling.choosing import as_yaml
from pipeline.labelling.tune import budget_of, check_source, climb, write_ladder_table
from pipeline.labelling.tune_source import labels_of_store, labels_of_teacher
from pipeline.report.label_figures import draw_ladder
from pipeline.report.tables import ladder_table, total_table
from pipeline.results.files import to_json, write_result
from pipeline.results.ladder import Ladder


def main(
    max_bytes: Annotated[float | None, typer.Option("--bytes", help="Bytes per label that a store may take.")] = None,
    max_kl: Annotated[
        float | None, typer.Option("--kl", help="Mean KL in nats at every declared temperature that it may have.")
    ] = None,
    max_p999: Annotated[
        float | None, typer.Option("--kl-p999", help="KL in nats that 99.9% of labels stay below, likewise.")
    ] = None,
    total: Annotated[
        str | None, typer.Option(help="Size of the whole store, such as 300MB: chooses views and bytes together.")
    ] = None,
    labels: Annotated[int, typer.Option(min=1, help="How many labels to measure.")] = 4096,
    store: Annotated[
        str | None, typer.Option(help="A dense store to take labels from, instead of the teacher.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="--total: the one to try; the first with soft labels.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="--total: training images for that, at most.")] = 4000,
    epochs: Annotated[int, typer.Option(min=1, help="--total: its epochs, at most; no more views are tried.")] = 16,
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    out: Annotated[Path, typer.Option(help="A folder for ladder.tsv, .json and .png.")] = Path("reports/tune_labels"),
) -> None:
    budget = budget_of({"bytes": max_bytes, "kl_nats": max_kl, "kl_p999_nats": max_p999}, total)
    source = labels_of_store(store) if store else labels_of_teacher(params, data, teacher)
    if total is not None:
        _report_total(TotalTrial(total, student, samples, epochs, labels).run(source, params, data), total)
        return
    check_source(source, budget)
    measured, misfit = climb(source, labels, budget)
    _report(measured)
    _write(out, measured)
    if misfit:
        raise misfit
    if measured.chosen:
        show(f"\nFor at most {budget}: {measured.chosen}. As a row of `encodings:` in params.yaml:\n")
        show(f"  tuned: {as_yaml(measured.rows[measured.chosen].encoding)}")


def _report(measured: Ladder) -> None:
    """Prints the measurements as a table."""
    show(
        f"Labels of {measured.num_classes:,} classes by {measured.labels_of}: {measured.num_measured:,} random ones "
        f"measured, tables learned from {measured.num_pilot:,} others.\n"
    )
    show(ladder_table(to_json(measured.rows), measured.temperatures, "simple", measured.answer))
    show(
        f"\n* = no other is both as small and as close to the teacher. KL(teacher, label) in nats; p99.9 rests on the "
        f"{max(1, measured.num_measured // 1000)} worst labels.\nBytes with the label's share of tables and anchors in a store of "
        f"{measured.num_labels:,} labels; ids of samples take {8 / measured.num_views:.2g} more per label in any store."
    )
    if measured.own_kl_nats:
        show(f"Against the labels of that store, whose own mean KL is up to {measured.own_kl_nats:.1e}.")


def _write(out: Path, measured: Ladder) -> None:
    write_ladder_table(out / "ladder.tsv", measured)
    write_result(out / "ladder.json", measured)
    draw_ladder(to_json(measured.rows), measured.chosen, measured.num_measured, out / "ladder.png")
    say(f"tune_labels: {out / 'ladder'}.tsv, .json, .png")


def _report_total(outcome: Outcome, total: str) -> None:
    """Prints the pairs of views and encoding as a table, and the best one as settings."""
    show(total_table(outcome.lines, outcome.signal.headline_words).text("simple"))
    best, error = outcome.best, f"; one standard error is {outcome.error:.2%}" if outcome.error else ""
    show(
        f"\nValidation {outcome.signal.headline_words} of student {outcome.student} after a short training on a part of "
        f"the data{error}. Bytes with the label's share of tables and anchors, total with ids."
    )
    show(f"\nFor at most {total}: {best.num_views} views, {best.name}. As settings in params.yaml:\n")
    show(f"dump_labels:\n  num_views: {best.num_views}\nencodings:\n  tuned: {as_yaml(best.rung.encoding.to_dict())}")


if __name__ == "__main__":
    run_stage(main)
