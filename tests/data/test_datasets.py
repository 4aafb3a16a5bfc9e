"""Sample ids follow the pixels, the held-out share is fair and stable, reading returns what was
written.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split
from hypothesis import given, settings
from hypothesis import strategies as st
from project import edit_sealed

from pipeline.core.errors import DataError, PipelineError, StoreError
from pipeline.data.dataset import ImageDataset, split_fingerprint
from pipeline.data.hard_labels import UNLABELLED
from pipeline.data.sample_ids import find_samples, sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.preparation.order import Names, hold_out
from pipeline.preparation.statistics import channel_statistics
from pipeline.preparation.write import write_dataset
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.spec import ViewSpec

CLASSES = ("a", "b", "c", "d")


def some(split: SplitInMemory, rows: np.ndarray | list[int]) -> SplitInMemory:
    rows = np.asarray(rows)
    return SplitInMemory(split.inputs[rows], split.hard_labels[rows], split.sample_ids[rows])


def held_out(labels: np.ndarray, ids: np.ndarray, fraction: float, seed: int, split: str = "val") -> np.ndarray:
    """Returns the rows that are held out."""
    return np.flatnonzero(hold_out(split, labels, ids, fraction, seed, Names(CLASSES, "images")))


@pytest.fixture
def written(tmp_path: Path) -> tuple[ImageDataset, dict[str, SplitInMemory]]:
    everything = make_split(40)
    splits = {"train": some(everything, range(24)), "val": some(everything, range(24, 32))}
    splits["test"] = some(everything, range(32, 40))
    write_dataset(tmp_path / "prepare", "digits", CLASSES, splits)
    return ImageDataset(tmp_path / "prepare"), splits


def test_a_sample_id_depends_on_the_pixels_alone_and_not_on_place_or_layout() -> None:
    images = make_split(20, shape=(3, 4, 6)).inputs.numpy()
    ids = sample_ids(images)
    order = np.random.default_rng(1).permutation(20)
    np.testing.assert_array_equal(sample_ids(images[order]), ids[order])
    np.testing.assert_array_equal(sample_ids(images[5:6]), ids[5:6])
    strided = np.asfortranarray(images)
    np.testing.assert_array_equal(sample_ids(strided), ids)


def test_a_sample_id_changes_with_any_pixel_and_with_the_shape() -> None:
    image = np.zeros((1, 2, 3, 4), np.uint8)
    variants = [image, *(image.reshape(1, *shape) for shape in ((2, 4, 3), (3, 2, 4), (1, 6, 4), (24, 1, 1)))]
    for position in range(image.size):
        changed = image.copy()
        changed.flat[position] = 1
        variants.append(changed)
    assert len({int(sample_ids(variant)[0]) for variant in variants}) == len(variants)


def test_sample_ids_are_the_same_in_every_version() -> None:
    image = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(1, 2, 3, 4)
    assert [f"{int(i):016x}" for i in sample_ids(image)] == ["eeba4b787c023859"]


IDS = st.lists(st.integers(0, 12).map(lambda n: n * 0x1234567890ABCDE), max_size=12)


@settings(deadline=None, max_examples=60, database=None)
@given(IDS, IDS)
def test_samples_are_found_where_they_stand_first_or_not_at_all(wanted: list[int], among: list[int]) -> None:
    found = find_samples(np.array(wanted, dtype=np.uint64), np.array(among, dtype=np.uint64))
    assert found.dtype == np.int64
    assert found.tolist() == [among.index(sample) if sample in among else -1 for sample in wanted]


def test_samples_of_a_shuffled_split_are_found_in_it(split: SplitInMemory) -> None:
    order = np.random.default_rng(0).permutation(len(split))
    np.testing.assert_array_equal(find_samples(split.sample_ids[order], split.sample_ids), order)
    largest = np.array([0, 2**64 - 1], dtype=np.uint64)
    assert find_samples(largest, split.sample_ids).tolist() == [-1, -1]
    assert find_samples(largest, largest[::-1]).tolist() == [1, 0]


@settings(deadline=None, max_examples=40, database=None)
@given(st.lists(st.integers(10, 40), min_size=1, max_size=4), st.floats(0.1, 0.5), st.integers(0, 2**63), st.randoms())
def test_the_held_out_share_is_the_same_in_every_class_and_in_any_order(
    counts: list[int], fraction: float, seed: int, random: object
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = np.random.default_rng(0).integers(1, 2**64, len(labels), dtype=np.uint64)
    val = held_out(labels, ids, fraction, seed)
    assert np.bincount(labels[val]).tolist() == [round(fraction * count) for count in counts]
    order = np.array(random.sample(range(len(labels)), len(labels)))  # type: ignore[attr-defined]
    assert set(ids[order][held_out(labels[order], ids[order], fraction, seed)].tolist()) == set(ids[val].tolist())


def test_another_seed_holds_out_other_images() -> None:
    split = make_split(200)
    labels = split.hard_labels.numpy()
    assert len({tuple(held_out(labels, split.sample_ids, 0.2, seed)) for seed in range(5)}) == 5


def test_the_test_split_is_drawn_otherwise_than_validation() -> None:
    split = make_split(200)
    labels = split.hard_labels.numpy()
    assert set(held_out(labels, split.sample_ids, 0.2, 0)) != set(held_out(labels, split.sample_ids, 0.2, 0, "test"))


@pytest.mark.parametrize("seed", range(5))
def test_identical_images_stay_on_one_side(seed: int) -> None:
    ids = np.repeat(np.arange(1, 41, dtype=np.uint64), 3)
    labels = np.arange(len(ids)) // 3 % 2
    labels[-1] = 1 - labels[-1]  # one image that has two labels
    val = held_out(labels, ids, 0.2, seed)
    assert not set(np.delete(ids, val).tolist()) & set(ids[val].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_unlabelled_images_and_their_equals_stay_in_training(seed: int) -> None:
    ids = np.arange(1, 101, dtype=np.uint64)
    labels = np.arange(100) % 4
    labels[60:] = UNLABELLED
    ids[60:70] = ids[:10]
    val = held_out(labels, ids, 0.2, seed)
    assert np.bincount(labels[val], minlength=4).tolist() == [3] * 4  # a fifth of 15 each
    assert not set(ids[60:].tolist()) & set(ids[val].tolist())


def test_a_class_whose_images_are_all_there_unlabelled_too_can_not_be_held_out() -> None:
    labels = np.array([0] * 20 + [1] * 20 + [UNLABELLED] * 20)
    ids = np.concatenate([np.arange(1, 41), np.arange(21, 41)]).astype(np.uint64)
    with pytest.raises(DataError, match="class b: each of its images is also there unlabelled"):
        held_out(labels, ids, 0.2, 0)


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.1), (4, 0.1), (4, 0.9)])
def test_a_class_too_small_to_have_images_on_both_sides_is_an_error_that_names_it(count: int, fraction: float) -> None:
    labels = np.array([0] * 50 + [1] * count)
    with pytest.raises(DataError, match=rf"class b: {count} training images.*val_fraction"):
        held_out(labels, np.arange(1, len(labels) + 1, dtype=np.uint64), fraction, 0)


def test_a_class_whose_images_are_all_the_same_is_not_taken_from_training_unsaid() -> None:
    labels = np.array([0] * 50 + [1] * 50)
    ids = np.array([*range(1, 51), *[99] * 50], dtype=np.uint64)
    with pytest.raises(DataError, match="class b: all its images are equal"):
        held_out(labels, ids, 0.1, 0)


def test_the_held_out_images_are_not_those_of_certain_views_though_seeds_are_equal() -> None:
    ids = np.random.default_rng(0).integers(1, 2**64, 4000, dtype=np.uint64)
    val = held_out(np.zeros(4000, np.int64), ids, 0.1, seed=7)
    shift = ViewSpec(seed=7, plain_first=False, operations=(PadCrop(pad_px=1),)).draw(ids[val], view=0)[:, 0]
    assert np.bincount(shift, minlength=3).min() > 80  # of 400 held out, about 133 each


def test_mean_and_deviation_are_those_of_numpy_in_float64() -> None:
    images = make_split(30, shape=(3, 7, 5), seed=3).inputs
    mean, std = channel_statistics(images.numpy())
    exact = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, exact.std(axis=(0, 2, 3)), rtol=1e-12)


def test_images_of_one_grey_do_not_make_the_network_divide_by_zero() -> None:
    mean, std = channel_statistics(np.full((4, 1, 3, 3), 51, dtype=np.uint8))
    assert mean == pytest.approx([0.2])
    assert std[0] > 0


def test_a_splits_fingerprint_changes_with_samples_labels_and_order_alone(split: SplitInMemory) -> None:
    same = SplitInMemory(split.inputs.clone(), split.hard_labels.clone(), split.sample_ids.copy())
    assert split_fingerprint(same) == split_fingerprint(split)
    labels = split.hard_labels.clone()
    labels[3] += 1
    others = [replace(split, hard_labels=labels), some(split, range(63)), some(split, range(63, -1, -1)), split]
    assert len({split_fingerprint(other) for other in others}) == 4


def test_a_written_data_set_is_read_back_as_it_was(written: tuple[ImageDataset, dict[str, SplitInMemory]]) -> None:
    dataset, splits = written
    for name, split in splits.items():
        found = dataset.split(name)
        assert torch.equal(found.inputs, split.inputs)
        assert torch.equal(found.hard_labels, split.hard_labels)
        np.testing.assert_array_equal(found.sample_ids, split.sample_ids)
        assert dataset.manifest.fingerprints[name] == split_fingerprint(split)
    assert dataset.manifest.source == "digits"
    assert dataset.manifest.class_names == list(CLASSES)
    assert dataset.manifest.image_shape == [1, 12, 12]
    assert dataset.manifest.num_samples == {"train": 24, "val": 8, "test": 8}
    assert (dataset.manifest.mean, dataset.manifest.std) == channel_statistics(splits["train"].inputs.numpy())


def test_images_that_repeat_are_counted(tmp_path: Path) -> None:
    unique = make_split(12)
    splits = {
        "train": some(unique, [0, 1, 2, 3, 3, 3]),
        "val": some(unique, [4, 5]),
        "test": some(unique, [6, 7, 0, 4]),
    }
    manifest = write_dataset(tmp_path / "prepare", "digits", CLASSES, splits)
    assert manifest.num_repeated_in_train == 2
    assert manifest.num_shared_with_test == 2


def test_a_split_whose_labels_and_pixels_are_all_zero_is_written_and_read_back(tmp_path: Path) -> None:
    images = torch.zeros((2, 1, 3, 3), dtype=torch.uint8)
    black = SplitInMemory(images, torch.zeros(2, dtype=torch.int64), sample_ids(images.numpy()))
    write_dataset(tmp_path / "prepare", "digits", CLASSES, dict.fromkeys(("train", "val", "test"), black))
    found = ImageDataset(tmp_path / "prepare").split("train")
    assert torch.equal(found.inputs, images)


def test_the_labelled_samples_of_a_split_are_picked_out(split: SplitInMemory) -> None:
    assert split.labelled() is split
    labels = split.hard_labels.clone()
    labels[::3] = UNLABELLED
    found = replace(split, hard_labels=labels).labelled()
    rows = np.flatnonzero(np.arange(len(split)) % 3)
    assert torch.equal(found.inputs, split.inputs[rows])
    assert torch.equal(found.hard_labels, split.hard_labels[rows])
    np.testing.assert_array_equal(found.sample_ids, split.sample_ids[rows])


@pytest.mark.parametrize("field", ["images", "hard_labels", "sample_ids"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "lost"])
def test_a_damaged_or_lost_file_is_refused_by_name(
    field: str, damage: str, written: tuple[ImageDataset, dict[str, SplitInMemory]]
) -> None:
    dataset, _ = written
    file = next(path for path in (dataset.folder / "train.zarr" / field / "c").rglob("*") if path.is_file())
    content = file.read_bytes()
    if damage == "flipped":
        file.write_bytes(content[:20] + bytes([content[20] ^ 4]) + content[21:])
    elif damage == "truncated":
        file.write_bytes(content[:-10])
    else:
        file.unlink()
    with pytest.raises(PipelineError, match=r"train\.zarr") as error:
        dataset.split("train")
    assert isinstance(error.value, (DataError, StoreError))
    assert "\n" not in str(error.value)
    dataset.split("val")


def test_a_split_of_another_data_set_is_refused(written: tuple[ImageDataset, dict[str, SplitInMemory]]) -> None:
    dataset, _ = written
    shutil.rmtree(dataset.folder / "val.zarr")
    shutil.copytree(dataset.folder / "test.zarr", dataset.folder / "val.zarr")
    with pytest.raises(DataError, match=r"val\.zarr: fingerprint .* `dvc repro prepare`"):
        dataset.split("val")


def test_a_missing_data_set_says_which_stage_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json: no such file; run `dvc repro prepare`"):
        ImageDataset(tmp_path / "prepare")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "other"}, "not a data set's manifest"),
        ({"version": 2}, "version 2; expected version 1"),
        ({"mean_of_all": 1}, "not a data set's manifest"),
    ],
)
def test_a_manifest_of_another_format_or_version_is_refused(
    changes: dict[str, object], told: str, written: tuple[ImageDataset, dict[str, SplitInMemory]]
) -> None:
    path = written[0].folder / "manifest.json"
    edit_sealed(path, lambda content: content | changes)
    with pytest.raises(DataError, match=rf"manifest\.json: {told}.*`dvc repro prepare`"):
        ImageDataset(written[0].folder)


def test_the_same_images_give_the_same_files(
    written: tuple[ImageDataset, dict[str, SplitInMemory]], tmp_path: Path
) -> None:
    dataset, splits = written
    write_dataset(tmp_path / "again", "digits", CLASSES, splits)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (dataset.folder, tmp_path / "again")
    )
    assert first == second
