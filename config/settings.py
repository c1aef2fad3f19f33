"""The settings tree.

Each field carries its unit in its name and its meaning in its description; ``hepar config show``
and ``docs/reference/settings.md`` are generated from this module.
"""

from collections import Counter
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


def _check_ae_title(value: str) -> str:
    """Refuse what PS3.5 6.2 (VR AE) does not allow in an AE title."""
    if not value.strip() or len(value) > 16:
        raise ValueError("an AE title has 1 to 16 characters and is not blank")
    if value != value.strip() or "\\" in value or not value.isascii() or not value.isprintable():
        raise ValueError(
            "an AE title has printable ASCII characters only, no backslash and no outer spaces"
        )
    return value


def _check_url(value: str) -> str:
    """Refuse what is no root of a DICOMweb service (PS3.18 8.2), and give it without final /."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write the root of the service as https://host/path, or http://host/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("put user and password into keys of their own, not into the URL")
    if parts.query or parts.fragment:
        raise ValueError("the root of a DICOMweb service has neither ? nor #")
    return value.rstrip("/")


AeTitle = Annotated[str, AfterValidator(_check_ae_title)]
ServiceUrl = Annotated[str, AfterValidator(_check_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
Scalar = str | int | float | bool

DEFAULT_PROFILE = "ohif"
"""Segmentation and report in the forms that every viewer tried can show."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PeerRole(StrEnum):
    """What a peer may do with us."""

    SOURCE = "source"
    """It may open associations to us and send instances."""
    DESTINATION = "destination"
    """Results are delivered to it."""


class Proof(StrEnum):
    """How a destination proves that it keeps the results."""

    COMMITMENT = "commitment"
    """It commits itself to keep them: storage commitment, PS3.4 annex J."""
    FIND = "find"
    """It lists each object when asked for it by C-FIND, or QIDO-RS."""
    GET = "get"
    """It gives each object back by C-GET, or WADO-RS, with the same content."""


class Retrieval(StrEnum):
    """How instances are fetched from a peer."""

    GET = "get"
    """C-GET: on the association that asks for them; of a DICOMweb service, WADO-RS."""
    MOVE = "move"
    """C-MOVE: the peer sends them to our receiver, which must run and be known to it."""


class ResultRole(StrEnum):
    """Which of the result objects it is."""

    SEG = "seg"
    """The segmentation (PS3.3 A.51)."""
    SR = "sr"
    """The measurement report (PS3.16 TID 1500)."""
    OVERLAY = "overlay"
    """Color pictures of the slices with contours, and a summary page (PS3.3 A.8)."""
    RTSTRUCT = "rtstruct"
    """The contours as a structure set for radiotherapy (PS3.3 A.19)."""
    PDF = "pdf"
    """The report for people, as an encapsulated PDF (PS3.3 A.45.1)."""
    KEY_OBJECTS = "key-objects"
    """The slices with the largest diameter of each lesion (PS3.3 A.35.4)."""


class SegmentationForm(StrEnum):
    """How the voxels of a segmentation are written (PS3.3 C.8.20.2)."""

    BINARY = "binary"
    """One bit a voxel, a frame a segment and slice."""
    LABELMAP = "labelmap"
    """The number of its segment for each voxel, a frame a slice."""
    FRACTIONAL = "fractional"
    """The probability of liver and of tumor, 0 to 255."""


class LesionForm(StrEnum):
    """How many segments the lesions have."""

    SEPARATE = "separate"
    """One each, up to `results.max_lesion_segments`."""
    TOGETHER = "together"
    """One for all."""


class RuleAction(StrEnum):
    """What a selection rule decides."""

    PROCESS = "process"
    SKIP = "skip"


class PeerTls(StrEnum):
    """Whether associations to a peer are encrypted."""

    OFF = "off"
    """They are not."""
    ON = "on"
    """They are; the peer's certificate is checked, and the name in it must be `host`."""
    ANY_NAME = "any-name"
    """They are; the certificate is checked, but not the name in it."""


