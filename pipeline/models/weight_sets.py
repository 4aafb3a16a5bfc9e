"""The set of tensors in a file that is a network's weights.

Training scripts keep weights under a key of their own, beside an average of them, an optimizer and
other networks, and wrappers put a prefix before each name. The set is known by the names that it
shares with the network.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from pipeline.core.errors import ModelError, listed, suggest

#: Parts of names that wrappers put in: for several GPUs, compiled, sharded, with checkpoints.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_TOLERATED = ("num_batches_tracked",)  # torch counts from 0 where a file is of before 2018

Tensors = Mapping[str, torch.Tensor]


def choose_set(
    tensors: Tensors, network: nn.Module, where: object, key: str | None, but: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """Returns the weights of a network by its own names, and what else stands beside them.

    Args:
        key: The set that is wanted, of several; None: there is one.
        but: Names that need not be there.

    Raises:
        ModelError: There are several sets, or none of that key.
    """
    wanted = list(network.state_dict())
    sets = _sets(tensors, wanted)
    if key is not None:
        inside = {prefix: found for prefix, found in sets.items() if f"{prefix}.".startswith(f"{key}.")}
        if not inside:
            found = f"holds no weights of this network under {key!r}"
            raise ModelError(where, found, expected=suggest(key, sorted(filter(None, sets))), fix="see weights_key")
        sets = inside
    if not sets:
        return dict(tensors)
    needed = {name for name in wanted if name not in but and not name.endswith(_TOLERATED)}
    whole = _distinct({prefix: found for prefix, found in sets.items() if needed <= found.keys()})
    if len(whole) > 1:
        names = [prefix or "the names without a prefix" for prefix in whole]
        fix = f"name one: weights_key: {next(filter(None, whole))}"
        raise ModelError(where, f"holds {len(whole)} sets of weights: {listed(names)}", expected="one", fix=fix)
    prefix = next(iter(whole), None)
    if prefix is None:
        prefix = max(sets, key=lambda each: (len(sets[each]), -len(each)))
    return sets[prefix] | _rest(tensors, prefix, sets[prefix])


def _sets(tensors: Tensors, wanted: Collection[str]) -> dict[str, dict[str, torch.Tensor]]:
    """Returns by each prefix the tensors whose names go on like those of the network."""
    known = {_bare(name.split(".")): name for name in wanted}
    if len(known) < len(wanted):  # names that differ in nothing but such parts
        known = {name: name for name in wanted}
    sets: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        parts = name.split(".")
        for place in range(len(parts)):
            own = known.get(_bare(parts[place:])) if parts[place] not in _WRAPPERS else None
            if own is not None:
                sets[".".join(parts[:place])].setdefault(own, tensor)
    return sets


def _bare(parts: list[str]) -> str:
    return ".".join(part for part in parts if part not in _WRAPPERS)


def _distinct(sets: dict[str, dict[str, torch.Tensor]]) -> dict[str, dict[str, torch.Tensor]]:
    """Returns sets without those that hold the same values as one before."""
    distinct: dict[str, dict[str, torch.Tensor]] = {}
    for prefix, found in sets.items():
        if not any(_equal(found, other) for other in distinct.values()):
            distinct[prefix] = found
    return distinct


def _equal(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _rest(tensors: Tensors, prefix: str, found: Tensors) -> dict[str, Any]:
    """Returns the other tensors under a prefix, which a network may refuse."""
    used = {id(tensor) for tensor in found.values()}
    above = f"{prefix}." if prefix else ""
    return {
        name.removeprefix(above): tensor
        for name, tensor in tensors.items()
        if name.startswith(above) and id(tensor) not in used
    }
