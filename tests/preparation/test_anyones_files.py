"""Files as people have them: links, tables of images elsewhere, clutter, odd names and odd formats.

What is read is in the fingerprint that DVC and `prepare` go by; what can't be read is named.
"""

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import (
    all_of,
    idx,
    image_file,
    make_samples,
    source,
    write_folder,
    write_manifest,
    write_parquet,
    write_tar,
    write_webdataset,
)
from PIL import Image
from project import make_project, repro, run, small_params, write_params

from pipeline.core.closure import TOP
from pipeline.core.config import load_section
from pipeline.core.errors import PipelineError, SourceError
from pipeline.data.formats import IMAGE_SUFFIXES, is_read
from pipeline.doctor.source import SourceLook
from pipeline.preparation import blocks
from pipeline.preparation.piece import Piece
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.inputs import look_at
from pipeline.preparation.sources.patterns import is_there, parted
from stages import list_files, prepare

RAW = Path("raw")
IMAGE = image_file(0)


def put(path: Path, content: bytes = IMAGE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def images_in(folder: Path, *names: str) -> Source:
    for name in names:
        put(folder / name)
    return source("folder", folder)


def keys(one: Source) -> list[str]:
    return [image.key for image in all_of(one)]


# The files that are read are the files that are watched.


def of_folder(here: Path) -> Source:
    write_folder(here / "images", make_samples())
    return source("folder", here / "images")


def of_links_to_class_folders(here: Path) -> Source:
    write_folder(here / "real", make_samples())
    for label in ("ant", "bee", "cat"):
        (here / "images" / label).parent.mkdir(exist_ok=True)
        (here / "images" / label).symlink_to(here / "real/train" / label)
    shutil.rmtree(here / "real/val")
    shutil.rmtree(here / "real/test")
    return source("folder", here / "images")


def of_links_deeper_down(here: Path) -> Source:
    images_in(here / "images", "a/1.png", "b/1.png")
    put(here / "elsewhere/deep/2.png")
    (here / "images/a/more").symlink_to(here / "elsewhere")
    return source("folder", here / "images")


def of_a_table_with_images_elsewhere(here: Path) -> Source:
    put(here / "pictures/1.png")
    put(here / "pictures/2.png")
    put(here / "names.txt", b"ant\nbee\n")
    put(here / "tables/t.csv", b"path,label\n1.png,0\n2.png,1\n")
    return source("manifest", here / "tables/t.csv", root=str(here / "pictures"), classes=str(here / "names.txt"))


def of_a_table_in_parquet(here: Path) -> Source:
    write_manifest(here / "table.parquet", make_samples())
    return source("manifest", here / "table.parquet", image_column="file", label_column="what", split_column="part")


def of_tars_behind_a_link(here: Path) -> Source:
    write_webdataset(here / "real", make_samples())
    (here / "tars").mkdir()
    (here / "tars/more").symlink_to(here / "real")
    return source("webdataset", here / "tars")


def of_a_pattern_of_tars(here: Path) -> Source:
    write_webdataset(here / "[old] {tars}", make_samples())
    return source("webdataset", here / "[old] {tars}/pets-{train,val,test}-*.tar")


def of_parquet_files(here: Path) -> Source:
    write_parquet(here / "files", make_samples(), plain=True)
    return source("parquet", here / "files")


def of_arrays(here: Path) -> Source:
    here.mkdir(exist_ok=True)
    for split in ("train", "test"):
        np.save(here / f"{split}_images.npy", np.zeros((4, 2, 2), np.uint8))
        np.save(here / f"{split}_labels.npy", np.array([0, 1, 0, 1]))
    return source("arrays", here)


def of_idx_files(here: Path) -> Source:
    for split in ("train", "t10k"):
        put(here / f"{split}-images-idx3-ubyte", idx(np.zeros((4, 2, 2), np.uint8)))
        put(here / f"{split}-labels-idx1-ubyte", idx(np.array([0, 1, 0, 1], np.uint8)))
    return source("idx", here)


def of_cifar(here: Path) -> Source:
    records = np.zeros((2, 2 + 3072), np.uint8)
    records[1, :2] = 1
    for name in ("train.bin", "test.bin"):
        put(here / name, records.tobytes())
    put(here / "fine_label_names.txt", b"\n".join(b"class%d" % number for number in range(100)))
    return source("cifar", here)


LAYOUTS = [
    of_folder,
    of_links_to_class_folders,
    of_links_deeper_down,
    of_a_table_with_images_elsewhere,
    of_a_table_in_parquet,
    of_tars_behind_a_link,
    of_a_pattern_of_tars,
    of_parquet_files,
    of_arrays,
    of_idx_files,
    of_cifar,
]


@pytest.fixture(params=LAYOUTS, ids=lambda make: make.__name__)
def laid(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    one: Source = request.param(tmp_path / "here")
    return one


def fingerprint(one: Source) -> str | None:
    return replace(one).files_fingerprint()  # type: ignore[type-var]


def test_any_file_that_is_replaced_changes_the_fingerprint(laid: Source, tmp_path: Path) -> None:
    before = fingerprint(laid)
    assert before is not None
    assert fingerprint(laid) == before
    for file in [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]:
        times = file.stat()
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
        assert fingerprint(laid) != before, file
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert fingerprint(laid) == before, file
        file.rename(file.with_suffix(".gone"))
        assert moved(laid) != before, file
        file.with_suffix(".gone").rename(file)


def moved(one: Source) -> str | None:
    try:
        return fingerprint(one)
    except PipelineError:
        return None


def test_a_link_that_leads_elsewhere_changes_the_fingerprint(tmp_path: Path) -> None:
    for place in ("one", "two"):
        os.utime(put(tmp_path / place / "1.png"), ns=(0, 0))
    one = images_in(tmp_path / "images", "a/1.png", "b/1.png")
    found = set()
    for link, target in (("b/2.png", "one/1.png"), ("b/2.png", "two/1.png"), ("b/more", "one"), ("b/more", "two")):
        path = tmp_path / "images" / link
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / target)
        found.add(fingerprint(one))
    assert len(found) == 4


# Prepare and DVC.


def params_of(one: dict[str, Any], **settings: object) -> dict[str, Any]:
    params = small_params()
    params["prepare"] |= {"source": one, "val_fraction": 0.25, "test_fraction": 0.25, **settings}
    return params


def two_classes(folder: Path, seed: int, each: int = 8) -> None:
    for number in range(2 * each):
        put(folder / "ab"[number % 2] / f"{number}.png", image_file(seed + number))


def linked(here: Path) -> dict[str, Any]:
    two_classes(here / "real", 0)
    for label in "ab":
        (here / "images" / label).parent.mkdir(exist_ok=True)
        (here / "images" / label).symlink_to(here / "real" / label)
    return {"kind": "folder", "path": str(here / "images")}


def listed_in_a_table(here: Path) -> dict[str, Any]:
    two_classes(here / "real", 0)
    rows = [f"{file.relative_to(here / 'real')},{file.parent.name}" for file in sorted(here.glob("real/*/*"))]
    put(here / "t.csv", "\n".join(["path,label", *rows]).encode())
    return {"kind": "manifest", "path": str(here / "t.csv"), "root": str(here / "real")}


@pytest.mark.parametrize("make", [linked, listed_in_a_table])
def test_dvc_sees_pictures_that_are_replaced_behind_a_link_or_a_table(
    make: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    project = make_project(tmp_path / "project", params_of(make(tmp_path)))
    assert "prepare" in repro(project, "prepare")
    before = (project / "data/prepare/samples.tsv").read_bytes()
    assert repro(project, "prepare") == []
    two_classes(tmp_path / "real", 100)
    assert repro(project, "prepare") == ["prepare"]
    assert (project / "data/prepare/samples.tsv").read_bytes() != before


@pytest.mark.parametrize("make", [linked, listed_in_a_table])
def test_old_and_new_pictures_are_never_mixed(
    make: Callable[[Path], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, params_of(make(tmp_path)))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)  # each image is kept at once
    pictures = Piece.fill

    def killed(pool: Any, images: Any) -> Any:
        for number, taken in enumerate(pictures(pool, images)):
            yield taken
            if number == 5:
                raise KeyboardInterrupt

    # 1. A run that is killed, then other pictures, then a run: it begins again.
    monkeypatch.setattr(Piece, "fill", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare.main()
    monkeypatch.setattr(Piece, "fill", pictures)
    two_classes(tmp_path / "real", 100)
    prepare.main()
    assert "starting again" in capsys.readouterr().err
    expected = Path("data/prepare/samples.tsv").read_bytes()

    # 2. Other pictures while a run reads: it refuses its own work.
    def overtaken(pool: Any, images: Any) -> Any:
        yield from pictures(pool, images)
        two_classes(tmp_path / "real", 200)

    two_classes(tmp_path / "real", 100)
    monkeypatch.setattr(Piece, "fill", overtaken)
    with pytest.raises(SourceError, match="files have changed while they were read"):
        prepare.main()
    # 3. The first pictures again: the same data set as before.
    monkeypatch.setattr(Piece, "fill", pictures)
    two_classes(tmp_path / "real", 100)
    prepare.main()
    assert Path("data/prepare/samples.tsv").read_bytes() == expected


def test_where_the_images_are_not_the_last_list_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, params_of(linked(tmp_path)))
    list_files.main()
    before = json.loads(Path("reports/list_files.json").read_text())
    assert before["files"] == 16
    (tmp_path / "images").rename(tmp_path / "gone")
    list_files.main()
    assert json.loads(Path("reports/list_files.json").read_text()) == before
    assert "is not on this machine" in capsys.readouterr().err
    write_params(tmp_path, params_of({"kind": "folder", "path": "other"}))
    with pytest.raises(SourceError, match="other: no such folder"):
        list_files.main()


# Clutter, and folders below the classes.

CLUTTER = (
    "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
    "a/@eaDir/1.png",
    "a/.DS_Store",
    "a/._1.png",
    "a/Thumbs.db",
    "a/desktop.ini",
    "a/.ipynb_checkpoints/1-checkpoint.png",
    "__MACOSX/a/._1.png",
    "b/__MACOSX/1.png",
    "#recycle/1.png",
    "$RECYCLE.BIN/1.png",
    "lost+found/x.png",
)


def test_clutter_of_systems_is_passed_over(tmp_path: Path) -> None:
    one = images_in(tmp_path, "a/1.png", "b/1.png", *CLUTTER)
    assert one.class_names(RAW) == ("a", "b")
    assert keys(one) == ["a/1.png", "b/1.png"]
    assert one.notes.lines() == []


def test_clutter_among_tars_and_in_them_is_passed_over(tmp_path: Path) -> None:
    members = [("1.png", IMAGE), ("1.cls", b"a"), ("2.png", IMAGE), ("2.cls", b"b"), ("__MACOSX/3.png", IMAGE)]
    write_tar(tmp_path / "x.tar", [*members, ("@eaDir/1.png/x.png", IMAGE)])
    put(tmp_path / "@eaDir/x.tar", b"no tar")
    one = source("webdataset", tmp_path)
    assert one.class_names(RAW) == ("a", "b")
    assert keys(one) == ["x.tar:1", "x.tar:2"]


def test_folders_below_the_classes_are_told_with_counts_and_can_be_left_out(tmp_path: Path) -> None:
    pictures = [
        f"{label}/{below}/{number}.png" for label in "ab" for below in ("images", "masks") for number in range(3)
    ]
    one = images_in(tmp_path, *pictures, "a/0.png", "b/.secret/1.png")
    one.class_names(RAW)
    lines = one.notes.lines()
    for name in ("images", "masks"):
        leave = f"(`leave_out: [{name}]` would leave them out)"
        assert f"6 images in folders below their class folders {leave}, e.g. '{name}'" in lines
    assert "1 folders left out: hidden, e.g. 'b/.secret'" in lines
    one = source("folder", tmp_path, leave_out=["masks", "2.*"])
    assert one.class_names(RAW) == ("a", "b")
    assert keys(one) == ["a/0.png", *(f"{label}/images/{number}.png" for label in "ab" for number in range(2))]
    assert "2 folders left out: leave_out: masks, e.g. 'a/masks'" in one.notes.lines()


BESIDE: dict[str, tuple[list[str], dict[str, object], list[str]]] = {
    "a class folder": (
        ["a/1.png", "b/1.png", "extra/1.png", "extras/1.png"],
        {"leave_out": ["extra*"]},
        ["2 folders left out: leave_out: extra*"],
    ),
    "a folder beside splits": (
        ["train/a/1.png", "train/b/1.png", "test/a/1.png", "extra/1.png"],
        {"leave_out": ["extra"]},
        ["1 folders left out: leave_out: extra, e.g. 'extra'"],
    ),
    "a class folder of one split": (
        ["train/a/1.png", "train/b/1.png", "train/c/1.png", "test/a/1.png"],
        {"leave_out": ["c"]},
        ["1 folders left out: leave_out: c, e.g. 'c'"],
    ),
    "files beside classes": (
        ["a/1.png", "b/1.png", "labels.csv", "all.png"],
        {"leave_out": ["all.png"]},
        ["1 files left out: no image by its name (.csv), e.g. 'labels.csv'", "1 files left out: leave_out: all.png"],
    ),
    "an image beside splits": (
        ["train/a/1.png", "train/b/1.png", "test/a/1.png", "all.png"],
        {},
        ["1 images outside of the splits' folders left out, e.g. 'all.png'"],
    ),
    "a hidden folder": (["a/1.png", "b/1.png", ".old/1.png"], {}, ["1 folders left out: hidden, e.g. '.old'"]),
    "behind one folder": (
        ["pets/a/1.png", "pets/b/1.png", "masks/a/1.png", "about.txt"],
        {"leave_out": ["masks"]},
        ["1 folders left out: leave_out: masks, e.g. 'masks'", "1 files left out: no image by its name (.txt)"],
    ),
    "a misspelt name": (
        ["a/1.png", "b/1.png", "masks/1.png"],
        {"leave_out": ["mask"]},
        ["0 files or folders have a name that is in leave_out, e.g. 'mask'"],
    ),
}


@pytest.mark.parametrize("case", BESIDE)
def test_what_is_left_out_beside_the_folders_is_told(case: str, tmp_path: Path) -> None:
    names, settings, expected = BESIDE[case]
    images_in(tmp_path, *names)
    one = source("folder", tmp_path, **settings)
    one.class_names(RAW)
    told = [line for line in one.notes.lines() if "passed through" not in line]
    assert len(told) == len(expected), told
    assert all(any(line.startswith(start) for line in told) for start in expected), told


# Names.


@pytest.mark.parametrize("name", [b"caf\xe9/1.png", b"a/caf\xe9.png", b"a/caf\xe9/1.png"])
def test_a_name_that_is_not_utf8_is_refused_by_name(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_classes(tmp_path / "images", 0)
    put(tmp_path / "images" / os.fsdecode(name))
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, params_of({"kind": "folder", "path": "images"}))
    for stage in (list_files, prepare):
        with pytest.raises(SourceError, match=r"caf\\xe9.*: a name that is not UTF-8; rename it"):
            stage.main()


def test_a_name_in_a_tar_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("caf\udce9.png", IMAGE), ("caf\udce9.cls", b"a")])
    with pytest.raises(SourceError, match=r"x.tar: caf\\xe9.png: a name that is not UTF-8"):
        source("webdataset", tmp_path).class_names(RAW)


