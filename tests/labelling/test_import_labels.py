"""import_labels: logits from elsewhere become the stores that a dump would write, joined by sample
id or key.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from project import files_of, forget
from pyarrow import Table, array, parquet
from stores import ANCHORED
from teachers import CLASSES, edit_params, make_project, run_student, run_verify

from pipeline.core.errors import ConfigError, ModelError, PipelineError, StoreError
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.labelling import ladder as rungs
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import check_canaries
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples
from stages import import_labels


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("project"), {})
    split = ImageDataset(folder / "data/prepare").split("train")
    lines = [f"{i:016x}\ttrain\tant\timages\\\\{row}.png" for row, i in enumerate(split.sample_ids.tolist())]
    (folder / "data/prepare/samples.tsv").write_text("sample_id\tsplit\tclass\tkey\n" + "\n".join(lines) + "\n")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "project"))
    return Path.cwd()


def train_split(folder: Path) -> SplitInMemory:
    return ImageDataset(folder / "data/prepare").split("train")


def logits_of(split: SplitInMemory, seed: int = 0) -> np.ndarray:
    """Returns the logits of a teacher that is right nine times in ten."""
    noise = np.random.default_rng(seed).normal(size=(len(split), 4))
    noise[np.arange(len(split)), split.hard_labels.numpy()] += 4
    return noise.astype(np.float32)


def run(folder: Path, logits: str, ids: str | None = None, *, probabilities: bool = False) -> Path:
    out = folder / "data/dump_labels"
    import_labels.main(
        folder / logits, ids, probabilities, folder / "params.yaml", folder / "data/prepare", out, folder / "work"
    )
    return out


def write_npz(path: Path, ids: np.ndarray, logits: np.ndarray) -> None:
    np.savez(path, sample_id=ids, logits=logits)


def write_lists(path: Path, ids: np.ndarray, logits: np.ndarray) -> None:
    columns = {"sample_id": array([f"{i:016x}" for i in ids.tolist()]), "logits": array(list(logits))}
    parquet.write_table(Table.from_pydict(columns), path)


def write_columns(path: Path, ids: np.ndarray, logits: np.ndarray) -> None:
    """Writes the classes in another order, which the columns' names tell."""
    columns: dict[str, Any] = {"sample_id": array(ids)} | {
        name.upper(): array(logits[:, CLASSES.index(name)]) for name in ("doe", "cow", "bee", "ant")
    }
    parquet.write_table(Table.from_pydict(columns), path)


def write_npy(path: Path, ids: np.ndarray, logits: np.ndarray) -> None:
    np.save(path, logits)
    path.with_name("ids.txt").write_text("".join(f"{i:016x}\n" for i in ids.tolist()))


@pytest.mark.parametrize(
    ("name", "write", "ids"),
    [
        ("x.npz", write_npz, None),
        ("x.npz", write_npz, "sample_id"),
        ("x.npy", write_npy, "ids.txt"),
        ("x.parquet", write_lists, None),
        ("x.parquet", write_columns, "sample_id"),
    ],
)
def test_rows_in_any_order_and_form_go_to_their_images(
    project: Path, name: str, write: Callable[..., None], ids: str | None
) -> None:
    split = train_split(project)
    logits, order = logits_of(split), np.random.default_rng(1).permutation(len(split))
    others = np.array([3, 4], dtype=np.uint64)  # images of nobody's
    rows = np.concatenate([split.sample_ids[order], others]), np.concatenate([logits[order], logits[:2]])
    write(project / name, *rows)
    out = run(project, name, ids)
    assert {path.stem for path in out.glob("*.zarr")} == {"dense16", "dense8", "top2", "none"}
    store = StoreReader(out / "dense16.zarr")
    assert store.manifest.view_numbers == [0]
    assert store.samples.same(StoredSamples.of(split.sample_ids))
    decoded = store.decode(store.read_view(0), 1.0)
    torch.testing.assert_close(decoded, torch.log_softmax(torch.from_numpy(logits), dim=1), rtol=0, atol=1e-2)
    assert store.manifest.teacher is not None
    assert store.manifest.teacher["val_accuracy"] == (logits.argmax(axis=1) == split.hard_labels.numpy()).mean()


