"""Sounds as they are prepared: files of any make at one rate and length, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from project import write_params
from scipy.signal import resample_poly

from pipeline.core.errors import ConfigError, DataError, PipelineError, SourceError
from pipeline.data.content import Content
from pipeline.data.dataset import ImageDataset
from pipeline.data.file_content import DecodeError
from pipeline.data.input_kinds import WAVEFORM
from pipeline.preparation.sound_files import Window, read_header, read_sound
from pipeline.preparation.sounds import SoundForm
from stages import prepare

RATE = 4000


def tone(pitch_hz: float, seconds: float = 0.3, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Makes a tone with a little noise, 16 bits."""
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    return np.rint(6000 * np.sin(2 * np.pi * pitch_hz * time) + rng.normal(0, 200, len(time))).astype(np.int16)


def put(path: Path, sound: np.ndarray, rate: int = RATE, **about: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, **about)
    return path


def make_folder(folder: Path, speakers: int = 5, each: int = 4) -> Path:
    """Makes class folders of tones: `<class>/<speaker>_<number>.wav`."""
    for label, pitch in {"low": 300, "high": 1200}.items():
        for speaker in range(speakers):
            for number in range(each):
                seed = pitch + 100 * speaker + number
                name = folder / label / f"s{speaker}_{number}.wav"
                put(name, tone(pitch + 10 * speaker, 0.2 + 0.02 * number, seed=seed))
    return folder


def prepared(here: Path, source: dict[str, Any], **settings: Any) -> ImageDataset:
    section = {"source": source, "val_fraction": 0.25, "test_fraction": 0.25, "seed": 0} | settings
    params = write_params(here, {"prepare": section})
    prepare.main(params, here / "raw", here / "prepared", here / "work")
    return ImageDataset(here / "prepared")


def samples_of(here: Path) -> dict[str, str]:
    """Returns the split of each sample by its key."""
    rows = (here / "prepared/samples.tsv").read_text().splitlines()
    return {key: split for _, split, _, key in (row.split("\t") for row in rows[1:])}


# Files of any make.


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_16_bits_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    sound = np.array([-32768, 32767, 0, 1, -1, 12345], np.int16)
    assert np.array_equal(read_sound(put(tmp_path / name, sound), RATE), sound)


@pytest.mark.parametrize("channels", [2, 8])
def test_channels_are_averaged_in_whole_numbers(tmp_path: Path, channels: int) -> None:
    sounds = np.random.default_rng(0).integers(-32768, 32768, (50, channels)).astype(np.int16)
    found = read_sound(put(tmp_path / "a.wav", sounds), RATE)
    assert found.tolist() == [(2 * sum(map(int, row)) + channels) // (2 * channels) for row in sounds.tolist()]


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_other_depths_are_rounded_halves_up(tmp_path: Path, subtype: str) -> None:
    wanted = np.array([-1.0, -0.5, 0.0, 0.25, 0.5 / 32768, -0.5 / 32768, 1.4 / 32768, 32767.6 / 32768])
    found = read_sound(put(tmp_path / "a.wav", wanted, subtype=subtype), RATE)
    assert found.tolist() == [-32768, -16384, 0, 8192, 1, 0, 1, 32767]


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_another_rate_is_resampled(tmp_path: Path, rate: int) -> None:
    sound = tone(500, 0.5, rate)
    found = read_sound(put(tmp_path / "a.wav", sound, rate), RATE)
    expected = resample_poly(sound.astype(np.float64), RATE, rate)
    assert np.abs(found - expected).max() <= 0.5 + 1e-9
    spectrum = np.abs(np.fft.rfft(found))
    assert np.argmax(spectrum) * RATE / len(found) == pytest.approx(500, abs=3)


def test_ogg_is_read(tmp_path: Path) -> None:
    sound = tone(500, 0.5)
    found = read_sound(put(tmp_path / "a.ogg", sound), RATE)
    assert len(found) == len(sound)
    assert np.corrcoef(found, sound)[0, 1] > 0.95


def test_a_window_is_a_part_of_its_file(tmp_path: Path) -> None:
    sound = tone(500, 1.0)
    path = put(tmp_path / "a.flac", sound)
    parts = [read_sound(path, RATE, Window(number, 0.25)) for number in range(4)]
    assert np.array_equal(np.concatenate(parts), sound)


@pytest.mark.parametrize(("crop", "first"), [("centre", 3), ("start", 0)])
def test_a_sound_is_cut_or_padded_to_one_length(crop: Any, first: int) -> None:
    form = SoundForm(RATE, 6, crop)
    long = np.arange(1, 13, dtype=np.int16)
    assert form.fitted(long).tolist() == list(range(first + 1, first + 7))
    assert form.fitted(long[:4]).tolist() == [1, 2, 3, 4, 0, 0]
    assert form.fitted(long[:6]).tolist() == [1, 2, 3, 4, 5, 6]


# Files that are refused.


def _damaged(here: Path, name: str, keep: float, seconds: float = 1.0) -> Path:
    path = put(here / name, tone(500, seconds))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    return path


def _with(here: Path, *values: float, subtype: str = "FLOAT") -> Path:
    return put(here / "a.wav", np.array([0.1, *values]), subtype=subtype)


def _bytes(here: Path, name: str, content: bytes) -> Path:
    (here / name).write_bytes(content)
    return here / name


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no samples": (lambda here: put(here / "a.wav", np.zeros(0, np.int16)), "has no samples"),
    "no bytes": (lambda here: _bytes(here, "a.wav", b""), r"empty \(0 bytes\)"),
    "text": (lambda here: _bytes(here, "a.wav", b"not a sound at all" * 9), "not a sound"),
    "an image": (lambda here: _bytes(here, "a.ogg", b"\x89PNG\r\n\x1a\n" + b"\0" * 99), "not a sound"),
    "half a wav": (lambda here: _damaged(here, "a.wav", 0.5), r"cut short: [\d,]+ of 8,000 bytes of sound"),
    "a header": (
        lambda here: _bytes(here, "a.wav", _damaged(here, "b.wav", 1).read_bytes()[:30]),
        "not a sound|cut short",
    ),
    "half a flac": (lambda here: _damaged(here, "a.flac", 0.5), "cut short"),
    "half an ogg": (lambda here: _damaged(here, "a.ogg", 0.6, 30.0), "cut short: its last page is missing"),
    "NaN": (lambda here: _with(here, float("nan")), "values that are no numbers"),
    "infinite": (lambda here: _with(here, float("inf"), subtype="DOUBLE"), "values that are no numbers"),
    "beyond 1": (lambda here: _with(here, -3.5), "values up to 3.5, expected -1 to 1"),
    "absent": (lambda here: here / "none.wav", "no such file"),
    "a folder": (lambda here: _made(here / "a.wav"), "folder|directory"),
}


