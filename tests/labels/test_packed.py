"""A packed store, by path and by URL: the labels are those of the folder, whatever the file is like
there is one clear line, and nothing is written outside the cache.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path

import pytest
from stores import ANCHORED, FLOAT16, content, make, take
from website import Website

from pipeline.core.closure import TOP
from pipeline.core.errors import MOST_SIGNS, StoreError
from pipeline.labelling.packing import pack_store
from pipeline.labels import downloads, packed
from pipeline.labels.cache import cache_folder
from pipeline.labels.packed import first_member, is_packed
from pipeline.labels.reader import StoreReader

Member = tuple[zipfile.ZipInfo, bytes]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "FIRST_WAIT_S", 0.01)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a store and the same packed."""
    folder = tmp_path_factory.mktemp("made")
    for name, row in {"x": FLOAT16, "other": FLOAT16, "anchored": ANCHORED}.items():
        store = make(folder / f"{name}.zarr", row, take(range(12)), seed=name == "other")
        pack_store(store, f"# {name}", folder / f"{name}.zarr.zip")
    return folder


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Iterator[Website]:
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("x", "other"):
        (folder / f"{name}.zarr.zip").write_bytes((made / f"{name}.zarr.zip").read_bytes())
    with Website(folder) as site:
        yield site


def everything(place: Path | str) -> list[bytes]:
    """Returns all that a reader takes from a store."""
    store = StoreReader(place)
    labels = [store.read_view(index) for index in range(store.manifest.num_views)]
    store.check_whole()
    return [values.numpy().tobytes() for view in labels for values in view.values()]


def the_line(place: Path | str) -> str:
    """Returns the one line with which reading a store ends."""
    with pytest.raises(StoreError) as caught:
        everything(place)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) <= MOST_SIGNS + 200  # a long path counts less
    return line


@pytest.mark.parametrize("name", ["x", "anchored"])
def test_a_packed_store_is_read_as_its_folder(name: str, made: Path) -> None:
    path = made / f"{name}.zarr.zip"
    whole = everything(made / f"{name}.zarr")
    assert everything(path) == everything(str(path)) == whole
    assert StoreReader(path).location == str(path)
    (mirror,) = [each for each in cache_folder().iterdir() if each.is_dir()]
    assert content(mirror) == content(made / f"{name}.zarr")


def test_only_what_is_asked_for_is_unpacked_of_a_file_here(made: Path) -> None:
    store = StoreReader(made / "x.zarr.zip")
    before = set(content(store.path))
    assert not [name for name in before if name.startswith("log_probs/c")]
    store.read_view(1, range(8))
    new = set(content(store.path)) - before
    assert "log_probs/c/1/0/0" in new
    assert not [name for name in new if "/c/" in name and "/c/1/0/" not in name]


def test_a_packed_store_at_a_url_comes_whole_once(site: Website, made: Path) -> None:
    site.form = "chunked"
    url = f"{site.url}/x.zarr.zip"
    for begun in (2, 3):  # its first bytes, each time, and the whole file once
        assert everything(url) == everything(made / "x.zarr")
        assert site.asked == {"x.zarr.zip": begun}
    assert not list(cache_folder().rglob("*.partial"))
    assert not list(cache_folder().rglob("*.zip"))


def test_a_packed_store_that_was_replaced_is_read_again(site: Website, made: Path) -> None:
    url, before = f"{site.url}/x.zarr.zip", StoreReader(f"{site.url}/x.zarr.zip")
    other = (made / "other.zarr.zip").read_bytes()
    (site.folder / "x.zarr.zip").write_bytes(other)
    assert everything(url) == everything(made / "other.zarr") != everything(made / "x.zarr")
    assert before.manifest.fingerprint != StoreReader(url).manifest.fingerprint


