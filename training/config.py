"""What an experiment says, read from a TOML file."""

import tomllib
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from inference.manifest import View
from training.errors import ExperimentError
from training.grids import WINDOW

LossTerm: TypeAlias = Literal["cross_entropy", "dice", "bce", "focal"]
"""See `training.loss.segmentation_loss`."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which arrays are read, and how a sample is drawn from them."""

    grid: Literal["coarse", "fine"] = Field(description="Sub-folder of the data set.")
    held_out_fold: int | None = Field(None, description="Fold that training never sees.")
    tumor_free: tuple[str, ...] = Field(
        (), description="Cases without tumor labels whose liver was judged free of tumors by eye."
    )
    context_slices: int = Field(5, ge=1, description="Slices shown to the network; odd.")
    context_distance_mm: float = Field(2.0, gt=0, description="Wanted distance between them.")
    patch_px: int = Field(192, ge=32, description="Edge of the square patch.")
    patch_slices: int = Field(64, ge=16, description="Slices of the patch of a 3D network.")
    slice_mm: float = Field(4.0, gt=0, description="Distance of the slices of a 3D network.")
    in_plane_mm: float = Field(4.0, gt=0, description="Distance of its rows and columns.")
    tumor_slices: float = Field(0.0, ge=0, le=1, description="Share of slices with known tumor.")
    organ_slices: float = Field(0.9, ge=0, le=1, description="Share of slices with liver.")
    view: View = Field(View(), description="What the network is shown of the CT numbers.")
    equalized_steps: int = Field(
        0,
        ge=0,
        le=64,
        description="Steps of a gray curve that equalizes the training data; 0: none.",
    )
    annotated_weight: int = Field(1, ge=1, description="How often a tumor-annotated case counts.")


class PhantomConfig(_Section):
    """Synthetic scans mixed in."""

    share: float = Field(0.0, ge=0, le=1, description="Share of the samples.")
    first_seed: int = Field(1000, ge=100, description="Seeds below 100 belong to tests and demo.")
    count: int = Field(0, ge=0, description="Number of phantoms.")


class MassConfig(_Section):
    """Synthetic masses painted into real scans, see `training.masses`."""

    lesion_share: float = Field(0.0, ge=0, le=1, description="Share with lesions in the liver.")
    cyst_share: float = Field(0.0, ge=0, le=1, description="Share with a cyst, which is no tumor.")
    look_alike_share: float = Field(0.0, ge=0, le=1, description="Share with masses beside it.")
    count: int = Field(2, ge=1, description="Most masses of a kind in one sample.")
    lesion_radius_mm: tuple[float, float] = (1.5, 40.0)
    look_alike_radius_mm: tuple[float, float] = (12.0, 50.0)
    known_rim_mm: float = Field(8.0, ge=0, description="Rim around a lesion, label certain.")


class AugmentConfig(_Section):
    """Random changes of a sample."""

    min_scale: float = Field(0.8, gt=0, description="Least magnification step of the patch grid.")
    max_scale: float = Field(1.25, gt=0, description="Largest magnification step.")
    rotation_sd_deg: float = Field(8.0, ge=0, description="Standard deviation of the rotation.")
    shift_px: float = Field(20.0, ge=0, description="Largest shift of the patch center.")
    gain_share: float = Field(0.5, ge=0, le=1, description="Share with another gain and offset.")
    noise_share: float = Field(0.3, ge=0, le=1, description="Share with added noise.")
    blur_share: float = Field(0.2, ge=0, le=1, description="Share blurred in the plane.")
    phase_share: float = Field(0.2, ge=0, le=1, description="Share with another contrast phase.")
    thick_share: float = Field(0.15, ge=0, le=1, description="Share with thicker slices.")
    elastic_sd_mm: float = Field(2.5, ge=0, description="Standard deviation of the bending.")
    cut_share: float = Field(0.3, ge=0, le=1, description="Share of 3D scans cut short.")
    reverse_share: float = Field(0.15, ge=0, le=1, description="Share with reversed slice order.")


class UNetConfig(_Section):
    """A plain U-Net."""

    architecture: Literal["unet"] = "unet"
    dimensions: Literal[2, 3] = Field(2, description="2 for slice stacks, 3 for volumes.")
    channels: tuple[int, ...] = Field(description="Feature channels of each level.")
    stride: int = Field(1, ge=1, le=4, description="Elements an axis that the finest level joins.")

    @property
    def multiple(self) -> int:
        """What the edges of an input are multiples of."""
        return int(self.stride * 2 ** (len(self.channels) - 1))


class ResNetUNetConfig(_Section):
    """A U-Net whose encoder is ResNet-34, over slices."""

    architecture: Literal["unet-resnet34"]
    encoder_weights: Path | None = Field(
        None, description="File of weights, named as in torchvision, that the encoder begins with."
    )
    dimensions: ClassVar[int] = 2
    multiple: ClassVar[int] = 32


class VNetConfig(_Section):
    """A V-Net, over volumes."""

    architecture: Literal["vnet"]
    dimensions: ClassVar[int] = 3
    multiple: ClassVar[int] = 16


