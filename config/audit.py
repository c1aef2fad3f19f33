"""Settings of the audit trail."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, model_validator

from config.section import Port, Section


class SyslogTransport(StrEnum):
    """How lines go to a syslog server."""

    UDP = "udp"
    """A datagram each (RFC 5426): nobody notices one that is lost."""
    TCP = "tcp"
    """With octet counting (RFC 6587 3.4.1)."""
    TLS = "tls"
    """Encrypted, the server's certificate checked (RFC 5425; PS3.15 A.6)."""


class SyslogSettings(Section):
    """A syslog server that gets each line of the audit trail as a DICOM audit message."""

    host: str = Field(description="Host name or address of the server.")
    port: Port = Field(6514, description="Port of the server; often 514 for udp, 601 for tcp.")
    transport: SyslogTransport = Field(
        SyslogTransport.TLS,
        description="'tls' (RFC 5425; shows the certificate of [node.tls], if there is one), "
        "'tcp' (RFC 6587, octet counting) or 'udp' (RFC 5426: what is lost is not noticed).",
    )
    authorities: Path | None = Field(
        None, description="PEM file: who signs its certificate; none means those of this machine."
    )
    timeout_s: float = Field(10.0, gt=0, description="Longest wait for the server.")

    @model_validator(mode="after")
    def _authorities_sign_certificates(self) -> "SyslogSettings":
        if self.authorities is not None and self.transport is not SyslogTransport.TLS:
            raise ValueError("authorities are for transport = 'tls'; the others check nobody")
        return self


class AuditSettings(Section):
    """The audit trail, which is always written; here is where else it goes."""

    site: str = Field(
        "", description="Name of the site in DICOM audit messages (AuditEnterpriseSiteID)."
    )
    syslog: SyslogSettings | None = Field(
        None, description="A syslog server that gets the audit trail; none means none."
    )
