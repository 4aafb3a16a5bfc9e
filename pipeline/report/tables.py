"""Tables and sentences of the report, for a terminal, for Markdown and for the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from pipeline.report.content import Content, Networks
from pipeline.results.costs import Cost
from pipeline.results.evaluation import StoreRow
from pipeline.results.export import ExportedFile, ExportReport
from pipeline.results.files import to_json

Line = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column: the key of its values in a line, and the form that writes one; None for a word."""

    title: str
    key: str
    form: Callable[[Any], str] | None = None
    about: str = ""


@dataclass(frozen=True)
class Cell:
    """A value, by which a reader sorts, and its text; None and empty where it does not apply."""

    value: float | str | None
    text: str


@dataclass(frozen=True)
class Table:
    """A table: the columns that have a value in some line, and the lines."""

    columns: list[Column]
    lines: list[list[Cell]]

    @classmethod
    def of(cls, columns: Sequence[Column], lines: Sequence[Line]) -> "Table":
        """Returns the table of some lines; columns without a value are left out."""
        kept = [column for column in columns if any(line.get(column.key) is not None for line in lines)]
        return cls(kept, [[_cell(column, line.get(column.key)) for column in kept] for line in lines])

    def text(self, style: str) -> str:
        """Returns the table as text.

        Args:
            style: One of tabulate's: `simple` for a terminal, `github` for Markdown.
        """
        body = [[cell.text for cell in line] for line in self.lines]
        if style == "github":
            body = [[text.replace("|", "\\|") for text in line] for line in body]
        align = ["right" if column.form else "left" for column in self.columns]
        titles = [column.title.replace(" (", "\n(") if style == "simple" else column.title for column in self.columns]
        return str(tabulate(body, titles, tablefmt=style, disable_numparse=True, colalign=align if body else None))


def _cell(column: Column, value: Any) -> Cell:
    if value is None:
        return Cell(None, "")
    return Cell(value, column.form(value) if column.form else str(value))


def _as(form: str) -> Callable[[Any], str]:
    return lambda value: format(value, form)


def _share(value: float) -> str:
    return f"{value:.2%}"


def size(count: float) -> str:
    """Returns a number of bytes for a reader, in units of 1000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * factor:
            return f"{count / factor:#.3g}".rstrip(".") + f" {unit}"
    return f"{count:.0f} B"


def _millions(count: float) -> str:
    return f"{count / 1e6:.2f} M"


def three_digits(value: float) -> str:
    """Returns a number for a reader: three digits, or more where it is large."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


NETWORK = Column("network", "name")
ROLE = Column("role", "role")
ACCURACY = Column("accuracy", "accuracy", _share, "of the last epoch, on the test split")
TOP5 = Column("top-5", "top5_accuracy", _share, "the hard label is among the five most likely classes")
GAIN = Column("gain (points)", "gain_points", _as("+.2f"), "accuracy minus that of its hard-label twin")
CHANGE = Column("change (points)", "change_points", _as("+.2f"), "accuracy minus that of the network it was made from")
ECE = Column("ECE", "ece", _as(".4f"), "expected calibration error: how far confidence is from accuracy")
AGREEMENT = Column("agreement", "agreement", _share, "test images on which it predicts what the teacher predicts")
CORRUPTED = Column("corrupted", "corrupted", _share, "mean accuracy on corrupted test images")
PARAMETERS = Column("parameters", "parameters", _as(","))
MULTIPLY_ADDS = Column("mult-adds", "multiply_adds", _millions, "multiply-adds for one image")
FILE = Column("file", "file_bytes", size, "size of the file on disk")
P50 = Column("ms", "p50", three_digits, "milliseconds for one image on one thread, median")
P95 = Column("p95 ms", "p95", three_digits, "milliseconds for one image on one thread, 95th percentile")
ALL_P50 = Column("ms, all threads", "all_p50", three_digits, "milliseconds for one image on all threads, median")
MEMORY = Column("memory", "memory_bytes", size, "peak memory above what importing the library takes")
SECONDS = Column("train s", "train_seconds", _as(",.0f"), "seconds of training")
BEST = Column("best epoch", "accuracy_best", _share)
NLL = Column("NLL", "nll", _as(".4f"))
KL = Column("KL to teacher", "kl_to_teacher", _as(".4f"))
EXPORTED = Column("file", "file")
SIZE = Column("size", "file_bytes", size)
SAME_TOP1 = Column(
    "same top-1", "top1_agreement", _share, "test images on which it says what the network in torch says"
)
LARGEST = Column("largest difference", "largest_difference", _as(".1e"), "of a logit, to torch")
KL_TO_TORCH = Column("KL to torch", "kl_to_torch", _as(".1e"))

