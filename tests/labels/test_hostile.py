"""A store from anywhere: whatever its server and its files do, its labels come as they were written
or there is one clear line, soon, and neither memory nor disk fills.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zarr
from stores import ANCHORED, FLOAT16, SAMPLED, TOPK, make, shards, take
from website import Website
from zarr.codecs import Crc32cCodec, ZstdCodec

from pipeline.core.errors import MOST_SIGNS, StoreError
from pipeline.labels import cache, downloads, mirrored, remote
from pipeline.labels.manifest import AnchorBlock, manifest_fingerprint
from pipeline.labels.reader import StoreReader


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "FIRST_WAIT_S", 0.01)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a store, and with others whose files are whole but not that store's."""
    folder = tmp_path_factory.mktemp("stores")
    make(folder / "x.zarr", TOPK)
    make(folder / "other.zarr", TOPK, seed=1)
    make(folder / "wider.zarr", TOPK | {"k": 3})
    small = {"topk": TOPK, "dense": FLOAT16, "sampled": SAMPLED, "anchored": ANCHORED}  # for many trials
    for name, row in small.items():
        make(folder / f"{name}.zarr", row, take(range(6)), range(1))
    make(folder / "other_anchors.zarr", ANCHORED, take(range(6)), range(1), seed=1)
    return folder


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Iterator[Website]:
    shutil.copytree(made, tmp_path / "site")
    with Website(tmp_path / "site") as site:
        yield site


def everything(place: Path | str) -> list[bytes]:
    """Returns all that a reader takes from a store."""
    store = StoreReader(place)
    labels = [store.read_view(index) for index in range(store.manifest.num_views)]
    store.check_whole()
    return [values.numpy().tobytes() for view in labels for values in view.values()]


def line_of(act: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        act()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) <= MOST_SIGNS + 200  # a long path counts less
    return line


# Servers.


@pytest.mark.parametrize("form", ["no length", "chunked", "gzip"])
def test_a_store_is_served_in_any_form(form: Any, site: Website, made: Path) -> None:
    site.form = form
    assert everything(f"{site.url}/x.zarr") == everything(made / "x.zarr")
    assert set(site.blocks().values()) == {1}


def test_a_file_that_is_cut_off_without_a_length_is_noticed_and_fetched_again(site: Website, made: Path) -> None:
    store = StoreReader(f"{site.url}/x.zarr")
    site.form, site.cuts = "no length", 1
    store.read_view(0)
    assert sorted(site.blocks().values())[-2:] == [1, 2]
    assert everything(f"{site.url}/x.zarr") == everything(made / "x.zarr")


