"""Common students, exported: `python -m pytest -m nightly tests/export/test_common_networks.py`."""

from pathlib import Path

import pytest

from benchmarks.int8_networks import NETWORKS, measure
from pipeline.core.config import load_section
from pipeline.export.settings import Export


@pytest.mark.nightly
@pytest.mark.parametrize("name", NETWORKS)
def test_a_common_student_keeps_what_it_knows(name: str) -> None:
    settings = load_section(Export, "export", Path(__file__).parents[2] / "params.yaml")
    found = measure(name, settings)
    assert found.float32_accuracy > 0.15, "no better than chance, so that nothing is compared"
    assert found.relative_difference <= max(settings.logit_tolerance, 4 * found.torch_difference)
    assert not isinstance(found.int8, str), found.int8
    assert found.int8.drop_points <= settings.max_int8_drop_points
    assert found.size_ratio is not None
    assert found.size_ratio < 1
