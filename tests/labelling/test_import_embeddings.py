"""import_labels: embeddings from elsewhere become stores, beside logits or alone."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import files_of, forget, student, write_params
from pyarrow import FixedSizeListArray, Table, array, parquet
from teachers import edit_params, make_project, run_student, run_verify

from pipeline.core.config import load_params
from pipeline.core.errors import PipelineError
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.reader import StoreReader
from stages import import_labels

DIMENSIONS = 6
ENCODINGS = {
    "none": {"kind": "none"},
    "wide": {"kind": "vector_float16"},
    "narrow": {"kind": "vector_int8"},
    "sketch": {"kind": "sketch", "dimensions": 3, "seed": 0, "values": "float16"},
}
LABELS = {"dense16": {"kind": "dense_float16"}}
ALONE: dict[str, Any] = {"labels": "none", "features": "narrow", "hard_weight": 0.0, "soft_weight": 0.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a project whose stores are of embeddings, or of nothing."""
    folder = make_project(tmp_path_factory.mktemp("project"), {})
    changed = {"encodings": ENCODINGS, "students": {"small": student(**ALONE)}}
    write_params(folder, load_params(folder / "params.yaml") | changed)
    ids = ImageDataset(folder / "data/prepare").split("train").sample_ids.tolist()
    lines = [f"{i:016x}\ttrain\tant\timages/{row}.png\n" for row, i in enumerate(ids)]
    (folder / "data/prepare/samples.tsv").write_text("sample_id\tsplit\tclass\tkey\n" + "".join(lines))
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "project"))
    return Path.cwd()


def train_split(folder: Path) -> SplitInMemory:
    return ImageDataset(folder / "data/prepare").split("train")


def embeddings_of(split: SplitInMemory) -> np.ndarray:
    """Returns embeddings that lie near those of the same class."""
    noise = np.random.default_rng(0).normal(size=(len(split), DIMENSIONS))
    noise[np.arange(len(split)), split.hard_labels.numpy()] += 6
    return noise.astype(np.float32)


def run(folder: Path, embeddings: str | None, ids: str | None = None, **options: Any) -> Path:
    """Imports; returns the folder of stores."""
    import_labels.main(embeddings=None if embeddings is None else Path(embeddings), ids=ids, **options)
    return folder / "data/dump_labels"


def write_npz(ids: np.ndarray, vectors: np.ndarray) -> None:
    np.savez("x.npz", sample_id=ids, embedding=vectors.astype(np.float64))


def write_npy(ids: np.ndarray, vectors: np.ndarray) -> None:
    np.save("x.npy", vectors.astype(np.float16))
    Path("ids.txt").write_text("".join(f"{i:016x}\n" for i in ids.tolist()))


def write_lists(ids: np.ndarray, vectors: np.ndarray) -> None:
    """Writes keys, and a column of logits that is not asked for."""
    rows = {i: row for row, i in enumerate(train_split(Path()).sample_ids.tolist())}
    keys = array([f"images/{rows[i]}.png" if i in rows else "images/none.png" for i in ids.tolist()])
    columns = {"key": keys, "logits": array(list(vectors[:, :2])), "features": array(list(vectors))}
    parquet.write_table(Table.from_pydict(columns), "x.parquet")


def write_fixed_lists(ids: np.ndarray, vectors: np.ndarray) -> None:
    lists = FixedSizeListArray.from_arrays(array(vectors.ravel()), DIMENSIONS)
    parquet.write_table(Table.from_pydict({"id": array(ids), "anything": lists}), "x.parquet")


@pytest.mark.parametrize(
    ("name", "write", "ids"),
    [
        ("x.npz", write_npz, None),
        ("x.npy", write_npy, "ids.txt"),
        ("x.parquet", write_lists, "key"),
        ("x.parquet", write_fixed_lists, None),
    ],
)
def test_rows_in_any_order_and_form_go_to_their_images(
    project: Path, name: str, write: Callable[[np.ndarray, np.ndarray], None], ids: str | None
) -> None:
    split = train_split(project)
    vectors, order = embeddings_of(split), np.random.default_rng(1).permutation(len(split))
    others = np.array([3, 4], dtype=np.uint64)  # images of nobody's
    write(np.concatenate([split.sample_ids[order], others]), np.concatenate([vectors[order], vectors[:2]]))
    out = run(project, name, ids)
    assert {path.stem for path in out.glob("*.zarr")} == {*ENCODINGS}
    for store, error in {"wide": 0.01, "narrow": 0.2}.items():
        found = StoreReader(out / f"{store}.zarr")
        assert (found.manifest.signal, found.manifest.num_dimensions) == ("vector", DIMENSIONS)
        np.testing.assert_allclose(found.decode(found.read_view(0), 1.0).numpy(), vectors, atol=error)


