"""Scans in any orientation to the two grids, and the grids to the cache."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.volume import Volume
from training.cache import digest_files, has_grids, read_grid, write_grids
from training.errors import DataSetError
from training.grids import LEVELS, Gridded, make_grids
from training.scans import LabeledScan

SHAPE = (40, 50, 60)
LIVER = np.s_[12:30, 8:33, 5:40]
TUMOR = np.s_[15:20, 10:18, 8:20]


def make_scan(spacing_mm: tuple[float, float, float] = (2.5, 3.0, 3.5)) -> LabeledScan:
    """In canonical order: slices to the head, rows to posterior, columns to the left."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[LIVER] = 1
    labels[TUMOR] = 2
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    hu = (-120 + 2 * z + 3 * y + x + 40 * labels).astype(np.int16)
    hu[0, 0] = 900
    hu[-1, -1] = -900
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[3, 3] = 1
    return _scan(hu, labels, affine)


def _scan(hu: NDArray[np.int16], labels: NDArray[np.uint8], affine: NDArray) -> LabeledScan:
    return LabeledScan(
        case_id="a",
        patient_id="a",
        volume=Volume(array=hu, affine=affine, coordinate_system="PATIENT"),
        labels=labels,
        tumors_known=True,
    )


def store_otherwise(
    scan: LabeledScan, permutation: tuple[int, ...], flips: tuple[int, ...]
) -> LabeledScan:
    """Store the same scan with permuted and flipped axes; its affine says so."""
    affine = np.array(scan.volume.affine)
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
        affine[:3, axis] *= -1
    arrays = (np.flip(array, flips) for array in (scan.volume.array, scan.labels))
    hu, labels = (np.ascontiguousarray(array.transpose(permutation)) for array in arrays)
    return _scan(hu, labels, affine[:, [*permutation, 3]])


ORIENTATIONS = [
    (permutation, flips)
    for permutation in itertools.permutations(range(3))
    for flips in ((), (0,), (1, 2), (0, 1, 2))
]


@pytest.mark.parametrize(("permutation", "flips"), ORIENTATIONS)
def test_the_orientation_leaves_no_trace(
    permutation: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    expected = make_grids(make_scan())
    found = make_grids(store_otherwise(make_scan(), permutation, flips))
    assert list(found) == ["coarse", "fine"]
    for grid, gridded in expected.items():
        np.testing.assert_array_equal(found[grid].levels, gridded.levels)
        np.testing.assert_array_equal(found[grid].labels, gridded.labels)
        assert found[grid].spacing_mm == pytest.approx(gridded.spacing_mm)


def test_the_coarse_grid_is_the_whole_scan() -> None:
    scan = make_scan()
    coarse = make_grids(scan)["coarse"]
    assert coarse.levels.shape == (33, 50, 70)
    assert coarse.spacing_mm == (3.0, 3.0, 3.0)
    for value in (1, 2):
        volume_mm3 = (scan.labels == value).sum() * 2.5 * 3.0 * 3.5
        assert (coarse.labels == value).sum() * 27.0 == pytest.approx(volume_mm3, rel=0.1)


def test_the_fine_grid_is_the_liver_with_its_margin() -> None:
    """30 mm are 12 slices, 10 rows and 8.6 columns; rows begin at the edge of the scan."""
    scan = make_scan()
    fine = make_grids(scan)["fine"]
    assert fine.spacing_mm == (2.5, 1.0, 1.0)
    assert fine.levels.shape == (40, (32 + 10) * 3 + 1, int(39 * 3.5 + 30) + 1)
    rows, columns = np.arange(0, 127, 3), np.arange(0, 167, 7)
    np.testing.assert_array_equal(fine.labels[:, rows][:, :, columns], scan.labels[:, :43, :48:2])
    hu = scan.volume.array[:, :43, :48:2].clip(-160, 240)
    levels = np.rint((hu + 160) / 400 * LEVELS)
    np.testing.assert_allclose(fine.levels[:, rows][:, :, columns], levels, atol=1)


@pytest.mark.parametrize(
    ("slice_mm", "found_mm", "first", "count"),
    [(4.0, 4.0, 4, 34), (1.25, 1.25, 0, 40), (1.2, 1.5, 0, 32)],
)
def test_slices_stay_as_they_are_unless_they_are_thin(
    slice_mm: float, found_mm: float, first: int, count: int
) -> None:
    scan = make_scan((slice_mm, 3.0, 3.0))
    fine = make_grids(scan)["fine"]
    assert fine.spacing_mm[0] == found_mm
    assert len(fine.labels) == count
    if found_mm == slice_mm:
        inside = (scan.labels > 0).any(axis=(1, 2))[first : first + count]
        np.testing.assert_array_equal((fine.labels > 0).any(axis=(1, 2)), inside)


def test_air_and_metal_are_the_ends_of_the_window() -> None:
    coarse = make_grids(make_scan((3.0, 3.0, 3.0)))["coarse"]
    assert (coarse.levels[0, 0] == LEVELS).all()
    assert (coarse.levels[-1, -1] == 0).all()


def test_a_scan_without_liver_has_an_empty_fine_grid() -> None:
    scan = make_scan()
    scan.labels[:] = 0
    grids = make_grids(scan)
    assert grids["coarse"].levels.any()
    assert grids["fine"].levels.size == 0
    assert not any(gridded.has_liver for gridded in grids.values())


# --- cache ---------------------------------------------------------------------------------------


def test_the_cache_gives_back_what_it_got(tmp_path: Path) -> None:
    cache = tmp_path / "runs" / "cases"
    grids = make_grids(make_scan())
    assert not has_grids(cache, "a")
    write_grids(cache, "a", grids)
    assert has_grids(cache, "a")
    for grid, expected in grids.items():
        found = read_grid(cache, "a", grid)
        np.testing.assert_array_equal(found.levels, expected.levels)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.spacing_mm == expected.spacing_mm
    assert sorted(path.name for path in cache.iterdir()) == ["a_coarse.npz", "a_fine.npz"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    empty = np.zeros((0, 0, 0), dtype=np.uint8)
    gridded = Gridded(levels=empty, labels=empty, spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(OSError, match="disk full"):
        write_grids(tmp_path, "a", {"fine": gridded})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes | None) -> None:
    write_grids(tmp_path, "a", make_grids(make_scan()))
    path = tmp_path / "a_fine.npz"
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(DataSetError, match=r"a_fine\.npz: .*delete it"):
        read_grid(tmp_path, "a", "fine")


def test_the_digest_follows_names_sizes_and_times(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    digests = {digest_files([first, second]), digest_files([first])}
    assert digest_files([second, first]) in digests
    second.write_bytes(b"22")
    digests.add(digest_files([first, second]))
    second.rename(tmp_path / "3")
    digests.add(digest_files([first, tmp_path / "3"]))
    assert len(digests) == 4
    with pytest.raises(FileNotFoundError):
        digest_files([second])
