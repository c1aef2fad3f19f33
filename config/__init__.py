"""The settings tree: one TOML file, environment over it, command line over both."""

from config.errors import SettingsError
from config.loader import LoadedSettings, load_settings
from config.settings import (
    DatabaseSettings,
    DeliverySettings,
    InferenceSettings,
    LogSettings,
    NodeSettings,
    PeerRole,
    PeerSettings,
    QueueSettings,
    ReceiveSettings,
    ResultSettings,
    RuleAction,
    RuleSettings,
    Settings,
    WebSettings,
)

__all__ = [
    "DatabaseSettings",
    "DeliverySettings",
    "InferenceSettings",
    "LoadedSettings",
    "LogSettings",
    "NodeSettings",
    "PeerRole",
    "PeerSettings",
    "QueueSettings",
    "ReceiveSettings",
    "ResultSettings",
    "RuleAction",
    "RuleSettings",
    "Settings",
    "SettingsError",
    "WebSettings",
    "load_settings",
]
