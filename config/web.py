"""Settings of the web role: the pages and the API."""

from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from pydantic import Field, model_validator

from config.section import Port, Section


class WebTlsSettings(Section):
    """HTTPS."""

    certificate: Path = Field(description="PEM file: our certificate, and those that signed it.")
    key: Path = Field(description="PEM file: our private key, without a password.")


class ProxySettings(Section):
    """A reverse proxy in front of the pages, which ends TLS and may log people in."""

    networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        min_length=1,
        description="Addresses of the proxy; only from there X-Forwarded-For, X-Forwarded-Proto "
        "and the headers below are believed.",
    )
    user_header: str = Field(
        "",
        description="Header with the name of the user, whom the proxy has checked, as by OpenID "
        "Connect; empty means that people log in to Hepar. The proxy must remove this header from "
        "what it passes on.",
    )
    role_header: str = Field(
        "",
        description="Header with the role: viewer, operator or administrator. Without it, or "
        "where it is empty, the role is that of the Hepar user of this name.",
    )


class WebSettings(Section):
    """The web role: pages and API for the users of `hepar users`, checks and metrics for all."""

    host: str = Field(
        "127.0.0.1",
        description="Address of the web pages; beyond loopback, [web.tls] or [web.proxy] is "
        "needed, and users.",
    )
    port: Port = Field(8080, description="TCP port of the web pages.")
    tls: WebTlsSettings | None = Field(None, description="HTTPS; none means HTTP.")
    proxy: ProxySettings | None = Field(None, description="A reverse proxy; none means none.")
    idle_min: float = Field(30.0, gt=0, description="A session ends after so long without use.")
    session_h: float = Field(12.0, gt=0, description="A session ends after this, used or not.")
    hide_patients: bool = Field(
        default=False,
        description="Hide patient data from users of the role 'viewer': names, numbers, "
        "descriptions, reports and DICOM files; pictures of slices are shown.",
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the pages."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_secure(self) -> bool:
        """Whether browsers speak TLS, to us or to the proxy."""
        return self.tls is not None or self.proxy is not None

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the pages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @model_validator(mode="after")
    def _is_encrypted_on_a_network(self) -> "WebSettings":
        if not self.is_loopback and not self.is_secure:
            raise ValueError(
                f"web.host is {self.host}, which others can reach: passwords and patient data need "
                "TLS. Set web.tls.certificate and web.tls.key, or declare the reverse proxy that "
                "does it with web.proxy.networks; or keep 127.0.0.1"
            )
        return self
