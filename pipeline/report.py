"""The report: figures of `evaluate` -> tables for a terminal and for Markdown, and figures. The one file that draws."""

import csv
from pathlib import Path
from typing import Any

import matplotlib
from tabulate import tabulate

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

Rows = dict[str, dict[str, Any]]

# Okabe and Ito's colours, which people with any colour vision tell apart; the marker tells the role as well.
_LOOKS = {"teacher": ("#000000", "*", 180), "student": ("#0072B2", "o", 70), "twin": ("#E69F00", "s", 50)}


def results_table(rows: Rows, style: str) -> str:
    """Every network in a line; `style` is one of tabulate's (`simple` for a terminal, `github` for Markdown)."""
    header = ["network", "role", "parameters", "mult-adds", "accuracy", "best epoch", "NLL", "ECE"]
    header += ["agreement", "KL to teacher", "train s", "gain (points)"]
    body = [
        [
            name,
            f"twin of {row['twin_of']}" if row["role"] == "twin" else row["role"],
            f"{row['parameters']:,}",
            f"{row['multiply_adds'] / 1e6:.2f} M",
            f"{row['accuracy']:.2%}",
            _optional(row.get("accuracy_best"), ".2%"),
            f"{row['nll']:.4f}",
            f"{row['ece']:.4f}",
            _optional(row.get("agreement"), ".2%"),
            _optional(row.get("kl_to_teacher"), ".4f"),
            _optional(row.get("train_seconds"), ".0f"),
            _optional(row.get("gain_points"), "+.2f"),
        ]
        for name, row in rows.items()
    ]
    return str(tabulate(body, header, tablefmt=style, disable_numparse=True, colalign=["left"] * 2 + ["right"] * 10))


def stores_table(stores: Rows, style: str) -> str:
    """Every store in a line: its size, and how far its labels are from the teacher's."""
    temperatures = sorted(
        {t for store in stores.values() for t in (store["fidelity"] or {}).get("kl_nats", {})}, key=float
    )
    header = ["store", "views", "samples", "MB", "bytes/label"]
    header += [f"mean KL at {t} (nats)" for t in temperatures] + ["same top-1"]
    body = []
    for name, store in stores.items():
        fidelity = store["fidelity"]
        cells = [name, store["num_views"], f"{store['num_samples']:,}", f"{store['size_bytes'] / 1e6:.2f}"]
        cells.append(f"{store['label_bytes']:.2f}" if fidelity else "no labels")
        cells += [f"{fidelity['kl_nats'][t]['mean']:.1e}" if fidelity else "" for t in temperatures]
        body.append([*cells, f"{fidelity['top1_agreement']:.3%}" if fidelity else ""])
    return str(tabulate(body, header, tablefmt=style, disable_numparse=True))


def verdicts(rows: Rows) -> list[str]:
    """Per student, in a sentence, whether distillation paid."""
    lines = []
    for name, row in rows.items():
        if "gain_points" not in row:
            continue
        twin, gain = rows[row["twin"]], row["gain_points"]
        verb = "paid" if gain > 0 else "made no difference" if gain == 0 else "did not pay"
        lines.append(
            f"{name} ({row['parameters']:,} parameters): distillation {verb} in this run: {row['accuracy']:.2%} against "
            f"{twin['accuracy']:.2%} of its hard-label twin ({gain:+.2f} points)"
        )
    return lines


