"""Options that many commands share, and how they become settings."""

import getpass
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from config import (
    LoadedSettings,
    ProfileSettings,
    Settings,
    SettingsError,
    TumorEngine,
    load_settings,
)

DEFAULT_FILE = Path("hepar.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Settings file; default: $HEPAR_CONFIG, else hepar.toml here, else built-in defaults.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key, as node.port=11113."),
]
if TYPE_CHECKING:
    from node.services import Services
    from storage.states import AuditEvent

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def config_path(config: Path | None) -> Path | None:
    """Give the settings file that counts."""
    if config is not None:
        return config
    if "HEPAR_CONFIG" in os.environ:
        return Path(os.environ["HEPAR_CONFIG"])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def load(config: Path | None, overrides: list[str] | None = None) -> LoadedSettings:
    """Load the settings that the options name.

    Raises
    ------
    config.SettingsError
        When they cannot be used.
    """
    return load_settings(config_path(config), overrides=_tree(overrides or []))


def open_stores(config: Path | None, overrides: list[str] | None) -> "Services":
    """Open the stores of the node whose settings the options name."""
    from node.services import open_services

    return open_services(load(config, overrides).settings)


def os_user() -> str:
    """Give the login name of who calls."""
    return getpass.getuser()


def tell_audit(
    services: "Services",
    event: "AuditEvent",
    detail: dict[str, Any],
    *,
    patient_id: str = "",
    study_uid: str = "",
) -> None:
    """Write into the audit trail what the caller of a command does, or sees."""
    from node.auditing import write_line
    from storage.records import AuditEntry

    entry = AuditEntry(
        event=event,
        actor=f"user:{os_user()}",
        patient_id=patient_id,
        study_uid=study_uid,
        detail={"by": "command line", **detail},
    )
    write_line(services.audit, entry)


def check_settings(settings: Settings) -> None:
    """Check what only other packages than `config` can judge.

    Raises
    ------
    config.SettingsError
        When a rule names an attribute that there is not, or `database.url` cannot be used.
    node.errors.UnusableTls
        When a certificate of [node.tls] or [web.tls] cannot be used.
    """
    from dicom_io.rules import check_rules
    from node.tls import check_web_certificate, make_server_context
    from storage.database import read_url
    from storage.errors import UnusableUrl

    try:
        check_rules(settings.rules)
    except ValueError as error:
        raise SettingsError(f"The rules cannot be used: {error}") from error
    try:
        read_url(settings.database_url)
    except UnusableUrl as error:
        raise SettingsError(str(error)) from error
    if settings.node.tls is not None:
        make_server_context(settings.node.tls)
    if settings.web.tls is not None:
        check_web_certificate(settings.web.tls)


def passed_on(config: Path | None, overrides: list[str] | None) -> list[str]:
    """Give the options that make a child process load the same settings."""
    path = config_path(config)
    arguments = [] if path is None else ["--config", str(path)]
    for override in overrides or []:
        arguments += ["--set", override]
    return arguments


def with_engine(overrides: list[str] | None, engine: TumorEngine | None) -> list[str]:
    """Add the choice of a method to the keys that the command line overrides."""
    chosen = [] if engine is None else [f"inference.tumor_engine={engine.value}"]
    return [*(overrides or []), *chosen]


def choose_profiles(settings: Settings, names: Sequence[str]) -> dict[str, ProfileSettings]:
    """Give the profiles of those names; of none, those of the destinations.

    Raises
    ------
    SettingsError
        There is no such profile.
    """
    known = settings.profiles
    for name in names:
        if name not in known:
            raise SettingsError(f"There is no profile {name!r}; there are {', '.join(known)}.")
    return {name: known[name] for name in names} or settings.delivered_profiles


def _tree(overrides: list[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise SettingsError(f"--set {override}: write it as KEY=VALUE, as node.port=11113.")
        branch = tree
        *sections, leaf = key.strip().split(".")
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = _value(text)
    return tree


def _value(text: str) -> Any:
    """Read a value as TOML, or as plain text when it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
