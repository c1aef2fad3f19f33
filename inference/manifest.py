"""Model packages: a folder with weights, their papers and a model card.

The manifest says everything that the code needs to know of a model; there are no branches for a
certain model. Its digest goes into every result.
"""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.errors import ModelPackageError
from inference.labels import Label

MANIFEST_NAME = "manifest.toml"
_SHIPPED_PACKAGE = "models"

_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.onnx$")]
_LabelName = Literal["background", "liver", "tumor"]
_STAGE_KINDS = ("stack", "volume")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(_Section):
    """CT numbers that the network sees; they are clipped and mapped to 0 and 1."""

    low_hu: float
    high_hu: float

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.low_hu >= self.high_hu:
            raise ValueError("low_hu must be below high_hu")
        return self


class GrayCurve(_Section):
    """How CT numbers become gray: 0 at the first break, 1 at the last, an equal step between two.

    Two breaks are a window as viewers know it. Where as many voxels lie between each two of more
    breaks, the histogram is equalized.
    """

    breaks_hu: tuple[float, ...] = Field(min_length=2, description="Ascending.")

    @model_validator(mode="after")
    def _is_ascending(self) -> Self:
        if any(low >= high for low, high in pairwise(self.breaks_hu)):
            raise ValueError("breaks_hu must ascend")
        return self


class Bilateral(_Section):
    """Smoothing of each slice that keeps edges (Tomasi and Manduchi, ICCV 1998)."""

    spatial_sd_px: float = Field(gt=0, description="Standard deviation of the distance.")
    gray_sd_hu: float = Field(gt=0, description="Standard deviation of the CT numbers.")


class View(_Section):
    """What a network is shown of the CT numbers in the window; unless told, they themselves."""

    bilateral: Bilateral | None = Field(None, description="Smoothing, before the curves.")
    curves: tuple[GrayCurve, ...] = Field((), description="One input channel each.")

    @property
    def channels(self) -> int:
        """Input channels for each slice."""
        return max(1, len(self.curves))

    def check_inside(self, window: Window) -> None:
        """Make sure that no curve asks for CT numbers that were clipped.

        Raises
        ------
        ValueError
            One does.
        """
        for curve in self.curves:
            first, last = curve.breaks_hu[0], curve.breaks_hu[-1]
            if first < window.low_hu or last > window.high_hu:
                raise ValueError(
                    f"a gray curve from {first} to {last} HU reaches beyond the window, "
                    f"{window.low_hu} to {window.high_hu} HU"
                )


class Grid(_Section):
    """The voxels of a stage: slices from feet to head, rows to posterior, columns to the left."""

    in_plane_mm: float = Field(gt=0, description="Distance of rows and of columns.")
    slice_mm: float = Field(gt=0, description="Distance of slices where they are resampled.")
    native_from_mm: float | None = Field(
        None, gt=0, description="Slices this far apart, or farther, are used as they are."
    )


class WeightFile(_Section):
    """A file of the package and its digest."""

    file: _FileName
    sha256: _Digest


class _Stage(WeightFile):
    """One network."""

    labels: tuple[_LabelName, ...] = Field(
        min_length=2, description="Meaning of the output channels, background first."
    )
    grid: Grid
    view: View = View()
    multiple_px: int = Field(32, ge=1, description="Edges of the input are multiples of this.")
    tile_px: int = Field(384, ge=32, description="Larger slices are cut into tiles of this edge.")
    tile_overlap: float = Field(0.25, ge=0, lt=1, description="Least overlap, as share of a tile.")

    @model_validator(mode="after")
    def _labels_make_sense(self) -> Self:
        if self.labels[0] != "background" or "liver" not in self.labels:
            raise ValueError("labels must begin with background and hold liver")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ")
        if self.tile_px % self.multiple_px:
            raise ValueError("tile_px must be a multiple of multiple_px")
        return self

    @property
    def label_values(self) -> tuple[Label, ...]:
        """What each output channel means."""
        return tuple(Label[name.upper()] for name in self.labels)


