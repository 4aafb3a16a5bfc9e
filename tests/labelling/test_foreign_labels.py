"""Label files of other systems: one label for each image as it is, the mean over their views; what
can't be joined or read is refused in one line, and nothing in a file is executed.
"""

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_files import kept, write_ced, write_distillkit, write_fkd, write_tinyvit
from pyarrow import Table, parquet
from teachers import edit_params, make_project, run_student, run_verify

import potstill
from pipeline.core.errors import DataError, PipelineError
from pipeline.data.dataset import ImageDataset
from pipeline.doctor.checkup import fitting_students
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import look_at_prepared
from pipeline.doctor.params import read_params
from pipeline.labelling.foreign import LAYOUTS, Described, open_layout, torch_arrays
from pipeline.labelling.foreign.distillkit_values import Bin, Compression, log_probs_of
from pipeline.labelling.foreign.means import read_foreign
from pipeline.labelling.foreign.names import SampleNames
from pipeline.labels.reader import StoreReader
from stages import import_labels, inspect_labels

NAMES = ["a/0.JPEG", "a/1.JPEG", "b/0.JPEG"]
KEYS = {f"photos/{name}": 100 + row for row, name in enumerate(NAMES)}
IDS = np.array(sorted(KEYS.values()), np.uint64)


def shares_of(labels: np.ndarray, views: int) -> np.ndarray:
    """Returns the probabilities of a teacher that is right, for each view of each image."""
    noise = np.random.default_rng(3).normal(size=(views, len(labels), 4))
    noise[:, np.arange(len(labels)), labels] += 3
    return torch.softmax(torch.from_numpy(noise), dim=2).numpy()


def mean_of(views: np.ndarray, k: int) -> np.ndarray:
    """Returns the mean over views of k probabilities each, with the rest spread evenly."""
    whole = np.empty_like(views)
    for place in np.ndindex(views.shape[:2]):
        classes, values = kept(views[place], k)
        whole[place] = (1 - values.sum()) / max(views.shape[2] - k, 1)
        whole[place][classes] = values
    return np.asarray(whole.mean(axis=0))


def read(layout: str, folder: Path, ids: str | None = None, outputs: int = 4) -> np.ndarray:
    labels = open_layout(layout, Described(folder, ids, False, outputs))
    return np.asarray(read_foreign(labels, KEYS, IDS).values)


VIEWS = shares_of(np.array([0, 1, 3]), 2)
IN_TOKENS = [0, 1, 2, 4, 5, 3]  # columns: the tokens of the classes first


@pytest.mark.parametrize(
    ("layout", "write", "wanted"),
    [
        ("tinyvit", write_tinyvit, mean_of(VIEWS, 2)),
        ("tinyvit", lambda *given: write_tinyvit(*given, k=4), mean_of(VIEWS, 4)),
        ("tinyvit", lambda *given: write_tinyvit(*given) / "logits_top2_epoch1", mean_of(VIEWS[1:], 2)),
        ("fkd", write_fkd, mean_of(VIEWS, 2)),
        ("fkd", lambda *given: write_fkd(*given, form="smoothing"), mean_of(VIEWS, 1)),
        ("fkd", lambda *given: write_fkd(*given, form="full"), mean_of(VIEWS, 4)),
        ("fkd", lambda *given: write_fkd(*given, form="hard"), np.eye(4)[VIEWS.argmax(axis=2)].mean(axis=0)),
        ("ced", write_ced, mean_of(VIEWS, 2)),
        ("ced", lambda *given: write_ced(*given, compression="gzip", shuffle=True), mean_of(VIEWS, 2)),
    ],
)
def test_a_label_is_the_mean_over_views_with_the_rest_spread_evenly(
    tmp_path: Path, layout: str, write: Callable[..., Path], wanted: np.ndarray
) -> None:
    np.testing.assert_allclose(read(layout, write(tmp_path / "files", NAMES, VIEWS)), wanted, atol=1e-3)