def test_anchors_are_made_of_the_only_view_there_is(project: Path) -> None:
    split = train_split(project)
    write_npz(project / "x.npz", split.sample_ids, logits_of(split))
    row = ANCHORED | {"anchor_views": 4}
    edit_params(project, "encodings", anchored=row)
    store = StoreReader(run(project, "x.npz") / "anchored.zarr")
    wanted = store.codec.make_anchors(torch.log_softmax(torch.from_numpy(logits_of(split)), dim=1))
    found = store.read_anchors(range(len(split)))
    assert all(torch.equal(found[name], values) for name, values in wanted.items())
    assert (
        store.decode(store.read_view(0), 1.0).argmax(dim=1) == torch.from_numpy(logits_of(split)).argmax(dim=1)
    ).all()


def test_keys_of_the_source_are_as_good_as_ids_and_a_student_learns_from_them(project: Path) -> None:
    split = train_split(project)
    keys = [f"images\\{row}.png" for row in range(len(split))]
    columns = {"key": array([*keys, "images/unknown.png"]), "logits": array([*logits_of(split), logits_of(split)[0]])}
    parquet.write_table(Table.from_pydict(columns), project / "x.parquet")
    out = run(project, "x.parquet")
    store = StoreReader(out / "dense16.zarr")
    assert np.array_equal(store.decode(store.read_view(0), 1.0).argmax(dim=1), logits_of(split).argmax(axis=1))
    run_verify(project, with_teacher=False)
    run_student(project)


