"""A store described for a person or as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from pipeline.labelling.closeness import closeness_rows, closeness_title
from pipeline.labels.fields import SAMPLES_ARRAYS
from pipeline.labels.manifest import AnchorBlock, Part
from pipeline.labels.notes import notes_of
from pipeline.labels.packed import is_packed
from pipeline.labels.reader import StoreReader
from pipeline.signals import SIGNALS

_FEW = 5  # names that a line has room for


def describe_store(store: StoreReader) -> dict[str, Any]:
    """Returns everything that is known of a store, and of its files on this disk, as plain JSON.

    The files of a store at a URL or in a packed file are not fetched: what is known of them is
    None.
    """
    manifest = store.manifest
    here = None if store.is_mirror else _on_disk(store)
    total = round((manifest.label_bytes or 0) * manifest.num_labels)
    if here:
        total = sum(array["bytes"] for array in here["arrays"].values())
    return {
        "store": store.location,
        "format": manifest.format,
        "version": manifest.version,
        "fingerprint": manifest.fingerprint,
        "encoding": manifest.encoding,
        "teacher": manifest.teacher,
        "signal": manifest.signal,
        "positions": manifest.positions,
        "num_classes": manifest.num_classes,
        "class_names": manifest.class_names,
        "temperature": manifest.temperature,
        "temperatures": manifest.temperatures,
        "served_temperatures": store.codec_temperatures if label_fields(store) else [],
        "serves_undeclared": bool(label_fields(store)) and store.codec.serves(max(manifest.temperatures) + 1),
        "views": manifest.views,
        "view_numbers": manifest.view_numbers,
        "num_views": manifest.num_views,
        "num_samples": manifest.num_samples,
        "num_labels": manifest.num_labels if label_fields(store) else 0,
        "dataset_fingerprint": manifest.dataset_fingerprint,
        "block_samples": manifest.block_samples,
        "num_blocks": len(manifest.blocks()),
        "fields": label_fields(store),
        "anchors": list(store.encoding.anchors(manifest.space)),
        "missing_blocks": here and here["missing_blocks"],
        "num_files": here and sum(array["files"] for array in here["arrays"].values()),
        "total_bytes": total,
        "bytes_per_label": total / manifest.num_labels,
        "table_bytes": manifest.table_bytes,
        "anchor_views": store.encoding.anchor_views,
        "anchor_bytes": manifest.anchor_bytes,
        "arrays": here and here["arrays"],
        "fidelity": manifest.fidelity,
    }


def label_fields(store: StoreReader) -> list[str]:
    """Returns the names of the arrays that hold labels; none where a store holds views only."""
    return list(store.encoding.fields(store.manifest.space))


def _on_disk(store: StoreReader) -> dict[str, Any]:
    """Returns files and bytes by array, and the blocks that lack a field's file."""
    arrays: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in store.path.rglob("*") if path.is_file()):
        parts = path.relative_to(store.path).parts
        name = parts[0] if len(parts) > 1 else "manifest"
        array = arrays.setdefault(name, {"holds": _kind(name, store), "files": 0, "bytes": 0})
        array["files"] += 1
        array["bytes"] += path.stat().st_size
    for array in arrays.values():
        array["bytes_per_label"] = array["bytes"] / store.manifest.num_labels
    return {"arrays": arrays, "missing_blocks": list(_missing_blocks(store))}


def _missing_blocks(store: StoreReader) -> Iterator[str]:
    """Yields the name of each block that lacks a file, by array; those of labels come first."""
    manifest = store.manifest
    ranges = manifest.ranges()
    for name, field in store.encoding.row_arrays(manifest.space).items():
        of_labels = name in label_fields(store)
        blocks: Sequence[Part] = manifest.blocks() if of_labels else [AnchorBlock(rows) for rows in ranges]
        for number, block in enumerate(blocks):
            lead = divmod(number, len(ranges)) if of_labels else (number,)
            if not store.path.joinpath(name, "c", *map(str, [*lead, *(0 for _ in field.shape)])).exists():
                yield f"{name}: {block.name}"


def _kind(name: str, store: StoreReader) -> str:
    """Returns what an array of a store holds, for a person."""
    if name in label_fields(store):
        return "labels"
    if name in store.tables:
        return "table"
    if name in store.encoding.anchors(store.manifest.space):
        return "anchors"
    known = {"manifest": "about the store", **dict.fromkeys(SAMPLES_ARRAYS.values(), "names of samples")}
    known |= dict.fromkeys(("block_digest", "anchor_digest"), "digests of blocks")
    if name.startswith("canary_"):
        return "checks of views"
    return "fidelity by block" if name.startswith("fidelity_") else known.get(name, "not part of the format")


