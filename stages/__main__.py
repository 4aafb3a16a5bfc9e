"""potstill: every stage and command by one name, `potstill <name>`, or `python -m stages <name>`.

The same functions as `python -m stages.<module>`. A stage's module is imported when it is called:
`--help` and shell completion of names answer without torch. A new stage is a row of `COMMANDS`.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from pipeline.core.command import stage_app
from pipeline.core.errors import one_line_errors
from pipeline.core.stopping import leave_at_once


@dataclass(frozen=True)
class Entry:
    """A command: its module of `stages` and its functions, and a line of help."""

    module: str
    line: str
    functions: tuple[str, ...] = ("main",)

    def load(self) -> Any:
        """Returns the command with its options, imported from its module."""
        with one_line_errors():
            module = import_module(f"stages.{self.module}")
        command = typer.main.get_command(stage_app(*(getattr(module, name) for name in self.functions)))
        command.help = self.line
        return command


LABELS = {
    "inspect": Entry("inspect_labels", "Show what a label store holds, or one sample of it with a figure."),
    "tune": Entry(
        "tune_labels",
        "Try encodings on some labels and name the one for a budget, or views and encoding for a total size.",
    ),
    "verify": Entry("verify_labels", "Check stored labels against their checksums, the data and the teacher."),
    "repair": Entry("repair_labels", "Have the teacher label the broken blocks of a store again."),
    "derive": Entry("derive_labels", "Make stores of others: part, union, mean.", ("subset", "merge", "average")),
    "pack": Entry("pack_labels", "Pack a store into one file for others, with a card.", ("pack",)),
    "unpack": Entry("pack_labels", "Make a folder of a packed store, and check it.", ("unpack",)),
    "card": Entry("pack_labels", "Print the card of a store: teacher, data, views, fidelity, licence.", ("card",)),
    "import": Entry(
        "import_labels",
        "Make stores from logits or embeddings that were computed elsewhere, or from other systems' label files.",
    ),
}

COMMANDS: dict[str, dict[str, Entry | dict[str, Entry]]] = {
    "Begin": {
        "new": Entry("new_project", "Copy this code into a new folder, set up for your own data."),
        "doctor": Entry("doctor", "Look for mistakes in settings, data, networks and disk before hours are spent."),
        "repair": Entry("repair", "Replace damaged files of outputs, or drop them to be made again."),
        "clean": Entry("clean", "Delete work/: unfinished work, and second names of finished results."),
    },
    "Data and teacher": {
        "list-files": Entry("list_files", "List the files that prepare reads, so that DVC sees changed ones."),
        "prepare": Entry("prepare", "Read raw data into data/prepare: inputs, hard labels, and splits."),
        "train-teacher": Entry("train_teacher", "Train the teacher on hard labels, or import a trained one."),
    },
    "Soft labels": {
        "dump-labels": Entry("dump_labels", "Run the teacher once over augmented views and store its soft labels."),
        "verify-labels": LABELS["verify"],
        "labels": LABELS,
    },
    "Students": {
        "find-features": Entry(
            "find_features", "Find the embeddings that students learn from, so that DVC sees new ones."
        ),
        "train-student": Entry("train_student", "Train a student from stored labels, without the teacher."),
    },
    "Results": {
        "evaluate": Entry("evaluate", "Measure teacher and students on the test split: accuracy, speed, memory."),
        "probe": Entry("probe", "Measure what a network's embedding knows of classes: k-NN, linear probe, recall."),
        "explain": Entry("explain", "Show where networks look, and which labels are suspect."),
        "export": Entry("export", "Write a student as ONNX (float32 and int8) and safetensors files."),
        "report": Entry("report", "Put all results on one page, reports/report.html."),
    },
    "Machines": {
        "ray": Entry("ray_workers", "Run a stage's workers on a Ray cluster, or by a Ray of this machine."),
    },
}


def lazy_group(entries: dict[str, Entry | dict[str, Entry]]) -> type[TyperGroup]:
    """Returns a group that lists its commands in this order and imports one when it is called."""

    class LazyGroup(TyperGroup):
        """A group of placeholders, each replaced by its command once it is chosen."""

        def list_commands(self, ctx: Any) -> list[str]:
            return list(entries)

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            name, command, rest = super().resolve_command(ctx, args)
            entry = entries.get(name or "")
            return name, entry.load() if isinstance(entry, Entry) else command, rest

    return LazyGroup


def build_app() -> typer.Typer:
    """Returns the command `potstill`."""
    every = {name: entry for entries in COMMANDS.values() for name, entry in entries.items()}
    app = _group(every, "Run a teacher once, and train every student from its stored soft labels.")
    for panel, entries in COMMANDS.items():
        for name, entry in entries.items():
            if isinstance(entry, Entry):
                _add(app, name, entry, panel)
            else:
                labels = _group(dict(entry), "Look at, tune, check, repair and make label stores.")
                for each, inner in entry.items():
                    _add(labels, each, inner, None)
                app.add_typer(labels, name=name, rich_help_panel=panel)
    return app


def _group(entries: dict[str, Entry | dict[str, Entry]], line: str) -> typer.Typer:
    return typer.Typer(cls=lazy_group(entries), help=line, no_args_is_help=True, pretty_exceptions_enable=False)


def _add(app: typer.Typer, name: str, entry: Entry, panel: str | None) -> None:
    app.command(name, help=entry.line, rich_help_panel=panel)(lambda: None)  # the group loads the command in its place


def main() -> None:
    """Runs `potstill` with the arguments of the command line."""
    leave_at_once()
    build_app()()


if __name__ == "__main__":
    main()
