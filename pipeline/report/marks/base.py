"""The words, columns and figures in which the reports of signals differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.report.columns import Column, Table
from pipeline.results.evaluation import Evaluation, NetworkRow


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The way in which a signal's figures are shown.

    Words may have `{thing}` and `{things}` in place of the name of a sample: `Evaluation.worded`.

    Attributes:
        signal: As the data's manifest names it.
        words: The headline in words; `axis` is short, and `name` opens a sentence.
        curve: The column of a network's training curve that has the headline.
        in_training: The words for that column, where it has another figure than the headline.
        verdict: Words before the headlines in a verdict, where they need some.
        main: Columns of the figures that a terminal has room for, `quality` of all, `parity` of
            exported files, and `everything` of both on the page.
        by_class: Returns the figure of each class, `class_words`; None where a class has none.
        class_table: Returns a table by class, where there is more to show than a chart can.
        reliability: What the reliability chart shows: its axes, how to read it, what it counts.
        confusion: The heading of the confusions, the words between two classes, after them, and a
            note.
        same_answer: The name of the share of answers that are the same.
    """

    signal: str
    words: str
    axis: str
    name: str
    curve: str
    in_training: str = ""
    verdict: str = ""
    main: Sequence[Column]
    quality: Sequence[Column]
    parity: Sequence[Column]
    everything: Sequence[Column]
    by_class: Callable[[NetworkRow], list[float | None]]
    class_words: str
    class_table: Callable[[Evaluation], Table | None] = lambda evaluation: None
    reliability: tuple[str, str, str, str]
    confusion: tuple[str, str, str, str]
    same_answer: str

    @property
    def title(self) -> str:
        """The headline in words, as they open a sentence."""
        return self.words[:1].upper() + self.words[1:]
