"""The files that the stages before `report` leave behind, small and made up, with names that are
hard to write."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.core.config import read_exports
from pipeline.core.files import write_bytes, write_json
from pipeline.core.tables import lines_of

CLASS_NAMES = [
    "T-shirt/top",
    "Trouser",
    "<b>Pullover</b>",
    "Dress & coat",
    "日本語 ünïcode",
    "</script><script>alert(1)</script>",
    '"quoted" $x_1$ {{ 7 * 7 }}',
    "Sneaker",
    "A bag with a name that goes on for longer than any column is wide",
    "Ankle boot",
]
CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "contrast", "jpeg")
NUM_TEST = 2000
_GAINS = {"tiny": (0.4, 0.36, "unclear"), "small": (1.1, 0.3, "yes"), "medium": (-0.9, 0.28, "no")}
_KL = {"mean": 1.5e-5, "p999": 2e-4, "max": 3e-4}


def write_reports(folder: Path, *, students: Sequence[str] = ("tiny", "small", "medium"), **options: Any) -> None:
    """Writes `reports/`, `data/explain/` and `params.yaml` under `folder`.

    Options: `twins`, `exports`, `explained` are True unless said otherwise; `class_names`,
    `num_samples`.
    """
    options = {
        "twins": True,
        "exports": True,
        "explained": True,
        "class_names": CLASS_NAMES,
        "num_samples": 40,
    } | options
    rng = np.random.default_rng(0)
    reports, names = folder / "reports", options["class_names"]
    rows = _networks(rng, students, len(names), options["twins"])
    evaluation = {
        "num_test": NUM_TEST,
        "class_names": names,
        "class_counts": [NUM_TEST // len(names)] * len(names),
        "models": rows,
        "comparisons": [_comparison(name, rows) for name in students if options["twins"]],
        "robustness": {"severity": 3, "num_images": 1000},
        "stores": stores(),
    }
    write_json(reports / "evaluate.json", evaluation)
    write_json(reports / "verify_labels.json", verification())
    for name, row in rows.items():
        path = "train_teacher.tsv" if name == "teacher" else f"train_student/{name}.tsv"
        curve = [{"epoch": e, "val_accuracy": row["accuracy"] - 0.1 / e} for e in (1, 2, 3, 4)]
        _write_table(reports / path, curve)
    bins = [
        {"name": n, "count": 100, "confidence": c, "accuracy": c - 0.06 * (1 - c)}
        for n in rows
        for c in (0.3, 0.6, 0.9)
    ]
    _write_table(reports / "plots/reliability.tsv", bins)
    _write_table(reports / "plots/confusion.tsv", _confusion(rng, list(rows), names))
    exports = students[:2] if options["exports"] else ()
    for name in exports:
        write_json(reports / f"export/{name}.json", _export(name, rows[name]))
    write_json(
        folder / "params.yaml", {"students": {name: {} for name in students or ("none",)}, "exports": [*exports]}
    )
    if options["explained"]:
        _write_explained(rng, folder, list(rows), names, options["num_samples"])


def exported(folder: Path) -> list[str]:
    """Returns the students that `write_reports` has exported."""
    return read_exports(folder / "params.yaml")


def stores() -> dict[str, Any]:
    """Returns a store with labels and one without."""
    fidelity = {"top1_agreement": 0.99987, "kl_nats": {"4": _KL, "1": {**_KL, "mean": 7.5e-5}, "10": _KL}}
    about = {"num_views": 8, "num_samples": 54000, "temperature": 1.0}
    dense8 = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}
    return {
        "dense8": {
            **about,
            "encoding": dense8,
            "size_bytes": 4_560_000,
            "label_bytes": 10.25,
            "num_labels": 432_000,
            "fidelity": fidelity,
        },
        "none": {
            **about,
            "encoding": {"kind": "none"},
            "size_bytes": 440_000,
            "label_bytes": 0.01,
            "num_labels": 0,
            "fidelity": None,
        },
    }


def verification() -> dict[str, Any]:
    """Returns one store with faults, one without."""
    checked = {"num_labels": 2035, "top1_agreement": 0.9995, "kl_nats": {"1": _KL}}
    return {
        "teacher": {"fingerprint": "2abaedc81c6236e08470d5b8cd012e38", "val_accuracy": 0.9},
        "stores": {
            "dense8": {
                "faults": ["block <v0> is torn", "2 labels differ"],
                "num_blocks": 28,
                "num_canaries": 128,
                "recomputed": checked,
            },
            "none": {"faults": [], "num_blocks": 28, "num_canaries": 128},
        },
    }


def _networks(
    rng: np.random.Generator, students: Sequence[str], num_classes: int, twins: bool
) -> dict[str, dict[str, Any]]:
    rows = {"teacher": _network(rng, "teacher", 0.934, 353_386, num_classes)}
    rows["teacher"]["val"] = {
        "accuracy": 0.9355, "nll": 0.5, "ece": 0.08, "calibration_temperature": 1.75, "calibrated": {"nll": 0.3, "ece": 0.01},
    }  # fmt: skip
    for place, name in enumerate(students):
        accuracy, parameters = 0.86 + 0.05 * (1 - 0.6**place), 6_000 * (place + 1) ** 2 + 274
        gain = _GAINS.get(name, (0.5, 0.3, "unclear"))[0]
        more = {"accuracy_best": accuracy + 0.001, "agreement": 0.91, "kl_to_teacher": 0.14}
        rows[name] = {**_network(rng, "student", accuracy, parameters, num_classes), **more}
        if twins:
            twin = _network(rng, "twin", accuracy - gain / 100, parameters, num_classes)
            rows[f"{name}_hard"] = {**twin, **more, "twin_of": name, "labels": "none"}
            rows[name] |= {"twin": f"{name}_hard", "gain_points": gain}
    return rows


def _network(rng: np.random.Generator, role: str, accuracy: float, parameters: int, num_classes: int) -> dict[str, Any]:
    corruptions = {kind: accuracy - drop for kind, drop in zip(CORRUPTIONS, (0.2, 0.12, 0.3, 0.02), strict=True)}
    latency = 0.1 + parameters / 4e5
    by_class = np.clip(accuracy + rng.normal(0, 0.03, num_classes), 0, 1)
    return {
        "role": role,
        "model": "vgg_small" if role == "teacher" else "convnet_small",
        "model_settings": {"width": 8},
        "labels": None if role == "teacher" else "dense8",
        "twin_of": None,
        "parameters": parameters,
        "multiply_adds": parameters * 23,
        "train_seconds": 9.0 + parameters / 2000,
        "settings": {
            "seed": 0,
            "temperature": 1.0 + parameters // 9000 % 3,
            "fit": {"epochs": 4, "optimizer": "adamw"},
        },
        "accuracy": accuracy,
        "nll": 0.4321,
        "ece": 0.0123,
        "brier": 0.2,
        **({"top5_accuracy": 0.998} if num_classes >= 10 else {}),
        "class_accuracy": [*map(float, by_class[:-1]), None],
        "file_bytes": parameters * 4 + 2000,
        "corruptions": {"clean": accuracy, **corruptions, "mean": float(np.mean(list(corruptions.values())))},
        "cost": _cost(latency),
    }


def _cost(latency: float) -> dict[str, Any]:
    times = {"one": {"p50": latency, "p95": 1.3 * latency}, "all": {"p50": 0.8 * latency, "p95": 1.2 * latency}}
    return {"threads": 2, "latency_ms": times, "peak_memory_bytes": 262_000_000, "import_memory_bytes": 240_000_000}


def _comparison(name: str, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    gain, error, paid = _GAINS.get(name, (0.5, 0.3, "unclear"))
    twin = rows[name]["twin"]
    return {
        "student": name,
        "students": [name],
        "twins": [twin],
        "seeds": [0],
        "accuracy": {"mean": rows[name]["accuracy"], "sd": None},
        "twin_accuracy": {"mean": rows[twin]["accuracy"], "sd": None},
        "gain_points": {"mean": gain, "sd": None, "standard_error": error},
        "paid": paid,
        "twin_differs": [],
    }


def _confusion(rng: np.random.Generator, networks: list[str], names: list[str]) -> list[dict[str, Any]]:
    rows = []
    for network in networks:
        for actual, name in enumerate(names):
            rows.append({"name": network, "actual": name, "predicted": name, "count": 170})
            others = rng.permutation(np.delete(np.arange(len(names)), actual))[:3]
            counts = rng.integers(1, 20, len(others))
            rows += [
                {"name": network, "actual": name, "predicted": names[o], "count": c}
                for o, c in zip(others, counts, strict=True)
            ]
    return rows


def _export(name: str, row: dict[str, Any]) -> dict[str, Any]:
    facts = {
        "largest_difference": 2.1e-6,
        "relative_difference": 1e-6,
        "top1_agreement": 1.0,
        "kl_to_torch": 1e-12,
        **_cost(0.05),
    }
    full = {**facts, "bytes": row["file_bytes"] + 900, "accuracy": row["accuracy"]}
    small = {**facts, "bytes": row["file_bytes"] // 3, "accuracy": row["accuracy"] - 0.002, "top1_agreement": 0.991}
    return {
        "name": name,
        "num_test": NUM_TEST,
        "files": {"model.onnx": full, "model_int8.onnx": small},
        "torch": {"bytes": row["file_bytes"], "accuracy": row["accuracy"]},
        "int8": {
            "weight_bits": 8,
            "weights_alone": False,
            "num_layers": 4,
            "float32_layers": ["2.0"],
            "float32_bytes": 4608,
            "num_checked": 500,
            "drop_points": 0.2,
            "whole_drop_points": 1.4,
        },
        "int8_drop_points": 0.2,
        "int8_size_ratio": 3.0,
    }


def _write_explained(rng: np.random.Generator, folder: Path, networks: list[str], names: list[str], count: int) -> None:
    """Writes the files of `explain`: every third sample is of the test split, every fourth has
    maps, every fifth is unlabelled.
    """
    samples, tiles = [], 0
    for n in range(count):
        train, hard = n % 3 > 0, None if n % 5 == 4 else n % len(names)
        maps = {network: n // 4 * len(networks) + k for k, network in enumerate(networks)} if n % 4 == 0 else {}
        kinds = ["suspect"] * (train and hard is not None) + ["disagreed"] * (n % 2) + ["attributed"] * bool(maps)
        samples.append(
            {
                "id": f"{0xABCDEF0000000000 + n:016x}",
                "split": "train" if train else "test",
                "index": 10 * n,
                "hard_label": hard,
                "kinds": kinds or ["disagreed"],
                **({"suspicion": 1 - n / count} if train else {}),
                "disagreement": float(rng.random()),
                "image": tiles,
                **(_views(rng, n, tiles, len(names)) if train else {}),
                "says": {network: _top(rng, n + (n + k) % 3, len(names)) for k, network in enumerate(networks)},
                **({"maps": maps, "map_agreement": dict.fromkeys(networks[1:], 0.5)} if maps else {}),
            }
        )
        tiles += 5 if train else 1
    content = {
        "class_names": names, "networks": networks, "tile_px": [16, 16], "map_px": [16, 16], "columns": 32,
        "tiles_sheet": "tiles.png", "maps_sheet": "maps.png", "store": "dense8", "samples": samples,
    }  # fmt: skip
    explain = folder / "data/explain"
    write_json(explain / "samples.json", content)
    write_bytes(explain / "tiles.png", _sheet(rng, tiles, 1))
    write_bytes(explain / "maps.png", _sheet(rng, len(networks) * (count // 4 + 1), 3))
    agreement = {network: 0.4 + 0.01 * k for k, network in enumerate(networks[1:])}
    write_json(
        folder / "reports/explain.json",
        {
            "num_suspects": 12,
            "num_checked": 54_000,
            "why_none": None,
            "pairs": [{"hard_label": names[0], "teacher_says": names[1], "count": 7}],
            "method": "occlusion by a patch",
            "num_maps": -(-count // 4),
            "map_agreement": agreement,
            "map_agreement_by_chance": dict.fromkeys(agreement, 0.1),
        },
    )


def _views(rng: np.random.Generator, n: int, tiles: int, num_classes: int) -> dict[str, Any]:
    """Returns four views, the tiles after the image's."""
    return {"views": list(range(tiles + 1, tiles + 5)), "view_labels": [_top(rng, n, num_classes) for _ in range(4)]}


def _top(rng: np.random.Generator, first: int, num_classes: int) -> list[list[float]]:
    """Returns three different classes and their probabilities, the largest first."""
    shares = np.sort(rng.dirichlet([4.0, 1.0, 0.5]))[::-1]
    return [[(first + 3 * k) % num_classes, round(float(share), 4)] for k, share in enumerate(shares[:num_classes])]


def _sheet(rng: np.random.Generator, count: int, channels: int) -> bytes:
    """Returns a sheet of tiles of 16 x 16, each with a square of its own at a place of its own."""
    sheet = np.full((max(1, -(-count // 32)) * 16, 512, channels), 24, dtype=np.uint8)
    for n in range(count):
        top, left = n // 32 * 16 + rng.integers(1, 7), n % 32 * 16 + rng.integers(1, 7)
        sheet[top : top + 8, left : left + 8] = rng.integers(90, 255, channels)
    file = io.BytesIO()
    Image.fromarray(sheet.squeeze()).save(file, "PNG")
    return file.getvalue()


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = lines_of([list(rows[0]), *([str(value) for value in row.values()] for row in rows)])
    write_bytes(path, "".join(lines).encode())