ODD = [
    "[x]",
    "{a,b}",
    "{0..9}",
    "a*b",
    "what?",
    "it's",
    'say "x"',
    "a$b",
    "$(HOME)",
    "two blanks  ",
    "a#b",
    "ö;&|<>",
    "~x",
]


@pytest.mark.parametrize("name", ODD)
def test_a_path_that_exists_is_a_path(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    write_webdataset(place / "tars", make_samples())
    write_folder(place / "images", make_samples())
    write_manifest(place / "t.csv", make_samples())
    columns = {"image_column": "file", "label_column": "what"}
    for kind, path, settings in (
        ("folder", "images", {}),
        ("manifest", "t.csv", columns),
        ("webdataset", "tars", {}),
        ("webdataset", "tars/pets-train-{0000..0001}.tar", {}),
        ("webdataset", "tars/pets-t*.tar", {}),
        ("webdataset", "tars/pets-train-0000.tar", {}),
    ):
        one = source(kind, place / path, **settings)
        assert one.class_names(RAW) == ("ant", "bee", "cat") or path.endswith("0000.tar")
        assert all(file.startswith(f"{place}/") for file in one.files())


@pytest.mark.parametrize(
    ("path", "folder", "rest", "there"),
    [
        ("x/[a]/y-*.tar", "x/[a]", "y-*.tar", True),
        ("x/[a]/lost/y-*.tar", "x/[a]", "lost/y-*.tar", False),
        ("x/[a]/lost.tar", "x/[a]/lost.tar", "", False),
        ("x/[a]", "x/[a]", "", True),
        ("x/*/y.tar", "x", "*/y.tar", True),
        ("lost/y-*.tar", ".", "lost/y-*.tar", False),
        ("*.tar", ".", "*.tar", True),
    ],
)
def test_a_pattern_begins_where_nothing_exists(
    path: str, folder: str, rest: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(Path("x/[a]/y-1.tar"))
    assert parted(path) == (Path(folder), rest)
    assert is_there(path) == there


def with_makefile(folder: Path) -> Path:
    """Returns a folder with the Makefile, in which nothing has to be installed."""
    for file in ("pyproject.toml", "constraints.txt", ".venv/ready"):
        put(folder / file, b"")
    shutil.copy(TOP / "Makefile", folder)
    return folder


@pytest.mark.parametrize("name", ODD)
def test_make_repro_runs_in_a_folder_of_any_name(name: str, tmp_path: Path) -> None:
    folder = with_makefile(tmp_path / name)
    put(folder / "reports/table.txt", b"the table")
    put(folder / ".venv/bin/dvc", b"#!/bin/sh\necho dvc here\n").chmod(0o755)
    put(folder / ".venv/bin/python", b"#!/bin/sh\necho check-up $@\n").chmod(0o755)
    done = run(folder, "make", "-s", "repro").stdout
    assert done.split("\n")[:2] == ["check-up -m stages.doctor --quick --quiet", "dvc here"]
    assert done.endswith(f"report: {folder}/reports/report.html\n")


@pytest.mark.parametrize("name", ODD)
def test_make_new_hands_over_any_path_as_it_was_typed(name: str, tmp_path: Path) -> None:
    with_makefile(tmp_path)
    script = "#!/bin/sh\nshift 2\nfor word; do printf '%s\\0' \"$word\"; done\n"
    (put(tmp_path / ".venv/bin/python", script.encode())).chmod(0o755)
    done = run(tmp_path, "make", "-s", "new", f"NAME=../{name}", f"DATA=images/{name}", "SOURCE=manifest")
    words = done.stdout.split("\0")[:-1]
    assert words == ["--minutes=30", "--source=manifest", f"--path=images/{name}", "--", f"../{name}"]
    done = run(tmp_path, "make", "-s", "new", f"NAME=../{name}", f"DATA=images/{name}", "LATER=1")
    assert done.stdout.split("\0")[2:4] == ["--later", "--"]


# Links to nowhere, and paths in a table that lead nowhere.


def test_a_link_to_nowhere_is_refused_by_name(tmp_path: Path) -> None:
    for link in ("c", "a/more", "a/deep/more"):
        one = images_in(tmp_path / link.replace("/", "-"), "a/1.png", "a/deep/1.png", "b/1.png")
        (Path(one.path) / link).symlink_to("/gone")  # type: ignore[attr-defined]
        with pytest.raises(SourceError, match=rf"{link}: a link to nowhere \(/gone\); delete it"):
            one.class_names(RAW)


def test_an_image_that_is_a_link_to_nowhere_is_a_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    two_classes(tmp_path / "images", 0)
    (tmp_path / "images/a/lost.png").symlink_to("/gone.png")
    row = {"kind": "folder", "path": "images"}
    write_params(tmp_path, params_of(row))
    list_files.main()
    settings = load_section(Prepare, "prepare")
    one = build_source(row, "here")
    for look in (prepare.main, lambda: SourceLook(one, RAW, settings)):
        with pytest.raises(SourceError, match=r"'images/a/lost.png': a link to nowhere; 1 of 17 files are not there"):
            look()
    write_params(tmp_path, params_of(row, broken="skip"))
    prepare.main()
    assert "1 files are not there, e.g. 'images/a/lost.png'" in capsys.readouterr().err
    assert "a/lost.png\ta link to nowhere" in Path("data/prepare/broken.tsv").read_text()


def test_a_tar_that_is_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    write_webdataset(tmp_path, make_samples())
    (tmp_path / "pets-train-0002.tar").symlink_to("gone.tar")
    with pytest.raises(SourceError, match=r"pets-train-0002.tar: a link to nowhere \(gone.tar\)"):
        source("webdataset", tmp_path).class_names(RAW)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (" a/x 1.png", "a/x 1.png"),
        ("a/x 1.png ", "a/x 1.png"),
        ("a\\x 1.png", "a/x 1.png"),
        ("a/x 1", "a/x 1.png"),
        ("a/x 1.jpg", "a/x 1.png"),
        ("a/X 1.PNG", "a/x 1.png"),
        ("a/x%201.png", "a/x 1.png"),
        ("C:\\data\\a\\x 1.png", "a/x 1.png"),
        ("/home/me/a/x 1.png", "a/x 1.png"),
        ("images/a/x 1.png", "a/x 1.png"),
        ("file:///HERE/a/x%201.png", "a/x 1.png"),
        ("a/nothing.png", None),
    ],
)
def test_a_path_that_leads_nowhere_names_the_file_that_may_be_meant(
    written: str, meant: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    two_classes(tmp_path / "images", 0)
    put(tmp_path / "images/a/x 1.png")
    written = written.replace("/HERE", str(tmp_path / "images"))
    put(tmp_path / "images/t.csv", f'path,label\n"{written}",a\nb/1.png,b\nb/3.png,b\n'.encode())
    write_params(tmp_path, params_of({"kind": "manifest", "path": "images/t.csv"}))
    with pytest.raises(SourceError) as refused:
        prepare.main()
    line = str(refused.value)
    assert "no such file; 1 of 4 files are not there" in line
    assert (f"{meant}'; correct their paths" in line) if meant else "perhaps" not in line


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("b\0.png", r"t.csv:3: path 'b\\x00.png'; expected the path of an image file"),
        ("https://example.com/b.png", r"t.csv:3: path 'https.*b.png', a URL; expected a file; fetch the images first"),
    ],
)
def test_a_path_that_can_be_no_file_is_refused_by_its_row(path: str, line: str, tmp_path: Path) -> None:
    put(tmp_path / "t.csv", f"path,label\na.png,a\n{path},b\n".encode())
    with pytest.raises(SourceError, match=line):
        look_at(source("manifest", tmp_path / "t.csv").files())


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    one = images_in(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a/2.png")
    with pytest.raises(SourceError, match=r"a/2.png: no file \(a pipe"):
        look_at(one.files())


# Kinds of files.


def saved(kind: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), 7, np.uint8)).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_an_image_is_known_by_its_first_bytes(kind: str) -> None:
    assert is_read(saved(kind))


