"""Views of sounds: a pure function of spec, sound and number, as plain Python makes them, too."""

import hashlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.data.input_kinds import WAVEFORM
from pipeline.views.operations.frequency_mask import low_passes
from pipeline.views.operations.noise import noise_pool
from pipeline.views.spec import ViewSpec, own_shares, render

LENGTH = 400
ROWS: dict[str, dict[str, Any]] = {
    "shift": {"most_samples": 90},
    "gain": {"decibels": [-12.0, 12.0]},
    "time_mask": {"most_samples": 150},
    "frequency_mask": {"most_share": 0.3},
    "noise": {"probability": 0.8, "decibels": [0.0, 20.0]},
    "sound_mix": {"alpha": 0.5, "probability": 0.8},
}
ROWS = {kind: {"kind": kind} | row for kind, row in ROWS.items()}
ALONE = [row for kind, row in ROWS.items() if kind != "sound_mix"]
EACH = pytest.mark.parametrize("kind", ROWS)


def spec_of(*rows: dict[str, Any], plain_first: bool = False) -> ViewSpec:
    return ViewSpec.from_dict({"seed": 2**41 + 3, "plain_first": plain_first, "operations": list(rows)}, "test")


def make_sounds(count: int = 60, length: int = LENGTH, seed: int = 0) -> torch.Tensor:
    """Makes noises from soft to as loud as can be; the first ones are silent, and all extremes."""
    rng = np.random.default_rng(seed)
    sounds = rng.normal(0, np.geomspace(3, 20_000, count)[:, None], (count, length))
    sounds[0] = 0
    sounds[1] = np.where(rng.random(length) < 0.5, -32768, 32767)
    return torch.from_numpy(np.clip(np.rint(sounds), -32768, 32767).astype(np.int16))


def ids_of(sounds: torch.Tensor) -> np.ndarray:
    return np.random.default_rng(5).integers(1, 2**64, len(sounds), dtype=np.uint64)


def views(
    sounds: torch.Tensor, ids: np.ndarray, spec: ViewSpec, rows: list[int] | None = None, view: int = 1
) -> torch.Tensor:
    """Returns views of some sounds; all of them are the block that partners are in."""
    rows = list(range(len(sounds))) if rows is None else rows
    draws = spec.draw(ids[rows], view)
    if not spec.mixes:
        return render(sounds[rows], draws, spec)
    others = spec.partners(ids, view, len(ids), np.array(rows))
    return render(sounds[rows], draws, spec, sounds[others], spec.draw(ids[others], view))


def samples_of(total: int) -> int:
    """Returns a sum in 1/65536 as a sample of 16 bits: halves up."""
    return min(max((total + 32768) >> 16, -32768), 32767)


def in_python(kind: str, sound: list[int], draws: list[int]) -> list[int]:
    """Returns what an operation makes of a sound, one sample after the other."""
    if kind == "shift":
        begin = draws[0] - ROWS[kind]["most_samples"]
        return [sound[t + begin] if 0 <= t + begin < len(sound) else 0 for t in range(len(sound))]
    if kind == "gain":
        return [samples_of(value * draws[0]) for value in sound]
    if kind == "time_mask":
        first = draws[1] * (len(sound) - draws[0] + 1) >> 32
        return [0 if first <= t < first + draws[0] else value for t, value in enumerate(sound)]
    if kind == "frequency_mask":
        low = draws[1] * (256 - draws[0] + 1) >> 32
        taps = (low_passes()[low] - low_passes()[low + draws[0]]).tolist()
        taps[32] += 65536
        padded = [0] * 32 + sound + [0] * 32
        return [
            samples_of(sum(a * b for a, b in zip(taps, padded[t : t + 65], strict=True))) for t in range(len(sound))
        ]
    pool = noise_pool().tolist()
    size = math.sqrt(float(sum(value * value for value in pool)) / len(pool))
    power = math.sqrt(float(sum(value * value for value in sound)) / len(sound))
    factor = math.floor(power * draws[0] / size + 0.5)
    return [samples_of((v << 16) + factor * pool[(draws[1] + t) % len(pool)]) for t, v in enumerate(sound)]


@pytest.mark.parametrize("kind", [row["kind"] for row in ALONE])
def test_an_operation_is_as_plain_python_has_it(kind: str) -> None:
    sounds, spec = make_sounds(20), spec_of(ROWS[kind])
    draws = spec.draw(ids_of(sounds), 3)
    found = render(sounds, draws, spec)
    for sound, own, view in zip(sounds.tolist(), draws.tolist(), found.tolist(), strict=True):
        assert view == in_python(kind, sound, own)
    assert found.dtype == torch.int16
    assert not torch.equal(found, sounds)


def test_a_mixture_is_the_weighted_mean_of_a_sound_and_its_partner() -> None:
    sounds, spec = make_sounds(20), spec_of(ROWS["sound_mix"])
    ids = ids_of(sounds)
    draws, others = spec.draw(ids, 1), spec.partners(ids, 1, len(ids))
    shares = own_shares(draws, (LENGTH,), spec)
    found = views(sounds, ids, spec)
    for row, other in enumerate(others.tolist()):
        own = int(draws[row, 0])
        pairs = zip(sounds[row].tolist(), sounds[other].tolist(), strict=True)
        assert found[row].tolist() == [samples_of(own * a + (65536 - own) * b) for a, b in pairs]
        assert other != row
    assert shares.min() >= 0.5
    assert 0 < int((shares < 1).sum()) < len(shares)