TERMINAL = (NETWORK, ROLE, ACCURACY, GAIN, ECE, AGREEMENT, CORRUPTED, PARAMETERS, FILE, P50, MEMORY, SECONDS)
QUALITY = (NETWORK, ROLE, ACCURACY, TOP5, BEST, GAIN, NLL, ECE, AGREEMENT, KL)
COSTS = (NETWORK, PARAMETERS, MULTIPLY_ADDS, FILE, P50, P95, ALL_P50, MEMORY, SECONDS)
_PARITY = (NETWORK, EXPORTED, SIZE, ACCURACY, CHANGE, SAME_TOP1)
EXPORTS = (*_PARITY, LARGEST, KL_TO_TORCH, P50, P95, ALL_P50, MEMORY)
TERMINAL_EXPORTS = (*_PARITY, P50, MEMORY)
_WHAT_IT_SAYS = (ACCURACY, TOP5, GAIN, CHANGE, ECE, AGREEMENT, CORRUPTED)
_EVERYTHING = (NETWORK, ROLE, *_WHAT_IT_SAYS, PARAMETERS, MULTIPLY_ADDS, FILE, P50, P95, MEMORY, SECONDS)


#: The form of an exported file, named beside its network.
_FORMATS = {
    "model.onnx": "ONNX",
    "model_int8.onnx": "int8",
    "model_int8_aware.onnx": "aware int8",
    "model.pte": "ExecuTorch",
}


def network_lines(rows: Networks) -> list[Line]:
    """Returns a line for every network, in the order of the table `students`."""
    return [
        {
            **to_json(row),
            **_cost_cells(row.cost),
            "name": name,
            "role": f"twin of {row.twin_of}" if row.role == "twin" else row.role,
            "corrupted": row.corruptions.get("mean"),
        }
        for name, row in rows.items()
    ]


def export_lines(exports: Mapping[str, ExportReport]) -> list[Line]:
    """Returns a line for every exported file."""
    return [
        {
            **to_json(facts),
            **_cost_cells(facts),
            "name": name,
            "role": "export",
            "file": file,
            "file_bytes": facts.bytes,
            "change_points": 100 * (facts.score - export.torch.score),
        }
        for name, export in exports.items()
        for file, facts in export.files.items()
    ]


def export_notes(exports: Mapping[str, ExportReport]) -> list[str]:
    """Returns what a user must know of exported files: what is left out, what stays in float32."""
    return [f"{name}: {note}" for name, export in exports.items() for note in export.notes()]


def everything(content: Content) -> Table:
    """Returns the table of networks, each with its exported files below it."""
    below: dict[str, list[Line]] = {}
    for line in export_lines(content.exports):
        below.setdefault(line["name"], []).append({**line, "name": f"{line['name']}, {_FORMATS[line['file']]}"})
    lines = []
    for line in network_lines(content.networks):
        lines += [line, *below.get(line["name"], [])]
    return Table.of(_EVERYTHING, lines)


