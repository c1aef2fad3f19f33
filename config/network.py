"""Settings of this application entity and of its peers."""

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    field_validator,
    model_validator,
)

from config.results import DEFAULT_PROFILE
from config.section import Port, Section


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


class PeerTls(StrEnum):
    """Whether associations to a peer are encrypted."""

    OFF = "off"
    """They are not."""
    ON = "on"
    """They are; the peer's certificate is checked, and the name in it must be `host`."""
    ANY_NAME = "any-name"
    """They are; the certificate is checked, but not the name in it."""


class TlsSettings(Section):
    """DICOM TLS (PS3.15 B.13): the certificate of this node, and whom it trusts."""

    port: Port = Field(2762, description="TCP port for TLS.")
    only: bool = Field(default=False, description="Do not listen on `node.port`, without TLS.")
    certificate: Path = Field(description="PEM file: our certificate, and those that signed it.")
    key: Path = Field(description="PEM file: our private key, without a password.")
    authorities: Path = Field(description="PEM file: who signs the certificates of peers.")
    ask_certificate: bool = Field(
        default=True, description="Refuse callers that have no certificate of such an authority."
    )


class NodeSettings(Section):
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


class PollSettings(Section):
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


class PeerSettings(Section):
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


class WebPeerSettings(Section):
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


TaggedPeer = Annotated[
    Annotated[PeerSettings, Tag("dimse")] | Annotated[WebPeerSettings, Tag("dicomweb")],
    Discriminator(_protocol_of),
]
