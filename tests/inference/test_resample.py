import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.resample import AxisGrid, sampling_matrix, whole_axis


def axis(size: int, spacing_mm: float = 1.0, start_mm: float = 0.0) -> AxisGrid:
    return AxisGrid(start_mm=start_mm, spacing_mm=spacing_mm, size=size)


def test_same_grid_is_the_identity() -> None:
    assert np.array_equal(sampling_matrix(axis(7, 2.5), axis(7, 2.5)).toarray(), np.eye(7))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 40),
    st.floats(0.3, 6.0),
    st.floats(0.3, 6.0),
    st.integers(1, 50),
)
def test_a_linear_ramp_keeps_its_positions_inside_the_scan(
    size: int, spacing_mm: float, target_mm: float, target_size: int
) -> None:
    """What is linear in mm stays so, except near the ends, where the filter is cut off."""
    source = axis(size, spacing_mm)
    target = axis(target_size, target_mm, start_mm=0.37 * spacing_mm)
    ramp = sampling_matrix(source, target) @ source.positions_mm
    reach = max(spacing_mm, target_mm)
    last_mm = source.positions_mm[-1]
    inside = (target.positions_mm >= reach) & (target.positions_mm <= last_mm - reach)
    # An averaging triangle over discrete samples is off by a fraction of a source voxel.
    assert np.abs(ramp - target.positions_mm)[inside].max(initial=0) < 0.26 * spacing_mm
    if target_mm <= spacing_mm:
        assert np.allclose(ramp[inside], target.positions_mm[inside], atol=1e-4 * last_mm)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.floats(0.3, 6.0), st.floats(0.3, 6.0))
def test_constants_stay_constant_even_beyond_the_ends(
    size: int, spacing_mm: float, target_mm: float
) -> None:
    matrix = sampling_matrix(axis(size, spacing_mm), axis(40, target_mm, start_mm=-15.0))
    matrix = matrix.toarray()
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)
    assert (matrix >= 0).all()


@pytest.mark.parametrize(
    ("size", "spacing_mm", "target_mm", "expected"),
    [(10, 3.0, 3.0, 10), (129, 1.6, 3.0, 69), (3, 0.5, 3.0, 1), (1, 5.0, 3.0, 2)],
)
def test_whole_axis_covers_the_scan_around_its_middle(
    size: int, spacing_mm: float, target_mm: float, expected: int
) -> None:
    grid = whole_axis(size, spacing_mm, target_mm)
    assert grid.size == expected
    assert np.isclose(grid.positions_mm.mean(), (size - 1) * spacing_mm / 2)
