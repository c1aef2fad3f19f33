"""Settings of the model, and of what else marks tumor."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from config.section import Section


class TumorEngine(StrEnum):
    """What marks tumor in the liver that the model found."""

    NETWORK = "network"
    """The model itself."""
    KMEANS = "kmeans"
    """K-means clusters of the CT numbers."""
    DBSCAN = "dbscan"
    """Density-based clusters of the CT numbers, with noise between and beside them."""
    GMM = "gmm"
    """A mixture of Gaussians over the CT numbers."""


class TumorCluster(StrEnum):
    """Which of the clusters in a liver is taken for tumor; means are those of the first channel."""

    AUTO = "auto"
    """`NOISE` for DBSCAN, `DARKEST` else."""
    SMALLEST = "smallest"
    """The cluster with the fewest voxels, without noise."""
    DARKEST = "darkest"
    """The cluster with the lowest mean, without noise."""
    BRIGHTEST = "brightest"
    """The cluster with the highest mean, without noise."""
    NOISE = "noise"
    """What DBSCAN puts into no cluster, darker or brighter."""
    DARK_NOISE = "dark-noise"
    """What DBSCAN puts into no cluster, where it is darker than the mean of all clusters."""


NOISE_CHOICES = frozenset({TumorCluster.NOISE, TumorCluster.DARK_NOISE})
"""What only DBSCAN has."""


MorphologyText = Annotated[str, Field(pattern=r"^(none|(disk|square) \d+(\.\d+)? (mm|px))$")]
"""A structuring element in words: ``disk 1.2 mm``, ``square 5 px``, ``none``."""


class ClusteringSettings(Section):
    """Clusters of CT numbers in the liver, where `inference.tumor_engine` is no network."""

    low_hu: int = Field(-200, ge=-1024, description="CT numbers below count as this.")
    high_hu: int = Field(250, le=3071, description="CT numbers above count as this.")
    clusters: Annotated[int, Field(ge=2, le=9)] | Literal["silhouette"] = Field(
        2,
        description="Clusters of kmeans, components of gmm; 'silhouette' takes the number from 2 "
        "to 9 with the best silhouette.",
    )
    eps_sd: float = Field(
        0.07, gt=0, description="Radius of dbscan, in standard deviations of each channel."
    )
    min_samples: float = Field(
        0.035,
        gt=0,
        description="Voxels within that radius that make a core of dbscan; below 1, the share of "
        "all voxels that are clustered.",
    )
    tolerance: float = Field(
        1e-6, gt=0, description="The gain of mean log-likelihood below which gmm has converged."
    )
    tumor_cluster: TumorCluster = Field(
        TumorCluster.AUTO,
        description="Which cluster is tumor; auto is noise for dbscan and the darkest else.",
    )
    erosion: MorphologyText = Field(
        "disk 1.2 mm",
        description="Shape and radius of the erosion in each slice, in mm or px; or none.",
    )
    dilation: MorphologyText = Field(
        "square 2.9 mm", description="The same for the dilation that follows, within the liver."
    )

    @model_validator(mode="after")
    def _range_is_ordered(self) -> "ClusteringSettings":
        if self.low_hu >= self.high_hu:
            raise ValueError("low_hu must be below high_hu")
        return self


class InferenceSettings(Section):
    """The model and where it runs."""

    model: str = Field(
        "hepar-liver-ct",
        description="A model package: NAME or NAME@VERSION of one that ships with the node or was "
        "added by `hepar model add`, or the path of a folder.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs.")
    backend: Literal["auto", "openvino", "onnxruntime"] = Field(
        "auto", description="Inference engine; auto takes the fastest for the device."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Arithmetic; auto takes bf16 on CPUs that have it, and fp16 on GPUs.",
    )
    candidate_filter: bool = Field(
        default=True,
        description="Drop what the model's filter takes for no lesion, where the model has one.",
    )
    threads: int = Field(0, ge=0, description="CPU threads of the model; 0 means all cores.")
    min_slices: int = Field(10, ge=2, description="A series with fewer slices is rejected.")
    tumor_engine: TumorEngine = Field(
        TumorEngine.NETWORK,
        description="What marks tumor in the liver: the model, or clusters of its CT numbers.",
    )
    clustering: ClusteringSettings = ClusteringSettings()

    @model_validator(mode="after")
    def _noise_needs_dbscan(self) -> "InferenceSettings":
        choice = self.clustering.tumor_cluster
        if choice in NOISE_CHOICES and self.tumor_engine in (TumorEngine.KMEANS, TumorEngine.GMM):
            raise ValueError(
                f"clustering.tumor_cluster is {choice.value!r}, and {self.tumor_engine.value} has "
                "no noise; choose 'darkest', 'brightest' or 'smallest', or tumor_engine 'dbscan'"
            )
        return self
