"""The HTTP reference: a page of Markdown from the service's own OpenAPI description."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import START, StateGraph
from clew.server import create_app

METHODS = ("get", "post", "put", "patch", "delete")
HEAD = """# HTTP

What `clew.server` answers, from its own OpenAPI description, which a service gives at `/openapi.json` and `/docs`.

Bodies and answers are JSON; errors are `{"detail": ...}`, some with a `hint`. What belongs to another owner is answered
like what does not exist: 404. A value that cannot be honoured is refused with 422; a key that is not known is let pass,
and named in the header `x-clew-ignored`. Every answer has an `x-request-id`.
"""


def page() -> str:
    """The page."""
    description = _description()
    lines = [HEAD]
    for tag, operations in _by_tag(description).items():
        lines += [f"## {tag}", ""]
        for method, path, operation in operations:
            lines += _operation(method, path, operation)
    lines += ["## Bodies", ""]
    for name, schema in sorted(description["components"]["schemas"].items()):
        lines += _body(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _description() -> Mapping[str, Any]:
    graph = StateGraph(dict)
    graph.add_node("node", lambda state: state)
    graph.add_edge(START, "node")
    with SqliteSaver.from_conn_string(":memory:") as saver:
        return create_app({"agent": graph}, saver).openapi()


def _by_tag(description: Mapping[str, Any]) -> dict[str, list[tuple[str, str, Mapping[str, Any]]]]:
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, operations in description["paths"].items():
        for method in METHODS:
            if method in operations:
                tag = next(iter(operations[method].get("tags", ())), "system")
                found.setdefault(tag, []).append((method, path, operations[method]))
    return found


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {method.upper()} `{path}`", "", operation.get("description", "").strip(), "")
    parameters = operation.get("parameters", ())
    if parameters:
        yield from ("| parameter | in | type | default |", "|---|---|---|---|")
        for each in parameters:
            yield f"| `{each['name']}` | {each['in']} | {_kind(each['schema'])} | {_default(each)} |"
        yield ""
    body = operation.get("requestBody")
    if body is not None:
        schema = next(iter(body["content"].values()))["schema"]
        yield from (f"Body: {_kind(schema)}{'' if body.get('required') else ', or none'}.", "")
    answers = [status for status in operation["responses"] if status < "4"]
    errors = [status for status in operation["responses"] if "4" <= status < "5" and status != "422"]
    more = f" Errors: {', '.join(errors)}." if errors else ""
    yield from (f"Answer: {', '.join(answers)}.{more}", "")


def _body(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {name}", "", " ".join(schema.get("description", "").split()), "")
    required = schema.get("required", ())
    if schema.get("properties"):
        yield from ("| field | type | default |", "|---|---|---|")
        for key, each in schema["properties"].items():
            yield f"| `{key}` | {_kind(each)} | {_default({'required': key in required, 'schema': each})} |"
        yield ""


def _default(each: Mapping[str, Any]) -> str:
    if each.get("required"):
        return "required"
    default = each["schema"].get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            kinds = [_kind(each) for each in schema[key] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema.get('items', {}))}"
        case "object":
            return "object"
        case "string":
            return schema.get("format", "text") + _limit(schema, "minLength", "maxLength", " characters")
        case "integer" | "number" as kind:
            return kind + _limit(schema, "minimum", "maximum", "")
        case "boolean":
            return "true or false"
        case _:
            return "anything"


def _limit(schema: Mapping[str, Any], low: str, high: str, unit: str) -> str:
    least, most = schema.get(low), schema.get(high)
    if least is None and most is None:
        return ""
    if most is None:
        return f", {least:g} or more{unit}"
    return f", {'up to' if least is None else f'{least:g} to'} {int(most)}{unit}"
