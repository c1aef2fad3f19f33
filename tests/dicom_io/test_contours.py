import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from dicom_io.contours import points_in_patient, trace_mask
from dicom_io.frames import Frame
from dicom_io.hounsfield import Rescale


def fill(polygon, shape):
    """Pixels whose centers are inside, center by center, edge by edge."""
    mask = np.zeros(shape, bool)
    edges = list(zip(polygon, np.roll(polygon, -1, axis=0), strict=True))
    for row, column in np.ndindex(shape):
        for (y0, x0), (y1, x1) in edges:
            if (y0 <= row) != (y1 <= row) and x0 + (row - y0) / (y1 - y0) * (x1 - x0) < column:
                mask[row, column] ^= True
    return mask


def distance_to_centers(polygon):
    """From the nearest pixel center to the polygon, in pixels."""
    start, end = polygon[:, None], np.roll(polygon, -1, axis=0)[:, None]
    low, high = polygon.min(axis=0) - 1, polygon.max(axis=0) + 1
    centers = np.stack(np.meshgrid(*map(np.arange, low.round(), high.round())), -1).reshape(-1, 2)
    along = end - start
    share = np.sum((centers - start) * along, axis=2) / np.sum(along**2, axis=2)
    nearest = start + np.clip(share, 0, 1)[..., None] * along
    return np.linalg.norm(centers - nearest, axis=2).min()


def crosses_itself(polygon):
    """Whether two edges cross; they may touch, as the sides of a keyhole do."""
    start, end = polygon, np.roll(polygon, -1, axis=0)

    def side(a, b, c):
        return np.sign(
            (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1])
            - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
        )

    one, two, three, four = start[:, None], end[:, None], start[None], end[None]
    apart = side(one, two, three) * side(one, two, four) < 0
    return bool((apart & (side(three, four, one) * side(three, four, two) < 0)).any())


def check(mask):
    polygons = trace_mask(mask)
    filled = [fill(polygon, mask.shape) for polygon in polygons]
    np.testing.assert_array_equal(np.sum([np.zeros(mask.shape, int), *filled], axis=0), mask)
    for polygon in polygons:
        assert not crosses_itself(polygon)
        assert distance_to_centers(polygon) > 1 / 3
        assert not np.array_equal(polygon[0], polygon[-1])
    return polygons


def picture(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


MASKS = {  # mask, number of polygons
    "nothing": (picture("...", "..."), 0),
    "a pixel": (picture("...", ".#.", "..."), 1),
    "all": (picture("###", "###"), 1),
    "one pixel is all": (picture("#"), 1),
    "a line along the border": (picture("####", "...."), 1),
    "two parts": (picture("##..#", "##..#"), 2),
    "a hole": (picture("####", "#..#", "####"), 1),
    "an island in a hole": (picture("#####", "#...#", "#.#.#", "#...#", "#####"), 2),
    "a hole in an island in a hole": (
        picture("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"),
        2,
    ),
    "holes side by side": (picture("#######", "#.#.#.#", "#######"), 1),
    "holes on a slope": (picture("######", "#.####", "###.##", "####.#", "######"), 1),
    "a hole beside a notch": (picture("##.####", "####.##", "#######"), 1),
    "pixels that touch at a corner are apart": (picture("#.", ".#"), 2),
    "a gap that is open at a corner is open": (picture("###.", "#.##", "####"), 1),
    "a ring that touches itself at a corner only": (picture(".#.", "#.#", ".#."), 4),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_pixels_of_a_mask_come_back(name):
    mask, count = MASKS[name]
    assert len(check(mask)) == count


@settings(max_examples=200, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_the_pixels_of_any_mask_come_back(mask):
    assert len(check(mask)) == ndimage.label(mask)[1]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.tuples(st.integers(1, 10), st.integers(1, 10)), max_size=20))
def test_any_holes_become_keyholes_of_one_polygon(places):
    mask = np.ones((12, 12), bool)
    for place in places:
        mask[place] = False
    assert len(check(mask)) == ndimage.label(mask)[1]


def test_straight_lines_have_no_points_between_their_ends():
    (polygon,) = trace_mask(np.ones((400, 300), bool))
    assert len(polygon) == 8


def test_a_plane_is_that_of_the_standard():
    plane = Frame(
        dataset_index=0,
        frame_number=None,
        position_mm=(10.0, 20.0, 30.0),
        orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
        pixel_spacing_mm=(0.5, 2.0),
        shape=(4, 4),
        rescale=Rescale(slope=1, intercept=0, padding=None),
        stack="",
    )
    points = points_in_patient(np.array([[0.0, 0.0], [3.0, 0.0], [0.5, 1.5]]), plane)
    np.testing.assert_allclose(points, [[10, 20, 30], [10, 20, 28.5], [10, 23, 29.75]])
