"""What a plan counts for the loss phase is what the loss phase holds."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
from benchmarks import arrays

CASES = {case.name: case for case in arrays.cases()}


@pytest.mark.parametrize("sliced", [False, True], ids=["all rows are ids", "more rows than ids"])
@pytest.mark.parametrize("name", CASES)
def test_arrays_of_the_loss_phase_are_counted_as_they_are_measured(name, sliced):
    counted, found = (each(CASES[name], sliced=sliced) for each in (arrays.planned, arrays.measured))
    assert 0.98 <= counted / found <= 1.06, (counted, found)
