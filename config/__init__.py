"""The settings tree: one TOML file, environment over it, command line over both."""

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
    "AnyPeer",
    "ClusteringSettings",
    "DatabaseSettings",
    "DeliverySettings",
    "InferenceSettings",
    "LoadedSettings",
    "LogSettings",
    "NodeSettings",
    "PeerRole",
    "PeerSettings",
    "PeerTls",
    "PollSettings",
    "ProfileSettings",
    "Proof",
    "QueueSettings",
    "ReceiveSettings",
    "ResultSettings",
    "Retrieval",
    "RuleAction",
    "RuleSettings",
    "Settings",
    "SettingsError",
    "TlsSettings",
    "TumorCluster",
    "TumorEngine",
    "WebPeerSettings",
    "WebSettings",
    "WebTlsSettings",
    "load_settings",
]
