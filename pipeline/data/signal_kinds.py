"""The kinds of hard labels; a source names its kind, so nothing is imported here."""

from typing import Literal

#: One class of several for each sample; independent classes, each of them yes, no or unknown; or
#: one class of several at each position of a grid.
SignalKind = Literal["categorical", "binary", "grid"]
