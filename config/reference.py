"""The settings reference as Markdown.

``python -m config.reference > docs/reference/settings.md`` writes the page.
"""

import sys
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config.network import PeerSettings, PollSettings, WebPeerSettings
from config.results import ProfileSettings
from config.rules import Condition, RuleSettings
from config.settings import Settings

_HEAD = """\
# Settings

One TOML file, environment variables `HEPAR_<SECTION>__<KEY>` over it, `--set section.key=value`
over both. An unknown key, a wrong type or a value out of range is refused at the start, with a
hint. Relative paths are relative to the file. `hepar config show` prints the values in force and
where each came from; `hepar config check` only says whether they can be used.

This page is generated from the models in `config/` by `python -m config.reference`.
"""

_NAMED_SECTIONS: dict[str, dict[str, type[BaseModel]]] = {
    "peers": {
        "peers.NAME": PeerSettings,
        "peers.NAME with a url": WebPeerSettings,
        "peers.NAME.poll": PollSettings,
    },
    "profiles": {"profiles.NAME": ProfileSettings},
    "rules": {"[[rules]]": RuleSettings, "A condition in `when`": Condition},
}


def settings_reference() -> str:
    """Give the whole page."""
    parts = [_HEAD, "\n## Top level\n\n", *_table(_plain_fields(Settings))]
    for name, field in Settings.model_fields.items():
        if name in _NAMED_SECTIONS:
            parts += _named_sections(name, field)
        elif _is_section(field):
            parts += _section(name, field)
    return "".join(parts)


def _named_sections(name: str, field: FieldInfo) -> Iterator[str]:
    """Give the sections of which there may be any number."""
    (title, model), *others = _NAMED_SECTIONS[name].items()
    yield f"\n## {title}\n\n{field.description}\n\n"
    yield from _table(_plain_fields(model))
    for title, model in others:
        yield f"\n### {title}\n\n{(model.__doc__ or '').strip()}\n\n"
        yield from _table(_plain_fields(model))


def _section(name: str, field: FieldInfo) -> Iterator[str]:
    """Give a section, and the sections within it after it."""
    model: Any = _section_model(field)
    yield f"\n## {name}\n\n{(model.__doc__ or '').strip()}\n\n"
    yield from _table(_plain_fields(model))
    for inner, inner_field in model.model_fields.items():
        if _is_section(inner_field):
            yield from _section(f"{name}.{inner}", inner_field)


def _is_section(field: FieldInfo) -> bool:
    return _section_model(field) is not None


def _section_model(field: FieldInfo) -> type[BaseModel] | None:
    """Give the model of a section, also of one that may be left out; None for a plain key."""
    kinds = [kind for kind in typing.get_args(field.annotation) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _plain_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {
        name: field
        for name, field in model.model_fields.items()
        if name not in _NAMED_SECTIONS and not _is_section(field)
    }


def _table(fields: dict[str, FieldInfo]) -> Iterator[str]:
    yield "| key | type | default | meaning |\n|---|---|---|---|\n"
    for name, field in fields.items():
        kind = _type_name(field.annotation).replace("|", "\\|")
        yield f"| `{name}` | {kind} | {_default(field)} | {field.description} |\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined or value in (None, "", (), frozenset()):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type_name(annotation: Any) -> str:
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return " | ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin in (tuple, frozenset, dict):
        inner = ", ".join(_type_name(a) for a in arguments if a is not Ellipsis)
        return f"{'table' if origin is dict else 'list'} of {inner}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(f"`{member.value}`" for member in annotation)
    if arguments:
        return " | ".join(_type_name(a) for a in arguments if a is not type(None))
    names: dict[Any, str] = {
        Path: "path",
        SecretStr: "text (secret)",
        bool: "true or false",
        float: "number",
        int: "whole number",
        str: "text",
    }
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


if __name__ == "__main__":
    sys.stdout.write(settings_reference())