def test_files_that_numpy_1_wrote_are_read(tmp_path: Path) -> None:
    folder = write_fkd(tmp_path / "files", NAMES, VIEWS)
    for file in folder.rglob("*.tar"):
        with zipfile.ZipFile(file) as new:
            members = {name: new.read(name) for name in new.namelist()}
        with zipfile.ZipFile(file, "w") as old:
            for name, content in members.items():
                assert (b"cnumpy._core.multiarray\n" in content) == name.endswith("/data.pkl")
                old.writestr(name, content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    np.testing.assert_allclose(read("fkd", folder), mean_of(VIEWS, 2), atol=1e-3)


@pytest.mark.parametrize("delta", [False, True])
def test_compressed_log_probabilities_are_decoded(tmp_path: Path, delta: bool) -> None:
    values = read("distillkit", write_distillkit(tmp_path / "files", NAMES, VIEWS, delta=delta), "image")
    classes, shares = kept(VIEWS, 3)
    wanted = np.zeros((2, 3, 6))
    for place in np.ndindex(2, 3):
        wanted[place] = (1 - shares[place].sum()) / 3
        wanted[place][np.array([1, 2, 4, 5])[classes[place]]] = shares[place]
    np.testing.assert_allclose(values, wanted.mean(axis=0), atol=6e-3)  # of bfloat16


def test_a_bin_of_single_bits_is_signs_and_a_power_of_the_place_is_a_term() -> None:
    bins = (Bin(scale_dtype="float32", element_bits=1, num_elements=2),)
    settings = Compression(
        d=9, k=3, exact_k=0, residual_bins=bins, polynomial_terms=(0, 2), normalize_t=True, delta_encoding=False
    )
    packed = np.array([-1, -4, 0.5], "<f4").tobytes() + bytes([0b01000000])
    assert len(packed) == settings.value_bytes
    found = log_probs_of(np.frombuffer(packed, np.uint8)[None], settings)
    np.testing.assert_allclose(found, [[-1 - 0.5, -1 - 4 / 4 + 0.5, -5]])


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("photos/a/1.JPEG", 101),
        ("imagenet/photos/a/1", 101),
        ("a\\1", 101),
        ("1", 101),
        ("c/1", None),
        ("z/a/1", None),
        (f"{102:016x}", 102),
        ("", None),
    ],
)
def test_a_name_fits_where_one_path_is_the_end_of_the_other(name: str, sample: int | None) -> None:
    assert SampleNames(KEYS).find(name, "x") == sample


def test_a_name_that_may_be_two_samples_is_refused(tmp_path: Path) -> None:
    bare = [Path(name).stem for name in NAMES]
    with pytest.raises(DataError, match=r"ep1_0.h5: sample '0' may be 'photos/a/0.JPEG' or 'photos/b/0.JPEG'"):
        read("ced", write_ced(tmp_path / "files", bare, VIEWS))