def _architecture(network: object) -> str:
    """Give the name that a file, or the section made of it, says; a file may leave it out."""
    if isinstance(network, dict):
        return str(network.get("architecture", "unet"))
    return str(getattr(network, "architecture", None))


NetworkConfig: TypeAlias = Annotated[
    Annotated[UNetConfig, Tag("unet")]
    | Annotated[ResNetUNetConfig, Tag("unet-resnet34")]
    | Annotated[VNetConfig, Tag("vnet")],
    Discriminator(_architecture),
]


class OptimizationConfig(_Section):
    """How the weights are found."""

    warm_start: str | None = Field(None, description="Stage whose weights to begin with.")
    steps: int = Field(gt=0, description="The learning rate decays over them.")
    minutes: float | None = Field(
        None, gt=0, description="Ends a run earlier, with the learning rate decayed by then."
    )
    batch: int = Field(8, ge=1, description="Samples of a step.")
    loss: tuple[LossTerm, ...] = Field(
        ("cross_entropy", "dice"), min_length=1, description="Terms that are added up."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    final_share: float = Field(
        0.01, ge=0, le=1, description="Share of the learning rate that is left in the end."
    )
    weight_decay: float = Field(1e-4, ge=0, description="Weight decay of AdamW; 0 is Adam.")
    bf16: bool = Field(default=True, description="Compute the network in bfloat16.")
    seed: int = Field(0, ge=0, description="Seed of all random numbers.")


class ExportConfig(_Section):
    """How the network is run after training."""

    tile_px: int = Field(384, ge=32, description="Larger slices are cut into tiles of this edge.")
    tile_slices: int = Field(128, ge=16, description="Slices of a tile of a 3D network.")
    batch: int = Field(4, ge=1, description="Slices that a 2.5D network computes at once.")


class Experiment(_Section):
    """One training run."""

    name: str = Field(min_length=1, description="Name of the stage that is trained.")
    labels: tuple[str, ...] = Field(description="Classes of the network, background first.")
    data: DataConfig
    phantoms: PhantomConfig = PhantomConfig()
    masses: MassConfig = MassConfig()
    augment: AugmentConfig = AugmentConfig()
    network: NetworkConfig
    optimization: OptimizationConfig
    export: ExportConfig = ExportConfig()

    def adapted(
        self,
        *,
        held_out_fold: int | None,
        steps: int | None = None,
        minutes: float | None = None,
        encoder_weights: Path | None = None,
    ) -> Self:
        """Give the experiment with another fold kept apart, and perhaps length and weights."""
        data = self.data.model_copy(update={"held_out_fold": held_out_fold})
        length = {"steps": steps or self.optimization.steps, "minutes": minutes}
        optimization = self.optimization.model_copy(update=length)
        network = self.network
        if encoder_weights is not None and self.takes_encoder_weights:
            network = network.model_copy(update={"encoder_weights": encoder_weights})
        return self.model_copy(
            update={"data": data, "optimization": optimization, "network": network}
        )

    def without_changes(self) -> Self:
        """Give the experiment with samples as they are: nothing is painted, turned or scaled."""
        still = AugmentConfig(
            min_scale=1.0,
            max_scale=1.0,
            rotation_sd_deg=0.0,
            shift_px=0.0,
            gain_share=0.0,
            noise_share=0.0,
            blur_share=0.0,
            phase_share=0.0,
            thick_share=0.0,
            elastic_sd_mm=0.0,
            cut_share=0.0,
            reverse_share=0.0,
        )
        return self.model_copy(
            update={
                "augment": still,
                "phantoms": PhantomConfig(),
                "masses": MassConfig(),
            }
        )

    @model_validator(mode="after")
    def _patch_fits(self) -> Self:
        edges = {"patch_px": self.data.patch_px}
        if self.network.dimensions == 3:
            edges["patch_slices"] = self.data.patch_slices
        for name, edge in edges.items():
            if edge % self.network.multiple:
                raise ValueError(
                    f"data.{name} is {edge}; this network needs a multiple of "
                    f"{self.network.multiple}"
                )
        return self

    @model_validator(mode="after")
    def _is_shown_what_there_is(self) -> Self:
        self.data.view.check_inside(WINDOW)
        if self.network.architecture == "vnet" and 16 % self.inputs:
            raise ValueError(f"a V-Net takes 1, 2, 4, 8 or 16 gray curves, not {self.inputs}")
        return self

    @property
    def inputs(self) -> int:
        """Input channels of the network."""
        slices = self.data.context_slices if self.network.dimensions == 2 else 1
        curves = len(self.data.view.curves) + (self.data.equalized_steps > 0)
        return slices * max(1, curves)

    @property
    def takes_encoder_weights(self) -> bool:
        """Whether the network can begin with an encoder that others trained."""
        return self.network.architecture == "unet-resnet34"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a TOML file.

        Raises
        ------
        ExperimentError
            It cannot be read, or says something unknown.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ExperimentError(f"{path}: {error}") from error