def _cost_cells(cost: Cost | ExportedFile) -> Line:
    """Returns the cells of latency and memory; none for a file that was not timed."""
    latency, peak, imported = cost.latency_ms, cost.peak_memory_bytes, cost.import_memory_bytes
    if latency is None or peak is None or imported is None:
        return {}
    return {
        "p50": latency["one"]["p50"],
        "p95": latency["one"]["p95"],
        "all_p50": latency["all"]["p50"],
        "memory_bytes": peak - imported,
    }


def robustness_table(rows: Networks) -> Table:
    """Returns the table of accuracy by network and corruption."""
    kinds = dict.fromkeys(kind for row in rows.values() for kind in row.corruptions)
    order = sorted(kinds, key=lambda kind: (kind != "clean", kind == "mean"))
    columns = [NETWORK, *(Column(kind.replace("_", " "), kind, _share) for kind in order)]
    return Table.of(columns, [{"name": name, **row.corruptions} for name, row in rows.items()])


def stores_table(stores: Mapping[str, StoreRow]) -> Table:
    """Returns the table of stores: size, and how far labels are from the teacher's."""
    temperatures = sorted({t for store in stores.values() for t in kl_nats(store)}, key=float)
    columns = [
        Column("store", "name"),
        Column("views", "num_views", _as("d")),
        Column("samples", "num_samples", _as(",")),
    ]
    columns += [Column("MB", "megabytes", _as(".2f")), Column("bytes/label", "label_bytes", str)]
    columns += [Column(f"mean KL at {t} (nats)", f"kl {t}", _as(".1e")) for t in temperatures]
    lines = [
        {
            **to_json(store),
            "name": name,
            "megabytes": store.size_bytes / 1e6,
            "label_bytes": f"{store.label_bytes:.2f}" if store.fidelity else "no labels",
            **{f"kl {t}": kl["mean"] for t, kl in kl_nats(store).items()},
            "top1": store.fidelity and store.fidelity.get("top1_agreement"),
        }
        for name, store in stores.items()
    ]
    return Table.of([*columns, Column("same top-1", "top1", _as(".3%"))], lines)


def kl_nats(store: StoreRow) -> dict[str, dict[str, float]]:
    """Returns the KL of a store's labels to the teacher by temperature; none without labels."""
    if not store.fidelity:
        return {}
    found = store.fidelity.get("kl_nats", {})  # embeddings have none
    return {temperature: found[temperature] for temperature in sorted(found, key=float)}


def ladder_table(rows: Mapping[str, dict[str, Any]], temperatures: Sequence[float], style: str) -> str:
    """Returns the table of the encodings tried: size, and distance to the teacher's labels."""
    shown = [f"{t:g}" for t in temperatures]
    header = ["encoding", "bytes\nper label", "of them\nshared"]
    header += [f"{kind}\nat {t}" for kind in ("mean KL", "p99.9") for t in shown] + ["same\ntop-1", ""]
    body = []
    for name, row in rows.items():
        cells = [name, f"{row['label_bytes']:.3f}", f"{row['label_bytes'] - row['field_bytes']:.3f}"]
        for kind in ("mean", "p999"):
            cells += [f"{row['kl_nats'][t][kind]:.1e}" if t in row["kl_nats"] else "" for t in shown]
        body.append([*cells, f"{row['top1_agreement']:.2%}", "*" if row["on_front"] else ""])
    align = ["left", *["right"] * (len(header) - 2), "left"]
    return str(tabulate(body, header, tablefmt=style, disable_numparse=True, colalign=align))


def total_table(lines: Sequence[Line]) -> Table:
    """Returns the table of pairs of views and encoding for one total size."""
    columns = [
        Column("views", "views", str),
        Column("encoding", "encoding"),
        Column("bytes (per label)", "label_bytes", _as(".3f")),
        Column("MB (in all)", "total_mb", _as(",.2f")),
        Column("mean KL (at worst)", "kl_nats", _as(".1e")),
        Column("val accuracy", "accuracy", _share),
        Column("", "best"),
    ]
    return Table.of(columns, lines)