class TlsSettings(_Section):
    """DICOM TLS (PS3.15 B.13): the certificate of this node, and whom it trusts."""

    port: Port = Field(2762, description="TCP port for TLS.")
    only: bool = Field(default=False, description="Do not listen on `node.port`, without TLS.")
    certificate: Path = Field(description="PEM file: our certificate, and those that signed it.")
    key: Path = Field(description="PEM file: our private key, without a password.")
    authorities: Path = Field(description="PEM file: who signs the certificates of peers.")
    ask_certificate: bool = Field(
        default=True, description="Refuse callers that have no certificate of such an authority."
    )


class NodeSettings(_Section):
    """The application entity of this node."""

    ae_title: AeTitle = Field("HEPAR", description="AE title of this node.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all interfaces.")
    port: Port = Field(11112, description="TCP port to listen on.")
    check_called_ae_title: bool = Field(
        default=True, description="Reject associations that call another AE title than ours."
    )
    max_associations: int = Field(
        25, ge=1, le=1000, description="Associations served at the same time; more are rejected."
    )
    max_pdu_bytes: int = Field(
        131072, ge=0, description="Largest PDU that we receive; 0 means no limit."
    )
    acse_timeout_s: float = Field(30.0, gt=0, description="Longest wait for an association reply.")
    dimse_timeout_s: float = Field(60.0, gt=0, description="Longest wait for a DIMSE message.")
    network_timeout_s: float = Field(
        60.0, gt=0, description="Longest silence on an open association before it is aborted."
    )
    tls: TlsSettings | None = Field(None, description="DICOM TLS; none means no TLS.")


class PollSettings(_Section):
    """A peer is asked for new CT series, which the rules may want; without this section it is not.

    A series is fetched once two polls in a row have seen the same number of instances.
    """

    every_s: float = Field(300.0, gt=0, description="Pause between two polls.")
    days: int = Field(
        2, ge=0, le=36500, description="How many days back the study may date from, by UTC."
    )
    max_series: int = Field(20, ge=1, description="Series fetched in one poll; the rest waits.")
    by: Retrieval = Field(
        Retrieval.GET,
        description="'get' (C-GET, or WADO-RS), or 'move': C-MOVE to this node, to which the peer "
        "must be a source.",
    )


class PeerSettings(_Section):
    """Another application entity, spoken to by DIMSE."""

    ae_title: AeTitle = Field(description="AE title of the peer.")
    host: str = Field(description="Host name or address of the peer.")
    port: Port = Field(104, description="TCP port of the peer.")
    tls: PeerTls = Field(
        PeerTls.OFF,
        description="'on' encrypts associations to it, with the certificate of [node.tls]; "
        "'any-name' does not check the name in its certificate.",
    )
    roles: frozenset[PeerRole] = Field(
        frozenset(), description="What it may do: 'source' sends to us, 'destination' gets results."
    )
    proofs: tuple[Proof, ...] = Field(
        (),
        description="What a destination must do before a job is CONFIRMED, in this order: "
        "'commitment' (storage commitment), 'find' (list each object), 'get' (give each back).",
    )
    profile: str = Field(
        DEFAULT_PROFILE,
        description="What a destination gets, and in which form: a name of [profiles].",
    )
    networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        (),
        description="Networks from which a source may call; empty means the addresses of `host`.",
    )
    check_address: bool = Field(
        default=True, description="Refuse a source that calls from an address that is not its own."
    )
    poll: PollSettings | None = Field(None, description="Look for new series there.")
    ask_counts: bool = Field(
        default=False,
        description="Ask a source by C-FIND how many instances a series has that it sends: the "
        "series begins once they are here, and is waited for while they are not.",
    )

    @model_validator(mode="after")
    def _sends_what_is_counted(self) -> "PeerSettings":
        if self.ask_counts and PeerRole.SOURCE not in self.roles:
            raise ValueError("ask_counts needs the role 'source': it is about what the peer sends")
        return self

    @model_validator(mode="after")
    def _may_send_what_is_polled(self) -> "PeerSettings":
        moves = self.poll is not None and self.poll.by is Retrieval.MOVE
        if moves and PeerRole.SOURCE not in self.roles:
            raise ValueError("poll.by = 'move' needs the role 'source': the peer sends to us then")
        return self

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.host}:{self.port}"


