"""Tables of the report: their lines and columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from pipeline.report.columns import (
    ALL_P50,
    EXPORTED,
    FILE,
    KL_TO_TORCH,
    LARGEST,
    MEMORY,
    MULTIPLY_ADDS,
    NETWORK,
    P50,
    P95,
    PARAMETERS,
    ROLE,
    SECONDS,
    SIZE,
    Column,
    Line,
    Table,
    number,
    share,
)
from pipeline.report.content import Content, Networks
from pipeline.report.marks import Marks
from pipeline.results.costs import Cost
from pipeline.results.evaluation import StoreRow
from pipeline.results.export import ExportedFile, ExportReport
from pipeline.results.files import to_json

COSTS = (NETWORK, PARAMETERS, MULTIPLY_ADDS, FILE, P50, P95, ALL_P50, MEMORY, SECONDS)


def terminal_columns(marks: Marks) -> list[Column]:
    """Returns the columns that a terminal has room for."""
    return [NETWORK, ROLE, *marks.main, PARAMETERS, FILE, P50, MEMORY, SECONDS]


def quality_columns(marks: Marks) -> list[Column]:
    """Returns the columns of all that is known of how good networks are."""
    return [NETWORK, ROLE, *marks.quality]


def export_columns(marks: Marks) -> list[Column]:
    """Returns the columns of exported files."""
    return [NETWORK, EXPORTED, SIZE, *marks.parity, LARGEST, KL_TO_TORCH, P50, P95, ALL_P50, MEMORY]


def terminal_export_columns(marks: Marks) -> list[Column]:
    """Returns the columns of exported files that a terminal has room for."""
    return [NETWORK, EXPORTED, SIZE, *marks.parity, P50, MEMORY]


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
            **to_json(row.independent or {}),
            **_cost_cells(row.cost),
            "name": name,
            "score": row.score,
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
            "score": facts.score,
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
    columns = [NETWORK, ROLE, *content.marks.everything, PARAMETERS, MULTIPLY_ADDS, FILE, P50, P95, MEMORY, SECONDS]
    return Table.of(columns, lines)


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
    """Returns the table of headlines by network and corruption."""
    kinds = dict.fromkeys(kind for row in rows.values() for kind in row.corruptions)
    order = sorted(kinds, key=lambda kind: (kind != "clean", kind == "mean"))
    columns = [NETWORK, *(Column(kind.replace("_", " "), kind, share) for kind in order)]
    return Table.of(columns, [{"name": name, **row.corruptions} for name, row in rows.items()])


def stores_table(stores: Mapping[str, StoreRow], same_answer: str = "same top-1") -> Table:
    """Returns the table of stores: size, and how far labels are from the teacher's."""
    temperatures = sorted({t for store in stores.values() for t in kl_nats(store)}, key=float)
    columns = [
        Column("store", "name"),
        Column("views", "num_views", number("d")),
        Column("samples", "num_samples", number(",")),
    ]
    columns += [Column("MB", "megabytes", number(".2f")), Column("bytes/label", "label_bytes", str)]
    columns += [Column(f"mean KL at {t} (nats)", f"kl {t}", number(".1e")) for t in temperatures]
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
    return Table.of([*columns, Column(same_answer, "top1", number(".3%"))], lines)


def kl_nats(store: StoreRow) -> dict[str, dict[str, float]]:
    """Returns the KL of a store's labels to the teacher by temperature; none without labels."""
    if not store.fidelity:
        return {}
    found = store.fidelity.get("kl_nats", {})  # embeddings have none
    return {temperature: found[temperature] for temperature in sorted(found, key=float)}


def ladder_table(
    rows: Mapping[str, dict[str, Any]], temperatures: Sequence[float], style: str, answer: str = "top-1 class"
) -> str:
    """Returns the table of the encodings tried: size, and distance to the teacher's labels.

    Args:
        answer: What is the same answer as the teacher's, in words.
    """
    shown = [f"{t:g}" for t in temperatures]
    header = ["encoding", "bytes\nper label", "of them\nshared"]
    header += [f"{kind}\nat {t}" for kind in ("mean KL", "p99.9") for t in shown]
    header += [f"same\n{answer}", ""]
    body = []
    for name, row in rows.items():
        cells = [name, f"{row['label_bytes']:.3f}", f"{row['label_bytes'] - row['field_bytes']:.3f}"]
        for kind in ("mean", "p999"):
            cells += [f"{row['kl_nats'][t][kind]:.1e}" if t in row["kl_nats"] else "" for t in shown]
        body.append([*cells, f"{row['top1_agreement']:.2%}", "*" if row["on_front"] else ""])
    align = ["left", *["right"] * (len(header) - 2), "left"]
    return str(tabulate(body, header, tablefmt=style, disable_numparse=True, colalign=align))


def total_table(lines: Sequence[Line], words: str) -> Table:
    """Returns the table of pairs of views and encoding for one total size.

    Args:
        words: For the figure by which networks are compared.
    """
    columns = [
        Column("views", "views", str),
        Column("encoding", "encoding"),
        Column("bytes (per label)", "label_bytes", number(".3f")),
        Column("MB (in all)", "total_mb", number(",.2f")),
        Column("mean KL (at worst)", "kl_nats", number(".1e")),
        Column(f"val {words}", "score", share),
        Column("", "best"),
    ]
    return Table.of(columns, lines)
