"""The ways in which samples are shown, by kind: what covering a piece finds, and what is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kinds import COLUMNS, LENGTH, RATE_HZ, VOCABULARY, content_of, make_kind_split, write_kind

from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import FIRST_WORD, INPUT_KINDS, MASKED
from pipeline.data.row_columns import Columns
from pipeline.explanation.attribution import map_agreement
from pipeline.explanation.settings import Explain
from pipeline.explanation.shown import SHOWERS, shower_of
from pipeline.explanation.shown.base import Network
from pipeline.explanation.shown.exhibit import PartExhibit, exhibit_of
from pipeline.explanation.shown.occlusion import occlude, spans
from pipeline.explanation.shown.rows import RowShower
from pipeline.explanation.shown.sounds import SoundShower
from pipeline.explanation.shown.spectrogram import COLUMNS as TIMES
from pipeline.explanation.shown.spectrogram import ROWS as BANDS
from pipeline.explanation.shown.spectrogram import Spectrogram
from pipeline.explanation.shown.texts import TextShower

CPU = torch.device("cpu")


def settings(**changes: Any) -> Explain:
    usual = {"num_suspects": 1, "num_disagreed": 1, "num_attributed": 1, "num_views": 1, "batch_size": 7}
    return Explain(**(usual | {"patch_share": 0.25, "patch_steps": 4, "device": "cpu"} | changes))


def network(values: Any, count: int) -> Network:
    """Returns a network whose value of class 1 is a function of samples; that of class 0 is 0."""

    def values_of(samples: torch.Tensor) -> torch.Tensor:
        found = values(samples).double()
        return torch.stack([torch.zeros_like(found), found], dim=1)

    return Network(values_of, torch.ones(count, dtype=torch.int64), CPU)


def words(text: str) -> torch.Tensor:
    """Returns a text of the made-up vocabulary; `?` is a word that is hidden."""
    numbers = [MASKED if word == "?" else FIRST_WORD + VOCABULARY.index(word) for word in text.split()]
    return torch.tensor([*numbers, 0, 0], dtype=torch.int32)


def texts() -> TextShower:
    return TextShower(content_of("tokens").words)


def test_every_kind_of_samples_is_shown() -> None:
    assert {*SHOWERS} == {*INPUT_KINDS}


@pytest.mark.parametrize(("length", "window", "stride"), [(10, 3, 2), (10, 10, 4), (3, 5, 1), (1, 1, 1), (7, 2, 2)])
def test_a_window_reaches_every_place_and_stays_inside(length: int, window: int, stride: int) -> None:
    found = spans(length, window, stride)
    assert {place for span in found for place in range(span.start, span.stop)} == set(range(length))
    assert all(span.stop - span.start == min(window, length) for span in found)
    assert len(found) == len({span.start for span in found})


def test_a_place_has_the_mean_loss_of_the_pieces_that_cover_it_and_none_where_none_does() -> None:
    sample = torch.tensor([1, 10, 100, 1000], dtype=torch.int32)
    places = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)
    covered = sample.expand(2, -1).masked_fill(torch.from_numpy(places), 0)
    in_two = [(covered[:1], places[:1]), (covered[1:], places[1:])]
    for pieces in ([(covered, places)], in_two):
        found = occlude(network(lambda samples: samples.sum(dim=1), 1), 0, sample, pieces, 1)
        np.testing.assert_array_equal(found, [11, (11 + 110) / 2, 110, np.nan])


def test_the_word_that_a_prediction_rests_on_is_found_and_padding_is_no_word() -> None:
    text, fish = words("the fish and a tree"), FIRST_WORD + VOCABULARY.index("fish")
    count = network(lambda samples: 2.0 * (samples == fish).sum(dim=1) - (samples == text[4]).sum(dim=1), 1)
    found = texts().attribute(count, text[None], settings())
    np.testing.assert_array_equal(found[0], [0, 2, 0, 0, -1, np.nan, np.nan])


def test_a_long_text_is_hidden_some_words_at_a_time() -> None:
    seen = []

    def values(samples: torch.Tensor) -> torch.Tensor:
        seen.extend((samples == MASKED).sum(dim=1).tolist())
        return (samples == 5).sum(dim=1)

    text = torch.full((400,), 9, dtype=torch.int32)
    text[200] = 5
    found = texts().attribute(network(values, 1), text[None], settings(patch_steps=14))[0]
    assert {*seen} == {0, 6}  # a 64th of the text
    assert 190 < len(seen) < 210
    assert found[200] == found.max() > 0
    assert (found[np.abs(np.arange(400) - 200) >= 6] == 0).all()


def test_a_text_of_no_words_has_no_map_and_is_shown_as_nothing() -> None:
    text = torch.zeros(3, dtype=torch.int32)
    found = texts().attribute(network(lambda samples: samples.sum(dim=1), 1), text[None], settings())
    assert np.isnan(found).all()
    assert texts().parts(text) == []
    assert PartExhibit(texts()).add_map(text, found[0]) == []


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("the fish and a tree", "the fish and a tree"),
        ("fish and a tree", "[-the-] fish and a tree"),
        ("the ? and a tree", "the [?fish?] and a tree"),
        ("the boat and a tree", "the [-fish-] {+boat+} and a tree"),
        ("the fish and a tree snow", "the fish and a tree {+snow+}"),
        ("", "[-the-] [-fish-] [-and-] [-a-] [-tree-]"),
    ],
)
def test_a_view_of_a_text_shows_what_has_become_of_its_words(view: str, shown: str) -> None:
    parts = texts().parts(words(view), words("the fish and a tree"))
    assert texts().text(parts) == shown


def test_many_words_that_a_window_leaves_out_are_counted() -> None:
    text = words(" ".join(["the"] * 30 + ["fish", "leaf"]))
    assert texts().text(texts().parts(words("fish leaf"), text)) == "[-... 30 words ...-] fish leaf"


def rows_of(others: list[list[int]]) -> RowShower:
    columns = Columns.of_facts({"columns": [dict(column) for column in COLUMNS]}).columns
    return RowShower(columns, torch.tensor(others, dtype=torch.int32))


def test_a_column_counts_by_what_is_lost_with_the_values_of_other_rows() -> None:
    row = torch.tensor([3, 4, 1], dtype=torch.int32)
    count = network(lambda samples: samples[:, 0] + 10 * samples[:, 1], 1)
    found = rows_of([[1, 4, 0], [2, 2, 5]]).attribute(count, row[None], settings())
    np.testing.assert_array_equal(found, [[1.5, 10, 0]])


def test_a_row_is_shown_by_names_and_bins_and_its_views_by_what_changed() -> None:
    shower, plain = rows_of([[1, 2, 1]]), torch.tensor([1, 5, 0], dtype=torch.int32)
    parts = shower.parts(torch.tensor([0, 2, 3], dtype=torch.int32), plain)
    assert [part.name for part in parts] == [column["name"] for column in COLUMNS]
    assert [part.change for part in parts] == ["dropped", "changed", "changed"]
    assert [part.text for part in parts][:2] == ["missing", "bay"]
    assert all(part.change is None for part in shower.parts(plain))


def tone(hertz: float, seconds: tuple[float, float], rate_hz: int = 8000, length: int = 8000) -> np.ndarray:
    time = np.arange(length) / rate_hz
    there = (time >= seconds[0]) & (time < seconds[1])
    return np.rint(8000 * np.sin(2 * np.pi * hertz * time) * there).astype(np.int16)


def test_a_picture_has_low_tones_at_the_bottom_and_time_from_left_to_right() -> None:
    low, high = (Spectrogram.of(tone(hertz, (0.0, 0.5)), 8000).picture()[0] for hertz in (300, 3000))
    assert low.shape == (BANDS, TIMES)
    assert low[:, : TIMES // 3].sum(axis=1).argmax() > high[:, : TIMES // 3].sum(axis=1).argmax()
    assert low[:, : TIMES // 3].max() == 255
    assert low[:, TIMES * 2 // 3 :].max() == 0


@pytest.mark.parametrize("length", [1, 17, 255, 256, 1000, 8000])
@pytest.mark.parametrize("rate_hz", [1000, 8000, 44100])
def test_all_pieces_together_are_the_sound(length: int, rate_hz: int) -> None:
    sound = np.random.default_rng(length).integers(-5000, 5000, length).astype(np.int16)
    spectrogram, everything = Spectrogram.of(sound, rate_hz), slice(0, TIMES)
    assert np.abs(spectrogram.without(sound, slice(0, BANDS), everything)).max() <= 1
    if len(spectrogram.transform) > TIMES:  # a frame is then in one column alone
        halves = [spectrogram.without(sound, slice(0, BANDS), some) for some in (slice(0, 48), slice(48, TIMES))]
        np.testing.assert_allclose(halves[0].astype(int) + halves[1], sound, atol=2)
    assert spectrogram.picture().shape == (1, BANDS, TIMES)


def test_a_silent_sound_is_black() -> None:
    assert Spectrogram.of(np.zeros(500, np.int16), 8000).picture().max() == 0


def test_the_tone_that_a_prediction_rests_on_is_found() -> None:
    sound = tone(300, (0.0, 0.4)) + tone(3000, (0.6, 1.0))
    high = torch.from_numpy(tone(3000, (0.6, 1.0)).astype(np.float64))
    shower = SoundShower(8000)
    hears = network(lambda samples: (samples.double() @ high) / (high @ high), 1)
    found = shower.attribute(hears, torch.from_numpy(sound)[None], settings())[0]
    top, left = np.unravel_index(found.argmax(), found.shape)
    row = shower.picture(torch.from_numpy(tone(3000, (0.6, 1.0))))[0].sum(axis=1).argmax()
    assert abs(top - row) < 16, "within a patch of the tone"
    assert left >= TIMES // 2
    assert found[:, : TIMES // 4].max() < 0.1 * found.max()


def test_maps_agree_by_the_places_that_both_have() -> None:
    nan = np.nan
    one, other = np.array([[1.0, 2, 3, nan], [nan] * 4]), np.array([[10.0, 20, 30, 40], [1, 2, 3, 4]])
    np.testing.assert_allclose(map_agreement(one, other), [1, 0])


@pytest.mark.parametrize("kind", ["tokens", "waveform", "row"])
def test_the_samples_of_a_data_set_are_exhibited(kind: Any, tmp_path: Path) -> None:
    dataset = ImageDataset(write_kind(tmp_path / "data", kind, (24, 6, 6)))
    exhibit, sample = exhibit_of(shower_of(dataset)), make_kind_split(kind).inputs[0]
    shown = exhibit.add(sample), exhibit.add(sample, sample)
    exhibit.write(tmp_path)
    if kind == "waveform":
        assert shown == (0, 1)
        assert exhibit.sheets == ("tiles.png", None)
        assert (tmp_path / "tiles.png").exists()
        assert len(sample) == LENGTH
        assert RATE_HZ / 2 > 850
    else:
        assert shown[0] == shown[1]
        assert exhibit.sheets == (None, None)
        assert [*tmp_path.glob("*.png")] == []