@pytest.mark.parametrize("form", ["length", "no length", "gzip"])
@pytest.mark.parametrize("name", ["zarr.json", "classes/zarr.json", "sample_key/c/0/0", "classes/c/0/0/0"])
def test_a_file_larger_than_its_store_lets_expect_is_given_up(
    name: str, form: Any, site: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GROUP_BYTES", 50_000)
    monkeypatch.setattr(mirrored, "ARRAY_BYTES", 50_000)
    (site.folder / "x.zarr" / name).write_bytes(bytes(3_000_000))  # packed, 3 kB
    site.form = form
    line = line_of(lambda: everything(f"{site.url}/x.zarr"))
    assert line.startswith(f"{site.url}/x.zarr/{name}: has ")
    assert "or more, of at most" in line
    assert site.asked[f"x.zarr/{name}"] == 1
    assert not list(cache.cache_folder().rglob("*.partial"))


def test_a_file_without_end_is_given_up(site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "GROUP_BYTES", 50_000)
    site.endless = True
    assert "or more, of at most 50,000" in line_of(lambda: StoreReader(f"{site.url}/x.zarr"))


@pytest.mark.parametrize("begun", [False, True], ids=["in its first line", "in a block"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    begun: bool, site: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StoreReader(f"{site.url}/x.zarr") if begun else None
    monkeypatch.setattr(downloads, "PATIENCE_S", 0.2)
    site.drip_s, started = 0.02, time.monotonic()
    assert "bytes came in 0 s, which is too slow" in line_of(
        lambda: store.read_view(0) if store else StoreReader(f"{site.url}/x.zarr")
    )
    assert time.monotonic() - started < 2


# Files that are whole, but not those of this store.

WRONG = {
    "classes/c/0/1/0": "other",
    "log_prob_codes/c/1/0/0": "other",
    "sample_key/c/0/0": "short",
    "canary_pixels/c/0/0/0": "canaries",
    "prior_codes/c/0/0/0": "other",
    "block_digest/c/0/0": "other",
    "fidelity_counts/c/0/0/0": "other",
    "classes/zarr.json": "wider",
    "log_prob_codes/zarr.json": "wider",
    "prior_codes/zarr.json": "wider",
}


def wrong(made: Path, name: str) -> bytes:
    """Returns a whole file of another store, in place of one of this store."""
    source = made / "other.zarr" / name
    if WRONG[name] == "wider":
        array = json.loads((made / "wider.zarr" / name).read_text())
        array["shape"][-1] += 1  # where both are of one shape
        return json.dumps(array).encode()
    if WRONG[name] in ("short", "canaries"):
        group = zarr.open_group(made / "x.zarr", mode="r", zarr_format=3)
        array = group[name.split("/")[0]]
        again = zarr.create_array(
            made.with_name(f"{made.name}-aside"),
            data=array[:][::-1].copy(),
            chunks=array.chunks,
            shards=array.shards,
            compressors=[ZstdCodec(level=3), Crc32cCodec()],
            overwrite=True,
        )
        return (Path(str(again.store_path.store.root)) / name.split("/", 1)[1]).read_bytes()
    return source.read_bytes()


@pytest.mark.parametrize("name", WRONG)
def test_a_whole_but_wrong_file_in_the_cache_is_fetched_once_more(name: str, site: Website, made: Path) -> None:
    url = f"{site.url}/x.zarr"
    good = everything(url)
    cached = StoreReader(url).path / name
    assert cached.read_bytes() != wrong(made, name)
    cached.write_bytes(wrong(made, name))
    site.asked.clear()
    assert everything(url) == good
    assert site.asked[f"x.zarr/{name}"] == 1
    assert cached.read_bytes() == (made / "x.zarr" / name).read_bytes()


@pytest.mark.parametrize("name", ["anchor_steps/c/0/0", "anchor_digest/c/0"])
def test_wrong_anchors_in_the_cache_are_fetched_once_more(name: str, site: Website, made: Path) -> None:
    url = f"{site.url}/anchored.zarr"
    good = everything(url)
    shutil.copy(made / "other_anchors.zarr" / name, StoreReader(url).path / name)
    site.asked.clear()
    assert everything(url) == good
    assert site.asked[f"anchored.zarr/{name}"] == 1
    shutil.copy(made / "other_anchors.zarr" / name, site.folder / "anchored.zarr" / name)
    shutil.rmtree(cache.cache_folder())
    assert f"{url}" in line_of(lambda: everything(url))


@pytest.mark.parametrize(
    "name", ["classes/c/0/1/0", "sample_key/c/0/0", "fidelity_counts/c/0/0/0", "prior_codes/zarr.json"]
)
def test_a_server_that_gave_a_wrong_file_is_asked_again_in_the_next_run(name: str, site: Website, made: Path) -> None:
    url, file = f"{site.url}/x.zarr", site.folder / "x.zarr" / name
    file.write_bytes(wrong(made, name))
    line = line_of(lambda: everything(url))
    assert (
        f"put a whole store there (what is not whole was fetched twice, and is not kept in {cache.cache_folder()}"
        in line
    )
    assert site.asked[f"x.zarr/{name}"] == 2
    shutil.copy(made / "x.zarr" / name, file)
    assert everything(url) == everything(made / "x.zarr")


# Manifests and descriptions of arrays.

VALUES: list[Any] = [None, -1, 10**30, float("nan"), "x", {"x": 1}]


def signed(content: dict[str, Any]) -> dict[str, Any]:
    try:
        return content | {"fingerprint": manifest_fingerprint(content)}
    except ValueError:  # no JSON has these numbers
        return content


def is_told(store: Path) -> bool:
    """Returns whether a store is refused in one line; it may as well be read, to its right end."""
    try:
        everything(store)
    except StoreError as error:
        return "\n" not in str(error)
    return False


def copied(made: Path, folder: Path, name: str = "x") -> tuple[Path, dict[str, Any]]:
    """Returns a copy of a store, and its description."""
    shutil.copytree(made / f"{name}.zarr", folder / "x.zarr")
    return folder / "x.zarr", json.loads((folder / "x.zarr" / "zarr.json").read_text())


def rewrite(store: Path, description: dict[str, Any], manifest: dict[str, Any]) -> None:
    (store / "zarr.json").write_text(json.dumps(description | {"attributes": signed(manifest)}))


@pytest.mark.parametrize("name", ["topk", "dense", "sampled"])
def test_no_manifest_leads_to_anything_but_labels_or_a_line(name: str, made: Path, tmp_path: Path) -> None:
    store, description = copied(made, tmp_path, name)
    manifest, told = description["attributes"], 0
    places = [("encoding", key) for key in manifest["encoding"]]
    if name == "topk":
        places += [(key,) for key in manifest if key != "fingerprint"]
        places += [(key, inner) for key in ("views", "teacher", "fidelity") for inner in manifest[key]]
    for place in places:
        for value in VALUES:
            content = json.loads(json.dumps(manifest))
            inside = content if len(place) == 1 else content[place[0]]
            inside[place[-1]] = value
            rewrite(store, description, content)
            told += is_told(store)
    assert told > 0.6 * len(places) * len(VALUES)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"num_samples": 10**10}, "2,500,000,000 blocks"),
        ({"num_samples": 10**10, "block_samples": 10**10}, "10000000000"),
        ({"temperature": 0}, "manifest.temperature: 0"),
        ({"temperatures": [1.0, 1.0]}, "a temperature twice among 1, 1"),
        ({"view_numbers": [1, 1]}, "a view number twice"),
        ({"block_samples": 0}, "manifest.block_samples: 0"),
        ({"class_names": []}, "signal categorical and 0 class names"),
        ({"encoding": TOPK | {"k": 10**9}}, "encoding.k: 1000000000"),
    ],
)
def test_a_manifest_without_sense_is_refused_before_anything_else_is_read(
    change: dict[str, Any], found: str, made: Path, tmp_path: Path
) -> None:
    store, description = copied(made, tmp_path)
    rewrite(store, description, description["attributes"] | change)
    for file in shards(store, ""):
        file.write_bytes(b"never read")
    started = time.monotonic()
    assert found in line_of(lambda: StoreReader(store))
    assert time.monotonic() - started < 1


