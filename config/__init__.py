"""The settings tree: one TOML file, environment over it, command line over both."""

from config.errors import SettingsError
from config.loader import LoadedSettings, load_settings
from config.settings import (
    ClusteringSettings,
    DatabaseSettings,
    DeliverySettings,
    InferenceSettings,
    LogSettings,
    NodeSettings,
    PeerRole,
    PeerSettings,
    Proof,
    QueueSettings,
    ReceiveSettings,
    ResultSettings,
    RuleAction,
    RuleSettings,
    Settings,
    TumorCluster,
    TumorEngine,
    WebSettings,
)

__all__ = [
    "ClusteringSettings",
    "DatabaseSettings",
    "DeliverySettings",
    "InferenceSettings",
    "LoadedSettings",
    "LogSettings",
    "NodeSettings",
    "PeerRole",
    "PeerSettings",
    "Proof",
    "QueueSettings",
    "ReceiveSettings",
    "ResultSettings",
    "RuleAction",
    "RuleSettings",
    "Settings",
    "SettingsError",
    "TumorCluster",
    "TumorEngine",
    "WebSettings",
    "load_settings",
]
