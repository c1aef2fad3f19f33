"""A short run of `benchmarks.fuzz`, which says what must be true; a long one is its command."""

import pytest

from benchmarks.fuzz import PARTS, run

INPUTS = {"wire": 60, "files": 120, "frames": 60}


@pytest.mark.filterwarnings("ignore")  # what pydicom remarks of each value
@pytest.mark.parametrize("part", PARTS)
def test_hostile_input_is_borne(part: str):
    assert run(part, seed=1, numbers=range(INPUTS[part])).total() == INPUTS[part]
