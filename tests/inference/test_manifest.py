from pathlib import Path

import pytest

from inference.errors import ModelPackageError
from inference.labels import Label
from inference.manifest import ModelManifest, find_package, verify_package


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "manifest.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_package_is_found_by_its_path(package_folder: Path) -> None:
    package = find_package(str(package_folder))
    verify_package(package)
    assert package.folder == package_folder
    assert (package.identity.name, package.identity.version) == ("test-model", "1.2.3")
    assert package.identity.license == "Free."
    assert package.manifest.segmenter.label_values == (
        Label.BACKGROUND,
        Label.LIVER,
        Label.TUMOR,
    )


def test_the_digest_stands_for_all_of_the_manifest(package_folder: Path) -> None:
    before = find_package(str(package_folder)).identity.digest
    edit(package_folder, "min_tumor_mm3 = 30.0", "min_tumor_mm3 = 31.0")
    assert find_package(str(package_folder)).identity.digest != before


REFUSALS = {
    "an unknown key": ('name = "test-model"', 'name = "a"\nnick = "b"', "nick: Extra inputs"),
    "a wrong type": ("in_plane_mm = 3.0", 'in_plane_mm = "wide"', "locator.grid.in_plane_mm"),
    "a spacing of zero": ("in_plane_mm = 1.0", "in_plane_mm = 0.0", "segmenter.grid.in_plane_mm"),
    "another format": ("format_version = 1", "format_version = 2", "format_version"),
    "no version": ('version = "1.2.3"\n', "", "version: Field required"),
    "a path as file": ('"locator.onnx"', '"../locator.onnx"', "locator.file"),
    "a damaged digest": ('sha256 = "', 'sha256 = "x', "sha256"),
    "an unknown label": ('"liver", "tumor"]', '"liver", "spleen"]', "segmenter.labels"),
    "labels in disorder": (
        '["background", "liver", "tumor"]',
        '["liver", "background", "tumor"]',
        "labels must begin with background",
    ),
    "the same label twice": ('"liver", "tumor"]', '"liver", "liver"]', "labels must differ"),
    "an even context": ("context_slices = 5", "context_slices = 4", "must be odd"),
    "an empty window": ("high_hu = 240.0", "high_hu = -160.0", "low_hu must be below"),
    "gray curves of one break": (
        "tile_px = 96",
        "tile_px = 96\nview.curves = [{ breaks_hu = [0.0] }]",
        "view.curves.0.breaks_hu: Tuple should have at least 2 items",
    ),
    "gray curves that fall": (
        "tile_px = 96",
        "tile_px = 96\nview.curves = [{ breaks_hu = [0.0, 0.0] }]",
        "breaks_hu must ascend",
    ),
    "gray curves beyond the window": (
        "tile_px = 96",
        "tile_px = 96\nview.curves = [{ breaks_hu = [0.0, 50.0, 250.0] }]",
        "from 0.0 to 250.0 HU reaches beyond the window, -160.0 to 240.0 HU",
    ),
    "a tile that does not fit": ("tile_px = 96", "tile_px = 100", "tile_px must be a multiple"),
    "no TOML": ("[window]", "[window", "manifest.toml"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_manifest_is_refused_for(package_folder: Path, name: str) -> None:
    old, new, message = REFUSALS[name]
    edit(package_folder, old, new)
    with pytest.raises(ModelPackageError, match=message):
        find_package(str(package_folder))


def test_a_missing_package_names_the_shipped_ones() -> None:
    with pytest.raises(ModelPackageError, match=r"no model package 'nowhere'.*manifest\.toml"):
        find_package("nowhere")


def test_other_weights_are_refused_with_both_digests(package_folder: Path) -> None:
    (package_folder / "segmenter.onnx").write_bytes(b"other")
    package = find_package(str(package_folder))
    expected = package.manifest.segmenter.sha256
    with pytest.raises(ModelPackageError, match=f"segmenter.onnx.*expected SHA-256 {expected}"):
        verify_package(package)


def test_missing_weights_are_refused(package_folder: Path) -> None:
    (package_folder / "locator.onnx").unlink()
    with pytest.raises(ModelPackageError, match=r"locator.onnx cannot be read"):
        verify_package(find_package(str(package_folder)))


def test_a_manifest_cannot_be_changed(manifest: ModelManifest) -> None:
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "other"  # type: ignore[misc]  # that it fails is the point
