"""The settings tree.

Each field carries its unit in its name and its meaning in its description; ``hepar config show``
and ``docs/reference/settings.md`` are generated from this module.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.alerts import AlertSettings
from config.audit import AuditSettings
from config.inference import InferenceSettings, TumorEngine
from config.network import (
    AnyPeer,
    NodeSettings,
    PeerRole,
    PeerSettings,
    PeerTls,
    PollSettings,
    Proof,
    TaggedPeer,
)
from config.pull import PullSettings
from config.results import DEFAULT_PROFILE, ProfileSettings, ResultSettings, ready_made_profiles
from config.rules import RuleSettings, default_rules
from config.section import Section
from config.web import WebSettings


class ReceiveSettings(Section):
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


class QueueSettings(Section):
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


class DeliverySettings(Section):
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


class RetentionSettings(Section):
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


class DatabaseSettings(Section):
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


class LogSettings(Section):
    """Log lines on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level.")
    format: Literal["text", "json"] = Field("text", description="Lines for people or for machines.")


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
    peers: dict[str, TaggedPeer] = Field(
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
    pull: PullSettings = PullSettings()
    retention: RetentionSettings = RetentionSettings()
    web: WebSettings = WebSettings()
    alerts: AlertSettings = AlertSettings()
    database: DatabaseSettings = DatabaseSettings()
    audit: AuditSettings = AuditSettings()
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
                raise ValueError(
                    f"peers.{name}.profile {peer.profile!r} is none of {known}; it needs the "
                    f"section [profiles.{peer.profile}]"
                )
        return self

    @model_validator(mode="after")
    def _probabilities_come_from_a_network(self) -> "Settings":
        engine = self.inference.tumor_engine
        fractional = [name for name, one in self.profiles.items() if one.is_fractional]
        if fractional and engine is not TumorEngine.NETWORK:
            raise ValueError(
                f"profiles.{fractional[0]}.segmentation is 'fractional', and "
                f"needs the section [inference] to have tumor_engine = 'network': {engine.value!r} "
                "gives no probabilities; or choose 'binary'"
            )
        return self

    @property
    def database_url(self) -> str:
        """URL of the job database, SQLite in the data folder unless another is set."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'hepar.db'}"

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Where model packages lie beside those that ship with the node."""
        return (self.data_dir / "models",)

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
