"""The front end of networks of sounds, beside one of 64 bits that SciPy makes."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import ShortTimeFFT, get_window
from torch import nn

from pipeline.core.errors import ConfigError, ModelError
from pipeline.models.families import build
from pipeline.models.sound_classifier import SoundClassifier, Spectra

RATE = 8000


def make_sounds(count: int = 4, length: int = 4000) -> torch.Tensor:
    rng = np.random.default_rng(0)
    sounds = rng.normal(0, np.geomspace(2, 9000, count)[:, None], (count, length))
    return torch.from_numpy(np.rint(sounds).clip(-32768, 32767).astype(np.int16))


def front(rate: int = RATE, spectra: Spectra = Spectra()) -> SoundClassifier:  # noqa: B008 (frozen)
    return SoundClassifier(nn.Flatten(), rate, spectra)


def log_mel(sound: np.ndarray, rate: int, spectra: Spectra) -> np.ndarray:
    """Returns the spectra by SciPy's transform, and triangles drawn band by band."""
    size, hop = round(rate * spectra.window_ms / 1000), round(rate * spectra.hop_ms / 1000)
    transform = ShortTimeFFT(get_window("hann", size), hop, rate, fft_mode="onesided", phase_shift=None)
    count = (len(sound) - size) // hop + 1
    frames = np.stack([sound[at * hop : at * hop + size] for at in range(count)]) / 32768
    powers = np.abs(np.fft.rfft(frames * transform.win)) ** 2 / size
    edges = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(0, 2595 * math.log10(1 + rate / 1400), spectra.mels + 2)]
    step, bands = rate / size, []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        frequencies = np.arange(size // 2 + 1) * step
        width = np.where(frequencies < middle, max(middle - low, step), max(high - middle, step))
        bands.append(powers @ np.maximum(0, 1 - np.abs(frequencies - middle) / width))
    return (np.log(np.stack(bands) + 1e-6) + 4) / 4


@pytest.mark.parametrize(
    ("rate", "spectra"),
    [(8000, Spectra()), (16000, Spectra(mels=64, window_ms=25.0, hop_ms=10.0)), (2000, Spectra(mels=80, hop_ms=7.5))],
    ids=["usual", "16 kHz", "more bands than frequencies"],
)
def test_spectra_are_those_of_64_bits(rate: int, spectra: Spectra) -> None:
    sounds = make_sounds()
    found = front(rate, spectra).to_network(sounds)
    expected = np.stack([log_mel(sound, rate, spectra) for sound in sounds.numpy().astype(np.float64)])
    assert found.shape == (4, 1, spectra.mels, expected.shape[2])
    assert np.abs(found[:, 0].numpy() - expected).max() < 1e-4


def test_a_tone_is_loudest_in_its_band() -> None:
    time, spectra = np.arange(RATE) / RATE, Spectra()
    edges = 700 * (10 ** (np.linspace(0, 2595 * math.log10(1 + RATE / 1400), spectra.mels + 2) / 2595) - 1)
    for band in (5, 20, 38):
        tone = np.rint(8000 * np.sin(2 * np.pi * edges[band + 1] * time)).astype(np.int16)
        found = front().to_network(torch.from_numpy(tone[None]))[0, 0]
        assert (found.argmax(dim=0) == band).all()


@pytest.mark.parametrize("rate", [500, 2000, 8000, 44100])
def test_every_band_has_a_frequency(rate: int) -> None:
    assert (front(rate, Spectra(mels=128)).bands.sum(dim=0) > 0.4).all()


def test_a_sound_that_is_shorter_than_a_frame_has_one() -> None:
    assert front().to_network(make_sounds(length=10)).shape == (4, 1, 40, 1)


def test_spectra_stay_in_32_bits_where_the_network_computes_in_16() -> None:
    sounds, network = make_sounds(), front()
    alone = network.to_network(sounds)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (network.bands[:8] @ network.bands[:8].T).dtype == torch.bfloat16
        found = network.to_network(sounds)
    assert found.dtype == torch.float32
    assert torch.equal(found, alone)


def test_a_network_of_images_takes_sounds_of_any_length() -> None:
    network = SoundClassifier(build("convnet_small", {"width": 4, "depth": 1}, 3, 1), RATE, Spectra(mels=16))
    for length in (1000, 4000):
        assert network(make_sounds(length=length)).shape == (4, 3)


@pytest.mark.parametrize("rate", [50, 100])
def test_frames_of_no_length_are_refused(rate: int) -> None:
    with pytest.raises(ModelError, match=r"window_ms 32 and hop_ms 1, at \d+ Hz; expected a window of 4 samples"):
        front(rate, Spectra(hop_ms=1.0))


def test_settings_of_another_front_end_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"input\.mel: unknown key; expected .*mels"):
        Spectra.of({"mel": 40}, "input")