def test_a_student_learns_from_them_alone_and_its_stores_are_whole(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = train_split(project)
    write_npz(split.sample_ids, embeddings_of(split))
    run(project, "x.npz")
    told = capsys.readouterr().err
    assert "the nearest of 64 embeddings is of the same class for" in told
    assert "another order" not in told
    run_verify(project, with_teacher=False)
    assert capsys.readouterr().err.count("whole and undamaged") == len(ENCODINGS)
    run_student(project)


def test_logits_and_embeddings_of_one_command_are_learned_from_together(project: Path) -> None:
    split = train_split(project)
    np.savez("x.npz", ids=split.sample_ids, features=embeddings_of(split), logits=embeddings_of(split)[:, :4])
    edit_params(project, "encodings", **LABELS)
    edit_params(project, "students.small", labels="dense16", hard_weight=0.5, soft_weight=0.5)
    out = run(project, "x.npz", logits=Path("x.npz"))
    labels, features = (StoreReader(out / f"{name}.zarr").manifest for name in ("dense16", "wide"))
    assert labels.teacher is not None
    assert features.teacher is not None
    assert labels.teacher["model"] == "imported logits"
    assert (features.teacher["model"], features.class_names) == ("imported embeddings", [])
    run_student(project)


def test_rows_in_another_order_than_their_ids_are_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = train_split(project)
    write_npz(split.sample_ids, np.random.default_rng(2).permutation(embeddings_of(split)))
    run(project, "x.npz")
    assert "are the rows in another order than their ids?" in capsys.readouterr().err


def test_a_killed_import_goes_on_to_the_same_bytes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = train_split(project)
    write_npz(split.sample_ids, embeddings_of(split))
    expected = files_of(run(project, "x.npz"))
    forget(project, "dump_labels")
    real, calls = StoreWriter.write, iter(range(100))

    def killed(*arguments: Any) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run(project, "x.npz")
    assert files_of(run(project, "x.npz")) == expected


def broken(ids: np.ndarray, vectors: np.ndarray) -> Any:
    vectors[7, 2] = np.inf
    return ids, vectors


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ids, vectors: (ids[:-5], vectors[:-5]), r"x.npz: no embeddings for 5 of 64 training samples"),
        (broken, r"x.npz: row 7 \(sample [0-9a-f]{16}\) holds inf; expected finite numbers"),
        (lambda ids, vectors: (ids[:9], vectors), "64 rows of embeddings, and 9 ids"),
        (
            lambda ids, vectors: (ids, vectors[:, :, None]),
            r"shape \[64, 6, 1\]; expected floats, \[samples, dimensions\]",
        ),
        (lambda ids, vectors: (ids, vectors[:, :2]), r"encodings.sketch.dimensions: 3"),
    ],
)
def test_embeddings_that_do_not_do_are_one_line(project: Path, change: Callable[..., Any], told: str) -> None:
    split = train_split(project)
    write_npz(*change(split.sample_ids.copy(), embeddings_of(split)))
    with pytest.raises(PipelineError, match=told) as caught:
        run(project, "x.npz")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500
    assert not (project / "data/dump_labels").exists()


@pytest.mark.parametrize(
    ("rows", "given", "told"),
    [
        (LABELS, {"embeddings": "x.npz"}, "encodings: dense16, of labels of classes, and no --logits; give both"),
        (LABELS, {"logits": "x.npz"}, "encodings: narrow, sketch, wide, of embeddings, and no --embeddings; give both"),
        ({}, {}, "--logits: not given; expected a file of logits, or --embeddings alone"),
        (
            {},
            {"embeddings": "x.npz", "layout": "fkd"},
            "--logits: not given, and --layout and --probabilities are about",
        ),
        ({}, {"embeddings": "no.npz"}, "no.npz: no such file; expected embeddings"),
    ],
)
def test_files_and_rows_that_do_not_go_together_are_one_line(
    project: Path, rows: dict[str, Any], given: dict[str, str], told: str
) -> None:
    split = train_split(project)
    np.savez("x.npz", ids=split.sample_ids, features=embeddings_of(split), logits=embeddings_of(split)[:, :4])
    edit_params(project, "encodings", **rows)
    options = {key: value if key == "layout" else Path(value) for key, value in given.items()}
    with pytest.raises(PipelineError, match=told) as caught:
        import_labels.main(**options)  # type: ignore[arg-type]
    assert len(str(caught.value)) <= 500
    assert not (project / "data/dump_labels").exists()
