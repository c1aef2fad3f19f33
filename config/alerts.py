"""Settings of the alerts."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from config.section import Port, Section


def _check_address(value: str) -> str:
    """Refuse what would not stand alone in a header (RFC 5322 3.4.1)."""
    name, at, domain = value.rpartition("@")
    if not (name and at and domain) or not value.isprintable() or set(value) & set(' ,;<>"'):
        raise ValueError("write a plain mail address, as pacs-admin@hospital.example")
    return value


MailAddress = Annotated[str, AfterValidator(_check_address)]


class MailSecurity(StrEnum):
    """How the connection to a mail server is encrypted."""

    NONE = "none"
    """It is not."""
    STARTTLS = "starttls"
    """From the command STARTTLS on (RFC 3207)."""
    TLS = "tls"
    """From the start (RFC 8314)."""


class MailSettings(Section):
    """Alerts by mail; without this section there are none."""

    host: str = Field(min_length=1, description="Host name or address of the mail server.")
    port: Port = Field(
        587, description="Its TCP port: 587 as a rule, 465 for 'tls', 25 for a relay without login."
    )
    security: MailSecurity = Field(
        MailSecurity.STARTTLS, description="Encryption; a server that cannot do it gets no mail."
    )
    authorities: Path | None = Field(
        None, description="PEM file: who signs its certificate; none means those of this machine."
    )
    user: str | None = Field(None, description="User name, where the server wants a login.")
    password: SecretStr | None = Field(None, description="Password of that user.")
    sender: MailAddress = Field(description="Address that the mails come from.")
    recipients: tuple[MailAddress, ...] = Field(
        min_length=1, description="Addresses that the mails go to."
    )

    @model_validator(mode="after")
    def _password_is_safe(self) -> "MailSettings":
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        if self.password is not None and self.security is MailSecurity.NONE:
            raise ValueError(
                "a password is sent over an encrypted connection only: security = 'starttls' or "
                "'tls'"
            )
        return self


class WebhookSettings(Section):
    """Alerts by HTTP POST of JSON to a service of yours; without this section there are none."""

    url: SecretStr = Field(
        description="http or https address; a secret, because with many services it is the key."
    )
    token: SecretStr | None = Field(None, description="Bearer token, where the service wants one.")
    authorities: Path | None = Field(
        None, description="PEM file: who signs its certificate; none means those of this machine."
    )

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, url: SecretStr) -> SecretStr:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write it as https://host/path")
        return url


class AlertSettings(Section):
    """When people are told that something is wrong; they are once `mail` or `webhook` is set."""

    mail: MailSettings | None = Field(None, description="Mail; none sends none.")
    webhook: WebhookSettings | None = Field(None, description="A webhook; none calls none.")
    queue_age_min: float = Field(
        15.0, gt=0, description="A job that has waited for a worker for so long is an alert."
    )
    delivery_failing_min: float = Field(
        30.0, gt=0, description="A destination that has not taken results for so long is one."
    )
    certificate_days: float = Field(
        30.0, ge=0, description="A certificate of ours that ends within so many days is one."
    )
    repeat_h: float = Field(
        24.0, gt=0, description="What goes on being wrong is told again after so long."
    )
    timeout_s: float = Field(
        10.0, gt=0, le=60, description="Longest wait for an answer of mail server or webhook."
    )

    @property
    def are_sent(self) -> bool:
        """Whether there is a way to tell people."""
        return self.mail is not None or self.webhook is not None