class WebPeerSettings(_Section):
    """A DICOMweb service (PS3.18): a peer that has a `url`."""

    url: ServiceUrl = Field(description="Root of the service, as https://pacs.example/dicom-web.")
    ae_title: AeTitle = Field(
        "DICOMWEB",
        description="Name of the service in messages, and CallingAETitle of what is fetched "
        "from it.",
    )
    user: str | None = Field(None, description="User name, for HTTP basic authentication.")
    password: SecretStr | None = Field(None, description="Password of that user.")
    token: SecretStr | None = Field(None, description="Bearer token, instead of user and password.")
    authorities: Path | None = Field(
        None, description="PEM file: who signs its certificate; none means those of this machine."
    )
    roles: frozenset[PeerRole] = Field(
        frozenset(), description="'destination': it gets results, by STOW-RS."
    )
    proofs: tuple[Proof, ...] = Field(
        (),
        description="What a destination must do before a job is CONFIRMED, in this order: "
        "'find' (list each object, QIDO-RS), 'get' (give each back, WADO-RS).",
    )
    profile: str = Field(
        DEFAULT_PROFILE,
        description="What a destination gets, and in which form: a name of [profiles].",
    )
    poll: PollSettings | None = Field(None, description="Look for new series there.")

    @property
    def address(self) -> str:
        """Where it is."""
        return self.url

    @model_validator(mode="before")
    @classmethod
    def _is_no_application_entity(cls, keys: Any) -> Any:
        for key in set(keys) - set(cls.model_fields) if isinstance(keys, dict) else ():
            if key in PeerSettings.model_fields:
                raise ValueError(
                    f"a peer with `url` is spoken to by DICOMweb and has no `{key}`; leave one of "
                    "them out, or make two peers of it"
                )
        return keys

    @field_validator("roles")
    @classmethod
    def _only_receives(cls, roles: frozenset[PeerRole]) -> frozenset[PeerRole]:
        if PeerRole.SOURCE in roles:
            raise ValueError(
                "a peer with `url` cannot send to this node; fetch from it with `hepar pull`, or "
                "make a second peer with ae_title and host"
            )
        return roles

    @field_validator("proofs")
    @classmethod
    def _web_has_no_commitment(cls, proofs: tuple[Proof, ...]) -> tuple[Proof, ...]:
        if Proof.COMMITMENT in proofs:
            raise ValueError(
                "storage commitment goes over DIMSE; for a peer with `url` choose 'find' or 'get'"
            )
        return proofs

    @field_validator("poll")
    @classmethod
    def _web_has_no_move(cls, poll: PollSettings | None) -> PollSettings | None:
        if poll is not None and poll.by is Retrieval.MOVE:
            raise ValueError("C-MOVE goes over DIMSE; a peer with `url` is polled by 'get'")
        return poll

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> "WebPeerSettings":
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        if self.user is not None and self.token is not None:
            raise ValueError("give user and password, or token, not both")
        return self


AnyPeer = PeerSettings | WebPeerSettings


def _protocol_of(peer: Any) -> str:
    """Tell the two kinds of peers apart by the key `url`."""
    web = "url" in peer if isinstance(peer, dict) else isinstance(peer, WebPeerSettings)
    return "dicomweb" if web else "dimse"


_TaggedPeer = Annotated[
    Annotated[PeerSettings, Tag("dimse")] | Annotated[WebPeerSettings, Tag("dicomweb")],
    Discriminator(_protocol_of),
]


class ReceiveSettings(_Section):
    """Receiving and settling."""

    quiet_s: float = Field(
        5.0, ge=0, description="A series is taken as complete after this long without an instance."
    )
    max_wait_s: float = Field(
        120.0,
        ge=0,
        description="A series of which instances are known to be missing is waited for until this "
        "long without one; then it is decided on as it is, and the report says so.",
    )
    min_free_bytes: int = Field(
        1_000_000_000, ge=0, description="Free disk space below which instances are refused (A700)."
    )
    max_held_bytes: int = Field(
        4_000_000_000,
        ge=1_000_000,
        description="Bytes that are received and not yet answered, over all associations; one that "
        "would make it more is closed.",
    )
    extra_sop_classes: tuple[str, ...] = Field(
        (),
        description="UIDs of further storage SOP classes to accept, besides CT, Enhanced CT "
        "and Legacy Converted Enhanced CT.",
    )


