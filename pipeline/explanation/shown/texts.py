"""Texts, shown by their words."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Self

import numpy as np
import torch
from jaxtyping import Integer

from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import MASKED, PAD
from pipeline.explanation.settings import Explain
from pipeline.explanation.shown.base import Attribution, Network, PartShower, Sample
from pipeline.explanation.shown.occlusion import Covered, occlude, spans
from pipeline.results.explanation import Change, Part

_MOST_DROPPED = 12  # words in a row that are shown where a view lacks them


class TextShower(PartShower):
    """A way to show texts, and the words that count in them: some in a row are hidden at a time.

    Args:
        words: The words that numbers stand for, from 0 on.
    """

    kind = "tokens"

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    @classmethod
    def of(cls, dataset: ImageDataset) -> Self:
        return cls(dataset.content.words)

    def parts(self, sample: Sample, plain: Sample | None = None) -> list[Part]:
        numbers = _numbers(sample)
        if plain is None:
            return [self._part(number) for number in numbers]
        found, before = list[Part](), _numbers(plain)
        for what, a, b, c, d in SequenceMatcher(None, before, numbers, autojunk=False).get_opcodes():
            if what == "equal":
                found += [self._part(number) for number in numbers[c:d]]
            else:
                found += self._changed(before[a:b], numbers[c:d])
        return found

    def _changed(self, before: list[int], after: list[int]) -> Iterator[Part]:
        """Yields the parts of a place where a view has other words than its text."""
        if len(before) == len(after):
            for old, new in zip(before, after, strict=True):
                if new == MASKED:
                    yield Part(text=self._words[old], change="hidden")
                else:
                    yield from (Part(text=self._words[old], change="dropped"), self._part(new, "added"))
            return
        if len(before) > _MOST_DROPPED:
            yield Part(text=f"... {len(before):,} words ...", change="dropped")
        else:
            yield from (Part(text=self._words[number], change="dropped") for number in before)
        yield from (self._part(number, "added") for number in after)

    def _part(self, number: int, change: Change | None = None) -> Part:
        return Part(text="...", change="hidden") if number == MASKED else Part(text=self._words[number], change=change)

    def method(self, settings: Explain) -> str:
        return f"occlusion of {_share(settings):.1%} of a text's words at a time (at least one), which are hidden"

    def attribute(
        self, network: Network, inputs: Integer[torch.Tensor, "samples ..."], settings: Explain
    ) -> Attribution:
        found = np.full(inputs.shape, np.nan)
        for number, text in enumerate(inputs):
            length = len(_numbers(text))
            if length:
                covered = [_hidden(text, length, settings)]
                found[number] = occlude(network, number, text, covered, settings.batch_size)
        return found


def _numbers(text: Sample) -> list[int]:
    """Returns the numbers of a text's words, without the padding behind them."""
    numbers: list[int] = text[text != PAD].tolist()
    return numbers


def _share(settings: Explain) -> float:
    """Returns the share of a text that is hidden at a time: a quarter of a patch's share of an
    image, because a few words decide.
    """
    return settings.patch_share**2 / 4


def _hidden(text: Sample, length: int, settings: Explain) -> Covered:
    """Returns a text with each run of words hidden; there are about as many as places of a patch on
    an image.
    """
    window = max(1, round(length * _share(settings)))
    stride = min(window, max(1, length // settings.patch_steps**2))
    places = np.zeros((len(runs := spans(length, window, stride)), len(text)), dtype=bool)
    for row, run in zip(places, runs, strict=True):
        row[run] = True
    return text.expand(len(runs), -1).masked_fill(torch.from_numpy(places), MASKED), places