def store_text(facts: Mapping[str, Any]) -> str:
    """Returns the facts of `describe_store` for a terminal."""
    names = facts["class_names"]
    more = ", ..." if len(names) > _FEW else ""
    blocks, count = facts["num_blocks"], len(facts["fields"])
    if facts["missing_blocks"] is None:
        there = "in a packed file" if is_packed(facts["store"]) else "at a URL, not fetched"
    elif facts["missing_blocks"]:
        there = f"{len(facts['missing_blocks'])} missing, the first: {facts['missing_blocks'][0]}"
    else:
        whole = blocks * count + -(-facts["num_samples"] // facts["block_samples"]) * len(facts["anchors"])
        there = f"all {whole:,} there, {facts['num_files']:,} files in all"
    vectors = facts["signal"] == "vector"
    what = f"embeddings of {facts['num_classes']:,} dimensions" if vectors else "soft labels"
    labels = f"{facts['num_labels']:,} {what}" if count else "no soft labels, views only"
    independent = " independent ones" if facts["signal"] == "binary" else ""
    lines = {
        "labels": f"{labels}: {facts['num_views']} views of {facts['num_samples']:,} samples",
        "teacher": teacher_line(facts["teacher"]),
        "note": "; ".join(notes_of(facts["teacher"])),
        "classes": f"{len(names):,}{independent}: {', '.join(names[:_FEW])}{more}" if names else "",
        "positions": positions_line(facts),
        "encoding": encoding_line(facts["encoding"]),
        "anchors": anchors_line(facts),
        "temperatures": temperatures_line(facts) if count and not vectors else "",
        "views": f"{numbers_line(facts['view_numbers'])}: {_views(facts['views'])}",
        "blocks": f"{blocks:,} of up to {facts['block_samples']:,} samples x {count} fields: {there}" if count else "",
        "size": f"{facts['total_bytes']:,} bytes, {facts['bytes_per_label']:.3f} per label with everything in it"
        + (" but what describes the arrays" if facts["arrays"] is None else ""),
        "fingerprint": facts["fingerprint"],
    }
    parts = ["\n".join([facts["store"], *(f"  {name:<14}{line}" for name, line in lines.items() if line)])]
    if facts["arrays"] is not None:
        order = sorted(facts["arrays"].items(), key=lambda item: -item[1]["bytes"])
        body = [
            [name, a["holds"], f"{a['files']:,}", f"{a['bytes']:,}", f"{a['bytes_per_label']:.3f}"] for name, a in order
        ]
        parts.append(table(body, ["array", "holds", "files", "bytes", "bytes per label"], left=2))
    if facts["fidelity"]:
        fidelity = facts["fidelity"]
        (by, lines_of), (what, same) = closeness_rows(fidelity), closeness_title(fidelity, facts["signal"])
        body = [[t, *(f"{kl[kind]:.1e}" for kind in ("mean", "p999", "max"))] for t, kl in lines_of.items()]
        title = f"{what} of {fidelity['num_labels']:,} labels when they were written; {same}"
        parts.append(f"{title}\n\n{table(body, [by, 'mean', 'p99.9', 'largest'])}")
    return "\n\n".join(parts)


def teacher_line(teacher: Mapping[str, Any] | None) -> str:
    """Returns the teacher, or the teachers of a mean, as the manifest has them."""
    if teacher is None:
        return "none"
    if "mean_of" in teacher:
        return "mean of " + " and ".join(
            f"{p['weight']:.3g} x ({teacher_line(p['teacher'])})" for p in teacher["mean_of"]
        )
    return f"{teacher.get('model', 'a network')}{_score(teacher)}, fingerprint {teacher.get('fingerprint')}"


def _score(teacher: Mapping[str, Any]) -> str:
    """Returns the figure by which networks of the teacher's kind are compared, where it is known:
    the accuracy only where there is no other.
    """
    for signal in sorted(SIGNALS.values(), key=lambda each: each.headline == "accuracy"):
        if (score := teacher.get(f"val_{signal.headline}")) is not None:
            return f", validation {signal.headline_words} {score:.2%}"
    return ""


def encoding_line(row: Mapping[str, Any]) -> str:
    """Returns the kind and the settings of an encoding; its positions have a line of their own."""
    own = ", ".join(f"{key} {value}" for key, value in row.items() if key not in ("kind", "positions"))
    return f"{row['kind']}: {own}" if own else str(row["kind"])


def positions_line(facts: Mapping[str, Any]) -> str:
    """Returns the grid of a store, and which positions a label holds; nothing where there is no
    grid.
    """
    if facts["positions"] is None:
        return ""
    height, width = facts["positions"]
    held = facts["encoding"].get("positions")
    return f"{height} x {width}" + (f": {held_positions(held)}" if held else "")


def held_positions(row: Mapping[str, int]) -> str:
    """Returns which positions of a grid a label holds."""
    if "count" in row:
        return f"{row['count']:,} of them drawn for each view"
    return "every one" if row["stride"] == 1 else f"cells of {row['stride']} x {row['stride']}"


def anchors_line(facts: Mapping[str, Any]) -> str:
    """Returns what anchors are made of and what they take; nothing where there are none."""
    if not facts["anchors"]:
        return ""
    each = (facts["anchor_bytes"] or 0) / facts["num_samples"]
    return f"one of {each:.1f} bytes for each sample, made of views 0 to {facts['anchor_views'] - 1}"


def temperatures_line(facts: Mapping[str, Any]) -> str:
    """Returns the stored temperature, the declared ones and those that labels can be read at."""
    declared, served = ([f"{t:g}" for t in facts[key]] for key in ("temperatures", "served_temperatures"))
    others = "any" if facts["serves_undeclared"] else f"{', '.join(served)} only"
    return f"stored at {facts['temperature']:g}; declared: {', '.join(declared)}; served: {others}"


def _views(views: Mapping[str, Any]) -> str:
    """Returns the seed, and the operations with their settings."""
    rows = [", ".join(f"{k} {v}" for k, v in row.items() if k != "kind") for row in views["operations"]]
    operations = [f"{row['kind']} ({own})" for row, own in zip(views["operations"], rows, strict=True)]
    plain = ["view 0 plain"] if views["plain_first"] else []
    return ", ".join([f"seed {views['seed']}", *plain, *operations])


def numbers_line(numbers: list[int]) -> str:
    """Returns numbers as a list, or as a range where they are one."""
    if len(numbers) > _FEW and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def table(body: list[list[str]], header: list[str], left: int = 1) -> str:
    """Returns rows of text as a table; the first `left` columns are aligned to the left."""
    align = ["left"] * left + ["right"] * (len(header) - left)
    return str(tabulate(body, header, tablefmt="simple", disable_numparse=True, colalign=align))