class Condition(_Section):
    """A test of one attribute; all given parts must hold."""

    equals: Scalar | None = Field(None, description="The value is exactly this.")
    one_of: tuple[Scalar, ...] | None = Field(None, description="The value is one of these.")
    matches: str | None = Field(None, description="A regular expression is found in the value.")
    contains: str | None = Field(
        None, description="One of the values of a multi-valued attribute is exactly this."
    )
    min: float | None = Field(None, description="The number is at least this.")
    max: float | None = Field(None, description="The number is at most this.")
    present: bool | None = Field(None, description="The attribute is there and not empty.")

    @model_validator(mode="after")
    def _says_something(self) -> "Condition":
        if not self.model_fields_set:
            raise ValueError(
                "a condition needs one of: " + ", ".join(sorted(type(self).model_fields))
            )
        return self


class RuleSettings(_Section):
    """One selection rule; the first rule whose conditions all hold decides."""

    name: str = Field(min_length=1, description="Name of the rule, as shown to people.")
    action: RuleAction = Field(description="'process' or 'skip'.")
    reason: str = Field("", description="Sentence for the administrator; empty means the name.")
    when: dict[str, Scalar | Condition] = Field(
        default_factory=dict,
        description="DICOM keyword (or CallingAETitle, InstanceCount) to a value or a condition; "
        "empty means always.",
    )


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


class ClusteringSettings(_Section):
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