def test_ten_thousand_operations_are_refused(made: Path, tmp_path: Path) -> None:
    store, description = copied(made, tmp_path)
    manifest = description["attributes"]
    manifest["views"]["operations"] = [{"kind": "flip_horizontal", "probability": 0.5}] * 10_000
    rewrite(store, description, manifest)
    assert "at most 100 items" in line_of(lambda: StoreReader(store))


@pytest.mark.parametrize("name", ["classes", "anchor_gaps", "canary_pixels"])
def test_no_description_of_an_array_leads_to_anything_but_labels_or_a_line(
    name: str, made: Path, tmp_path: Path
) -> None:
    store, _ = copied(made, tmp_path, "anchored" if name.startswith("anchor") else "topk")
    file = store / name / "zarr.json"
    array, told, tried = json.loads(file.read_text()), 0, 0
    inner: Any = [array["codecs"][0]["configuration"], array["chunk_grid"]["configuration"]]
    for part, key in [(one, key) for one in (array, *inner) for key in list(one)]:
        before = part[key]
        shapes = [[size] * len(before) for size in (0, 10**10)] if isinstance(before, list) else []
        for value in [None, "x", *shapes]:
            part[key] = value
            file.write_text(json.dumps(array))
            told, tried = told + is_told(store), tried + 1
        part[key] = before
    assert told > tried / 2


def test_an_anchor_of_a_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path / "x.zarr", ANCHORED)
    anchors = store.read_anchors(range(8))
    anchors["anchor_gap_highs"][3, 1] = 77
    store.replace_anchors(AnchorBlock(range(8)), anchors)
    with pytest.raises(StoreError, match=r"x\.zarr/anchor_gap_highs: a value of 77; expected at most 0"):
        StoreReader(tmp_path / "x.zarr").read_anchors(range(8))


def test_a_class_that_does_not_exist_is_refused_and_not_looked_up(made: Path, tmp_path: Path) -> None:
    store = make(tmp_path / "x.zarr", SAMPLED)
    labels = store.read_view(0, range(8))
    labels["classes"][3] = 77
    store.replace_block(store.manifest.blocks()[0], labels, store.fidelity_parts[0])
    with pytest.raises(StoreError, match=r"x\.zarr/classes: a value of 77 in view 0; expected at most 5"):
        StoreReader(tmp_path / "x.zarr").read_view(0)
