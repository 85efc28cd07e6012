"""What a graph takes and gives, as JSON Schemas for user interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import PydanticUserError

from clew.graph._jsonschema import schema_json


def graph_schemas(graph_id: str, graph: Any) -> dict[str, Any]:
    """The schemas of a graph; None for one that it does not have, or that JSON Schema has no words for."""
    context = _schema(getattr(graph, "get_context_jsonschema", None))
    return {
        "graph_id": graph_id,
        "input_schema": _schema(getattr(graph, "get_input_jsonschema", None)),
        "output_schema": _schema(getattr(graph, "get_output_jsonschema", None)),
        "state_schema": _schema(_state(graph)),
        "config_schema": context or {"type": "object", "properties": {}},
        "context_schema": context,
    }


def _state(graph: Any) -> Callable[[], Any] | None:
    builder = getattr(graph, "builder", None)
    return None if builder is None else lambda: schema_json(builder, builder.state_schema, graph.get_name("State"))


def _schema(make: Callable[[], Any] | None) -> Any:
    if make is None:
        return None
    try:
        return make()
    except (PydanticUserError, NameError):
        return None