def test_a_budget_becomes_an_encoding_by_these_logits_and_a_student_learns_from_it(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = rungs.ladder
    kept = ("dense_float16", "dense_uint8/64")
    monkeypatch.setattr(rungs, "ladder", lambda space, *_: {name: full(space)[name] for name in kept})
    edit_params(project, "encodings", soft={"kind": "auto", "kl_nats": 0.01})
    edit_params(project, "students.small", labels="soft")
    split = train_split(project)
    write_npz(project / "x.npz", split.sample_ids, logits_of(split))
    store = StoreReader(run(project, "x.npz") / "soft.zarr")
    assert store.manifest.encoding["kind"] == "dense_uint8"
    told = capsys.readouterr().err
    assert "import_labels: soft: for at most a mean KL of 0.01 nats: {kind: dense_uint8" in told
    run_verify(project, with_teacher=False)
    assert "verify_labels: soft: whole and undamaged" in capsys.readouterr().err
    run_student(project)


def test_views_of_the_store_are_the_images_as_they_are(project: Path) -> None:
    split = train_split(project)
    write_npz(project / "x.npz", split.sample_ids, logits_of(split))
    store = StoreReader(run(project, "x.npz") / "none.zarr")
    assert store.views.operations == ()
    chosen = {i: row for row, i in enumerate(split.sample_ids.tolist())}
    for i, points in zip(store.canaries.sample_ids.tolist(), store.canaries.rendered, strict=True):
        assert np.isin(points, split.inputs[chosen[i]].numpy()).all()
    assert check_canaries(store.canaries, split, store.views, "store") == len(store.canaries.views)


def test_probabilities_are_taken_as_such_where_that_is_said_and_refused_otherwise(project: Path) -> None:
    split = train_split(project)
    shares = torch.softmax(torch.from_numpy(logits_of(split)).double() * 30, dim=1).numpy()
    write_npz(project / "x.npz", split.sample_ids, shares)
    with pytest.raises(ModelError, match=r"x.npz: rows sum up to 1: .*--probabilities"):
        run(project, "x.npz")
    store = StoreReader(run(project, "x.npz", probabilities=True) / "dense8.zarr")
    torch.testing.assert_close(
        store.decode(store.read_view(0), 1.0).exp().double(), torch.from_numpy(shares), rtol=0, atol=0.1
    )
    write_npz(project / "x.npz", split.sample_ids, logits_of(split))
    with pytest.raises(ModelError, match="rows do not sum up to 1"):
        run(project, "x.npz", probabilities=True)


def test_a_killed_import_goes_on_to_the_same_bytes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = train_split(project)
    write_npz(project / "x.npz", split.sample_ids, logits_of(split))
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


def test_labels_of_another_teacher_are_not_written_over(project: Path) -> None:
    split = train_split(project)
    write_npz(project / "x.npz", split.sample_ids, logits_of(split))
    run(project, "x.npz")
    write_npz(project / "x.npz", split.sample_ids, logits_of(split, 1))
    run(project, "x.npz")  # of its own kind
    before = files_of(project / "data/dump_labels")
    write_npz(project / "x.npz", split.sample_ids, logits_of(split, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.labelling.imported_stores._MODELS", ())
        with pytest.raises(StoreError, match=r"dense16.zarr: holds labels of another teacher; move it away"):
            run(project, "x.npz")
    assert files_of(project / "data/dump_labels") == before


def test_the_classes_of_the_logits_are_mapped_as_a_teachers_are(project: Path) -> None:
    split = train_split(project)
    wide = np.concatenate([logits_of(split)[:, [1, 0, 2]], np.full((64, 1), -9.0), logits_of(split)[:, [3]]], axis=1)
    write_npz(project / "x.npz", split.sample_ids, wide.astype(np.float32))
    with pytest.raises(ConfigError, match="5 outputs, and 4 classes in the data"):
        run(project, "x.npz")
    names = ["Bee", "Ant", "calf", "bull", "doe"]
    edit_params(project, "train_teacher", teacher_classes=names, class_map={"cow": ["calf", "bull"]})
    store = StoreReader(run(project, "x.npz") / "dense16.zarr")
    assert np.array_equal(store.decode(store.read_view(0), 1.0).argmax(dim=1), logits_of(split).argmax(axis=1))
    edit_params(project, "train_teacher", class_map={"ant": [0], "bee": [1], "cow": [4], "doe": [2, 3]})
    with pytest.raises(ModelError, match=r"with its outputs in another order; set class_map"):
        run(project, "x.npz")


def lacking(ids: np.ndarray, logits: np.ndarray) -> Any:
    return ids[:-5], logits[:-5]


def broken(ids: np.ndarray, logits: np.ndarray) -> Any:
    logits[7, 2] = np.nan
    return ids, logits


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lacking, r"x.npz: no logits for 5 of 64 training samples \(the first is sample [0-9a-f]{16}"),
        (broken, r"x.npz: row 7 \(sample [0-9a-f]{16}\) holds nan; expected finite logits"),
        (lambda ids, logits: (ids[:9], logits), "64 rows of logits, and 9 ids"),
        (lambda ids, logits: (ids, logits[:, 0]), r"float32 of shape \[64\]; expected floats, \[samples, classes\]"),
        (lambda ids, logits: (ids, logits.astype(np.int64)), "its values are int64"),
        (lambda ids, logits: (ids.astype(np.float64), logits), "an id is .*; expected sample ids or keys"),
        (lambda ids, logits: (np.array([f"a{i}" for i in ids]), logits), r"none of its ids is a sample's, nor a key"),
        (lambda ids, logits: (ids, -logits), r"no better than chance"),
    ],
)
def test_logits_that_do_not_do_are_one_line(project: Path, change: Callable[..., Any], told: str) -> None:
    split = train_split(project)
    write_npz(project / "x.npz", *change(split.sample_ids.copy(), logits_of(split)))
    with pytest.raises(PipelineError, match=told) as caught:
        run(project, "x.npz")
    assert "\n" not in str(caught.value)
    assert not (project / "data/dump_labels").exists()


@pytest.mark.parametrize(
    ("name", "ids", "told"),
    [
        ("none.npz", None, "no such file"),
        ("x.csv", None, "ends in '.csv'"),
        ("junk.npz", None, "not a .npz file"),
        ("junk.npy", None, "not a .npy file"),
        ("junk.parquet", None, "not a sound Parquet file"),
        ("x.npy", None, "--ids: not given; expected a file"),
        ("x.npy", "ids.txt", "--ids: no such file"),
        ("x.npz", "name", "holds sample_id, logits; expected ids: name"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_one_line(project: Path, name: str, ids: str, told: str) -> None:
    split = train_split(project)
    write_npz(project / "x.npz", split.sample_ids, logits_of(split))
    np.save(project / "x.npy", logits_of(split))
    for junk in ("junk.npz", "junk.npy", "junk.parquet", "x.csv"):
        (project / junk).write_bytes(b"junk")
    with pytest.raises(ModelError, match=told) as caught:
        run(project, name, ids)
    assert "\n" not in str(caught.value)