def test_what_decodes_is_taken_and_the_rest_is_told_by_its_kind(tmp_path: Path) -> None:
    taken = {
        "1.jfif": saved("JPEG"),
        "2.pgm": saved("PPM", "L"),
        "3": saved("PNG"),
        "4.jpg_large": saved("JPEG"),
        "IMG.2019.01.02": saved("WEBP"),
    }
    left = {
        "5.HEIC": b"\0\0\0\x18ftypheic" + b"\0" * 20,
        "6": b"\0\0\0\x1cftypavif" + b"\0" * 20,
        "7.nef": saved("TIFF"),
        "8.txt": b"P1 is no picture",
        "9.png~": saved("PNG"),
        "LICENSE": b"BMP and others",
    }
    for name, content in {**taken, **left}.items():
        put(tmp_path / "a" / name, content)
    one = images_in(tmp_path, "b/1.png")
    one.class_names(RAW)
    assert [key.removeprefix("a/") for key in keys(one)] == [*sorted(taken), "b/1.png"]
    told = "\n".join(one.notes.lines())
    for reason, name in (
        ("HEIC, which is not read; convert it to PNG or JPEG (.heic)", "5.HEIC"),
        ("AVIF, which is not read; convert it to PNG or JPEG (no suffix)", "6"),
        ("of a camera or a microscope, which is not read; convert it to PNG or JPEG (.nef)", "7.nef"),
        ("no image by its name (.txt)", "8.txt"),
        ("no image by its name (.png~)", "9.png~"),
        ("no image by its content (no suffix)", "LICENSE"),
    ):
        assert re.search(rf"1 files left out: {re.escape(reason)}.*, e.g. 'a/{name}'", told), told