class InferenceSettings(_Section):
    """The model and where it runs."""

    model: str = Field(
        "hepar-liver-ct", description="Name of a shipped model package, or the path of a folder."
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


class QueueSettings(_Section):
    """How workers take jobs."""

    workers: int = Field(1, ge=1, le=64, description="Worker processes started by `hepar serve`.")
    poll_s: float = Field(0.2, gt=0, description="How often an idle worker looks for a job.")
    lease_s: float = Field(
        30.0, gt=0, description="A worker silent for this long has lost its job to another."
    )
    max_attempts: int = Field(3, ge=1, description="Runs of a job before it is FAILED.")
    max_job_s: float = Field(
        3600.0, gt=0, description="A run that takes longer hangs: its worker process is ended."
    )


class PlausibilitySettings(_Section):
    """Limits beyond which a result is called doubtful, in the report and in the job."""

    min_liver_ml: float = Field(
        600.0, ge=0, description="Volume of the liver, with its lesions, below which it is small."
    )
    max_liver_ml: float = Field(4000.0, gt=0, description="The same above which it is large.")
    max_tumor_burden: float = Field(
        0.5, gt=0, le=1, description="Share of the liver, 0 to 1, that lesions may have."
    )
    max_cut_cm2: float = Field(
        5.0, ge=0, description="Area of liver on a border of the scan above which it is cut off."
    )
    max_scattered: float = Field(
        0.02, ge=0, le=1, description="Share of the liver that may lie apart from its largest part."
    )

    @model_validator(mode="after")
    def _range_is_ordered(self) -> "PlausibilitySettings":
        if self.min_liver_ml >= self.max_liver_ml:
            raise ValueError("min_liver_ml must be below max_liver_ml")
        return self


class ResultSettings(_Section):
    """The result objects."""

    seg_series_number: int = Field(9100, ge=1, description="Series number of the SEG.")
    seg_series_description: str = Field(
        "AI liver segmentation, not reviewed",
        max_length=64,
        description="Series description of the SEG.",
    )
    sr_series_number: int = Field(9101, ge=1, description="Series number of the SR.")
    sr_series_description: str = Field(
        "AI liver measurements, not reviewed",
        max_length=64,
        description="Series description of the SR.",
    )
    overlay_series_number: int = Field(9102, ge=1, description="Series number of the overlay.")
    overlay_series_description: str = Field(
        "AI liver contours, not reviewed",
        max_length=64,
        description="Series description of the overlay.",
    )
    rtstruct_series_number: int = Field(9103, ge=1, description="Series number of the RTSTRUCT.")
    rtstruct_series_description: str = Field(
        "AI liver contours for planning, not reviewed",
        max_length=64,
        description="Series description of the RTSTRUCT.",
    )
    pdf_series_number: int = Field(9104, ge=1, description="Series number of the PDF.")
    pdf_series_description: str = Field(
        "AI liver report, not reviewed",
        max_length=64,
        description="Series description of the PDF.",
    )
    key_objects_series_number: int = Field(
        9105, ge=1, description="Series number of the key object selection."
    )
    key_objects_series_description: str = Field(
        "AI liver key images, not reviewed",
        max_length=64,
        description="Series description of the key object selection.",
    )
    tumor_type: Literal["neoplasm", "lesion"] = Field(
        "neoplasm", description="Segmented property type of the tumor segments."
    )
    max_lesion_segments: int = Field(
        20, ge=1, description="Lesions with a segment of their own; smaller ones are pooled."
    )
    report_rejected: bool = Field(
        default=True,
        description="Send a report also on a series that cannot be evaluated, which says why.",
    )
    plausibility: PlausibilitySettings = PlausibilitySettings()

    @model_validator(mode="after")
    def _series_numbers_differ(self) -> "ResultSettings":
        keys = [key for key in type(self).model_fields if key.endswith("_series_number")]
        numbers = Counter(getattr(self, key) for key in keys)
        alike = [key for key in keys if numbers[getattr(self, key)] > 1]
        if alike:
            raise ValueError(f"{' and '.join(alike)} must differ")
        return self


class ProfileSettings(_Section):
    """What a destination gets, and in which form."""

    objects: tuple[ResultRole, ...] = Field(
        (ResultRole.SEG, ResultRole.SR),
        min_length=1,
        description="Which objects: 'seg', 'sr', 'overlay', 'rtstruct', 'pdf', 'key-objects'.",
    )
    segmentation: SegmentationForm = Field(
        SegmentationForm.BINARY,
        description="Form of the SEG: 'binary', 'labelmap', or 'fractional' (probabilities, with "
        "lesions = 'together').",
    )
    lesions: LesionForm = Field(
        LesionForm.SEPARATE,
        description="'separate': a segment for each lesion; 'together': one tumor segment.",
    )
    empty_frames: bool = Field(
        default=False, description="Keep frames of the SEG that have no voxel of their segment."
    )
    image_library: bool = Field(
        default=False, description="List all source images in the SR (TID 1600): large and slow."
    )
    overlay_step_mm: float = Field(
        3.0,
        ge=0,
        description="Least distance between slices of the overlay; those with the largest "
        "diameters are always in it. 0 takes every slice with liver.",
    )

    @model_validator(mode="after")
    def _measures_what_it_segments(self) -> "ProfileSettings":
        if ResultRole.SR in self.objects and ResultRole.SEG not in self.objects:
            raise ValueError("'sr' needs 'seg': its measurements cite the segments")
        return self

    @model_validator(mode="after")
    def _probabilities_are_of_tumor(self) -> "ProfileSettings":
        if self.is_fractional and self.lesions is LesionForm.SEPARATE:
            raise ValueError(
                "segmentation = 'fractional' needs lesions = 'together': the probability is that "
                "of tumor, not that of one lesion"
            )
        return self

    @property
    def is_fractional(self) -> bool:
        """Whether it needs probabilities."""
        return ResultRole.SEG in self.objects and self.segmentation is SegmentationForm.FRACTIONAL


def ready_made_profiles() -> dict[str, ProfileSettings]:
    """Give the profiles that every node has."""
    seg, sr, overlay = ResultRole.SEG, ResultRole.SR, ResultRole.OVERLAY
    return {
        DEFAULT_PROFILE: ProfileSettings(objects=(seg, sr)),
        "slicer": ProfileSettings(objects=(seg, sr), empty_frames=True, image_library=True),
        "orthanc": ProfileSettings(objects=(seg, sr, overlay, ResultRole.PDF)),
        "sc-only": ProfileSettings(objects=(overlay,)),
        "rt": ProfileSettings(objects=(ResultRole.RTSTRUCT,)),
    }


class DeliverySettings(_Section):
    """Delivery of results to destinations."""

    first_retry_s: float = Field(5.0, gt=0, description="Pause before the second attempt.")
    max_retry_s: float = Field(
        900.0,
        gt=0,
        description="Longest pause between attempts; each pause doubles up to this, and is this at "
        "once where the same would be refused again.",
    )
    give_up_h: float = Field(
        72.0, gt=0, description="A destination that fails for this long makes the delivery FAILED."
    )


Days = Annotated[float, Field(gt=0)]


class RetentionSettings(_Section):
    """What is removed, and when; by default everything is kept, and what is needed always is."""

    instances_days: Days | None = Field(
        None,
        description="Days for which received instances are kept after their last job is DELIVERED "
        "(CONFIRMED where proof is asked for); none keeps them.",
    )
    results_days: Days | None = Field(
        None,
        description="Days for which the files of results are kept after the job is DELIVERED "
        "(CONFIRMED), or SUPERSEDED; none keeps them. Results that were sent nowhere are kept.",
    )
    unused_days: Days | None = Field(
        None,
        description="Days for which series are kept that gave no result: skipped by a rule, "
        "REJECTED, CANCELED; none keeps them.",
    )
    failed_days: Days | None = Field(
        None,
        description="Days for which instances and results of FAILED jobs are kept; none keeps "
        "them, whatever `max_gb` says.",
    )
    max_gb: float | None = Field(
        None,
        gt=0,
        description="Size of instances and results in GB (1e9 bytes) above which the oldest go "
        "before their days are over; none means no limit.",
    )


class WebSettings(_Section):
    """The web role."""

    host: str = Field("127.0.0.1", description="Address of the web pages; keep it on loopback.")
    port: Port = Field(8080, description="TCP port of the web pages.")


class DatabaseSettings(_Section):
    """The job database."""

    url: SecretStr | None = Field(
        None,
        description="postgresql://USER:PASSWORD@HOST/NAME (extra `postgresql`) or sqlite:///FILE; "
        "none means SQLite in the data folder.",
    )
    timeout_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="Longest wait for a lock, and for a PostgreSQL that does not answer; then the "
        "instance is refused, or the work tried again.",
    )