def test_a_packed_store_that_is_replaced_while_it_is_read_is_not_mixed(
    site: Website, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, count = site.answer, 0

    def swap_first(request: object) -> None:
        nonlocal count
        count += 1
        if count == 2:
            (site.folder / "x.zarr.zip").write_bytes((made / "other.zarr.zip").read_bytes())
        answer(request)  # type: ignore[arg-type]

    monkeypatch.setattr(site, "answer", swap_first)
    assert "was replaced while it was read" in the_line(f"{site.url}/x.zarr.zip")


@pytest.mark.parametrize("remote", [False, True])
def test_damage_in_the_cache_is_unpacked_again(remote: bool, site: Website, made: Path) -> None:
    place = f"{site.url}/x.zarr.zip" if remote else str(made / "x.zarr.zip")
    whole, store = everything(place), StoreReader(place)
    for name in ("log_probs/c/0/0/0", "log_probs/c/1/1/0", "log_probs/zarr.json"):
        (store.path / name).write_bytes(b"nonsense")
    site.asked.clear()
    assert everything(place) == whole
    assert site.asked == ({"x.zarr.zip": 2} if remote else {})


@pytest.mark.parametrize("remote", [False, True])
def test_a_wrong_block_in_the_file_is_refused_until_the_file_is_right(
    remote: bool, site: Website, made: Path, tmp_path: Path
) -> None:
    """Its checksums are right: it is another store's."""
    file = site.folder / "x.zarr.zip"
    other, good = (made / "other.zarr/log_probs/c/1/0/0").read_bytes(), file.read_bytes()
    rebuild(file, lambda ms: [(i, other if i.filename == "log_probs/c/1/0/0" else c) for i, c in ms])
    place = f"{site.url}/x.zarr.zip" if remote else str(file)
    for _ in range(2):
        assert "its digest does not match" in the_line(place)
    file.write_bytes(good)
    assert everything(place) == everything(made / "x.zarr")


# Files that are no packed stores.


def rebuild(file: Path, change: Callable[[list[Member]], list[Member]]) -> None:
    """Writes a zip file again, with other members."""
    with zipfile.ZipFile(file) as packed:
        members = [(info, packed.read(info)) for info in packed.infolist()]
    with zipfile.ZipFile(file, "w") as packed:
        for info, data in change(members):
            packed.writestr(info, data)


def named(name: str, method: int = zipfile.ZIP_STORED) -> Member:
    info = zipfile.ZipInfo(name)
    info.compress_type = method
    return info, b"x" * 50


def renamed(old: str, member: Member) -> Callable[[Path], object]:
    return lambda file: rebuild(file, lambda ms: [member if i.filename == old else (i, d) for i, d in ms])


def added(*names: str) -> Callable[[Path], object]:
    return lambda file: rebuild(file, lambda ms: [*ms, *map(named, names)])


def deflated(name: str) -> Callable[[Path], object]:
    def change(file: Path) -> None:
        def deflate(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
            info = copy(info)
            info.compress_type = zipfile.ZIP_DEFLATED
            return info

        rebuild(file, lambda ms: [(deflate(i) if i.filename == name else i, d) for i, d in ms])

    return change


def overlapped(file: Path) -> None:
    """Gives one member's bytes hundreds of names, as a zip bomb does."""
    with zipfile.ZipFile(file, "a") as packed:
        packed.writestr(*named("log_probs/c/9/9"))
        for number in range(1000):
            info = copy(packed.filelist[0])
            info.filename = info.orig_filename = f"log_probs/c/8/{number}"
            packed.filelist.append(info)


def endless_manifest(file: Path) -> None:
    rebuild(file, lambda ms: [(i, b"{" if i.filename == "zarr.json" else d) for i, d in ms])


def damaged(file: Path) -> None:
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as packed:
        place = packed.getinfo("log_probs/c/1/0/0").header_offset + 60
    data[place] ^= 4
    file.write_bytes(data)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda file: file.write_bytes(b""), "is cut off, or no packed store"),
    "text": (lambda file: file.write_bytes(b"hello " * 99), "is no packed store"),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-700]), "not a zip file"),
    "cut in its first member": (lambda file: file.write_bytes(file.read_bytes()[:300]), "is cut off"),
    "its description behind": (lambda file: rebuild(file, lambda ms: ms[::-1]), "does not begin with an uncompressed"),
    "a description of no store": (endless_manifest, "its zarr.json is no store's"),
    "compressed": (deflated("zarr.json"), "does not begin with an uncompressed zarr.json"),
    "a member compressed": (deflated("log_probs/c/1/0/0"), "log_probs/c/1/0/0 is compressed or encrypted"),
    "a member lost": (
        lambda file: rebuild(file, lambda ms: [m for m in ms if m[0].filename != "log_probs/c/1/0/0"]),
        "log_probs/c/1/0/0: is missing in the packed file",
    ),
    "a member damaged": (damaged, "log_probs/c/1/0/0: is damaged in the packed file"),
    "a path upwards": (added("../evil"), "holds '../evil', which is no file of a store"),
    "a whole path": (added("/tmp/evil"), "holds '/tmp/evil'"),
    "a path of Windows": (added("log_probs\\c"), "holds 'log_probs\\\\c'"),
    "a path upwards inside": (renamed("README.md", named("log_probs/../../evil")), "holds 'log_probs/../../evil'"),
    "a folder": (added("log_probs/"), "holds 'log_probs/'"),
    "a foreign file": (added("run.sh"), "holds 'run.sh'"),
    "a name of signs": (added("\x1b[31m.md"), r"holds '\x1b[31m.md'"),
    "a bomb": (overlapped, "its members claim more than the"),
}


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_no_packed_store_is_one_line(
    name: str, remote: bool, site: Website, tmp_path: Path, made: Path
) -> None:
    harm, told = HOSTILE[name]
    file = site.folder / "x.zarr.zip"
    harm(file)
    before = set(content(tmp_path))
    assert told in the_line(f"{site.url}/x.zarr.zip" if remote else str(file))
    assert all(path.startswith("cache/") for path in set(content(tmp_path)) - before)
    assert not list(cache_folder().rglob("*.partial"))
    assert not list(tmp_path.rglob("evil"))