def _made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    make, told = BAD[name]
    with pytest.raises(DecodeError, match=told):
        read_sound(make(tmp_path), RATE)


def test_a_bad_file_is_reported_by_its_name_or_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(tmp_path / "tones")
    put(folder / "low/empty.wav", np.zeros(0, np.int16))
    with pytest.raises(DataError, match=r"low/empty\.wav: has no samples; 1 of 41 sounds are broken"):
        prepared(tmp_path, {"kind": "sound_folder", "path": str(folder)})
    data = prepared(tmp_path, {"kind": "sound_folder", "path": str(folder)}, broken="skip")
    assert data.manifest.num_skipped == 1
    assert sum(data.manifest.num_samples.values()) == 40


# The data set.


def test_a_folder_becomes_sounds_of_the_commonest_rate_and_the_greatest_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "tones")
    put(folder / "low/other.wav", tone(300, 0.1, 2 * RATE), 2 * RATE)
    put(folder / "high/wide.flac", np.stack([tone(1200, 0.1), tone(1200, 0.1)], axis=1))
    put(folder / "high/silent.wav", np.zeros(100, np.int16))
    (folder / "low/notes.txt").write_text("about")
    (folder / "low/song.mp3").write_bytes(b"ID3")
    data = prepared(tmp_path, {"kind": "sound_folder", "path": str(folder)})
    told = "".join(capsys.readouterr())
    assert data.manifest.input == {"kind": "waveform", "rate_hz": RATE, "crop": "centre"}
    assert data.manifest.image_shape == [round(0.26 * RATE)]
    assert (data.manifest.mean, data.manifest.std) == ([], [])
    for line in (
        "each made 0.26 s at 4,000 Hz (1,040 samples)",
        "1 of these sounds (e.g. 'low/other.wav') have 8,000 Hz, resampled",
        "1 of these sounds (e.g. 'high/wide.flac') have 2 channels, averaged",
        "a sound of a format that is not read; convert it to FLAC or WAV (.mp3)",
        "no sound by its name (.txt)",
    ):
        assert line in told
    split = data.split("train")
    inputs = split.inputs_of(torch.arange(len(split))).numpy()
    assert inputs.dtype == np.int16
    assert np.array_equal(Content(WAVEFORM, str(RATE)).ids(inputs), split.sample_ids)


def test_silent_sounds_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(tmp_path / "tones/train")
    put(folder / "high/silent.wav", np.zeros(100, np.int16))
    for split in ("val", "test"):
        make_folder(tmp_path / "tones" / split, each=1)
    prepared(tmp_path, {"kind": "sound_folder", "path": str(tmp_path / "tones")})
    assert "1 training sounds are silent" in "".join(capsys.readouterr())


