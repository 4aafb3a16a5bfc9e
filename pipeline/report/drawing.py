"""Figures as files: PNG for Markdown, SVG for the page, in its light or dark colours."""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision can distinguish; markers and dashes
# repeat what colours show.
INK, GREY = "#000000", "#777777"
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
# Colour and marker show the role.
LOOKS = {
    "teacher": (INK, "*", 150),
    "student": (BLUE, "o", 55),
    "twin": (VERMILION, "s", 40),
    "export": (GREEN, "D", 32),
}
WIDTH = 5.0  # inches: letters are as large as the page's when a chart fills a phone or half a screen
MOST_NAMES = 12
_LONGEST_NAME = 24
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ON_THE_PAGE = {
    INK: "currentColor",
    GREY: "var(--muted)",
    "#b0b0b0": "var(--grid)",  # matplotlib's grid
    BLUE: "var(--blue)",
    VERMILION: "var(--vermilion)",
    GREEN: "var(--green)",
    PURPLE: "var(--purple)",
    ORANGE: "var(--orange)",
    SKY: "var(--sky)",
}
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "text.parse_math": False,  # a name may hold dollars
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": "small",
}


@dataclass(frozen=True)
class Chart:
    """A figure of the report, its caption, and a label that screen readers read aloud."""

    name: str
    caption: str
    label: str
    draw: Callable[[], Figure]

    def save(self, folder: Path) -> None:
        """Writes the chart as `<name>.png`."""
        with matplotlib.rc_context(_STYLE):
            save_png(self.draw(), folder / f"{self.name}.png")

    def svg(self) -> str:
        """Returns the chart as an `<svg>` element; the same chart gives the same text."""
        file = io.BytesIO()
        # The salt keeps its ids apart from those of other charts on the page.
        with matplotlib.rc_context(_STYLE | {"svg.hashsalt": self.name}), _any_script():
            figure = self.draw()
            metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(file, format="svg", transparent=True, metadata=metadata)
        plt.close(figure)
        root = ElementTree.fromstring(file.getvalue())
        for element in root.iter():
            _adapt(element)
        for definitions in root.iter("defs"):
            for sheet in definitions.findall("style"):  # would hold for the whole page
                definitions.remove(sheet)
        for key in ("width", "height", "version"):
            del root.attrib[key]
        root.attrib.update({"class": "chart", "role": "img", "aria-label": self.label})
        return ElementTree.tostring(root, encoding="unicode")


def save_png(figure: Figure, path: Path) -> None:
    """Writes the figure as a file; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _any_script():
        figure.savefig(path, dpi=120, metadata={"Software": None})  # no version in the file
    plt.close(figure)


def listed(words: list[str]) -> str:
    """Returns words as a list to be read aloud, shortened."""
    more = f"; and {len(words) - MOST_NAMES} more" if len(words) > MOST_NAMES else ""
    return "; ".join(words[:MOST_NAMES]) + more + "."


def of_many(shown: Sized, there: Sized) -> str:
    """Returns the words of a caption about what is left out; empty if nothing is."""
    return f" (the first {len(shown)} of {len(there)})" if len(shown) < len(there) else ""


def shortened(name: str) -> str:
    """Returns a name that fits beside an axis, without characters that no XML may hold."""
    name = _UNPRINTABLE.sub("\ufffd", name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _adapt(element: ElementTree.Element) -> None:
    """Makes an element of a file one of a page.

    Its namespace goes, and an id that nothing points to; its colours become the page's.
    """
    element.tag = element.tag.rpartition("}")[2]
    if element.tag == "g":
        element.attrib.pop("id", None)
    for key in [key for key in element.attrib if "}" in key]:
        element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)
    if "style" in element.attrib:
        plain = re.sub(r"font-family: [^;]*(; )?", "", element.attrib["style"])
        element.attrib["style"] = re.sub(
            r"#[0-9a-f]{6}\b", lambda match: _ON_THE_PAGE.get(match[0], match[0]), plain
        ).strip("; ")


@contextmanager
def _any_script() -> Iterator[None]:
    """Silences warnings about missing glyphs: a name may be in a script that only browsers have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield
