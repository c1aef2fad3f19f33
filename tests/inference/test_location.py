import numpy as np
import pytest

from inference.location import Location, drop_far
from inference.resample import AxisGrid


def axes_of(
    sizes: tuple[int, int, int], spacing_mm: tuple[float, float, float], start_mm: float = 0.0
) -> tuple[AxisGrid, AxisGrid, AxisGrid]:
    slices, rows, columns = (
        AxisGrid(start_mm=start_mm, spacing_mm=mm, size=size)
        for size, mm in zip(sizes, spacing_mm, strict=True)
    )
    return slices, rows, columns


def test_the_box_has_its_margin_and_may_leave_the_scan() -> None:
    liver = np.zeros((10, 20, 20), dtype=bool)
    liver[3:5, 4, 6:9] = True
    location = Location(liver=liver, axes=axes_of(liver.shape, (2.0, 1.0, 1.0)))
    assert location.box(2.5) == ((3.5, 10.5), (1.5, 6.5), (3.5, 10.5))
    assert location.box(20.0)[0] == (-14.0, 28.0)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.8, 2.0, 0.6)], ids=str)
def test_labels_far_from_the_located_liver_are_dropped(
    spacing_mm: tuple[float, float, float],
) -> None:
    """A ball of 20 mm around (40, 40, 40) mm: what stays is a ball of 28 mm, as far as it shows."""
    coarse = axes_of((21, 21, 21), (4.0, 4.0, 4.0))
    z, y, x = np.meshgrid(*(axis.positions_mm - 40 for axis in coarse), indexing="ij")
    location = Location(liver=z**2 + y**2 + x**2 <= 20**2, axes=coarse)

    sizes = tuple(int(80 / mm) for mm in spacing_mm)
    source = axes_of((sizes[0], sizes[1], sizes[2]), spacing_mm)
    window = (slice(2, sizes[0]), slice(3, sizes[1] - 1), slice(0, sizes[2]))
    z, y, x = np.meshgrid(*(axis.positions_mm - 40 for axis in source), indexing="ij")
    radius_mm = np.sqrt(z**2 + y**2 + x**2)[window]
    labels = np.ones(radius_mm.shape, dtype=np.uint8)
    labels[radius_mm < 10] = 2
    drop_far(labels, window, source, location, 8.0)
    assert (labels[radius_mm > 31] == 0).all()
    assert (labels[(radius_mm < 25) & (radius_mm >= 10)] == 1).all()
    assert (labels[radius_mm < 10] == 2).all()