class LogSettings(_Section):
    """Log lines on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level.")
    format: Literal["text", "json"] = Field("text", description="Lines for people or for machines.")


def default_rules() -> tuple[RuleSettings, ...]:
    """Give the rules of a node whose settings name none."""
    return (
        RuleSettings(
            name="localizer",
            action=RuleAction.SKIP,
            reason="It is a localizer (scout), not an axial scan.",
            when={"ImageType": Condition(contains="LOCALIZER")},
        ),
        RuleSettings(
            name="not a CT",
            action=RuleAction.SKIP,
            reason="The modality is not CT.",
            when={"Modality": Condition(matches="^(?!CT$)")},
        ),
        RuleSettings(
            name="CT",
            action=RuleAction.PROCESS,
            reason="It is a CT series.",
            when={"Modality": "CT"},
        ),
    )


class Settings(BaseSettings):
    """All settings of one node.

    Constructing it reads nothing but its arguments; `config.load_settings` merges the sources.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="HEPAR_", env_nested_delimiter="__"
    )

    data_dir: Path = Field(
        Path("hepar-data"), description="Folder of everything that the node holds."
    )
    node: NodeSettings = NodeSettings()
    peers: dict[str, _TaggedPeer] = Field(
        default_factory=dict,
        description="Other application entities and DICOMweb services, by a name of your choice.",
    )
    receive: ReceiveSettings = ReceiveSettings()
    rules: tuple[RuleSettings, ...] = Field(
        default_factory=default_rules, description="Selection rules in order; first match decides."
    )
    inference: InferenceSettings = InferenceSettings()
    queue: QueueSettings = QueueSettings()
    results: ResultSettings = ResultSettings()
    profiles: dict[str, ProfileSettings] = Field(
        default_factory=ready_made_profiles,
        description="What destinations get; `peers.*.profile` names one. Ready-made are ohif, "
        "slicer, orthanc, sc-only, rt; a section of such a name replaces it.",
    )
    delivery: DeliverySettings = DeliverySettings()
    retention: RetentionSettings = RetentionSettings()
    web: WebSettings = WebSettings()
    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the arguments only, so that a `Settings` value never depends on its surroundings."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @field_validator("profiles", mode="after")
    @classmethod
    def _add_ready_made(cls, own: dict[str, ProfileSettings]) -> dict[str, ProfileSettings]:
        return ready_made_profiles() | own

    @model_validator(mode="after")
    def _tls_has_a_certificate(self) -> "Settings":
        wanting = [name for name, peer in self._entities.items() if peer.tls is not PeerTls.OFF]
        if wanting and self.node.tls is None:
            raise ValueError(f"peers.{wanting[0]}.tls needs the section [node.tls]")
        return self

    @model_validator(mode="after")
    def _profiles_are_there(self) -> "Settings":
        for name, peer in self.peers.items():
            if peer.profile not in self.profiles:
                known = ", ".join(sorted(self.profiles))
                raise ValueError(f"peers.{name}.profile {peer.profile!r} is none of {known}")
        return self

    @model_validator(mode="after")
    def _probabilities_come_from_a_network(self) -> "Settings":
        engine = self.inference.tumor_engine
        fractional = [name for name, one in self.profiles.items() if one.is_fractional]
        if fractional and engine is not TumorEngine.NETWORK:
            raise ValueError(
                f"profiles.{fractional[0]}.segmentation is 'fractional', and "
                f"inference.tumor_engine {engine.value!r} gives no probabilities; choose 'binary', "
                "or 'network'"
            )
        return self

    @property
    def database_url(self) -> str:
        """URL of the job database, SQLite in the data folder unless another is set."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'hepar.db'}"

    @property
    def destinations(self) -> dict[str, AnyPeer]:
        """The peers that results are delivered to, by name."""
        return {k: p for k, p in self.peers.items() if PeerRole.DESTINATION in p.roles}

    @property
    def deliveries(self) -> dict[str, str]:
        """The name of each destination, and of its profile."""
        return {name: peer.profile for name, peer in sorted(self.destinations.items())}

    @property
    def delivered_profiles(self) -> dict[str, ProfileSettings]:
        """The profiles of the destinations, by name; the default where there is no destination."""
        names = set(self.deliveries.values()) or {DEFAULT_PROFILE}
        return {name: self.profiles[name] for name in sorted(names)}

    @property
    def delivers_probabilities(self) -> bool:
        """Whether a destination gets a fractional segmentation."""
        return any(profile.is_fractional for profile in self.delivered_profiles.values())

    @property
    def polled(self) -> dict[str, PollSettings]:
        """The polls of peers that are asked for new series, by name of the peer."""
        return {k: p.poll for k, p in self.peers.items() if p.poll is not None}

    @property
    def proving(self) -> dict[str, AnyPeer]:
        """The destinations that are asked for proof, by name."""
        return {k: p for k, p in self.destinations.items() if p.proofs}

    @property
    def committing(self) -> dict[str, PeerSettings]:
        """The destinations that report storage commitment to us, by name."""
        destinations = self.destinations
        return {
            k: p
            for k, p in self._entities.items()
            if k in destinations and Proof.COMMITMENT in p.proofs
        }

    @property
    def sources(self) -> dict[str, PeerSettings]:
        """The peers that may send to us, by name."""
        return {k: p for k, p in self._entities.items() if PeerRole.SOURCE in p.roles}

    @property
    def counting(self) -> dict[str, PeerSettings]:
        """The sources that are asked how many instances a series has, by name."""
        return {k: p for k, p in self.sources.items() if p.ask_counts}

    @property
    def _entities(self) -> dict[str, PeerSettings]:
        return {k: p for k, p in self.peers.items() if isinstance(p, PeerSettings)}