class StackStage(_Stage):
    """A 2.5D network: it sees a few neighboring slices and labels the middle one.

    With one slice it is a 2D network. Its input channels are the slices in the first gray curve,
    then the slices in the next.
    """

    kind: Literal["stack"]
    context_slices: int = Field(ge=1, description="Neighboring slices that are shown, odd.")
    context_distance_mm: float = Field(gt=0, description="Wanted distance of these slices.")
    batch: int = Field(4, ge=1, description="Slices computed at once.")

    @model_validator(mode="after")
    def _has_a_middle(self) -> Self:
        if self.context_slices % 2 == 0:
            raise ValueError("context_slices must be odd")
        return self


class VolumeStage(_Stage):
    """A 3D network: an input channel for each gray curve, all slices at once."""

    kind: Literal["volume"]
    tile_slices: int = Field(128, ge=16, description="More slices are cut into tiles of so many.")

    @model_validator(mode="after")
    def _slices_fit(self) -> Self:
        if self.tile_slices % self.multiple_px:
            raise ValueError("tile_slices must be a multiple of multiple_px")
        return self


Stage: TypeAlias = Annotated[StackStage | VolumeStage, Field(discriminator="kind")]


class Postprocessing(_Section):
    """What counts as liver and as tumor in the end."""

    box_margin_mm: float = Field(ge=0, description="Margin around the liver of the locator.")
    max_outside_mm: float = Field(
        gt=0, description="What the segmenter finds farther outside the locator's liver is dropped."
    )
    smooth_slices_mm: float = Field(
        0.0,
        ge=0,
        description="Standard deviation of the smoothing of the segmenter's probabilities along "
        "the slices, for a 2.5D network, which labels each of them by itself.",
    )
    min_liver_ml: float = Field(gt=0, description="A smaller liver counts as not found.")
    min_tumor_mm3: float = Field(ge=0, description="Smaller tumor components count as liver.")


class CandidateStage(WeightFile):
    """A classifier that drops some of what the segmenter took for tumor."""

    features: tuple[str, ...] = Field(
        min_length=1, description="Its inputs, named as in `inference.candidates`."
    )
    threshold: float = Field(
        gt=0, lt=1, description="A candidate that is less likely a lesion is dropped."
    )
    max_volume_ml: float = Field(
        gt=0,
        description="Larger candidates are kept whatever the classifier says: it has never seen a "
        "false one of that size.",
    )


class ModelManifest(_Section):
    """The papers of a model: a locator on a coarse grid, then a segmenter in its box."""

    format_version: Literal[1]
    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$", max_length=64)
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    description: str = Field(min_length=1)
    license: str = Field(min_length=1, description="One sentence on the terms of the weights.")
    training_data: tuple[str, ...]
    window: Window
    locator: Stage
    segmenter: Stage
    candidates: CandidateStage | None = Field(
        None, description="Filter of the candidate lesions; none keeps them all."
    )
    postprocessing: Postprocessing
    held_out_fold: int | None = Field(
        None, ge=0, description="Fold of the training data that no network of it has seen."
    )
    metrics: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="Measured values by case, by name."
    )

    @model_validator(mode="after")
    def _views_fit(self) -> Self:
        for stage in self.stages:
            stage.view.check_inside(self.window)
        return self

    @model_validator(mode="after")
    def _has_what_is_filtered(self) -> Self:
        if self.candidates is not None and "tumor" not in self.segmenter.labels:
            raise ValueError("candidates filters tumor, which the segmenter does not label")
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All networks in the order of their use."""
        return (self.locator, self.segmenter)

    @property
    def weight_files(self) -> tuple[WeightFile, ...]:
        """All files beside the manifest and the card."""
        return (*self.stages, self.candidates) if self.candidates else self.stages


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """The papers of the model that made a result."""

    name: str
    version: str
    digest: str
    """SHA-256 over the manifest, which itself names the digest of each weight file, and over the
    parameters where there are some."""
    license: str
    """One sentence on the terms of use of the weights."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What else the result depends on, by name, where another method marks tumor."""


@dataclass(frozen=True, kw_only=True)
class ModelPackage:
    """A folder whose manifest was read and is in order."""

    folder: Path
    manifest: ModelManifest
    identity: ModelIdentity

    @property
    def reference(self) -> str:
        """Name and version, as settings may refer to it."""
        return f"{self.manifest.name}@{self.manifest.version}"

    @property
    def is_shipped(self) -> bool:
        """Whether it came with the node."""
        return self.folder.parent == _shipped_folder()

    def is_meant_by(self, reference: str) -> bool:
        """Say whether a name, or a name and a version, is that of this package."""
        return reference in (self.manifest.name, self.reference)