def test_files_beside_tars_are_told_by_their_kind(tmp_path: Path) -> None:
    write_webdataset(tmp_path, make_samples())
    put(tmp_path / "pets-train-0002.tar.bz2")
    one = source("webdataset", tmp_path)
    one.class_names(RAW)
    reason = "none that ends in .tar or .tar.gz or .tgz (.bz2)"
    assert f"1 files left out: {reason}, e.g. 'pets-train-0002.tar.bz2'" in one.notes.lines()


def test_every_suffix_that_is_taken_is_one_that_decodes(tmp_path: Path) -> None:
    from pipeline.data.decoding import decode

    Image.init()
    for suffix in IMAGE_SUFFIXES:
        kind = {".jfif": "JPEG", ".jpe": "JPEG", ".dib": "DIB"}.get(suffix) or Image.EXTENSION[suffix]
        content = saved("BMP" if kind == "DIB" else kind)
        assert decode(put(tmp_path / f"x{suffix}", content), 3).shape == (3, 6, 5), suffix


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0\0\0\x18ftypheic" + b"\0" * 20, "HEIC, which is not read; convert it to PNG or JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>not found</html>", "a web page, not an image"),
        (b"PK\x03\x04....", "a ZIP file, not an image"),
    ],
)
def test_a_broken_image_is_told_by_its_kind(content: bytes, reason: str, tmp_path: Path) -> None:
    from pipeline.data.decoding import decode
    from pipeline.data.file_content import DecodeError

    with pytest.raises(DecodeError, match=re.escape(reason)):
        decode(content, 3)
