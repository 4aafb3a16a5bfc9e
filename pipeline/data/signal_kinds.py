"""The kinds of hard labels; a source names its kind, so nothing is imported here."""

from typing import Literal

#: One class of several for each sample, or independent classes: each of them yes, no or unknown.
SignalKind = Literal["categorical", "binary"]