def read_package(folder: Path) -> ModelPackage:
    """Read the manifest of a package; the weights are not touched.

    Raises
    ------
    ModelPackageError
        There is no manifest, or it says something wrong or unknown.
    """
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelPackageError(f"{folder} is no model package: {error}") from error
    try:
        manifest = ModelManifest.model_validate(tomllib.loads(content.decode("utf-8")))
    except ValidationError as error:
        raise ModelPackageError(f"{path}: {_describe(error)}") from error
    except ValueError as error:
        raise ModelPackageError(f"{path}: {error}") from error
    return ModelPackage(
        folder=folder,
        manifest=manifest,
        identity=ModelIdentity(
            name=manifest.name,
            version=manifest.version,
            digest=hashlib.sha256(content).hexdigest(),
            license=manifest.license,
        ),
    )


def _describe(error: ValidationError) -> str:
    """Name each key that is wrong, and why."""
    return "; ".join(f"{_key(fault['loc'])}: {fault['msg']}" for fault in error.errors())


def _key(location: tuple[int | str, ...]) -> str:
    """Give the key of the file; pydantic inserts which of the stage kinds it tried."""
    return ".".join(str(part) for part in location if part not in _STAGE_KINDS) or "manifest"


def _shipped_folder() -> Path:
    return Path(str(files(_SHIPPED_PACKAGE)))


def list_packages(folders: Sequence[Path] = ()) -> list[ModelPackage]:
    """Give the packages that ship with the node, by name, then those in further folders.

    What cannot be read there is left out: `read_package` says why.

    Raises
    ------
    ModelPackageError
        One of the shipped ones is damaged.
    """
    shipped = [read_package(folder) for folder in package_folders(_shipped_folder())]
    own = []
    for folder in (found for each in folders for found in package_folders(each)):
        with suppress(ModelPackageError):
            own.append(read_package(folder))
    return shipped + own


def package_folders(folder: Path) -> list[Path]:
    """Give what looks like packages in a folder, which may be missing, by name."""
    return [manifest.parent for manifest in sorted(folder.glob(f"*/{MANIFEST_NAME}"))]


def find_package(reference: str, folders: Sequence[Path] = ()) -> ModelPackage:
    """Give a package by its name, by name and version, or by the path of its folder.

    A bare name is a shipped package before it is another, and never means one of several.
    Only the manifest is read; `verify_package` looks at the weights.

    Parameters
    ----------
    reference
        As ``hepar-liver-ct``, ``my-model@1.2.0`` or ``./my-model``.
    folders
        Further folders with packages, beside the one of those that ship with the node.

    Raises
    ------
    ModelPackageError
        There is no such package, several are meant, or its manifest is wrong.
    """
    path = Path(reference)
    is_path = (path / MANIFEST_NAME).is_file()
    if is_path and path.name != reference:
        return read_package(path)
    packages = list_packages(folders)
    meant = [one for one in packages if one.is_meant_by(reference)]
    if meant and (meant[0].is_shipped or len({one.identity.digest for one in meant}) == 1):
        return meant[0]
    if meant:
        choice = " or ".join(one.reference for one in meant)
        raise ModelPackageError(f"the model {reference!r} is {choice}; write which one")
    if is_path:
        return read_package(path)
    raise ModelPackageError(
        f"there is no model package {reference!r}; known ones: "
        f"{', '.join(one.reference for one in packages) or 'none'}; "
        f"any other is given as the path of a folder with a {MANIFEST_NAME}"
    )


def verify_package(package: ModelPackage) -> None:
    """Compare the digest of each weight file with the manifest.

    Raises
    ------
    ModelPackageError
        A file is missing, or is not the one that the manifest names.
    """
    for weights in package.manifest.weight_files:
        path = package.folder / weights.file
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ModelPackageError(f"{path} cannot be read: {error}") from error
        if found != weights.sha256:
            raise ModelPackageError(
                f"{path} is not the file that the manifest names: "
                f"expected SHA-256 {weights.sha256}, found {found}"
            )