def test_a_name_twice_is_refused(site: Website) -> None:
    file = site.folder / "x.zarr.zip"
    with pytest.warns(UserWarning, match="Duplicate name"):
        added("README.md")(file)
    assert "holds README.md twice" in the_line(str(file))


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_larger_than_its_manifest_lets_expect_is_refused(
    remote: bool, site: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_SPARE_BYTES", 0)
    file = site.folder / "x.zarr.zip"
    file.write_bytes(file.read_bytes() + bytes(100_000))
    line = the_line(f"{site.url}/x.zarr.zip" if remote else str(file))
    assert re.search(r"x\.zarr\.zip: has [\d,]+ bytes.*, of at most [\d,]+ that its", line)


def test_a_file_without_end_is_given_up(site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_SPARE_BYTES", 100_000)
    site.endless = True
    assert "or more, of at most" in the_line(f"{site.url}/x.zarr.zip")


def test_too_little_room_is_told_before_the_file_comes(site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("", (), {"free": 1000}))
    assert "which has 1,000 free; free space, or set POTSTILL_CACHE" in the_line(f"{site.url}/x.zarr.zip")
    assert site.asked == {"x.zarr.zip": 1}


def test_what_is_not_there_is_named(site: Website, tmp_path: Path) -> None:
    assert the_line(f"{site.url}/y.zip") == f"{site.url}/y.zip: no such file; fix the address"
    assert "y.zip: no such file; fix the path" in the_line(tmp_path / "y.zip")


def test_a_folder_may_be_named_as_a_packed_store(made: Path, tmp_path: Path) -> None:
    (tmp_path / "x.zip").symlink_to(made / "x.zarr")
    assert not is_packed(tmp_path / "x.zip")
    assert everything(tmp_path / "x.zip") == everything(made / "x.zarr")


def test_the_first_member_is_found_in_pieces_of_any_size(made: Path) -> None:
    data = (made / "x.zarr.zip").read_bytes()
    expected = (made / "x.zarr/zarr.json").read_bytes()
    for size in (1, 7, 39, 40, 1 << 20):
        assert first_member(data[at : at + size] for at in range(0, len(data), size)) == expected


_FRESH = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2].split(","), None))
import stages.train_student
from pipeline.labels.reader import StoreReader
store = StoreReader(sys.argv[1])
labels = [store.read_view(index) for index in range(store.manifest.num_views)]
print(float(store.decode(labels[0], 2.0).sum()))
"""


def test_a_fresh_process_with_a_students_packages_alone_reads_it_at_a_url(site: Website, made: Path) -> None:
    """Every package that `pip install '.[student]'` would not install can't be imported there."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    needed = closure([*project["dependencies"], *project["optional-dependencies"]["student"]])
    modules = importlib.metadata.packages_distributions()
    foreign = [m for m, owners in modules.items() if not needed & {canonical(owner) for owner in owners}]
    assert {"torchvision", "dvc", "obstore", "matplotlib", "requests"} <= set(foreign)
    foreign = [m for m in foreign if m not in {"pipeline", "stages"} and not m.startswith("__editable__")]
    command = [sys.executable, "-c", _FRESH, f"{site.url}/x.zarr.zip", ",".join(foreign)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(TOP)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    store = StoreReader(made / "x.zarr")
    assert float(done.stdout) == pytest.approx(float(store.decode(store.read_view(0), 2.0).sum()))


def closure(requirements: list[str]) -> set[str]:
    """Returns the packages that some requirements need, as they are installed here."""
    found: set[str] = set()
    while requirements:
        text = requirements.pop()
        name = canonical(re.split(r"[^\w.-]", text)[0])
        if name in found or "extra ==" in text:
            continue
        found.add(name)
        try:
            requirements += importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
