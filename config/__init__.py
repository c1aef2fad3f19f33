"""The settings tree: one TOML file, environment over it, command line over both."""

from config.alerts import AlertSettings, MailSecurity, MailSettings, WebhookSettings
from config.audit import AuditSettings, SyslogSettings, SyslogTransport
from config.errors import SettingsError
from config.inference import ClusteringSettings, InferenceSettings, TumorCluster, TumorEngine
from config.loader import LoadedSettings, load_settings
from config.network import (
    AnyPeer,
    NodeSettings,
    PeerRole,
    PeerSettings,
    PeerTls,
    PollSettings,
    Proof,
    Retrieval,
    TlsSettings,
    WebPeerSettings,
)
from config.pull import PullSettings
from config.results import ProfileSettings, ResultSettings
from config.rules import RuleAction, RuleSettings
from config.settings import (
    DatabaseSettings,
    DeliverySettings,
    LogSettings,
    QueueSettings,
    ReceiveSettings,
    Settings,
)
from config.web import WebSettings, WebTlsSettings

__all__ = [
    "AlertSettings",
    "AnyPeer",
    "AuditSettings",
    "ClusteringSettings",
    "DatabaseSettings",
    "DeliverySettings",
    "InferenceSettings",
    "LoadedSettings",
    "LogSettings",
    "MailSecurity",
    "MailSettings",
    "NodeSettings",
    "PeerRole",
    "PeerSettings",
    "PeerTls",
    "PollSettings",
    "ProfileSettings",
    "Proof",
    "PullSettings",
    "QueueSettings",
    "ReceiveSettings",
    "ResultSettings",
    "Retrieval",
    "RuleAction",
    "RuleSettings",
    "Settings",
    "SettingsError",
    "SyslogSettings",
    "SyslogTransport",
    "TlsSettings",
    "TumorCluster",
    "TumorEngine",
    "WebPeerSettings",
    "WebSettings",
    "WebTlsSettings",
    "WebhookSettings",
    "load_settings",
]