def test_groups_stay_in_one_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = {"kind": "sound_folder", "path": str(make_folder(tmp_path / "tones"))}
    data = prepared(tmp_path, source, group_pattern=r"/(s\d)_")
    splits = samples_of(tmp_path)
    of_speaker = {f"s{n}": {split for key, split in splits.items() if f"/s{n}_" in key} for n in range(5)}
    assert all(len(found) == 1 for found in of_speaker.values())
    assert data.manifest.num_samples == {"train": 24, "val": 8, "test": 8}
    assert "groups: 3 train, 1 val, 1 test" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(", "group_pattern: '\\(': .*expected a regular expression"),
        ("_x(.)", "no group in its name by '_x"),
        ("low|high", "class '(low|high)' is in (val|test), but no training image is of it|groups"),
        ("/s", "1 groups, 1 of which can be held out"),
    ],
    ids=["no pattern", "no match", "a class", "one group"],
)
def test_groups_that_can_not_be_are_refused(tmp_path: Path, pattern: str, told: str) -> None:
    source = {"kind": "sound_folder", "path": str(make_folder(tmp_path / "tones", 3, 2))}
    with pytest.raises(PipelineError, match=told):
        prepared(tmp_path, source, group_pattern=pattern)


def test_a_group_in_two_splits_of_the_source_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        make_folder(tmp_path / "tones" / split, 3, 2)
    source = {"kind": "sound_folder", "path": str(tmp_path / "tones")}
    with pytest.raises(DataError, match=r"group 's0': in train and in test; expected one split"):
        prepared(tmp_path, source, group_pattern=r"/(s\d)_")


def test_windows_of_a_file_are_samples_of_their_own_in_one_split(tmp_path: Path) -> None:
    for label, pitch in {"low": 300, "high": 1200}.items():
        for number in range(4):
            put(tmp_path / f"tones/{label}/{number}.wav", tone(pitch, 0.5 + 0.11 * number, seed=pitch + number))
    data = prepared(tmp_path, {"kind": "sound_folder", "path": str(tmp_path / "tones"), "window_seconds": 0.1})
    assert data.manifest.image_shape == [400]
    splits = samples_of(tmp_path)
    assert sorted(key for key in splits if key.startswith("low/0")) == [
        f"low/0.wav@{at:g}" for at in (0, 0.1, 0.2, 0.3, 0.4)
    ]
    assert len(splits) == 2 * (5 + 6 + 7 + 8)
    for name in {key.partition("@")[0] for key in splits}:
        assert len({split for key, split in splits.items() if key.startswith(name)}) == 1


def test_a_table_of_sounds_has_splits_and_sets_of_labels(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "tones", 3, 2)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.wav"))
    rows = [
        f"{name},{'low;voice' if 'low' in name else 'voice'},{('train', 'val', 'test')[number % 3]}"
        for number, name in enumerate(names)
    ]
    (folder / "sounds.csv").write_text("\n".join(["path,label,part", *rows]) + "\n")
    source = {"kind": "sound_manifest", "path": str(folder / "sounds.csv"), "split_column": "part", "separator": ";"}
    data = prepared(tmp_path, source, sound={"rate_hz": 2000, "seconds": 0.1, "crop": "start"})
    assert data.manifest.signal == "binary"
    assert data.manifest.class_names == ["low", "voice"]
    assert data.manifest.image_shape == [200]
    assert data.manifest.num_samples == {"train": 4, "val": 4, "test": 4}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["path,label", "a.wav,x", "b.wav,y"], "no such file; 2 of 3 files are not there"),
        (["file,label", "a.wav,x"], "no column 'path'"),
        (["path,label", "https://x.org/a.wav,x", "b.wav,y"], "a URL; expected a file; fetch the sounds first"),
        (["path,label", ",x", "b.wav,y"], "path ''; expected the path of a sound file"),
    ],
    ids=["absent", "column", "url", "empty"],
)
def test_a_table_that_names_no_sounds_is_refused(tmp_path: Path, lines: list[str], told: str) -> None:
    (tmp_path / "sounds.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError, match=told):
        prepared(tmp_path, {"kind": "sound_manifest", "path": str(tmp_path / "sounds.csv")})


def test_a_class_in_test_alone_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        make_folder(tmp_path / "tones" / split, 2, 2)
    put(tmp_path / "tones/test/other/a.wav", tone(700))
    with pytest.raises(PipelineError, match=r"'?other'?.*test"):
        prepared(tmp_path, {"kind": "sound_folder", "path": str(tmp_path / "tones")})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"image_px": [8, 8]}, r"image_px: given, and the source has sounds; leave it out"),
        ({"sound": {"rate_hz": 10}}, r"sound\.rate_hz"),
        ({"sound": {"crop": "end"}}, r"sound\.crop"),
        ({"sound": {"seconds": 0.0}}, r"sound\.seconds"),
    ],
    ids=["an image's", "rate", "crop", "length"],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        prepared(tmp_path, {"kind": "sound_folder", "path": str(tmp_path)}, **settings)


def test_a_header_alone_is_read_for_the_facts(tmp_path: Path) -> None:
    found = read_header(put(tmp_path / "a.flac", np.zeros((70, 3), np.int16), 16000))
    assert (found.rate_hz, found.channels, found.length) == (16000, 3, 70)
