"""File, then environment, then command line: one `Settings` value and the origin of each key."""

import os
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource

from config.errors import SettingsError
from config.network import AnyPeer, PeerSettings, TlsSettings, WebPeerSettings
from config.settings import Settings
from config.web import WebTlsSettings

ENV_PREFIX = "HEPAR_"
ENV_DELIMITER = "__"

Tree = dict[str, Any]
KeyPath = tuple[str, ...]
_Tls = typing.TypeVar("_Tls", TlsSettings | None, WebTlsSettings | None)

_PEERS: Mapping[str, type[BaseModel]] = {"dimse": PeerSettings, "dicomweb": WebPeerSettings}
"""The kinds of peers, by the tag that pydantic puts behind their names."""


@dataclass(frozen=True, kw_only=True)
class LoadedSettings:
    """Settings and where each given key came from."""

    settings: Settings
    origins: Mapping[KeyPath, str]
    """Key path to "file NAME", "environment NAME" or "command line"; defaults are not listed."""


def load_settings(
    path: Path | None = None,
    *,
    overrides: Tree | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Merge the sources into one checked settings tree.

    Parameters
    ----------
    path
        TOML file; none means defaults only. Relative paths in the settings are relative to its
        folder, or to the current folder without a file.
    overrides
        Nested values of the command line; they win.
    environ
        Environment to read ``HEPAR_<SECTION>__<KEY>`` from; `os.environ` by default.

    Raises
    ------
    SettingsError
        When the file cannot be read or a key is unknown, missing or wrong; every problem is
        named with its key, its source and a hint.
    """
    environ = os.environ if environ is None else environ
    layers: list[tuple[str, Tree]] = []
    if path is not None:
        layers.append((f"file {path}", _read_file(path)))
    layers.append(("environment", _read_environment(environ)))
    layers.append(("command line", overrides or {}))
    merged: Tree = {}
    origins: dict[KeyPath, str] = {}
    for name, layer in layers:
        _merge(merged, layer)
        for key in _leaves(layer):
            origins[key] = _env_origin(key) if name == "environment" else name
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise SettingsError(_explain(error, origins)) from None
    base = (path.parent if path is not None else Path()).absolute()
    return LoadedSettings(settings=_anchor(settings, base), origins=origins)


def _read_file(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"There is no settings file {path}. Give one with --config.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The settings file {path} is not valid TOML: {error}.") from error


class _Environment(EnvSettingsSource):
    """pydantic-settings' reading of nested variables, over a given mapping."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {k.lower(): v for k, v in environ.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._environ


def _read_environment(environ: Mapping[str, str]) -> Tree:
    sections = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}
    ours = {}
    for name, value in environ.items():
        section = name.upper().split(ENV_DELIMITER)[0]
        if not name.upper().startswith(ENV_PREFIX):
            continue
        if ENV_DELIMITER in name and section not in sections:
            raise SettingsError(
                f"Environment variable {name}: there is no section "
                f"{section.removeprefix(ENV_PREFIX).lower()!r}."
                + _hint(section, sections, prefix=" Did you mean ")
            )
        if section in sections:
            ours[name] = value
    try:
        return dict(_Environment(ours)())
    except ValueError as error:
        raise SettingsError(f"The environment variables {sorted(ours)}: {error}.") from error


def _env_origin(key: KeyPath) -> str:
    return f"environment {ENV_PREFIX}{ENV_DELIMITER.join(key).upper()}"


def _merge(target: Tree, layer: Tree) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, dict) else value


def _leaves(tree: Tree, prefix: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*prefix, key))
        else:
            yield (*prefix, key)


def _explain(error: ValidationError, origins: Mapping[KeyPath, str]) -> str:
    lines = []
    for problem in error.errors():
        key, siblings = _key_and_siblings(tuple(str(part) for part in problem["loc"]))
        origin = _origin_of(key, origins)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key" + _hint(key[-1], siblings, prefix="; did you mean ")
        elif problem["type"] == "missing":
            message = "this key is required"
        lines.append(f"  {'.'.join(key) or 'settings'}: {message} ({origin})")
    return "The settings cannot be used:\n" + "\n".join(lines)


def _origin_of(key: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Name the source of a key, of something inside it, or of what it lies in."""
    for given, origin in origins.items():
        if given[: len(key)] == key or key[: len(given)] == given:
            return origin
    for given, origin in origins.items():
        if key[:-1] and given[: len(key) - 1] == key[:-1]:
            return origin
    return "default"


def _key_and_siblings(place: KeyPath) -> tuple[KeyPath, list[str]]:
    """Give the key that a problem is about, and the keys that there are beside it."""
    model: type[BaseModel] | None = Settings
    key, sections = place, place[:-1]
    if place[:1] == ("peers",) and len(place) > 2:
        model, key, sections = _PEERS[place[2]], (*place[:2], *place[3:]), place[3:-1]
    for part in sections:
        field = model.model_fields.get(part) if model is not None else None
        model = _inner_model(field.annotation) if field is not None else model
    return key, list(model.model_fields) if model is not None else []


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """Give the model that an annotation is or contains, as in ``TlsSettings | None``."""
    if typing.get_origin(annotation) is None and isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    models = [_inner_model(inner) for inner in typing.get_args(annotation)]
    return next((model for model in models if model is not None), None)


def _hint(word: str, known: typing.Iterable[str], *, prefix: str) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"{prefix}{close[0]!r}?" if close else ""


def _anchor(settings: Settings, base: Path) -> Settings:
    """Make relative paths absolute; a bare model name is not a path."""
    model = settings.inference.model
    if "/" in model or "\\" in model:
        model = str(base / model)
    return settings.model_copy(
        update={
            "data_dir": base / settings.data_dir,
            "peers": {name: _anchor_peer(peer, base) for name, peer in settings.peers.items()},
            "node": settings.node.model_copy(update={"tls": _anchor_tls(settings.node.tls, base)}),
            "web": settings.web.model_copy(update={"tls": _anchor_tls(settings.web.tls, base)}),
            "inference": settings.inference.model_copy(update={"model": model}),
        }
    )


def _anchor_tls(tls: _Tls, base: Path) -> _Tls:
    if tls is None:
        return None
    files = {name: base / value for name, value in tls if isinstance(value, Path)}
    return tls.model_copy(update=files)


def _anchor_peer(peer: AnyPeer, base: Path) -> AnyPeer:
    if isinstance(peer, PeerSettings) or peer.authorities is None:
        return peer
    return peer.model_copy(update={"authorities": base / peer.authorities})