def test_keys_that_are_places_need_a_list_of_names(tmp_path: Path) -> None:
    folder = write_tinyvit(tmp_path / "files", ["2", "0", "1"], VIEWS)
    with pytest.raises(DataError, match=r"its keys are places, not names; expected --ids FILE"):
        read("tinyvit", folder)
    (tmp_path / "names.txt").write_text("a/1.JPEG\nb/0.JPEG\na/0.JPEG\n")
    np.testing.assert_allclose(read("tinyvit", folder, str(tmp_path / "names.txt")), mean_of(VIEWS, 2), atol=1e-3)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe: no file \(a pipe"):
        read("tinyvit", folder, str(tmp_path / "pipe"))
    (tmp_path / "names.txt").write_text("a/1.JPEG\n")
    with pytest.raises(DataError, match=r"names.txt: 1 names, and key \d"):
        read("tinyvit", folder, str(tmp_path / "names.txt"))


class Harm:
    """An object that leaves a file behind when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


def harmful(folder: Path) -> None:
    torch.save([np.zeros((2, 4)), np.zeros(2), Harm()], folder / "a/0.tar")


def bare_harm(folder: Path) -> None:
    (folder / "a/0.tar").write_bytes(pickle.dumps([Harm()]))


def packed_zeros(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a/0.tar", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", bytes(2 << 20))


def save(*parts: Any) -> Callable[[Path], None]:
    return lambda folder: torch.save(list(parts), folder / "a/0.tar")


def cut(name: str) -> Callable[[Path], None]:
    """Returns a change that takes the last byte from a file."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1]) and None


def shift(folder: Path) -> None:
    """Moves records by two bytes, so that classes are read where probabilities stand."""
    file = folder / "logits_top2_epoch0/rank0-values.bin"
    packed = file.read_bytes()
    file.write_bytes(packed[2:] + packed[:2])


def short_keys(folder: Path) -> None:
    file = folder / "logits_top2_epoch1/rank0-keys.txt"
    file.write_text(file.read_text().split("\n", 1)[1])


def h5(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        import h5py

        with h5py.File(folder / "logits_ep1_0.h5", "a") as file:
            change(file)

    return apply


def link_away(file: Any) -> None:
    import h5py

    del file["seeds"]
    file["seeds"] = h5py.ExternalLink("other.h5", "seeds")


def rare_filter(file: Any) -> None:
    del file["seeds"]
    file.create_dataset("seeds", data=np.zeros(3, np.int32), chunks=(3,), scaleoffset=0)


def keep_elsewhere(file: Any) -> None:
    del file["seeds"]
    file.create_dataset("seeds", (3,), "i4", external=[("/etc/hostname", 0, 12)])


def add_up(file: Any) -> None:
    file["topk_values"][0] = [0.9, 0.8]


def texts(folder: Path) -> None:
    rows = {"image": NAMES, "compressed_logprobs": [[[1] * 13] * 2] * 3, "bytepacked_indices": [[[1, 1]] * 2] * 3}
    parquet.write_table(Table.from_pydict(rows), folder / "data_0.parquet")


def untyped(folder: Path) -> None:
    rows = {"image": NAMES, "compressed_logprobs": [1, 2, 3], "bytepacked_indices": [[[1, 300]]] * 3}
    parquet.write_table(Table.from_pydict(rows), folder / "data_0.parquet")


def older(folder: Path) -> None:
    parquet.write_table(Table.from_pydict({"image": NAMES, "coeffs": [[[0.5]]] * 3}), folder / "data_0.parquet")


def config(old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "compression_config.yaml"
        file.write_text(file.read_text().replace(old, new))

    return apply


ONE, FLIPS = np.zeros((1, 4), np.float32), np.zeros(1, bool)
WRITERS: dict[str, Callable[..., Path]] = {
    "tinyvit": write_tinyvit,
    "fkd": write_fkd,
    "ced": write_ced,
    "distillkit": write_distillkit,
}


@pytest.mark.parametrize(
    ("layout", "change", "told"),
    [
        ("tinyvit", cut("logits_top2_epoch0/rank1-values.bin"), r"\d+ bytes; expected whole records of 12 bytes"),
        ("tinyvit", shift, "rank0-values.bin: .*; expected "),
        ("tinyvit", short_keys, "rank0-keys.txt: 1 keys for 2 records; expected one for each"),
        ("tinyvit", lambda folder: (folder / "logits_top3_epoch0").mkdir(), "labels of 2 and of 3 classes"),
        ("tinyvit", lambda folder: shutil.rmtree(folder), r"files: no such folder; expected folders logits_top<k>"),
        ("fkd", harmful, "0.tar: holds something that would have to be executed, and was not executed"),
        ("fkd", bare_harm, "0.tar: (can't be read|holds).*; expected a list of arrays"),
        ("fkd", packed_zeros, r"0.tar: can't be read \(2,097,152 bytes unpacked, of at most 1,048,576\)"),
        ("fkd", cut("a/0.tar"), "0.tar: can't be read"),
        ("fkd", save(ONE, FLIPS), "0.tar: a list of 2; expected coordinates, flips and labels"),
        ("fkd", save(ONE, FLIPS, np.zeros(2)), r"shapes \[1, 4\], \[1\], \[2\]; expected \[crops, 4\]"),
        ("fkd", save(ONE, FLIPS, np.zeros((1, 3))), r"labels of shape \[1, 3\], and 4 outputs of the teacher"),
        ("fkd", save(ONE, FLIPS, np.array([[0.5, 0.5]])), "classes that are no whole numbers"),
        ("fkd", save(ONE, FLIPS, np.array([4])), "outputs 4 to 4; expected 0 to 3, of 4 outputs; name the teacher's"),
        ("fkd", save(ONE, FLIPS, np.array([[[0, 0], [0.5, 0.5]]])), "names an output twice"),
        ("fkd", save(ONE, FLIPS, np.array([[0, np.nan]])), "a probability below 0, or none at all"),
        ("fkd", save(ONE, FLIPS, np.array([[[0, 1], [0.5, 0.01]]])), "outputs that are left out are likelier"),
        ("fkd", lambda folder: (folder / "a/0.tar").rename(folder / "a/0.gone"), None),
        ("ced", h5(add_up), r"ep1_0.h5: probabilities that sum up to 1.7; expected one class a sample: a softmax's"),
        ("ced", h5(link_away), "'seeds' is no array in this file; expected arrays, not links to elsewhere"),
        ("ced", h5(rare_filter), "'seeds' is packed by filter 6; expected gzip, shuffle, fletcher32, lzf"),
        ("ced", h5(keep_elsewhere), "'seeds' is no array in this file; expected arrays, not links to elsewhere"),
        ("ced", h5(lambda file: file.pop("topk_values")), "holds seeds, topk_indexes; expected an array 'topk_values'"),
        ("ced", lambda folder: (folder / "logits_ep2_0.h5").write_bytes(b"junk"), "not a sound HDF5 file"),
        ("ced", lambda folder: (folder / "logits_ep2_0.parquet").unlink(), "ep2_0.parquet: no such file"),
        ("distillkit", texts, "a row of 2 positions: labels of the tokens of a text; expected one position a row"),
        ("distillkit", untyped, r"data_0.parquet: labels of another type \(.*\); expected bytes for each position"),
        ("distillkit", older, "columns image, coeffs; expected a column 'compressed_logprobs'"),
        ("distillkit", config("exact_k: 1", "exact_k: 2"), "compression_config.yaml: bins of more|a label of 13 bytes"),
        ("distillkit", config("d: 6", "d: 5"), r"outputs \d to 5; expected 0 to 4"),
        ("distillkit", config("bfloat16", "int4"), "compression_config.yaml.exact_dtype: 'int4'"),
        (
            "distillkit",
            lambda folder: (folder / "compression_config.yaml").unlink(),
            "no such file; expected the settings",
        ),
    ],
)
def test_files_that_are_not_of_their_layout_are_one_line_and_are_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, change: Callable[[Path], Any], told: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch_arrays, "_MOST_BYTES", 1 << 20)
    folder = WRITERS[layout](tmp_path / "files", NAMES, VIEWS)
    ids = "image" if layout == "distillkit" else None
    change(folder)
    if told is None:
        assert len(read(layout, folder, ids)) == 2  # the others have labels; who needs all says so
        return
    with pytest.raises(PipelineError, match=told) as caught:
        read(layout, folder, ids)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500
    assert not Path("harmed").exists()


def test_two_numbers_a_crop_are_refused_where_the_teacher_has_two_outputs(tmp_path: Path) -> None:
    folder = write_fkd(tmp_path / "files", NAMES, VIEWS[:, :, :2] / VIEWS[:, :, :2].sum(axis=2, keepdims=True), "full")
    with pytest.raises(DataError, match=r"labels of shape \[2, 2\], and 2 outputs of the teacher"):
        read("fkd", folder, outputs=2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pipes_in_place_of_files_are_never_opened(tmp_path: Path, layout: str) -> None:
    folder = WRITERS[layout](tmp_path / "files", NAMES, VIEWS)
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        content = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(PipelineError, match=rf"{file.name}: no file \(a pipe, a socket or a device\)"):
            read(layout, folder, "image" if layout == "distillkit" else None)
        file.unlink()
        file.write_bytes(content)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_of_other_images_are_refused(tmp_path: Path, layout: str) -> None:
    folder = WRITERS[layout](tmp_path / "files", ["x/7.png", "x/8.png", "x/9.png"], VIEWS)
    with pytest.raises(DataError, match="none of its 6 labels is of a sample of this data; compare its names with"):
        read(layout, folder, "image" if layout == "distillkit" else None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    folder = make_project(tmp_path / "project", {})
    split = ImageDataset(folder / "data/prepare").split("train")
    lines = [f"{i:016x}\ttrain\tant\timages/{row}.png" for row, i in enumerate(split.sample_ids.tolist())]
    (folder / "data/prepare/samples.tsv").write_text("sample_id\tsplit\tclass\tkey\n" + "\n".join(lines) + "\n")
    monkeypatch.chdir(folder)
    return folder


def run(folder: Path, layout: str | None, ids: str | None = None, *, probabilities: bool = False) -> Path:
    out = folder / "data/dump_labels"
    data, work = folder / "data/prepare", folder / "work"
    import_labels.main(folder / "files", ids, probabilities, folder / "params.yaml", data, out, work, layout)
    return out


def test_a_store_tells_what_its_labels_stand_for_and_a_student_learns_from_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = ImageDataset(project / "data/prepare")
    split = dataset.split("train")
    views = shares_of(split.hard_labels.numpy(), 3)
    write_fkd(project / "files", [f"train/images/{row}.png" for row in range(len(split))], views)
    out = run(project, "fkd")
    store = StoreReader(out / "dense16.zarr")
    decoded = store.decode(store.read_view(0), 1.0).exp().numpy()
    np.testing.assert_allclose(decoded, mean_of(views, 2), atol=2e-3)
    note = "each label is the mean over 3 crops by FKD's coordinates and flips, and stands for the image as it is"
    assert store.views.operations == ()
    assert potstill.open_labels(out / "dense16.zarr").notes == [f"{note}: no view is replayed"]
    assert f"import_labels: {note}: no view is replayed\n" in capsys.readouterr().err
    inspect_labels.main(out / "dense16.zarr")
    assert note in capsys.readouterr().out
    run_verify(project, with_teacher=False)
    capsys.readouterr()
    run_student(project)
    assert f"students.small.labels: {note}" in capsys.readouterr().err
    findings = Findings()
    params, look = read_params(project / "params.yaml", findings), look_at_prepared(dataset)
    fitting_students(params, {}, out, look, findings)
    assert f"students.small.labels: {note}" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("layout", "ids", "probabilities", "told"),
    [
        ("tinyvitt", None, False, r"--layout: 'tinyvitt'; .*did you mean 'tinyvit'"),
        ("fkd", "names.txt", False, "--ids: given with --layout fkd, whose files name the samples; leave it out"),
        ("fkd", None, True, "--probabilities: given with --layout fkd, which decides that; leave it out"),
        (None, None, False, r"files: no such file; expected logits"),
        ("fkd", None, False, r"files: no logits for 63 of 64 training samples"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    project: Path, layout: str | None, ids: str | None, probabilities: bool, told: str
) -> None:
    write_fkd(project / "files", ["images/5.png"], VIEWS[:, :1])
    with pytest.raises(PipelineError, match=told):
        run(project, layout, ids, probabilities=probabilities)
    assert not (project / "data/dump_labels").exists()


def test_the_tokens_of_a_class_are_named_in_class_map(project: Path) -> None:
    split = ImageDataset(project / "data/prepare").split("train")
    views = shares_of(split.hard_labels.numpy(), 1)
    write_distillkit(project / "files", [f"images/{row}.png" for row in range(len(split))], views)
    edit_params(project, "train_teacher", class_map={"ant": [1], "bee": [2], "cow": [4], "doe": [5]})
    store = StoreReader(run(project, "distillkit", "image") / "dense16.zarr")
    assert np.array_equal(store.decode(store.read_view(0), 1.0).argmax(dim=1).numpy(), views[0].argmax(axis=1))
