"""Every key of the settings with its value, default, origin and meaning."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.loader import LoadedSettings
from config.rules import RuleSettings
from config.settings import Settings

DEFAULT = "default"
"""Origin of a value that nobody has set."""


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """One key."""

    key: str
    value: object
    """As it is, but lists as text; secrets are masked when they are written."""
    default: object
    origin: str
    """Whence it comes: "default", "file NAME", "environment NAME" or "command line"."""
    meaning: str


def list_settings(loaded: LoadedSettings) -> list[SettingRow]:
    """List every key in the order of the settings."""
    return [
        SettingRow(
            key=".".join(path),
            value=_shown(value),
            default="required" if field.is_required() else _shown(_default(field)),
            origin=loaded.origins.get(path, DEFAULT),
            meaning=field.description or "",
        )
        for path, value, field in _walk(loaded.settings, ())
    ]


def _walk(
    model: BaseModel, prefix: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, FieldInfo]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        path = (*prefix, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, path)
        elif isinstance(model, Settings) and name in ("peers", "profiles"):
            for one, its_settings in value.items():
                yield from _walk(its_settings, (*path, one))
        else:
            yield path, value, field


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _shown(value: Any) -> object:
    if isinstance(value, (frozenset, tuple)):
        if any(isinstance(one, RuleSettings) for one in value):
            return ", ".join(f"{rule.name}: {rule.action.value}" for rule in value)
        return ", ".join(sorted(str(item) for item in value)) or "none"
    return value
