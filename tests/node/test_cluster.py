"""`hepar cluster` on files, and what it says of wrong ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from dicom_io.ct import write_ct_series
from dicom_io.ct_attributes import CtIdentity
from dicom_io.nifti import write_nifti
from inference.volume import Volume
from node.cli import app
from node.errors import WrongCall

SHAPE, SPACING_MM = (6, 48, 52), (4.0, 0.8, 0.8)
TUMOR_SLICES = (2, 3)


def patient(seed: int = 0, contrast: float = 1.0) -> dict[str, Volume]:
    """Give a noisy CT with a dark tumor in two slices of its liver, and the masks."""
    z, y, x = np.indices(SHAPE)
    liver = ((y - 24) ** 2 + (x - 25) ** 2 < 20**2) & (z > 0)
    tumor = ((y - 17) ** 2 + (x - 20) ** 2 < 8**2) & np.isin(z, TUMOR_SLICES)
    hu = np.where(tumor, 110 - 50 * contrast, np.where(liver, 110, -60))
    hu = hu + np.random.default_rng(seed).normal(0, 12, SHAPE)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = SPACING_MM
    affine[3, 3] = 1.0

    def volume(array: np.ndarray) -> Volume:
        return Volume(array=array.astype(np.int16), affine=affine, coordinate_system="PATIENT")

    return {
        "ct": volume(np.rint(hu)),
        "liver": volume(liver),
        "truth": volume(tumor),
        "labels": volume(liver * 1 + tumor * 1),
    }


@pytest.fixture
def files(working_folder: Path) -> Path:
    """An empty folder with the scan and the masks of a patient, in which the test runs."""
    for name, volume in patient().items():
        write_nifti(volume, working_folder / f"{name}.nii.gz")
    return working_folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["cluster", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def report(*arguments: str) -> dict:
    return json.loads(run("ct.nii.gz", "--liver", "liver.nii.gz", *arguments, "--json"))


TIGHT = ("--set", "inference.clustering.dilation=disk 1.2 mm")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("kmeans", ()),
        ("gmm", ()),
        ("dbscan", ("--set", "inference.clustering.tumor_cluster=dark-noise")),
    ],
)
def test_a_slice_is_compared_with_its_truth(files: Path, method: str, options: tuple[str, ...]):
    found = report("--truth", "truth.nii.gz", "--method", method, "--slice", "2", *TIGHT, *options)
    agreement = found["agreement"]
    assert agreement["dice"] > 0.85
    assert agreement["iou"] == pytest.approx(agreement["dice"] / (2 - agreement["dice"]))
    assert agreement["sensitivity"] > 0.75
    assert agreement["specificity"] > 0.95
    assert agreement["true_voxels"] == np.count_nonzero(patient()["truth"].array[2])
    assert found["parameters"]["tumor_engine"] == method
    [only] = found["runs"]
    assert only["slices"] == [2, 2]
    assert only["agreement"] == agreement
    assert sum(cluster["voxel_count"] for cluster in only["clusters"]) == np.count_nonzero(
        patient()["liver"].array[2]
    )
    assert -1 <= only["silhouette"] <= 1


def test_all_slices_at_once_and_each_by_itself(files: Path):
    truth = ("--truth", "labels.nii.gz", "--truth-value", "2", "--method", "kmeans", *TIGHT)
    whole, each = report(*truth, "--volume"), report(*truth, "--each-slice")
    assert [entry["slices"] for entry in whole["runs"]] == [[0, 5]]
    assert [entry["slices"] for entry in each["runs"]] == [[index, index] for index in range(1, 6)]
    assert whole["agreement"]["dice"] > 0.9
    assert whole["liver_ml"] == pytest.approx(each["liver_ml"])
    for index in TUMOR_SLICES:
        assert each["runs"][index - 1]["agreement"]["dice"] > 0.9
    # Where there is no tumor, two clusters divide noise.
    assert each["agreement"]["found_voxels"] > whole["agreement"]["found_voxels"]
    assert each["agreement"]["found_voxels"] == sum(
        entry["agreement"]["found_voxels"] for entry in each["runs"]
    )


def test_a_slice_that_cannot_be_clustered_is_told_and_the_others_go_on(files: Path):
    liver = patient()["liver"].array.copy()
    liver[5] = 0
    liver[5, 20, 20] = 1
    _write("liver.nii.gz", liver)
    found = report("--truth", "truth.nii.gz", "--method", "kmeans", "--each-slice", *TIGHT)
    *good, last = found["runs"]
    assert last["slices"] == [5, 5]
    assert "all 1 voxels" in last["problem"]
    assert all("problem" not in entry for entry in good)
    given = ("ct.nii.gz", "--liver", "liver.nii.gz", "--truth", "truth.nii.gz")
    assert "Slice 5: all 1 voxels" in run(*given, "--method", "kmeans", "--each-slice")


def test_slices_are_counted_from_the_feet_in_any_stack(files: Path):
    flipped = {name: volume.flip_spatial([0]) for name, volume in patient().items()}
    write_nifti(flipped["ct"], files / "ct.nii.gz")
    write_nifti(flipped["liver"], files / "liver.nii.gz")
    write_nifti(flipped["truth"], files / "truth.nii.gz")
    found = report("--truth", "truth.nii.gz", "--method", "kmeans", "--slice", "2", *TIGHT)
    assert found["agreement"]["dice"] > 0.9


def test_dicom_scans_and_masks_and_the_table(files: Path):
    scan = patient()
    for seed, name in enumerate(("ct", "liver", "truth"), start=1):
        write_ct_series(scan[name], files / name, identity=CtIdentity.from_seed(seed))
    text = run("ct", "--liver", "liver", "--truth", "truth", "--method", "kmeans", *TIGHT)
    assert "taken for" in text
    assert "Dice 0.9" in text


def test_truths_are_joined(files: Path):
    truth = patient()["truth"]
    for index in TUMOR_SLICES:
        part = np.zeros_like(truth.array)
        part[index] = truth.array[index]
        write_nifti(truth.with_array(part), files / f"part{index}.nii.gz")
    parts = [text for i in TUMOR_SLICES for text in ("--truth", f"part{i}.nii.gz")]
    joined = report("--method", "kmeans", *parts)["agreement"]
    assert joined == report("--method", "kmeans", "--truth", "truth.nii.gz")["agreement"]


def test_phases_are_channels(files: Path):
    """A tumor that hides in noise is found in two phases; the second one lies on another grid."""
    second = patient(seed=1)["ct"]
    coarse = ndimage.zoom(second.array, (1, 0.5, 0.5), order=1, grid_mode=True, mode="nearest")
    affine = np.array(second.affine)
    affine[:3, 1:3] *= 2
    affine[0, 3] = affine[1, 3] = SPACING_MM[1] / 2
    write_nifti(
        Volume(array=coarse, affine=affine, coordinate_system="PATIENT"), files / "second.nii.gz"
    )
    two = run(
        *("ct.nii.gz", "second.nii.gz", "--registration", "none", "--liver", "liver.nii.gz"),
        *("--truth", "truth.nii.gz", "--method", "gmm", "--plots", "plots", "--json", *TIGHT),
    )
    found = json.loads(two)
    assert found["channels"] == 2
    assert all(len(cluster["mean_hu"]) == 2 for cluster in found["runs"][0]["clusters"])
    assert found["agreement"]["dice"] > 0.9
    assert (files / "plots" / "channels.png").stat().st_size > 10_000


def test_plots_show_what_there_is(files: Path):
    searched = ("--set", "inference.clustering.clusters=silhouette")
    report("--method", "kmeans", "--plots", "plots", "--slice", "3", *searched)
    names = {path.name for path in (files / "plots").iterdir()}
    assert names == {"clusters.png", "overlay.png", "histogram.png", "silhouette.png"}


def test_plots_without_matplotlib_say_what_to_install(files: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("node.cli_cluster.find_spec", lambda _name: None)
    with pytest.raises(WrongCall, match=r"pip install 'hepar\[train\]'"):
        report("--method", "kmeans", "--plots", "plots")


def _write(name: str, array: np.ndarray, shift_mm: float = 0.0) -> None:
    affine = np.array(patient()["ct"].affine)
    affine[0, 3] += shift_mm
    volume = Volume(array=array.astype(np.int16), affine=affine, coordinate_system="PATIENT")
    write_nifti(volume, Path(name))


GIVEN = ["ct.nii.gz", "--liver", "liver.nii.gz"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ct.nii.gz", "--liver", "empty.nii.gz", "--method", "kmeans"], "mask is empty"),
        (["ct.nii.gz", "--liver", "small.nii.gz", "--method", "kmeans"], "5 x 48 x 52 voxels"),
        (["ct.nii.gz", "--liver", "moved.nii.gz", "--method", "kmeans"], "put it elsewhere"),
        (["ct.nii.gz", "--liver", "absent", "--method", "gmm"], "no file or folder absent"),
        (["ct.nii.gz", "--liver", "one.nii.gz", "--method", "gmm"], "all 1 voxels"),
        (["nan.nii.gz", "--liver", "liver.nii.gz", "--method", "gmm"], "not a number"),
        (GIVEN, "--method kmeans, dbscan or gmm"),
        ([*GIVEN, "--method", "gmm", "--slice", "0"], "Slice 0 has no liver; it reaches from 1 to"),
        ([*GIVEN, "--method", "gmm", "--slice", "2", "--each-slice"], "exclude each other"),
        ([*GIVEN, "--method", "gmm", "--series", "1.2", "--series", "1.3"], "More --series than"),
    ],
)
def test_wrong_use_is_explained(files: Path, arguments: list[str], says: str):
    liver = patient()["liver"].array
    one = np.zeros(SHAPE)
    one[2, 20, 20] = 1
    _write("empty.nii.gz", np.zeros(SHAPE))
    _write("small.nii.gz", liver[1:])
    _write("moved.nii.gz", liver, shift_mm=3.0)
    _write("one.nii.gz", one)
    _write_nan("nan.nii.gz")
    result = CliRunner().invoke(app, ["cluster", *arguments])
    assert result.exit_code == 1
    assert says in str(result.exception)


def _write_nan(name: str) -> None:
    import SimpleITK

    image = SimpleITK.ReadImage("ct.nii.gz", SimpleITK.sitkFloat32)
    image[3, 3, 3] = float("nan")
    SimpleITK.WriteImage(image, name)