def markdown(content: dict[str, Any], verification: dict[str, Any], figures: dict[str, str]) -> str:
    """The whole report; `figures` are captions by file name."""
    rows, stores = content["models"], content["stores"]
    teacher = rows["teacher"]
    calibration = teacher["val"]
    checked = verification["stores"]
    drawn = "\n\n".join(f"![{caption}]({name})\n\n{caption}" for name, caption in figures.items())
    error = (teacher["accuracy"] * (1 - teacher["accuracy"]) / content["num_test"]) ** 0.5
    return f"""# Report

{chr(10).join(f"- {line}" for line in verdicts(rows))}

One run with one seed on {content["num_test"]:,} test images: near {teacher["accuracy"]:.0%}, the standard error of one
accuracy is {100 * error:.2f} points. "Accuracy" is of the last epoch; "best epoch" is of the epoch that did best on the
validation split.

## Networks

{results_table(rows, "github")}

The teacher's calibration temperature, fitted on the validation split, is {calibration["calibration_temperature"]:.3f}:
it takes the NLL there from {calibration["nll"]:.4f} to {calibration["calibrated"]["nll"]:.4f} and the ECE from
{calibration["ece"]:.4f} to {calibration["calibrated"]["ece"]:.4f}.

## Soft-label stores

{stores_table(stores, "github")}

Verified against the teacher: {", ".join(f"{name} ({len(result['faults'])} faults)" for name, result in checked.items())}.

## Figures

{drawn}
"""


def draw_accuracy_against_size(rows: Rows, path: Path) -> None:
    """Test accuracy over parameters: teacher, students, twins; a line joins a student to its twin."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for row in rows.values():
        if "twin" in row:
            twin = rows[row["twin"]]
            axes.plot(
                [row["parameters"]] * 2, [100 * row["accuracy"], 100 * twin["accuracy"]], color="#999999", zorder=1
            )
    for role, (colour, marker, size) in _LOOKS.items():
        chosen = [row for row in rows.values() if row["role"] == role]
        x, y = [row["parameters"] for row in chosen], [100 * row["accuracy"] for row in chosen]
        axes.scatter(x, y, s=size, color=colour, marker=marker, label=role, zorder=2)
    for name, row in rows.items():
        if row["role"] != "twin":
            place = (row["parameters"], 100 * row["accuracy"])
            axes.annotate(name, place, xytext=(8, 4), textcoords="offset points")
    axes.set(xscale="log", xlabel="parameters", ylabel="test accuracy (%)")
    axes.margins(x=0.15, y=0.12)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    _save(figure, path)


def draw_training_curves(curves: dict[str, list[dict[str, float]]], rows: Rows, path: Path) -> None:
    """Validation accuracy over epochs, a panel per student with its twin; the teacher's last value as a line."""
    students = [name for name, row in rows.items() if row["role"] == "student"] or ["teacher"]
    size = (3.4 * len(students) + 0.8, 3.6)
    figure, panels = plt.subplots(1, len(students), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axes, name in zip(panels[0], students, strict=True):
        for shown, role in ((name, "student"), (rows[name].get("twin"), "twin")):
            if shown:
                colour, marker, _ = _LOOKS[role]
                x = [row["epoch"] for row in curves[shown]]
                y = [100 * row["val_accuracy"] for row in curves[shown]]
                axes.plot(x, y, color=colour, marker=marker, markersize=4, label=shown)
        if curves["teacher"]:
            last = 100 * curves["teacher"][-1]["val_accuracy"]
            axes.axhline(last, color="black", linestyle=":", label="teacher, last epoch")
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower right")
    panels[0][0].set_ylabel("validation accuracy (%)")
    _save(figure, path)


def draw_reliability(bins: list[dict[str, str]], rows: Rows, path: Path) -> None:
    """Accuracy over confidence, a panel per network; on the diagonal, confidence is what it claims."""
    names = list(rows)
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(2.6 * columns, 2.6 * lines + 0.3),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axes, name in zip(panels.flat, names, strict=False):
        chosen = [row for row in bins if row["name"] == name]
        x, y = [float(row["confidence"]) for row in chosen], [float(row["accuracy"]) for row in chosen]
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        axes.plot(x, y, color=_LOOKS[rows[name]["role"]][0], marker="o", markersize=3)
        axes.set_title(f"{name} (ECE {rows[name]['ece']:.3f})", fontsize="small")
        axes.grid(alpha=0.3)
    for axes in list(panels.flat)[len(names) :]:
        axes.axis("off")
    figure.supxlabel("confidence")
    figure.supylabel("accuracy")
    _save(figure, path)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a TSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _optional(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})  # no version in the file: same figures, same bytes
    plt.close(figure)
