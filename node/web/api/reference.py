"""The reference page of the API, made of its OpenAPI document."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from node.web.api.document import PREFIX, ROLE, describe_api

_HEAD = """\
# The JSON API

Made by `python -m node.web.api.reference > docs/reference/api.md`; a test compares it with the
code.

All that the pages do, for programs, under `{prefix}`. The node serves its OpenAPI document at
`{prefix}/openapi.json`, without a login; client generators and test tools read it.

{description}

Pages of jobs are found by the job before them: `next_after` of an answer is the `after` of the next
call.

## Who calls

A program shows a token, which acts for a user with that user's role. An administrator makes the
user and the token on the machine, once; or a user makes a token on the page of the own account:

```sh
hepar users add robot --role operator
TOKEN=$(hepar users make-token robot --for "night report" --days 90)
```

These calls are made by the tests too, on a node with a delivered job 1 and a FAILED job 2:

```sh
SEND="Authorization: Bearer $TOKEN"
NODE=http://127.0.0.1:8080{prefix}
curl -sS -H "$SEND" $NODE/account
curl -sS -H "$SEND" "$NODE/jobs?state=FAILED&limit=10"
curl -sS -H "$SEND" -X POST $NODE/jobs/2/retry
curl -sS -H "$SEND" -o job-1.zip $NODE/jobs/1/results.zip
curl -sS -H "$SEND" -F files=@slice.dcm $NODE/rules/test
curl -sS -H "$SEND" --json '{{"reason": "moved"}}' $NODE/work/delivery/suspend
curl -sS -H "$SEND" --json @pull.json $NODE/pulls
```

where `pull.json` is `{{"peer": "archive", "wanted": [{{"key": "accession", "value": "A1"}}]}}`.

## Refusals

| status | when |
|---|---|
"""


def api_reference() -> str:
    """Give the whole page."""
    document = describe_api()
    parts = [_HEAD.format(prefix=PREFIX, description=document["info"]["description"])]
    parts += [f"| {status} | {why} |\n" for status, why in sorted(_refusals(document).items())]
    subject = ""
    for path, method, call in _calls(document):
        if call["tags"][0] != subject:
            subject = call["tags"][0]
            parts.append(f"\n## {subject.capitalize()}\n")
        parts += _describe_call(path.removeprefix(PREFIX), method, call)
    parts.append("\n## Forms\n\nWhat is sent and given, as JSON.\n")
    for name, form in document["components"]["schemas"].items():
        parts += _describe_form(name, form)
    return "".join(parts)


def _calls(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            yield path, method, call


def _refusals(document: Mapping[str, Any]) -> dict[str, str]:
    return {
        status: answer["description"]
        for _, _, call in _calls(document)
        for status, answer in call["responses"].items()
        if status >= "400"
    }


def _describe_call(path: str, method: str, call: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n### `{method.upper()} {path}`\n\n{call['description']}\n\n"
    yield f"- Role: {call[ROLE]}.\n"
    for content in call.get("requestBody", {}).get("content", {}).values():
        yield f"- Takes {_name_type(content['schema'])}.\n"
    for status, answer in call["responses"].items():
        if status < "300":
            kinds = answer.get("content", {}).items()
            given = [
                _name_type(content["schema"]) if kind == "application/json" else f"`{kind}`"
                for kind, content in kinds
            ]
            yield f"- Gives {status}: {' or '.join(given) or 'nothing'}.\n"
    refused = [status for status in call["responses"] if status >= "400"]
    yield f"- Refuses with {', '.join(sorted(refused))}.\n"
    parameters = call.get("parameters", ())
    if parameters:
        yield "\n| parameter | in | type | meaning |\n|---|---|---|---|\n"
    for one in parameters:
        meaning = _one_line(one.get("description", ""))
        yield f"| `{one['name']}` | {one['in']} | {_name_type(one['schema'])} | {meaning} |\n"


def _describe_form(name: str, form: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n### {name}\n\n{_one_line(form.get('description', ''))}\n\n"
    if "properties" not in form:
        yield f"{_name_type(form)}\n"
        return
    yield "| name | type | meaning |\n|---|---|---|\n"
    for key, schema in form["properties"].items():
        meaning = _one_line(schema.get("description", ""))
        yield f"| `{key}` | {_name_type(schema)} | {meaning} |\n"


def _name_type(schema: Mapping[str, Any]) -> str:
    """Name a type in a few words."""
    match schema:
        case {"$ref": reference}:
            name = str(reference).rpartition("/")[2]
        case {"anyOf": types}:
            name = " or ".join(map(_name_type, types))
        case {"enum": values}:
            name = ", ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            name = f"list of {_name_type(items)}"
        case {"type": "object", "properties": fields}:
            name = ", ".join(f"`{name}` ({_name_type(one)})" for name, one in fields.items())
        case {"format": name} | {"type": name}:
            pass
        case _:
            name = "any JSON value"
    return str(name)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(api_reference())