@EACH
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)), cut=st.integers(1, 11))
def test_a_view_does_not_depend_on_batch_or_order(kind: str, order: list[int], cut: int) -> None:
    sounds = make_sounds(12, length=200)
    spec = spec_of(*ALONE, ROWS[kind])
    ids = ids_of(sounds)
    whole = views(sounds, ids, spec)
    parts = [views(sounds, ids, spec, some) for some in (order[:cut], order[cut:])]
    assert torch.equal(torch.cat(parts), whole[order])


@EACH
def test_still_draws_leave_a_sound_as_it_is(kind: str) -> None:
    sounds, spec = make_sounds(), spec_of(*ALONE, ROWS[kind], plain_first=True)
    assert torch.equal(views(sounds, ids_of(sounds), spec, view=0), sounds)
    assert not torch.equal(views(sounds, ids_of(sounds), spec, view=1), sounds)


def test_a_view_has_the_bits_that_it_always_had() -> None:
    sounds, spec = make_sounds(), spec_of(*ROWS.values())
    found = views(sounds, ids_of(sounds), spec).numpy().astype("<i2").tobytes()
    assert hashlib.sha256(found).hexdigest()[:16] == "ecf0c369a4f45a0c"
    factors = low_passes().numpy().astype("<i8").tobytes()
    assert hashlib.sha256(factors).hexdigest()[:16] == "72fd046cdd8074ff"


@pytest.mark.parametrize("length", [65, 1000, 30_000])
def test_sums_by_fourier_transform_are_the_whole_numbers(length: int) -> None:
    sounds, spec = make_sounds(6, length), spec_of({"kind": "frequency_mask", "most_share": 0.5})
    draws = spec.draw(ids_of(sounds), 1)
    low = draws[:, 1] * (256 - draws[:, 0] + 1) >> 32
    taps = low_passes()[low] - low_passes()[low + draws[:, 0]]
    taps[:, 32] += 65536
    expected = [
        np.clip((np.convolve(sound.astype(np.int64), own)[32:-32] + 32768) >> 16, -32768, 32767)
        for sound, own in zip(sounds.numpy(), taps.numpy(), strict=True)
    ]
    assert np.array_equal(render(sounds, draws, spec).numpy(), np.stack(expected))


def test_a_frequency_mask_takes_its_band_out_and_leaves_the_rest() -> None:
    time, spec = np.arange(4000), spec_of({"kind": "frequency_mask", "most_share": 0.25})
    draws = torch.tensor([[64, 2**31]])  # a quarter of all frequencies: 96 to 160 of 256
    for at, gain in {20: 1.0, 70: 1.0, 128: 0.0, 186: 1.0, 240: 1.0}.items():
        tone = np.rint(10_000 * np.sin(np.pi * at / 256 * time)).astype(np.int16)
        found = render(torch.from_numpy(tone[None]), draws, spec)[0, 100:-100].double()
        level = float(found.square().mean().sqrt()) / (10_000 / math.sqrt(2))
        assert level == pytest.approx(gain, abs=0.02)


@pytest.mark.parametrize("decibels", [-10.0, 0.0, 12.0, 30.0])
def test_noise_has_the_ratio_that_is_asked_for(decibels: float) -> None:
    rng = np.random.default_rng(1)
    sounds = torch.from_numpy(np.rint(rng.normal(0, 1500, (40, 8000))).astype(np.int16))
    spec = spec_of({"kind": "noise", "probability": 1.0, "decibels": [decibels, decibels]})
    noises = (views(sounds, ids_of(sounds), spec).long() - sounds.long()).double()
    ratios = 10 * (sounds.double().square().mean(1) / noises.square().mean(1)).log10()
    assert (ratios - decibels).abs().max() < 0.3  # a stretch of 8,000 numbers is as loud as its pool to 2 %
    assert float((ratios - decibels).mean()) == pytest.approx(0, abs=0.05)
    flat = noises.flatten().numpy() / float(noises.std())
    assert abs(np.mean(flat**4) - 3) < 0.2  # as a normal distribution has it
    assert abs(np.mean(flat[1:] * flat[:-1])) < 0.02


def test_silence_stays_silent_under_noise() -> None:
    spec = spec_of({"kind": "noise", "probability": 1.0, "decibels": [-20.0, -20.0]})
    assert not views(torch.zeros((4, 50), dtype=torch.int16), np.arange(1, 5, dtype=np.uint64), spec).any()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"kind": "shift", "most_samples": 400}, r"most_samples: 400; expected less than a sound's 400 samples"),
        ({"kind": "time_mask", "most_samples": 999}, r"most_samples: 999; expected less than"),
        ({"kind": "flip_horizontal", "probability": 0.5}, r"which is for images; expected operations on sounds: shift"),
    ],
    ids=["shift", "mask", "an image's"],
)
def test_what_does_not_fit_sounds_is_refused(row: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        spec_of(row).check((LENGTH,), "views", WAVEFORM)


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "gain", "decibels": [3.0, -3.0]},
        {"kind": "gain", "decibels": [0.0, 60.0]},
        {"kind": "noise", "probability": 2.0, "decibels": [0.0, 1.0]},
        {"kind": "frequency_mask", "most_share": 1.5},
        {"kind": "shift", "most_samples": -1},
    ],
    ids=["descending", "too loud", "probability", "share", "negative"],
)
def test_settings_out_of_range_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="operations"):
        spec_of(row)
