"""Views of rows: columns that are dropped or swapped, the same bits whatever else is asked for."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from kinds import make_kind_split

from pipeline.core.errors import ConfigError
from pipeline.core.files import fingerprint
from pipeline.data.content import Content
from pipeline.data.input_kinds import ROW
from pipeline.data.splits import SplitInMemory
from pipeline.views.plan import RowOrder, plan_view
from pipeline.views.spec import ViewSpec

DROP = {"kind": "drop_columns", "share": 0.3, "columns": None}
SWAP = {"kind": "swap_columns", "share": 0.3, "columns": None}
SHARES = pytest.mark.parametrize("share", [0.0, 0.1, 0.5])


def spec_of(*rows: dict[str, Any], plain_first: bool = False) -> ViewSpec:
    return ViewSpec.from_dict({"seed": 2**40 + 7, "plain_first": plain_first, "operations": list(rows)}, "test")


def wide_split(count: int, columns: int) -> SplitInMemory:
    """Returns rows in which every cell has a code that says whose it is."""
    codes = (1 + np.arange(count, dtype=np.int32)[:, None] * np.ones(columns, np.int32)).astype(np.int32)
    content = Content(ROW, "wide")
    return SplitInMemory(torch.from_numpy(codes), torch.zeros(count, dtype=torch.int64), content.ids(codes), content)


def views(split: SplitInMemory, spec: ViewSpec, view: int = 3, rows: list[int] | None = None) -> torch.Tensor:
    chosen = None if rows is None else np.array(rows)
    plan = plan_view(split, spec, view, rows=chosen, row_order=RowOrder(split.sample_ids, 16))
    return plan.render(slice(None))


@pytest.mark.parametrize("operations", [[DROP], [SWAP], [DROP, SWAP]], ids=["drop", "swap", "both"])
def test_a_view_is_the_same_in_any_batch_and_order(operations: list[dict[str, Any]]) -> None:
    split, spec = make_kind_split("row", 60), spec_of(*operations)
    whole = views(split, spec)
    assert whole.dtype == torch.int32
    assert not torch.equal(whole, split.inputs)
    for rows in ([7], [5, 50, 5, 0], list(range(59, -1, -1))):
        assert torch.equal(views(split, spec, rows=rows), whole[rows])
    assert not torch.equal(views(split, spec, view=4), whole)


def test_a_view_is_the_same_in_another_process() -> None:
    program = (
        "import sys; sys.path.insert(0, 'tests/views'); sys.path.insert(0, 'tests')\n"
        "from test_columns import DROP, SWAP, digest\n"
        "print(digest(DROP, SWAP))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=_top())
    assert done.stdout.strip() == digest(DROP, SWAP)


def digest(*operations: dict[str, Any]) -> str:
    return fingerprint(views(make_kind_split("row", 60), spec_of(*operations)).tolist())


def _top() -> str:
    from pipeline.core.closure import TOP

    return str(TOP)


@SHARES
def test_as_many_columns_are_dropped_as_is_said(share: float) -> None:
    split = wide_split(400, 50)
    dropped = views(split, spec_of(DROP | {"share": share})) == 0
    assert dropped.double().mean().item() == pytest.approx(share, abs=0.015)
    assert dropped.double().mean(dim=0).numpy() == pytest.approx(share, abs=0.12)  # each column alike


@SHARES
def test_a_swapped_value_is_the_partners(share: float) -> None:
    split, spec = wide_split(400, 50), spec_of(SWAP | {"share": share})
    plan = plan_view(split, spec, 3, row_order=RowOrder(split.sample_ids, 16))
    found, partners = plan.render(slice(None)), plan.partner_rows
    assert partners is not None
    swapped = found != split.inputs
    assert swapped.double().mean().item() == pytest.approx(share, abs=0.015)
    assert torch.equal(found[swapped], split.inputs[partners][swapped])


def test_columns_that_are_not_named_stay() -> None:
    split = wide_split(100, 6)
    for row, last in ((DROP, None), (SWAP, None)):
        found = views(split, spec_of(row | {"share": 0.5, "columns": [1, 4]})) != split.inputs
        assert found.any(dim=0).tolist() == [False, True, False, False, True, False], last


def test_the_first_view_may_be_plain() -> None:
    split, spec = make_kind_split("row", 60), spec_of(DROP | {"share": 1.0}, SWAP, plain_first=True)
    assert torch.equal(views(split, spec, view=0), split.inputs)
    assert not views(split, spec_of(DROP | {"share": 1.0}), view=0).any()


def test_a_hard_label_stays_the_rows_own() -> None:
    split = make_kind_split("row", 60)
    plan = plan_view(split, spec_of(SWAP), 1)
    assert plan.partner_labels(slice(None)) is None
    assert plan.own_shares(slice(None)) is None
    assert torch.equal(plan.labels(slice(None)), split.hard_labels)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"columns: 3, and rows have 3 columns; expected 0 to 2"):
        spec_of(DROP | {"columns": [0, 3]}).check((3,), "views", ROW)
    with pytest.raises(ConfigError, match=r"pad_crop, which is for images; .*drop_columns, swap_columns"):
        spec_of({"kind": "pad_crop", "pad_px": 1}).check((3,), "views", ROW)
    with pytest.raises(ConfigError, match="share"):
        spec_of(SWAP | {"share": 0.6})
