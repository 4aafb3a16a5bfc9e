"""A choice for a new project: a line for the user, and the settings that it comes to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.core.config import Setting


@dataclass(frozen=True)
class Choice:
    """A choice and its reason in one plain line, and its settings, which are written down with
    reasons of their own.
    """

    line: str
    settings: Sequence[Setting]


def settings_of(choices: Iterable[Choice]) -> list[Setting]:
    """Returns all settings of some choices."""
    return [setting for choice in choices for setting in choice.settings]


def differing(choices: Iterable[Choice], params: Mapping[str, Any]) -> list[Choice]:
    """Returns the choices whose settings differ from those in params.yaml, with these settings."""
    left = [replace(choice, settings=[one for one in choice.settings if _differs(one, params)]) for choice in choices]
    return [choice for choice in left if choice.settings]


def value_at(params: Mapping[str, Any], entry: str) -> Any:
    """Returns what params.yaml has at a dotted name; None where there is nothing."""
    node: Any = params
    for key in entry.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _differs(setting: Setting, params: Mapping[str, Any]) -> bool:
    return setting.removed or value_at(params, setting.entry) != setting.value
